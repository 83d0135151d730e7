//! A layer: a compressed archive of files whose bytes depend on nothing but names, modes, content and one time.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::files;

/// A file or folder of a layer, owned by root.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Relative to the root of the image.
    path: String,
    mode: u32,
    /// None for a folder.
    bytes: Option<Vec<u8>>,
}

impl Entry {
    /// A file.
    pub(super) fn file(path: &str, mode: u32, bytes: Vec<u8>) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            bytes: Some(bytes),
        }
    }

    /// The same in a folder of its archive.
    pub(super) fn inside(mut self, folder: &str) -> Self {
        self.path = format!("{folder}/{}", self.path);
        self
    }

    /// A folder that everybody may read.
    pub(super) fn folder(path: &str) -> Self {
        Self {
            path: format!("{path}/"),
            mode: 0o755,
            bytes: None,
        }
    }
}

/// A layer of an image.
#[derive(Clone, Debug)]
pub struct Layer {
    content: &'static str,
    blob: Vec<u8>,
    digest: String,
    diff_id: String,
}

impl Layer {
    /// A layer of `entries`, all of the time `mtime` (seconds since 1970). `content` says in a word what it holds.
    ///
    /// # Errors
    ///
    /// When a path is too long for an archive.
    pub(super) fn new(content: &'static str, mut entries: Vec<Entry>, mtime: u32) -> io::Result<Self> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let archive = archive(&entries, mtime)?;
        // No time and no file name in the header: the same archive is the same blob.
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
        encoder.write_all(&archive)?;
        let blob = encoder.finish()?;
        Ok(Self {
            content,
            digest: digest(&blob),
            diff_id: digest(&archive),
            blob,
        })
    }

    /// What it holds, in a word.
    pub fn content(&self) -> &'static str {
        self.content
    }

    /// The archive, compressed with gzip.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// `sha256:` and the digest of the blob.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// `sha256:` and the digest of the archive before it was compressed.
    pub fn diff_id(&self) -> &str {
        &self.diff_id
    }
}

/// A digest as images write it.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", files::sha256(bytes))
}

/// A tar archive of the entries in their order.
pub(super) fn archive(entries: &[Entry], mtime: u32) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for entry in entries {
        let bytes = entry.bytes.as_deref().unwrap_or_default();
        let mut header = Header::new_gnu();
        header.set_entry_type(if entry.bytes.is_some() {
            EntryType::Regular
        } else {
            EntryType::Directory
        });
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(mtime.into());
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, &entry.path, bytes)?;
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::file("model/b", 0o644, b"two".to_vec()),
            Entry::file("model/a", 0o755, b"one".to_vec()),
            Entry::folder("model"),
        ]
    }

    #[test]
    fn the_order_of_the_entries_does_not_matter() {
        let layer = Layer::new("model", entries(), 7).expect("layer");
        let mut other = entries();
        other.reverse();
        let other = Layer::new("model", other, 7).expect("layer");
        assert_eq!(layer.blob(), other.blob());
        let dated = Layer::new("model", entries(), 8).expect("layer");
        assert_ne!(layer.digest(), dated.digest());
    }

    #[test]
    fn the_archive_holds_names_modes_and_owners() {
        let layer = Layer::new("model", entries(), 7).expect("layer");
        let mut bytes = Vec::new();
        GzDecoder::new(layer.blob()).read_to_end(&mut bytes).expect("gzip");
        assert_eq!(layer.diff_id(), digest(&bytes));
        let mut archive = tar::Archive::new(&bytes[..]);
        let found: Vec<_> = archive
            .entries()
            .expect("archive")
            .map(|entry| {
                let mut entry = entry.expect("entry");
                let mut text = String::new();
                entry.read_to_string(&mut text).expect("text");
                let header = entry.header();
                assert_eq!(header.uid().expect("uid") + header.gid().expect("gid"), 0);
                assert_eq!(header.mtime().expect("mtime"), 7);
                let path = String::from_utf8(entry.path_bytes().into_owned()).expect("path");
                (path, header.mode().expect("mode"), header.entry_type(), text)
            })
            .collect();
        let expected = [
            ("model/", 0o755, EntryType::Directory, ""),
            ("model/a", 0o755, EntryType::Regular, "one"),
            ("model/b", 0o644, EntryType::Regular, "two"),
        ]
        .map(|(path, mode, kind, text)| (path.to_owned(), mode, kind, text.to_owned()));
        assert_eq!(found, expected);
    }
}
