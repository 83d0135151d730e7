//! Whose turn it is to supervise: a lock of the kernel's, which ends with the process that holds it, however it ends.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::state::StateFolder;
use crate::deploy::lock;
use crate::files;

/// How long to try for the lock: a client that asks whether there is a supervisor holds it for an instant.
const ATTEMPTS: Duration = Duration::from_secs(2);

impl StateFolder {
    /// Makes this process the supervisor for as long as the file is held; nothing when there is one.
    ///
    /// # Errors
    ///
    /// When the lock's file cannot be opened.
    pub fn hold_supervisor(&self) -> Result<Option<File>> {
        let path = self.supervisor_lock();
        let file = lock::open(&path).map_err(|error| files::cannot_write(&path, &error))?;
        let deadline = Instant::now() + ATTEMPTS;
        while file.try_lock().is_err() {
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(file))
    }

    /// Whether a supervisor lives.
    pub fn supervised(&self) -> bool {
        File::open(self.supervisor_lock())
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn supervisor_lock(&self) -> PathBuf {
        self.path().join("supervisor.lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_seen_for_as_long_as_it_holds_its_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::new(&folder.path().join("local"));
        assert!(!state.supervised());
        std::fs::create_dir(state.path()).expect("folder");
        let held = state.hold_supervisor().expect("lock").expect("no other");
        assert!(state.supervised());
        drop(held);
        assert!(!state.supervised());
    }
}
