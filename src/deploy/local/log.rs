//! Log files that stay small: appended to, cut when they grow, read from their end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::deploy::history::{seconds_since_1970, utc};

/// A log that has grown beyond this many bytes is cut.
const LIMIT: u64 = 4 << 20;

/// The last part of a log that is read to find its last lines, in bytes.
const TAIL: u64 = 256 << 10;

/// Opens a log for a process to append to.
///
/// # Errors
///
/// As the system says.
pub fn append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

/// Moves what is in a log that has grown too large to `.1`, in place of what was there. Who appends to it may go on.
pub fn cut(path: &Path) {
    let Ok(file) = OpenOptions::new().write(true).open(path) else {
        return;
    };
    if file.metadata().is_ok_and(|metadata| metadata.len() > LIMIT) {
        let mut old = path.as_os_str().to_owned();
        old.push(".1");
        // A copy that fails (a full disk) must not keep the log from being cut.
        let _ = fs::copy(path, Path::new(&old));
        let _ = file.set_len(0);
    }
}

/// Length in bytes; 0 when there is none.
pub fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The last `lines` lines from `offset` on, and how far the file was read.
pub fn tail(path: &Path, offset: u64, lines: usize) -> (Vec<String>, u64) {
    let end = length(path);
    // A log that was cut since begins anew.
    let start = if offset > end { 0 } else { offset };
    let cut = end.saturating_sub(TAIL).max(start);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(cut))?;
        file.take(end - cut).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return (Vec::new(), start);
    }
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let last = all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect();
    (last, cut + bytes.len() as u64)
}

/// The whole lines that were appended since `offset`, and the offset to go on from.
pub fn since(path: &Path, offset: u64) -> (Vec<String>, u64) {
    let end = length(path);
    let start = if offset > end { 0 } else { offset };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.take(TAIL).read_to_end(&mut bytes)
    });
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if read.is_err() || whole == 0 {
        return (Vec::new(), start);
    }
    let lines = String::from_utf8_lossy(&bytes[..whole])
        .lines()
        .map(str::to_owned)
        .collect();
    (lines, start + whole as u64)
}

/// The supervisor's own log.
#[derive(Debug)]
pub struct Journal {
    file: Option<File>,
}

impl Journal {
    /// Opens the log. One that cannot be opened loses its lines: the service matters more.
    pub fn open(path: &Path) -> Self {
        cut(path);
        Self {
            file: append(path).ok(),
        }
    }

    /// Appends a line with the time in front.
    pub fn line(&mut self, text: &str) {
        if let Some(file) = &mut self.file {
            let _ = writeln!(file, "{} {text}", utc(seconds_since_1970()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_from_its_end_and_then_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("logs/replica-1.log");
        let mut file = append(&path).expect("a log");
        file.write_all(b"one\ntwo\nthree\n").expect("written");
        let (lines, offset) = tail(&path, 0, 2);
        assert_eq!(lines, ["two", "three"]);
        assert_eq!(since(&path, offset), (vec![], offset));
        file.write_all(b"four\nhalf").expect("written");
        let (lines, offset) = since(&path, offset);
        assert_eq!(lines, ["four"]);
        file.write_all(b" a line\n").expect("written");
        assert_eq!(since(&path, offset).0, ["half a line"]);
        assert_eq!(tail(&path, 4, 99).0, ["two", "three", "four", "half a line"]);
    }

    #[test]
    fn a_log_that_was_cut_is_followed_from_its_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = append(&path).expect("a log");
        file.write_all(&vec![b'x'; LIMIT as usize + 1]).expect("written");
        let end = length(&path);
        cut(&path);
        assert_eq!(length(&path), 0);
        assert_eq!(length(&folder.path().join("log.1")), end);
        file.write_all(b"new\n").expect("written");
        assert_eq!(since(&path, end).0, ["new"]);
    }
}
