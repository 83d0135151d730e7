//! `emberline logs`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::Context;
use super::output::{Format, Report};
use super::place::Place;
use crate::deploy::{LogLine, LogQuery};

/// Print what the replicas have logged
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline logs --replica 2 --lines 20 -f")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
    /// Of this replica alone
    #[arg(long, env = "EMBERLINE_REPLICA")]
    pub replica: Option<u32>,
    /// The last lines of each replica
    #[arg(long, default_value_t = 100, env = "EMBERLINE_LINES")]
    pub lines: usize,
    /// Go on with the lines that are yet to come; with `-o json` each line is an object
    #[arg(short, long, env = "EMBERLINE_FOLLOW")]
    pub follow: bool,
}

/// Runs the command: prints the lines at once, or as they come with `--follow`.
///
/// # Errors
///
/// When nothing is deployed, or there is no such replica.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let project = context.project(&args.project)?;
    let query = LogQuery {
        replica: args.replica,
        lines: args.lines,
        follow: args.follow,
    };
    let mut report = LogsReport {
        prefix: args.replica.is_none(),
        lines: Vec::new(),
    };
    if args.follow {
        Context::end_at_interrupt()?;
    }
    let mut printed = Ok(ControlFlow::Continue(()));
    args.place.target(&project)?.logs(&query, &mut |line| {
        if args.follow {
            printed = match context.output.format() {
                Format::Text => context.output.stdout(&report.line(&line)),
                Format::Json => serde_json::to_string(&line)
                    .map_err(Into::into)
                    .and_then(|json| context.output.stdout(&json)),
            };
        } else {
            report.lines.push(line);
        }
        matches!(printed, Ok(ControlFlow::Continue(())))
    })?;
    if args.follow {
        return printed.map(|_| ());
    }
    context.output.result(&report)
}

/// Lines of logs.
#[derive(Debug, Serialize)]
pub struct LogsReport {
    /// The lines of each replica, one replica after another.
    pub lines: Vec<LogLine>,
    #[serde(skip)]
    prefix: bool,
}

impl LogsReport {
    fn line(&self, LogLine { replica, name, line }: &LogLine) -> String {
        match name {
            _ if !self.prefix => line.clone(),
            Some(name) => format!("{name} | {line}"),
            None => format!("replica-{replica} | {line}"),
        }
    }
}

impl Report for LogsReport {
    fn text(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(|line| self.line(line)).collect();
        lines.join("\n")
    }
}
