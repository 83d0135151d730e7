//! `emberline tune` on this machine: what is tried, how it is ranked, what fails, and what an end in the middle leaves. The
//! cluster is in tests/kubernetes.

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../tool/mod.rs"]
mod tool;

mod guide;
mod interrupted;
mod received;
mod setup;
mod sweeps;
