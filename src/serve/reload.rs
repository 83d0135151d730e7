//! Files that may be exchanged while a server serves: what they hold is looked at each second, and taken when it is good.
//!
//! They are read rather than asked for their times, because times have grains and file systems lie; they are small. What
//! cannot be read or is wrong changes nothing: the server goes on with what it had, says so once, and counts it. What the
//! files mean is their owner's.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Error, Result};
use sha2::{Digest, Sha256};

use crate::files;

/// Between two looks.
pub const EVERY: Duration = Duration::from_secs(1);

type Read<T> = fn(&[PathBuf], &[Vec<u8>]) -> Result<T>;

/// What some files mean, as they were when they were last good.
pub struct Reloaded<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    read: Read<T>,
    current: RwLock<Arc<T>>,
    /// A digest of what was seen last, good or not, so that it is told once.
    seen: Mutex<[u8; 32]>,
    failures: AtomicU64,
}

impl<T> Reloaded<T> {
    /// Reads the files for the first time. `what` is what they hold, for people; `read` gets the paths and what is there.
    ///
    /// # Errors
    ///
    /// Why they cannot be read, and those of `read`.
    pub fn open(what: &'static str, paths: Vec<PathBuf>, read: Read<T>) -> Result<Self> {
        let contents = contents(&paths);
        let seen = digest(&contents);
        let first = read(&paths, &contents?)?;
        Ok(Self {
            what,
            paths,
            read,
            current: RwLock::new(Arc::new(first)),
            seen: Mutex::new(seen),
            failures: AtomicU64::new(0),
        })
    }

    /// What holds now.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often what was found could not be taken.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Looks whether the files have changed; gives the line that is to be said when they have.
    pub fn look(&self) -> Option<String> {
        let contents = contents(&self.paths);
        let digest = digest(&contents);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == digest {
            return None;
        }
        *seen = digest;
        Some(
            match contents.and_then(|contents| (self.read)(&self.paths, &contents)) {
                Ok(new) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                    format!("{}: read again, and in force", self.what)
                }
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    format!("{}: what was there before stays in force: {error:#}", self.what)
                }
            },
        )
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what they hold: some of it is secret.
        formatter
            .debug_struct("Reloaded")
            .field("what", &self.what)
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

fn contents(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    paths.iter().map(|path| files::read_regular(path)).collect()
}

fn digest(contents: &Result<Vec<Vec<u8>>, Error>) -> [u8; 32] {
    let mut digest = Sha256::new();
    match contents {
        Ok(contents) => {
            for content in contents {
                digest.update((content.len() as u64).to_le_bytes());
                digest.update(content);
            }
        }
        Err(error) => digest.update(format!("{error:#}")),
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use anyhow::Context;

    use super::*;

    #[test]
    fn what_is_good_is_taken_and_what_is_not_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths: Vec<PathBuf> = ["one", "two"].map(|name| folder.path().join(name)).to_vec();
        let write = |one: &str, two: &str| {
            fs::write(&paths[0], one).expect("written");
            fs::write(&paths[1], two).expect("written");
        };
        write("1", "2");
        let sum = |_: &[PathBuf], contents: &[Vec<u8>]| {
            let mut sum = 0_u32;
            for content in contents {
                let number = String::from_utf8_lossy(content);
                sum += number.parse::<u32>().with_context(|| format!("`{number}`"))?;
            }
            Ok(sum)
        };
        let files = Reloaded::open("sum", paths.clone(), sum).expect("good files");
        assert_eq!((*files.current(), files.look()), (3, None));

        write("1", "5");
        assert!(files.look().expect("news").contains("in force"));
        assert_eq!((*files.current(), files.look()), (6, None));

        write("1", "x");
        let news = files.look().expect("news");
        assert!(
            news.starts_with("sum: what was there before") && news.contains("`x`"),
            "{news}"
        );
        assert_eq!((*files.current(), files.look(), files.failures()), (6, None, 1));

        fs::remove_file(&paths[0]).expect("removed");
        assert!(files.look().expect("news").contains("cannot read"));
        assert_eq!((*files.current(), files.look(), files.failures()), (6, None, 2));

        // The same as before it went wrong is news as well: people want to hear that it is good.
        write("1", "5");
        assert!(files.look().expect("news").contains("in force"));
        assert_eq!((*files.current(), files.look(), files.failures()), (6, None, 2));

        // A boundary that moves is a change.
        write("15", "0");
        assert!(files.look().is_some());
        assert_eq!(*files.current(), 15);
    }
}
