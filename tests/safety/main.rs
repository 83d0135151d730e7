//! Who may come in to a server, over what, and what is written down of it: the real binaries, keys, TLS, the access log.

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../tool/mod.rs"]
mod tool;

mod access_log;
mod keys;
mod tls;
