//! `VERSION.footprint.json`: what a server of a bundle takes, as `package` has measured it with the runtime that goes into the
//! image. It lies beside the bundle and names its digest, as an evaluation does. What is made of the numbers is the business
//! of `deploy`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::store::attachment_path;
use super::{Bundle, BundleRef};
use crate::files;
use crate::problem::Problem;

/// The format that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// What a server of a bundle takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Footprint {
    /// The format of the file, 1.
    pub format: u32,
    /// Whose server was measured.
    pub bundle: BundleRef,
    /// SHA-256 of the runtime that was.
    pub runtime: String,
    /// What was measured.
    pub usage: Usage,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Most memory that the server had resident while it answered golden inputs one at a time.
    pub memory_bytes: u64,
    /// The same after a request as large as it takes.
    pub memory_largest_request_bytes: u64,
    /// Processor time of one prediction in a request of its own.
    pub cpu_seconds_per_prediction: f64,
    /// Predictions that this is the mean of.
    pub predictions: u64,
}

impl Footprint {
    /// What the runtime with this digest takes with `bundle`.
    pub fn new(bundle: &Bundle, runtime: String, usage: Usage) -> Self {
        Self {
            format: FORMAT,
            bundle: BundleRef::of(bundle),
            runtime,
            usage,
        }
    }

    /// The footprint that lies beside the bundle at `path` with this digest, if it was measured.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is of another bundle or another format.
    pub fn read(path: &Path, digest: &str) -> Result<Option<Self>> {
        let path = file(path);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        let refuse = |reason: String| {
            Problem::new(format!("`{}` {reason}", path.display()))
                .hint("delete it: the next `emberline package` measures anew")
        };
        let footprint: Self =
            serde_json::from_slice(&text).map_err(|error| refuse(format!("is no footprint: {error}")))?;
        if footprint.format != FORMAT {
            return Err(refuse(format!(
                "has format {}, and this version reads format {FORMAT}",
                footprint.format
            ))
            .into());
        }
        if footprint.bundle.digest != digest {
            return Err(refuse(format!(
                "is that of bundle `{}`, and lies beside another",
                footprint.bundle.version
            ))
            .into());
        }
        Ok(Some(footprint))
    }

    /// Forgets the footprint of `bundle`, if there is one.
    ///
    /// # Errors
    ///
    /// When it cannot be deleted.
    pub fn remove(bundle: &Bundle) -> Result<()> {
        let path = file(bundle.path());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete `{}`", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Writes the footprint beside `bundle`, in place of the former one.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the former one is then as it was.
    pub fn write(&self, bundle: &Bundle) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        files::replace(&file(bundle.path()), &text)
    }
}

fn file(bundle: &Path) -> PathBuf {
    attachment_path(bundle, "footprint")
}
