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

/// Every code that the tool ends with. docs/reference/exit-codes.md is made from it.
pub const EXIT_CODES: [(u8, &str); 8] = [
    (0, "done"),
    (1, "failed; stderr says why"),
    (2, "usage: an argument or a variable that is not understood"),
    (
        3,
        "the gate failed: `evaluate`, or `tune` of its best trial, measured less than `evaluate.gate` asks for, or another \
        command was to go on with a bundle whose gate has not passed, or a canary had too few requests to say whether it is \
        good enough",
    ),
    (
        4,
        "the deploy failed and was rolled back, or a canary failed and was taken away: the former version serves",
    ),
    (
        5,
        "the deploy failed and was not rolled back: there is no former version, it does not come back either, or \
        `--rollback-on-failure=false` leaves the failed one to be looked at",
    ),
    (6, "another deploy holds the lock"),
    (130, "interrupted by Ctrl-C or SIGTERM"),
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_documented() {
        let deploy = |error: DeployError| anyhow::Error::from(error);
        let gate = GateRefusal {
            version: String::new(),
            verdict: None,
        };
        let ends = [
            (anyhow::anyhow!("anything"), 1),
            (Failure::Usage(String::new()).into(), 2),
            (Failure::Gate(String::new()).into(), 3),
            (anyhow::Error::from(Problem::new("why")).context(gate), 3),
            (deploy(DeployError::RolledBack(String::new())), 4),
            (deploy(DeployError::NotRolledBack(String::new())), 5),
            (
                deploy(DeployError::Locked {
                    name: String::new(),
                    holder: String::new(),
                }),
                6,
            ),
            (deploy(DeployError::Interrupted), 130),
            (deploy(DeployError::Halted(String::new())), 130),
            (Failure::Interrupted(String::new()).into(), 130),
        ];
        for (error, expected) in ends {
            assert_eq!(code(&error), expected, "{error}");
            assert!(EXIT_CODES.iter().any(|(code, _)| *code == expected));
            assert_eq!(code(&error.context("while doing something")), expected);
        }
    }
}
