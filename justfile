# The commands of CONTRIBUTING.md, for those who have just.

default: check test

# Format, lints, licences.
check:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    cargo clippy --locked --no-default-features --lib --bins -- -D warnings

test:
    cargo test --locked

# Accept changed snapshots and write the generated reference anew.
update:
    EMBERLINE_UPDATE=1 INSTA_UPDATE=always cargo test --locked --test command_line --test reference

bench:
    cargo bench --locked

ship:
    cargo run --release -- ship examples/digits
