//! Bundles on the disk: written whole or not at all, and checked byte for byte when opened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{FORMAT, GOLDEN, Golden, MANIFEST, Manifest, PROFILE, Profile, WEIGHTS};
use crate::files;
use crate::problem::Problem;

/// Hex digits of a version.
const VERSION_DIGITS: usize = 12;

/// The name of the file, inside the store, that holds the version of the newest bundle.
const LATEST: &str = "latest";

/// A bundle that was opened and found whole.
#[derive(Clone, Debug)]
pub struct Bundle {
    path: PathBuf,
    version: String,
    digest: String,
    manifest: Manifest,
}

/// A directory that is no whole bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is no `bundle.json`.
    #[error("`{0}` is no bundle: it has no bundle.json")]
    NotABundle(PathBuf),
    /// `bundle.json` cannot be read.
    #[error("`{path}` cannot be read: {reason}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// The bundle was written by another version of the tool.
    #[error("bundle `{path}` has format {found}, and this version reads format {FORMAT}")]
    Format {
        /// The bundle.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A file has other bytes than when it was written.
    #[error("bundle `{bundle}` was changed: {what}")]
    Changed {
        /// The bundle.
        bundle: PathBuf,
        /// Which file, and how.
        what: String,
    },
}

/// What a bundle is made from; the digests and the version follow from it.
#[derive(Debug)]
pub struct Draft {
    /// With an empty `files`.
    pub manifest: Manifest,
    /// Content of `model.safetensors`.
    pub weights: Vec<u8>,
    /// Held-out cases.
    pub golden: Golden,
    /// Histograms.
    pub profile: Profile,
}

/// The bundles of a project: `.emberline/bundles/VERSION/`.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store of the project in `project`; it need not exist yet.
    pub fn of_project(project: &Path) -> Self {
        Self {
            folder: project.join(".emberline").join("bundles"),
        }
    }

    /// Where the bundles are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a bundle and makes it the newest. The same content twice is the same bundle.
    ///
    /// # Errors
    ///
    /// What could not be written; the store is then as it was.
    pub fn write(&self, draft: Draft) -> Result<Bundle> {
        let bundle = self.add(draft)?;
        self.set_latest(&bundle)?;
        Ok(bundle)
    }

    /// Writes a bundle, and leaves the newest one the newest.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub fn add(&self, draft: Draft) -> Result<Bundle> {
        let mut manifest = draft.manifest;
        let mut files = BTreeMap::from([
            (WEIGHTS.to_owned(), draft.weights),
            (GOLDEN.to_owned(), json(&draft.golden)?),
            (PROFILE.to_owned(), json(&draft.profile)?),
        ]);
        manifest.files = files
            .iter()
            .map(|(name, bytes)| (name.clone(), files::sha256(bytes)))
            .collect();
        files.insert(MANIFEST.to_owned(), json(&manifest)?);
        self.receive(&files)
    }

    /// Writes a bundle that was made elsewhere, from its files by their names, as they are: what is no whole bundle is
    /// refused. The newest one stays the newest.
    ///
    /// # Errors
    ///
    /// [`BundleError`], and what could not be written; the store is then as it was.
    pub fn receive(&self, files: &BTreeMap<String, Vec<u8>>) -> Result<Bundle> {
        let text = files
            .get(MANIFEST)
            .ok_or_else(|| BundleError::NotABundle(self.folder.clone()))?;
        let path = self.folder.join(version_of(text));
        if let Some(name) = files.keys().find(|name| name.contains('/') || name.starts_with('.')) {
            return Err(BundleError::Changed {
                bundle: path,
                what: format!("it holds `{name}`, which is no file name"),
            }
            .into());
        }
        if path.join(MANIFEST).exists() {
            return Ok(Bundle::open(&path)?);
        }
        files::create_folder(&self.folder)?;
        let temporary = files::temporary_beside(&path);
        // The name is this process's: whatever has it was left by a dead one with the same number.
        let _ = fs::remove_dir_all(&temporary);
        let placed = (|| {
            let written = (|| {
                fs::create_dir(&temporary)?;
                for (name, bytes) in files {
                    files::write_synced(&temporary.join(name), bytes)?;
                }
                files::sync_folder(&temporary)
            })();
            written.map_err(|error| files::cannot_write(&path, &error))?;
            // Whole or not at all: it is read before it is there.
            Bundle::open(&temporary)?;
            let renamed = fs::rename(&temporary, &path).and_then(|()| files::sync_folder(&self.folder));
            renamed.map_err(|error| files::cannot_write(&path, &error))
        })();
        if let Err(error) = placed {
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        Ok(Bundle::open(&path)?)
    }

    /// Makes a bundle of this store the newest.
    ///
    /// # Errors
    ///
    /// What could not be written.
    pub fn set_latest(&self, bundle: &Bundle) -> Result<()> {
        files::replace(&self.folder.join(LATEST), bundle.version().as_bytes())
    }

    /// The bundle that was written last.
    ///
    /// # Errors
    ///
    /// A hint at `train` when there is none, or why it cannot be opened.
    pub fn latest(&self) -> Result<Bundle> {
        let version = fs::read_to_string(self.folder.join(LATEST)).map_err(|_| {
            Problem::new(format!("no bundle in `{}`", self.folder.display())).hint("`emberline train` makes one")
        })?;
        self.open(version.trim())
    }

    /// A bundle by its version (or the first digits of it), or by the path of its directory.
    ///
    /// # Errors
    ///
    /// Which bundles there are when none or several fit, or why it cannot be opened.
    pub fn open(&self, reference: &str) -> Result<Bundle> {
        let path = Path::new(reference);
        if path.join(MANIFEST).exists() || path.is_absolute() || reference.contains('/') {
            return Ok(Bundle::open(path)?);
        }
        let mut versions = self.versions();
        versions.retain(|version| !reference.is_empty() && version.starts_with(reference));
        match &versions[..] {
            [version] => Ok(Bundle::open(&self.folder.join(version))?),
            [] => Err(
                Problem::new(format!("no bundle `{reference}` in `{}`", self.folder.display()))
                    .hint(match self.versions().join(", ") {
                        none if none.is_empty() => "`emberline train` makes one".to_owned(),
                        some => format!("there are: {some}"),
                    })
                    .into(),
            ),
            several => Err(Problem::new(format!("`{reference}` fits several bundles"))
                .hint(format!("give more digits: {}", several.join(", ")))
                .into()),
        }
    }

    /// Versions of the bundles that there are, sorted.
    pub fn versions(&self) -> Vec<String> {
        let mut versions: Vec<String> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join(MANIFEST).exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        versions.sort();
        versions
    }
}

impl Bundle {
    /// Opens a bundle and checks every byte of it.
    ///
    /// # Errors
    ///
    /// [`BundleError`] with the file that is missing, damaged or changed.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let manifest_path = path.join(MANIFEST);
        let text = fs::read(&manifest_path).map_err(|_| BundleError::NotABundle(path.to_owned()))?;
        let unreadable = |error: serde_json::Error| BundleError::Manifest {
            path: manifest_path.clone(),
            reason: error.to_string(),
        };
        // The format first: a later format's manifest should be refused for its format, not for an unknown key.
        let format: FormatOnly = serde_json::from_slice(&text).map_err(unreadable)?;
        if format.format != FORMAT {
            return Err(BundleError::Format {
                path: path.to_owned(),
                found: format.format,
            });
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(unreadable)?;
        let changed = |what: String| BundleError::Changed {
            bundle: path.to_owned(),
            what,
        };
        for name in [WEIGHTS, GOLDEN, PROFILE] {
            if !manifest.files.contains_key(name) {
                return Err(changed(format!("bundle.json does not list `{name}`")));
            }
        }
        for (name, digest) in &manifest.files {
            if name.contains('/') || name.starts_with('.') {
                return Err(changed(format!("bundle.json lists `{name}`, which is no file name")));
            }
            let bytes =
                fs::read(path.join(name)).map_err(|error| changed(format!("`{name}` cannot be read: {error}")))?;
            let found = files::sha256(&bytes);
            if found != *digest {
                return Err(changed(format!(
                    "`{name}` has SHA-256 {found}, and bundle.json says {digest}"
                )));
            }
        }
        let version = version_of(&text);
        let named = path.file_name().and_then(|name| name.to_str());
        if let Some(named) = named
            && named.len() == VERSION_DIGITS
            && named.bytes().all(|byte| byte.is_ascii_hexdigit())
            && named != version
        {
            return Err(changed(format!(
                "its folder is named `{named}`, and the digest of bundle.json begins with {version}"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            digest: files::sha256(&text),
            version,
            manifest,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// First 12 hex digits of the digest.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// SHA-256 of `bundle.json`, 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// SHA-256 of the weights file, 64 hex digits.
    pub fn weights_digest(&self) -> &str {
        &self.manifest.files[WEIGHTS]
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Content of the weights file.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    pub fn weights(&self) -> Result<Vec<u8>> {
        files::read(&self.path.join(WEIGHTS))
    }

    /// The golden cases.
    ///
    /// # Errors
    ///
    /// Why they cannot be read.
    pub fn golden(&self) -> Result<Golden> {
        self.parse(GOLDEN)
    }

    /// The training data's histograms.
    ///
    /// # Errors
    ///
    /// Why they cannot be read.
    pub fn profile(&self) -> Result<Profile> {
        self.parse(PROFILE)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.path.join(name);
        serde_json::from_slice(&files::read(&path)?).with_context(|| format!("cannot read `{}`", path.display()))
    }
}

/// Where the evaluation of a bundle is kept: beside it, `VERSION.evaluation.json`, because a bundle never changes.
pub fn evaluation_path(bundle: &Path) -> PathBuf {
    attachment_path(bundle, "evaluation")
}

/// Where what is known of a bundle is kept: `VERSION.KIND.json`, beside it.
pub(super) fn attachment_path(bundle: &Path, kind: &str) -> PathBuf {
    let mut name = bundle.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{kind}.json"));
    bundle.with_file_name(name)
}

#[derive(serde::Deserialize)]
struct FormatOnly {
    format: u32,
}

fn version_of(manifest: &[u8]) -> String {
    let mut digest = files::sha256(manifest);
    digest.truncate(VERSION_DIGITS);
    digest
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}
