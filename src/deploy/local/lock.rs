//! The two locks, of the client that changes a deployment and of its supervisor. They are the kernel's, so they end with
//! the process that holds them, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::state::StateFolder;
use crate::deploy::DeployError;
use crate::deploy::history::seconds_since_1970;
use crate::files;
use crate::problem::Problem;

/// The name of the file that a client locks.
pub const CLIENT: &str = "lock";
/// How long to try for the supervisor's lock: a client that asks whether there is a supervisor holds it for an instant.
const ATTEMPTS: Duration = Duration::from_secs(2);

/// The right to change the deployment; given back when dropped.
#[derive(Debug)]
pub struct ClientLock {
    _file: File,
}

/// What the client's file says of who holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    command: String,
    since: u64,
}

impl StateFolder {
    /// Takes the right to change the deployment `name`, for the command `command`.
    ///
    /// # Errors
    ///
    /// [`DeployError::Locked`] when another process has it.
    pub fn lock(&self, name: &str, command: &str) -> Result<ClientLock> {
        let path = self.path().join(CLIENT);
        files::create_folder(self.path())?;
        let mut file = open(&path).map_err(|error| files::cannot_write(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file).map_or_else(String::new, |holder| {
                    format!(
                        " (`{}`, process {}, for {} s)",
                        holder.command,
                        holder.pid,
                        seconds_since_1970().saturating_sub(holder.since)
                    )
                });
                let locked = DeployError::Locked {
                    name: name.to_owned(),
                    holder,
                };
                return Err(anyhow::Error::from(
                    Problem::new("one command at a time may change it").hint("wait for it to end, then try again"),
                )
                .context(locked));
            }
            Err(TryLockError::Error(error)) => return Err(error).context(format!("cannot lock `{}`", path.display())),
        }
        let holder = Holder {
            pid: std::process::id(),
            command: command.to_owned(),
            since: seconds_since_1970(),
        };
        rewrite(&mut file, &holder).map_err(|error| files::cannot_write(&path, &error))?;
        Ok(ClientLock { _file: file })
    }

    /// Makes this process the supervisor for as long as the file is held; nothing when there is one.
    ///
    /// # Errors
    ///
    /// When the lock's file cannot be opened.
    pub fn hold_supervisor(&self) -> Result<Option<File>> {
        let path = self.supervisor_lock();
        let file = open(&path).map_err(|error| files::cannot_write(&path, &error))?;
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

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn rewrite(file: &mut File, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_vec(holder)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
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
    fn one_client_at_a_time_and_the_other_learns_who() {
        let (_keep, state) = folder();
        let held = state.lock("digits", "emberline deploy").expect("free");
        let error = state.lock("digits", "emberline scale").expect_err("held");
        let locked = error.downcast_ref::<DeployError>().expect("typed");
        assert_eq!(locked.exit_code(), 6);
        let pid = std::process::id();
        assert!(
            error
                .to_string()
                .contains(&format!("(`emberline deploy`, process {pid}"))
        );
        drop(held);
        state.lock("digits", "emberline scale").expect("free again");
    }

    #[test]
    fn a_supervisor_is_seen_for_as_long_as_it_holds_its_lock() {
        let (_keep, state) = folder();
        assert!(!state.supervised());
        std::fs::create_dir(state.path()).expect("folder");
        let held = state.hold_supervisor().expect("lock").expect("no other");
        assert!(state.supervised());
        drop(held);
        assert!(!state.supervised());
    }
}
