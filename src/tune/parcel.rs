//! A bundle on its way home through the log of a pod: its files in one archive, compressed, in lines of base 64. What
//! arrives is checked against the digest that was told, and then read as every bundle is.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, Header};

use crate::bundle::{Bundle, MANIFEST};
use crate::files;
use crate::problem::Problem;

/// Most bytes of a compressed bundle: with base 64 and what a node writes before each line it stays below the 10 MiB at
/// which a node begins another file for a log.
pub const MOST: usize = 6 << 20;
/// Most bytes of what a parcel unpacks to.
const MOST_UNPACKED: u64 = 64 << 20;
/// Bytes of the archive in a line.
const PART: usize = 8 << 10;

/// A part of the archive.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    /// Counted from 0.
    pub part: usize,
    /// The bytes.
    pub bytes: ByteString,
}

/// What was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// How many parts.
    pub parts: usize,
    /// SHA-256 of the archive.
    pub sha256: String,
}

/// Packs a bundle.
///
/// # Errors
///
/// When it is too large for a log.
pub fn pack(bundle: &Bundle) -> Result<(Vec<Part>, Seal)> {
    let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for name in bundle.manifest().files.keys().map(String::as_str).chain([MANIFEST]) {
        let bytes = files::read(&bundle.path().join(name))?;
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, &bytes[..])?;
    }
    let mut encoder = archive.into_inner()?;
    encoder.flush()?;
    let bytes = encoder.finish()?;
    if bytes.len() > MOST {
        return Err(too_large(bytes.len()).into());
    }
    let parts = bytes.chunks(PART).enumerate().map(|(part, bytes)| Part {
        part,
        bytes: ByteString(bytes.to_vec()),
    });
    let parts: Vec<Part> = parts.collect();
    let seal = Seal {
        parts: parts.len(),
        sha256: files::sha256(&bytes),
    };
    Ok((parts, seal))
}

/// That a bundle cannot come home from a pod.
pub fn too_large(bytes: usize) -> Problem {
    Problem::new(format!(
        "the bundle takes {bytes} bytes, and the log of a pod, by which it comes home, carries {MOST}"
    ))
    .hint("smaller networks, or `--target local`, which has no such limit")
}

/// The files of a bundle that was packed, from parts in any order.
///
/// # Errors
///
/// When a part is missing or changed.
pub fn unpack(parts: &[Part], seal: &Seal) -> Result<BTreeMap<String, Vec<u8>>> {
    let by_number: BTreeMap<usize, &[u8]> = parts.iter().map(|part| (part.part, &part.bytes.0[..])).collect();
    anyhow::ensure!(
        by_number.keys().copied().eq(0..seal.parts),
        "{} of the {} parts of its bundle have arrived",
        by_number.len(),
        seal.parts
    );
    let bytes = by_number.into_values().collect::<Vec<_>>().concat();
    let found = files::sha256(&bytes);
    anyhow::ensure!(
        found == seal.sha256,
        "its bundle has arrived with SHA-256 {found}, and was sent with {}",
        seal.sha256
    );
    let mut archive = Archive::new(GzDecoder::new(&bytes[..]).take(MOST_UNPACKED));
    let mut files = BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry.context("its bundle is no archive")?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .context("its bundle is no whole archive")?;
        files.insert(name, bytes);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(bytes: &[u8]) -> (Vec<Part>, Seal) {
        let parts: Vec<Part> = bytes
            .chunks(5)
            .enumerate()
            .map(|(part, bytes)| Part {
                part,
                bytes: ByteString(bytes.to_vec()),
            })
            .collect();
        let seal = Seal {
            parts: parts.len(),
            sha256: files::sha256(bytes),
        };
        (parts, seal)
    }

    fn archive() -> Vec<u8> {
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
        let mut header = Header::new_gnu();
        header.set_size(3);
        archive.append_data(&mut header, "a", &b"one"[..]).expect("a file");
        archive.into_inner().expect("an archive").finish().expect("bytes")
    }

    #[test]
    fn parts_come_together_in_any_order_and_twice() {
        let (mut parts, seal) = sealed(&archive());
        parts.reverse();
        let first = serde_json::to_string(&parts[0]).expect("JSON");
        parts.push(serde_json::from_str(&first).expect("a part"));
        let files = unpack(&parts, &seal).expect("files");
        assert_eq!(files, BTreeMap::from([("a".to_owned(), b"one".to_vec())]));
    }

    #[test]
    fn what_is_missing_or_changed_is_told() {
        let (mut parts, seal) = sealed(&archive());
        parts.remove(1);
        let error = unpack(&parts, &seal).expect_err("a part is missing");
        assert!(error.to_string().contains("of the"), "{error}");
        let (mut parts, seal) = sealed(&archive());
        parts[1].bytes.0[0] ^= 1;
        let error = unpack(&parts, &seal).expect_err("a part was changed");
        assert!(error.to_string().contains("SHA-256"), "{error}");
    }
}
