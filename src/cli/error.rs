//! From an error to what a person reads and a script branches on.

use std::process::ExitCode;

use super::output::Output;
use crate::bundle::GateRefusal;
use crate::deploy::DeployError;
use crate::problem::Problem;

/// Ends of a command that a script branches on; any other error is 1, and clap's own are 2.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An argument that clap accepts and the command cannot use.
    #[error("{0}")]
    Usage(String),
    /// The model is not good enough.
    #[error("{0}")]
    Gate(String),
    /// Ctrl-C.
    #[error("interrupted{0}")]
    Interrupted(String),
}

/// Exit codes, as docs/reference/exit-codes.md lists them.
fn code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return match failure {
            Failure::Usage(_) => 2,
            Failure::Gate(_) => 3,
            Failure::Interrupted(_) => 130,
        };
    }
    if error.is::<GateRefusal>() {
        return 3;
    }
    if let Some(failure) = error.downcast_ref::<DeployError>() {
        return failure.exit_code();
    }
    1
}

/// Prints an error with its causes and hints, and gives the exit code.
pub fn report(error: &anyhow::Error, output: &Output) -> ExitCode {
    let mut lines: Vec<String> = Vec::new();
    let mut hints: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(hint) = cause.downcast_ref::<Problem>().and_then(Problem::hint_text) {
            hints.push(hint.to_owned());
        }
        let text = cause.to_string();
        // Some libraries repeat their cause in their own message.
        if !lines.iter().any(|line| line.contains(&text)) {
            lines.push(text);
        }
    }
    output.error(&lines, &hints);
    ExitCode::from(code(error))
}
