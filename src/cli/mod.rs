//! The command line: arguments in, one report out.
//!
//! Each command is a file: its `Args` (clap) and `run(args, &Context) -> Result<Report>`. What a command does is in the
//! domain rooms; here it is only asked for and told. `output` alone writes to stdout and stderr, `error` alone decides on
//! exit codes.

pub mod error;
pub mod output;
pub mod package;

mod args;
mod context;

pub use args::{Cli, Command};
pub use context::Context;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use output::Output;

/// Parses the command line, runs the command, prints its report or its error, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own printing: help on stdout with code 0, mistakes on stderr with code 2.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let output = Output::new(&cli.global);
    let context = Context::new(output, &cli.global);
    match dispatch(cli.command, &context) {
        Ok(code) => code,
        Err(error) => error::report(&error, &context.output),
    }
}

/// The command tree, for the generated reference, man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

fn dispatch(command: Command, context: &Context) -> Result<ExitCode> {
    match command {
        Command::Package(args) => context.output.result(&package::run(&args, context)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
