//! What a target remembers on this machine, in a folder of its own: a record for each revision, and what else it puts
//! there itself. Who may change it is said by the folder's lock, in [`super::lock`].
//!
//! Each file is replaced whole, so that a reader never sees half of one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Service;
use super::history::{self, Outcome, Revision, Scaled};
use super::lock::{FILE, Lock};
use crate::files;
use crate::problem::Problem;
use crate::project::Project;

/// The folder.
#[derive(Clone, Debug)]
pub struct Records {
    folder: PathBuf,
}

impl Records {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self {
            folder: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        }
    }

    /// The folder of a project's deployments to `target`; each destination has its own.
    pub fn of_project(project: &Project, target: &str) -> Self {
        Self::new(&project.state_of(target))
    }

    /// Where it is: an absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it is (still) there.
    pub fn exists(&self) -> bool {
        self.folder.is_dir()
    }

    /// The revisions that are remembered, the oldest first.
    ///
    /// # Errors
    ///
    /// A record that cannot be read.
    pub fn revisions(&self) -> Result<Vec<Revision>> {
        let mut revisions: Vec<Revision> = Vec::new();
        for path in self.paths() {
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
        read(&self.path(revision))
    }

    /// Remembers a revision, and forgets those that are too old.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_revision(&self, revision: &Revision) -> Result<()> {
        write(&self.path(revision.revision), revision)?;
        let mut paths = self.paths();
        paths.sort();
        for path in &paths[..paths.len().saturating_sub(history::KEPT)] {
            // One record too many does no harm.
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// Says of those that have not arrived that another one comes now; gives the newest number, or 0.
    ///
    /// # Errors
    ///
    /// A record that cannot be read or written.
    pub fn supersede(&self) -> Result<u64> {
        let mut newest = 0;
        for mut record in self.revisions()? {
            newest = newest.max(record.revision);
            if record.outcome == Outcome::Progressing {
                record.outcome = Outcome::Superseded;
                self.write_revision(&record)?;
            }
        }
        Ok(newest)
    }

    /// Writes what became of a revision; nothing when it is forgotten.
    ///
    /// # Errors
    ///
    /// A record that cannot be read or written.
    pub fn conclude(&self, revision: u64, outcome: Outcome, reason: Option<String>) -> Result<()> {
        let Some(mut record) = self.revision(revision)? else {
            return Ok(());
        };
        record.outcome = outcome;
        record.reason = reason;
        self.write_revision(&record)
    }

    /// Changes the number of replicas of a revision, and remembers who has asked for it and what became of it.
    ///
    /// # Errors
    ///
    /// Those of the change, and a record that cannot be read or written.
    pub fn scale(&self, revision: u64, scaled: Scaled, change: impl FnOnce() -> Result<Service>) -> Result<Service> {
        // The same number again is no change.
        if scaled.to == Some(scaled.from) {
            return change();
        }
        if let Some(mut record) = self.revision(revision)? {
            record.begin_scaling(scaled);
            self.write_revision(&record)?;
        }
        let outcome = change();
        if let Some(mut record) = self.revision(revision)? {
            record.end_scaling(&outcome);
            self.write_revision(&record)?;
        }
        outcome
    }

    /// Removes all but the lock, which is held.
    ///
    /// # Errors
    ///
    /// What could not be removed.
    pub fn clear(&self, _held: &Lock) -> Result<()> {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let removed = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
                _ if entry.file_name() == FILE => Ok(()),
                _ => fs::remove_file(&path),
            };
            removed.map_err(|error| files::cannot_write(&path, &error))?;
        }
        Ok(())
    }

    fn path(&self, revision: u64) -> PathBuf {
        self.folder.join("revisions").join(format!("{revision:09}.json"))
    }

    /// The records' files; none when there is no such folder.
    fn paths(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder.join("revisions"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|found| found == "json"))
            .collect()
    }
}

/// Reads one of the folder's files; nothing when it is not there.
///
/// # Errors
///
/// A file that cannot be read, or that is damaged.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
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

/// Replaces one of the folder's files.
///
/// # Errors
///
/// When it cannot be written.
pub fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    files::replace(path, &text)
}

/// Removes one of the folder's files, if it is there.
///
/// # Errors
///
/// When it cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(files::cannot_write(path, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Records) {
        let folder = tempfile::tempdir().expect("a folder");
        let records = Records::new(&folder.path().join("local"));
        (folder, records)
    }

    #[test]
    fn clearing_leaves_the_lock_alone() {
        let (_keep, records) = folder();
        let held = records.lock("digits", "emberline delete").expect("free");
        files::replace(&records.folder().join("logs/replica-3.log"), b"line\n").expect("a log");
        files::replace(&records.folder().join("spec.json"), b"{}\n").expect("a spec");
        records.clear(&held).expect("cleared");
        let names: Vec<_> = fs::read_dir(records.folder())
            .expect("folder")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["lock"]);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let (_keep, records) = folder();
        assert_eq!(records.revisions().expect("nothing yet"), []);
        files::replace(&records.path(1), b"{").expect("written");
        let error = records.revisions().expect_err("damaged").to_string();
        assert!(error.contains("000000001.json"), "{error}");
    }
}
