//! What is asked of a canary, and what is told of one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::canary::{Comparison, Sides, Test, Verdict};

/// How a version is to be tried beside the one that serves.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The share of the requests that it gets, and that the version which serves gets anew, in percent: 1 to 50.
    pub percent: u8,
    /// How long the two are compared.
    pub duration: Duration,
    /// The key that their metrics are read with, where clients need one.
    pub key: Option<String>,
}

/// A version that is tried, or was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Version of its bundle.
    pub version: String,
    /// Version that it is compared with: the one that serves.
    pub baseline: String,
    /// The share of the requests of either, in percent.
    pub percent: u8,
    /// Since when it is tried, in seconds since 1970 (UTC).
    pub since: u64,
    /// Who tries it: `user@host`.
    pub by: String,
    /// What the comparison came to.
    pub verdict: Verdict,
    /// For how long requests were counted, in seconds.
    pub seconds: f64,
    /// Predictions that were asked for and answered.
    pub requests: Sides<u64>,
    /// Each test of the last look.
    pub tests: Vec<Test>,
    /// What became of it.
    pub state: State,
}

/// What becomes of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It runs.
    Running,
    /// It serves all requests.
    Promoted,
    /// It was taken away.
    Aborted,
}

/// What is done about a canary, while it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "canary", rename_all = "snake_case")]
pub enum Step {
    /// The two sides start.
    Starting,
    /// The gateway learns of them.
    Dividing,
    /// They are compared.
    Comparing {
        /// For so many seconds so far.
        seconds: u64,
        /// Requests that each has answered.
        requests: Sides<u64>,
    },
    /// It takes the place of the version that serves.
    Promoting,
    /// The gateway forgets the two, and they end.
    Ending,
}

impl Canary {
    /// The same with what a comparison came to.
    #[must_use]
    pub fn compared(self, comparison: Comparison) -> Self {
        let Comparison {
            verdict,
            seconds,
            requests,
            tests,
        } = comparison;
        Self {
            verdict,
            seconds,
            requests,
            tests,
            ..self
        }
    }

    /// The tests that have failed, a sentence each.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.tests.iter().filter(|test| test.outcome == Verdict::Fail);
        failed.map(Test::told).collect()
    }
}

impl State {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Promoted => "promoted",
            Self::Aborted => "aborted",
        }
    }
}
