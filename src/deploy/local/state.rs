//! The files of a local deployment, in `.emberline/local/`: what is wanted (written by the client), what there is
//! (written by the supervisor), the revisions and the logs.
//!
//! Each is replaced whole, so that a reader never sees half of one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lock::{self, ClientLock};
use crate::deploy::history::{self, Revision};
use crate::deploy::{Instance, Phase, Trouble};
use crate::files;
use crate::problem::Problem;

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
    folder: PathBuf,
}

impl StateFolder {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self {
            folder: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        }
    }

    /// Where it is: an absolute path.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Whether it is (still) there.
    pub fn exists(&self) -> bool {
        self.folder.is_dir()
    }

    /// What is wanted; nothing when nothing is deployed.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn spec(&self) -> Result<Option<Spec>> {
        read(&self.spec_path())
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
        write(&self.spec_path(), spec)
    }

    /// Says that nothing is wanted: the supervisor drains its replicas and ends.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn remove_spec(&self) -> Result<()> {
        let path = self.spec_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(files::cannot_write(&path, &error)),
            _ => Ok(()),
        }
    }

    /// What there is; nothing before a supervisor has looked.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn status(&self) -> Result<Option<Status>> {
        read(&self.folder.join("status.json"))
    }

    /// Says what there is.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_status(&self, status: &Status) -> Result<()> {
        write(&self.folder.join("status.json"), status)
    }

    /// The revisions that are remembered, the oldest first.
    ///
    /// # Errors
    ///
    /// A record that cannot be read.
    pub fn revisions(&self) -> Result<Vec<Revision>> {
        let mut revisions: Vec<Revision> = Vec::new();
        for path in self.listed("revisions", "json") {
            revisions.extend(read(&path)?);
        }
        revisions.sort_by_key(|revision: &Revision| revision.revision);
        Ok(revisions)
    }

    /// One revision.
    ///
    /// # Errors
    ///
    /// A record that cannot be read.
    pub fn revision(&self, revision: u64) -> Result<Option<Revision>> {
        read(&self.revision_path(revision))
    }

    /// Remembers a revision, and forgets those that are too old.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_revision(&self, revision: &Revision) -> Result<()> {
        write(&self.revision_path(revision.revision), revision)?;
        let mut paths = self.listed("revisions", "json");
        paths.sort();
        for path in &paths[..paths.len().saturating_sub(history::KEPT)] {
            // One record too many does no harm.
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// Removes all but the lock, which is held.
    ///
    /// # Errors
    ///
    /// What could not be removed.
    pub fn clear(&self, _held: &ClientLock) -> Result<()> {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let removed = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
                _ if entry.file_name() == lock::CLIENT => Ok(()),
                _ => fs::remove_file(&path),
            };
            removed.map_err(|error| files::cannot_write(&path, &error))?;
        }
        Ok(())
    }

    /// The supervisor's log.
    pub fn supervisor_log(&self) -> PathBuf {
        self.folder.join("supervisor.log")
    }

    /// A replica's log.
    pub fn replica_log(&self, id: u32) -> PathBuf {
        self.folder.join("logs").join(format!("replica-{id}.log"))
    }

    /// Numbers of the replicas that have a log, ascending.
    pub fn logged_replicas(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .listed("logs", "log")
            .iter()
            .filter_map(|path| path.file_stem()?.to_str()?.strip_prefix("replica-")?.parse().ok())
            .collect();
        ids.sort_unstable();
        ids
    }

    fn spec_path(&self) -> PathBuf {
        self.folder.join("spec.json")
    }

    fn revision_path(&self, revision: u64) -> PathBuf {
        self.folder.join("revisions").join(format!("{revision:09}.json"))
    }

    /// Files of one kind in a folder below; none when there is no such folder.
    fn listed(&self, folder: &str, extension: &str) -> Vec<PathBuf> {
        fs::read_dir(self.folder.join(folder))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect()
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    };
    let value = serde_json::from_slice(&text).map_err(|error| {
        Problem::new(format!("`{}` is damaged: {error}", path.display()))
            .hint("`emberline delete` and then `emberline deploy` start anew")
    })?;
    Ok(Some(value))
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    files::replace(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, StateFolder) {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::new(&folder.path().join("local"));
        (folder, state)
    }

    #[test]
    fn clearing_leaves_the_lock_alone() {
        let (_keep, state) = folder();
        let held = state.lock("digits", "emberline delete").expect("free");
        files::replace(&state.replica_log(3), b"line\n").expect("a log");
        files::replace(&state.replica_log(12), b"line\n").expect("a log");
        assert_eq!(state.logged_replicas(), [3, 12]);
        state.clear(&held).expect("cleared");
        let names: Vec<_> = fs::read_dir(state.path())
            .expect("folder")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["lock"]);
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
