//! The command line: arguments in, one report out.
//!
//! Each command is a file: its `Args` (clap) and `run(args, &Context) -> Result<Report>`. What a command does is in the
//! domain rooms; here it is only asked for and told. `output` alone writes to stdout and stderr, `error` alone decides on
//! exit codes.

pub mod error;
pub mod output;

mod args;
mod canary;
mod ci;
mod completions;
mod context;
mod data_progress;
mod delete;
mod deploy;
mod diff;
mod doctor;
mod duration;
mod evaluate;
mod figures;
mod gateway;
mod generate;
mod history;
mod init;
mod keys;
mod lines;
mod logs;
mod monitor;
mod objective;
mod package;
mod place;
mod plan;
mod plot;
mod predict;
mod reference;
mod rollback;
mod scale;
mod serve;
mod service;
mod ship;
mod status;
mod supervise;
mod templates;
mod trace;
mod train;
mod trial;
mod tune;
mod watch;

pub use args::{Cli, Command};
pub use context::Context;

use std::process::ExitCode;

use anyhow::Result;
use clap::builder::{BoolishValueParser, OsStr, Resettable};
use clap::{ArgAction, CommandFactory, FromArgMatches};

use error::Failure;
use output::Output;

/// Parses the command line, runs the command, prints its report or its error, and gives the exit code.
pub fn main() -> ExitCode {
    // For all clients of TLS. Where a second backend is linked by some crate, the choice would otherwise be a panic.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches))
    {
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
    dispatch(&cli.command, &context).unwrap_or_else(|error| error::report(&error, &context.output))
}

/// `diff` ends as `diff` and `kubectl diff` do: 1 is an answer, and a mistake is 2.
fn compare(args: &diff::Args, context: &Context) -> ExitCode {
    let outcome = diff::run(args, context).and_then(|report| {
        context.output.result(&report)?;
        Ok(report.differs())
    });
    match outcome {
        Ok(differs) => ExitCode::from(u8::from(differs)),
        Err(error) => {
            error::report(&error, &context.output);
            ExitCode::from(2)
        }
    }
}

/// The command tree: what parses, and what the generated reference, man pages and completions are made from.
pub fn command() -> clap::Command {
    environment(Cli::command())
}

/// Reads the environment as the server does: the variable of a switch says yes or no (`EMBERLINE_QUIET=1`), and an empty
/// one says nothing.
fn environment(command: clap::Command) -> clap::Command {
    command.mut_subcommands(environment).mut_args(|argument| {
        let argument = match argument.get_action() {
            ArgAction::SetTrue => argument.value_parser(BoolishValueParser::new()),
            _ => argument,
        };
        let value = argument.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) {
            argument.env(Resettable::<OsStr>::Reset)
        } else {
            argument
        }
    })
}

fn dispatch(command: &Command, context: &Context) -> Result<ExitCode> {
    let output = &context.output;
    let done = match command {
        Command::Init(args) => output.result(&init::run(args, context)?),
        Command::Train(args) => output.result(&train::run(args, context)?),
        Command::Evaluate(args) => {
            let report = evaluate::run(args, context)?;
            output.result(&report)?;
            match report.failure() {
                Some(failure) => Err(Failure::Gate(failure).into()),
                None => Ok(()),
            }
        }
        Command::Tune(args) if args.cancel => output.result(&tune::cancel(args, context)?),
        Command::Tune(args) => {
            let report = tune::run(args, context)?;
            output.result(&report)?;
            report.failure().map_or(Ok(()), Err)
        }
        Command::Predict(args) => output.result(&predict::run(args, context)?),
        Command::Doctor(args) => {
            let report = doctor::run(args, context)?;
            output.result(&report)?;
            report.failure().map_or(Ok(()), Err)
        }
        Command::Serve(args) => serve::run(args, context),
        Command::Keys(args) => match &args.command {
            keys::Command::Add(args) => output.result(&keys::add(args, context)?),
            keys::Command::List(args) => output.result(&keys::list(args)?),
            keys::Command::Remove(args) => output.result(&keys::remove(args)?),
        },
        Command::Package(args) => output.result(&package::run(args, context)?),
        Command::Deploy(args) if args.canary.are_given() => {
            let report = canary::run(args, context)?;
            output.result(&report)?;
            canary::failure(&report).map_or(Ok(()), Err)
        }
        Command::Deploy(args) => match args.dry_run {
            None => output.result(&deploy::run(args, context)?),
            Some(asked) => output.result(&deploy::dry_run(args, asked, context)?),
        },
        Command::Diff(args) => return Ok(compare(args, context)),
        Command::Scale(args) => output.result(&scale::run(args, context)?),
        Command::Plan(args) => output.result(&plan::run(args, context)?),
        Command::Status(args) => output.result(&status::run(args, context)?),
        Command::Logs(args) => logs::run(args, context),
        Command::History(args) => output.result(&history::run(args, context)?),
        Command::Trace(args) => {
            let report = trace::run(args, context)?;
            output.result(&report)?;
            report.failure().map_or(Ok(()), Err)
        }
        Command::Rollback(args) => output.result(&rollback::run(args, context)?),
        Command::Delete(args) => output.result(&delete::run(args, context)?),
        Command::Gateway(args) => match &args.command {
            gateway::Command::Render(args) => output.result(&gateway::render(args, context)?),
            gateway::Command::Up(args) => output.result(&gateway::up(args, context)?),
            gateway::Command::Down(args) => output.result(&gateway::down(args, context)?),
        },
        Command::Monitor(args) => output.result(&match &args.command {
            monitor::Command::Prometheus(args) => monitor::prometheus(args, context)?,
            monitor::Command::Alerts(args) => monitor::alerts(args, context)?,
            monitor::Command::Grafana(args) => monitor::grafana(args, context)?,
        }),
        Command::Ship(args) => output.result(&ship::run(args, context)?),
        Command::Ci(args) => output.result(&ci::run(args, context)?),
        Command::Templates(args) => match &args.command {
            templates::Command::List(args) => output.result(&templates::list(args, context)?),
            templates::Command::Eject(args) => output.result(&templates::eject(args, context)?),
        },
        Command::Completions(args) => output.result(&completions::run(args)?),
        Command::Generate(args) => output.result(&generate::run(args)?),
        Command::Supervise(args) => supervise::run(args),
        Command::Trial(args) => trial::run(args, context),
    };
    done.map(|()| ExitCode::SUCCESS)
}
