//! The right to change a deployment, which one command at a time has. The lock is the kernel's, so it ends with the process
//! that holds it, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::DeployError;
use super::history::seconds_since_1970;
use super::records::Records;
use crate::files;
use crate::problem::Problem;

/// The name of the file that is locked.
pub const FILE: &str = "lock";

/// The right to change the deployment; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What the file says of who holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    command: String,
    since: u64,
}

impl Records {
    /// Takes the right to change the deployment `name`, for the command `command`.
    ///
    /// # Errors
    ///
    /// [`DeployError::Locked`] when another process has it.
    pub fn lock(&self, name: &str, command: &str) -> Result<Lock> {
        let path = self.folder().join(FILE);
        files::create_folder(self.folder())?;
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
        Ok(Lock { _file: file })
    }

    /// Whether anybody has it. The kernel's list is read for that: to try it would be to have it for an instant.
    pub fn is_locked(&self) -> bool {
        let Ok(file) = fs::metadata(self.folder().join(FILE)) else {
            return false;
        };
        let inode = format!(":{}", file.ino());
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks
            .lines()
            .any(|lock| lock.contains(" FLOCK ") && lock.split_whitespace().any(|word| word.ends_with(&inode)))
    }
}

/// Opens a lock's file.
///
/// # Errors
///
/// As the system says.
pub fn open(path: &Path) -> io::Result<File> {
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

    fn folder() -> (tempfile::TempDir, Records) {
        let folder = tempfile::tempdir().expect("a folder");
        let records = Records::new(&folder.path().join("local"));
        (folder, records)
    }

    #[test]
    fn one_client_at_a_time_and_the_other_learns_who() {
        let (_keep, records) = folder();
        let held = records.lock("digits", "emberline deploy").expect("free");
        let error = records.lock("digits", "emberline scale").expect_err("held");
        let locked = error.downcast_ref::<DeployError>().expect("typed");
        assert_eq!(locked.exit_code(), 6);
        let pid = std::process::id();
        assert!(
            error
                .to_string()
                .contains(&format!("(`emberline deploy`, process {pid}"))
        );
        assert!(records.is_locked());
        drop(held);
        assert!(!records.is_locked());
        records.lock("digits", "emberline scale").expect("free again");
    }
}
