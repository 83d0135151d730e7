//! The files of a local deployment, in `.emberline/local/`: what is wanted (written by the client), what there is
//! (written by the supervisor), the revisions and the logs.
//!
//! Each is replaced whole, so that a reader never sees half of one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::deploy::records::{self, Records};
use crate::deploy::{Instance, Phase, Trouble};
use crate::project::Project;

/// `spec.json`: what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Grows with each change, so that a client knows when the supervisor has seen its own.
    pub generation: u64,
    /// The project's name.
    pub name: String,
    /// The release that should serve.
    pub release: Release,
    /// The release that serves again when that one fails before all its replicas were ready.
    pub former: Option<Release>,
}

/// A bundle, where it is served, and by how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its number in the history.
    pub revision: u64,
    /// The bundle's version.
    pub version: String,
    /// The bundle's directory, an absolute path.
    pub bundle: PathBuf,
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// Processes.
    pub replicas: usize,
    /// How long a replica may take until it is ready, in milliseconds.
    pub start_timeout_ms: u64,
}

/// `status.json`: what there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The supervisor's process.
    pub supervisor: u32,
    /// The spec that this is about.
    pub generation: u64,
    /// How far it is.
    pub phase: Phase,
    /// The release that is worked towards: the one wanted, or the former one when that failed.
    pub release: Option<Release>,
    /// The processes.
    pub instances: Vec<Instance>,
    /// What went wrong last.
    pub trouble: Option<Trouble>,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct StateFolder {
    records: Records,
}

impl StateFolder {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self {
            records: Records::new(path),
        }
    }

    /// The folder of a project's deployments on this machine.
    pub fn of_project(project: &Project) -> Self {
        Self {
            records: Records::of_project(project, "local"),
        }
    }

    /// The revisions, and the lock of who changes them.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Where it is: an absolute path.
    pub fn path(&self) -> &Path {
        self.records.folder()
    }

    /// What is wanted; nothing when nothing is deployed.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn spec(&self) -> Result<Option<Spec>> {
        records::read(&self.spec_path())
    }

    /// When the spec was written last, to tell cheaply whether it changed; none when there is none.
    pub fn spec_stamp(&self) -> Option<(SystemTime, u64)> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(self.spec_path()).ok()?;
        Some((metadata.modified().ok()?, metadata.ino()))
    }

    /// Says what is wanted.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_spec(&self, spec: &Spec) -> Result<()> {
        records::write(&self.spec_path(), spec)
    }

    /// Says that nothing is wanted: the supervisor drains its replicas and ends.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn remove_spec(&self) -> Result<()> {
        records::remove(&self.spec_path())
    }

    /// What there is; nothing before a supervisor has looked.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn status(&self) -> Result<Option<Status>> {
        records::read(&self.path().join("status.json"))
    }

    /// Says what there is.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_status(&self, status: &Status) -> Result<()> {
        records::write(&self.path().join("status.json"), status)
    }

    /// The supervisor's log.
    pub fn supervisor_log(&self) -> PathBuf {
        self.path().join("supervisor.log")
    }

    /// A replica's log.
    pub fn replica_log(&self, id: u32) -> PathBuf {
        self.path().join("logs").join(format!("replica-{id}.log"))
    }

    /// Numbers of the replicas that have a log, ascending.
    pub fn logged_replicas(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = fs::read_dir(self.path().join("logs"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                name.to_str()?
                    .strip_prefix("replica-")?
                    .strip_suffix(".log")?
                    .parse()
                    .ok()
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    fn spec_path(&self) -> PathBuf {
        self.path().join("spec.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    fn folder() -> (tempfile::TempDir, StateFolder) {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::new(&folder.path().join("local"));
        (folder, state)
    }

    #[test]
    fn logs_are_found_by_the_numbers_of_their_replicas() {
        let (_keep, state) = folder();
        files::replace(&state.replica_log(3), b"line\n").expect("a log");
        files::replace(&state.replica_log(12), b"line\n").expect("a log");
        files::replace(&state.path().join("logs/replica-3.log.1"), b"line\n").expect("its former part");
        assert_eq!(state.logged_replicas(), [3, 12]);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let (_keep, state) = folder();
        assert_eq!(state.spec().expect("nothing yet"), None);
        files::replace(&state.path().join("spec.json"), b"{").expect("written");
        let error = state.spec().expect_err("damaged").to_string();
        assert!(error.contains("spec.json"), "{error}");
    }
}
