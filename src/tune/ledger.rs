//! What came of each trial, on the disk: `.emberline/tune/trials/TRIAL.json`, written as it comes, so that an interrupted
//! sweep keeps it and no trial is done twice, in whichever sweep it stands.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Trial;
use crate::bundle::{Bundle, Store};
use crate::files;
use crate::problem::Problem;
use crate::project::Project;

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The trial.
    pub id: String,
    /// Version of its bundle.
    pub version: String,
    /// SHA-256 of its `bundle.json`.
    pub digest: String,
    /// Weights of its network.
    pub parameters: usize,
    /// On the validation split.
    pub validation: Validation,
    /// From the first byte of data to the written bundle.
    pub seconds: f64,
    /// `this machine`, or the pod.
    pub place: String,
}

/// What the kept weights reach on the validation split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
}

impl Record {
    /// The record of a trial that has given `bundle`.
    pub(super) fn new(id: &str, bundle: &Bundle, seconds: f64, place: &str) -> Self {
        let manifest = bundle.manifest();
        Self {
            id: id.to_owned(),
            version: bundle.version().to_owned(),
            digest: bundle.digest().to_owned(),
            parameters: manifest.architecture.weights(),
            validation: Validation {
                accuracy: manifest.metrics.validation_accuracy,
                loss: manifest.metrics.validation_loss,
            },
            seconds,
            place: place.to_owned(),
        }
    }
}

/// The ledger of a project, held by one sweep at a time.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    store: Store,
    _held: File,
}

impl Ledger {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// When another sweep of the project holds it.
    pub fn open(project: &Project) -> Result<Self> {
        let folder = project.state().join("tune");
        files::create_folder(&folder)?;
        let held = File::open(&folder).with_context(|| format!("cannot open `{}`", folder.display()))?;
        // The system's lock goes with its process, however that ends.
        held.try_lock().map_err(|_| {
            Problem::new(format!(
                "another `emberline tune` works in `{}`",
                project.folder.display()
            ))
            .hint("wait for its end, or end it with Ctrl-C: what it has finished is kept")
        })?;
        Ok(Self {
            folder,
            store: Store::of_project(&project.folder),
            _held: held,
        })
    }

    /// What came of a trial, when it is done and its bundle is there.
    pub fn find(&self, trial: &Trial) -> Option<Record> {
        let text = files::read(&self.path(&trial.id)).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let bundle = self.store.open(&record.version).ok()?;
        (record.id == trial.id && bundle.digest() == record.digest).then_some(record)
    }

    /// Keeps it.
    ///
    /// # Errors
    ///
    /// What cannot be written.
    pub fn keep(&self, record: &Record) -> Result<()> {
        files::replace(&self.path(&record.id), &serde_json::to_vec_pretty(record)?)
    }

    /// The bundles of the project.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where the results of a sweep are written.
    pub fn sweep(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join("trials").join(format!("{id}.json"))
    }
}
