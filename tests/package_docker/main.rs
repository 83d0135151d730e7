//! `emberline package` with a real container engine and a real registry. What a test makes in the engine carries a name of
//! its own, and is gone at its end.

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../tool/mod.rs"]
mod tool;

mod build;
mod faults;
mod push;
mod setup;
