//! Sweeps: one training for each of several configurations, on this machine or in a cluster, ranked by the metric that the
//! gate names.
//!
//! `space` makes trials of the lists of `tune`, `identity` says when two trials are the same, `trial` does one, `ledger`
//! keeps what came of each, `local` and `kubernetes` have them done, `parcel` brings a bundle home through the log of a pod,
//! `rank` orders them. A trial is chosen by the validation split alone: the test set is for the winner, and measured by
//! whoever asked for the sweep. This room knows no command line, and prints nothing: it tells an [`Event`].

mod identity;
pub mod kubernetes;
mod ledger;
mod local;
mod parcel;
mod rank;
mod space;
mod trial;

pub use ledger::{Ledger, Record, Validation};
pub use local::run as run_local;
pub use rank::{Metric, rank};
pub use space::{Draw, MOST_TRIALS, Settings};
pub use trial::{Assignment, Line, Outcome, perform, report, tell};

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use crate::data;
use crate::files;
use crate::problem::Problem;
use crate::project::{Config, Project};
use identity::Files;

/// Hex digits that name a sweep or a trial.
const DIGITS: usize = 12;

/// All that is to be tried.
#[derive(Debug)]
pub struct Sweep {
    /// Twelve hex digits that follow from what is tried, and on which data.
    pub id: String,
    /// What decides.
    pub metric: Metric,
    /// In the order of the space, or of the draw.
    pub trials: Vec<Trial>,
    project: Project,
    data_dir: Option<PathBuf>,
    files: Files,
    source_revision: Option<String>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Counted from 1.
    pub index: usize,
    /// What is laid over the project's configuration.
    pub settings: Settings,
    /// Twelve hex digits that follow from all that decides on the weights.
    pub id: String,
}

impl Sweep {
    /// Reads the space of the project, and the digests of its data. Files that are to be downloaded are downloaded.
    ///
    /// # Errors
    ///
    /// No space, or one that cannot be tried: a [`Problem`] that says which values do not go together; and what is wrong
    /// with the files of the data.
    pub fn plan(
        project: Project,
        draw: &Draw,
        data_dir: Option<&Path>,
        source_revision: Option<String>,
        events: &dyn Fn(data::Event),
    ) -> Result<Self> {
        let settings = space::settings(&project.config, draw)?;
        let files = Files::read(&project, data_dir, events)?;
        let mut trials = Vec::with_capacity(settings.len());
        for (index, settings) in (1..).zip(settings) {
            let id = identity::of_trial(&settings.applied(&project.config), &files)?;
            trials.push(Trial { index, settings, id });
        }
        let ids: Vec<&str> = trials.iter().map(|trial| trial.id.as_str()).collect();
        Ok(Self {
            id: short(&files::sha256(ids.join("\n").as_bytes())),
            metric: Metric::of(&project.config.evaluate.gate),
            trials,
            project,
            data_dir: data_dir.map(Path::to_owned),
            files,
            source_revision,
        })
    }

    /// The project that it is a sweep of.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// The configuration that a trial trains with.
    pub fn config(&self, trial: &Trial) -> Config {
        trial.settings.applied(&self.project.config)
    }
}

/// What a trial did not come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In a sentence.
    pub reason: String,
    /// The last lines that it said.
    pub log: Vec<String>,
}

/// What happens, as it happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// A trial has begun.
    Started {
        /// Which.
        trial: &'a Trial,
        /// Where: a pod, or this machine.
        place: &'a str,
    },
    /// A trial has given a bundle, which is in the store and in the ledger.
    Done {
        /// Which.
        trial: &'a Trial,
        /// What came of it.
        record: &'a Record,
    },
    /// A trial has given none.
    Failed {
        /// Which.
        trial: &'a Trial,
        /// Why.
        failure: &'a Failure,
    },
    /// Something that a person may want to know.
    Told(&'a str),
    /// Something that keeps the sweep waiting.
    Waits(&'a str),
}

/// Who hears of events; an error of theirs ends the sweep.
pub type Hear<'a> = &'a mut dyn FnMut(Event<'_>) -> Result<()>;

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Each trial was told of.
    Whole,
    /// By Ctrl-C.
    Interrupted,
    /// By its deadline.
    Late,
}

/// How trials are done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// At the same time, at the most.
    pub parallel: usize,
    /// When no more is waited for.
    pub deadline: Instant,
}

/// The first digits of a digest.
fn short(digest: &str) -> String {
    digest.chars().take(DIGITS).collect()
}

/// The reason in what a trial has said: its error, if it told one.
fn failure(said: &[String], otherwise: String) -> Failure {
    const LINES: usize = 10;
    let error = said.iter().find_map(|line| line.strip_prefix("error: "));
    Failure {
        reason: error.map_or(otherwise, str::to_owned),
        log: said[said.len().saturating_sub(LINES)..].to_vec(),
    }
}

/// That a project has no space.
fn no_space() -> Problem {
    Problem::new("`emberline.yaml` has no `tune` section that lists values to try").hint(
        "add one to emberline.yaml, for example `tune: {learning_rate: [0.001, 0.002], hidden: [[64, 64], [128]]}`; \
         docs/guide/tuning.md has more",
    )
}
