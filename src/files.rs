//! Durable files: written under a temporary name, synced, then renamed, so that a reader sees the old content or the new
//! one, and a full disk or a killed process loses nothing. It knows nothing of what is in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// Replaces the file at `path` by `bytes`, or leaves it as it was. Creates the folder it is in.
///
/// # Errors
///
/// The path and the system's reason, with a hint when the disk is full.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    create_folder(folder)?;
    let temporary = temporary_beside(path);
    let written = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(folder));
    if written.is_err() {
        // The half-written temporary is worth nothing; the error that is reported is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|error| cannot_write(path, &error))
}

/// Writes `bytes` to a new file and waits until they are on the disk.
///
/// # Errors
///
/// As the system says.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Waits until the names in a folder are on the disk.
///
/// # Errors
///
/// As the system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)?.sync_all()
}

/// Creates a folder and those above it.
///
/// # Errors
///
/// The path and the system's reason.
pub fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))
}

/// Waits until nobody else works on the file at `path`, and keeps others waiting until what it gives is dropped: the
/// system's lock on the folder, which a file that is replaced does not lose. Creates the folder.
///
/// # Errors
///
/// The path and the system's reason.
pub fn lock(path: &Path) -> Result<File> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    create_folder(folder)?;
    let locked = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
    locked.with_context(|| format!("cannot lock `{}`", folder.display()))
}

/// Reads a file whole.
///
/// # Errors
///
/// The path and the system's reason.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// As [`read`], of nothing but a file: a pipe would have its reader wait for a writer.
///
/// # Errors
///
/// The path and the system's reason, or that it is no file.
pub fn read_regular(path: &Path) -> Result<Vec<u8>> {
    let read = || {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().with_context(|| format!("cannot read `{}`", path.display()))
}

/// The error for a file that could not be written.
pub fn cannot_write(path: &Path, error: &io::Error) -> anyhow::Error {
    let problem = Problem::new(format!("cannot write `{}`: {error}", path.display()));
    let problem = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            problem.hint("free some space there; what was there before is unharmed")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            problem.hint("choose a folder that you may write to")
        }
        _ => problem,
    };
    problem.into()
}

/// A name in the same folder (so that a rename is atomic) that no other process uses.
pub fn temporary_beside(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// SHA-256 in lower-case hex, 64 digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_leaves_no_temporary_behind() {
        let folder = std::env::temp_dir().join(format!("emberline-files-{}", std::process::id()));
        let path = folder.join("deep/file");
        replace(&path, b"one").expect("write");
        replace(&path, b"two").expect("write again");
        assert_eq!(read(&path).expect("read"), b"two");
        let names = fs::read_dir(folder.join("deep")).expect("folder").count();
        assert_eq!(names, 1);
        fs::remove_dir_all(&folder).expect("clean");
    }

    #[test]
    fn digests_are_hex() {
        assert_eq!(
            sha256(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
