//! An image that is somewhere already: what it is known by, what it says of itself, and the model inside it, read from its
//! layers and not from its labels.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result};
use bollard::errors::Error;
use flate2::read::GzDecoder;
use futures_util::StreamExt;
use serde_json::Value;
use tar::Archive;

use super::{MODEL_PATH, registry};
use crate::bundle::{Evaluation, MANIFEST, Manifest, WEIGHTS, evaluation_path};
use crate::engine::{Engine, innermost};
use crate::files;
use crate::problem::Problem;

/// An image as it was found.
#[derive(Debug)]
pub struct Inspected {
    /// `sha256:` and the digest of its manifest, by which registries know it; none when it has never been in one.
    pub digest: Option<String>,
    /// `sha256:` and the digest by which its finder knows it.
    pub id: String,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// What is inside; none in an image that holds no bundle.
    pub model: Option<Model>,
}

/// The bundle inside an image.
#[derive(Debug)]
pub struct Model {
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of that manifest's bytes: the bundle's digest.
    pub digest: String,
    /// SHA-256 of the weights' bytes.
    pub weights_digest: Option<String>,
    /// Its evaluation, if it travels with it.
    pub evaluation: Option<Evaluation>,
}

impl Inspected {
    /// The image of that reference in its registry; none when it is not there.
    ///
    /// # Errors
    ///
    /// That the reference names no registry, or what the registry has against it.
    pub fn from_registry(reference: &str) -> Result<Option<Self>> {
        let Some(pulled) = registry::pull(reference)? else {
            return Ok(None);
        };
        let config: Value = serde_json::from_str(&pulled.config).context("its configuration is no JSON")?;
        Ok(Some(Self {
            digest: Some(pulled.digest),
            id: pulled.id,
            labels: serde_json::from_value(config["config"]["Labels"].clone()).unwrap_or_default(),
            model: first(pulled.layers.iter().rev().map(|layer| model(layer)))?,
        }))
    }

    /// The image of that reference in the engine; none when it is not there.
    ///
    /// # Errors
    ///
    /// What the engine says against it.
    pub fn from_engine(engine: &Engine, reference: &str) -> Result<Option<Self>> {
        let told = |error: Error| Problem::new(format!("the engine does not show the image: {}", innermost(&error)));
        engine.block_on(async {
            let docker = engine.docker();
            let found = match docker.inspect_image(reference).await {
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
                found => found.map_err(told)?,
            };
            let mut saved = Vec::new();
            let mut parts = std::pin::pin!(docker.export_image(reference));
            while let Some(part) = parts.next().await {
                saved.extend_from_slice(&part.map_err(told)?);
            }
            let digests = found.repo_digests.unwrap_or_default();
            Ok(Some(Self {
                digest: digests.iter().find_map(|name| Some(name.split_once('@')?.1.to_owned())),
                id: found.id.unwrap_or_default(),
                labels: found
                    .config
                    .and_then(|config| config.labels)
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
                model: first(layers(&saved)?.iter().rev().map(|layer| model(layer)))?,
            }))
        })
    }
}

/// The layers of a saved image, the lowest first.
fn layers(saved: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut files = entries(saved, |_| true)?;
    let manifest = files
        .get("manifest.json")
        .context("the engine's archive has no manifest")?;
    let manifest: Value = serde_json::from_slice(manifest)?;
    let names: Vec<String> = serde_json::from_value(manifest[0]["Layers"].clone())?;
    Ok(names.iter().filter_map(|name| files.remove(name)).collect())
}

fn first<T>(mut found: impl Iterator<Item = Result<Option<T>>>) -> Result<Option<T>> {
    found.find_map(Result::transpose).transpose()
}

/// The model in a layer; none when it is not in this one.
fn model(layer: &[u8]) -> Result<Option<Model>> {
    let evaluation = evaluation_path(MODEL_PATH.as_ref()).to_string_lossy().into_owned();
    let inside = |name: &str| format!("{MODEL_PATH}/{name}");
    let mut plain = Vec::new();
    if layer.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(layer).read_to_end(&mut plain)?;
    } else {
        plain.extend_from_slice(layer);
    }
    let wanted = [inside(MANIFEST), inside(WEIGHTS), evaluation.clone()];
    let files = entries(&plain, |name| wanted.iter().any(|wanted| wanted == name))?;
    let Some(manifest) = files.get(&wanted[0]) else {
        return Ok(None);
    };
    Ok(Some(Model {
        digest: files::sha256(manifest),
        manifest: serde_json::from_slice(manifest).context("its bundle.json cannot be read")?,
        weights_digest: files.get(&wanted[1]).map(|weights| files::sha256(weights)),
        evaluation: match files.get(&evaluation) {
            Some(text) => Some(serde_json::from_slice(text).context("its evaluation cannot be read")?),
            None => None,
        },
    }))
}

/// Files of an archive, by name.
fn entries(archive: &[u8], wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if entry.header().entry_type().is_file() && wanted(&name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            found.insert(name, bytes);
        }
    }
    Ok(found)
}
