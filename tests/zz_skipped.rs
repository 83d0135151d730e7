//! The end of `cargo test`: what was skipped, and the command that provides what was wanting. It has no test harness, so
//! that what it prints is seen, and its name makes it the last: cargo runs test binaries in the order of their names.

#[path = "tool/skipped.rs"]
mod skipped;

use std::io::Write as _;

fn main() {
    let _ = std::io::stdout().write_all(skipped::list().as_bytes());
}
