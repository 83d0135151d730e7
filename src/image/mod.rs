//! The container image: a static runtime and a bundle, each in a layer of its own, on nothing; made by a container engine,
//! or written without one, and pushed to its registry. The image holds no shell, no libc and no root: `/emberline-server`
//! runs `/model` as a numeric user.
//!
//! What is written without an engine is the same bytes for the same bundle, evaluation and runtime, and so has the same
//! digest, each time: names are sorted, owners and modes fixed, and the one time in the image is given by the caller.
//!
//! This room knows no tensors and no command line. A bundle is files and a manifest here.

mod assemble;
mod config;
mod docker;
mod elf;
mod inspect;
mod layer;
mod measure;
mod reference;
mod registry;
mod runtime;
mod store;
mod worker;

pub use assemble::Image;
pub use docker::{Built, BuiltLayer, push};
pub use inspect::{Inspected, Model};
pub use layer::Layer;
pub use reference::Reference;
pub use registry::may_push;
pub use runtime::{Runtime, runtime_source};
pub use store::Written;
pub use worker::{DATA_FOLDER, push_worker};

use std::collections::BTreeMap;

use anyhow::Result;

use crate::bundle::{Bundle, Evaluation, MANIFEST, evaluation_path};
use crate::clock::utc;
use crate::files;
use layer::Entry;

/// The label of the bundle's digest, which every image of this tool has.
pub const BUNDLE_LABEL: &str = "emberline.bundle.digest";
/// The label of the data's digest.
pub const DATA_LABEL: &str = "emberline.data.digest";
/// The label of the evaluation's verdict.
pub const VERDICT_LABEL: &str = "emberline.evaluation.verdict";
/// The label of the source revision, where there is one.
pub const REVISION_LABEL: &str = "org.opencontainers.image.revision";
/// The label of the time of everything in the image.
pub const CREATED_LABEL: &str = "org.opencontainers.image.created";
/// The label of the bundle's version.
pub const VERSION_LABEL: &str = "org.opencontainers.image.version";
/// Where the runtime is in the image.
const RUNTIME_PATH: &str = "emberline-server";
/// Where the bundle is in the image.
const MODEL_PATH: &str = "model";

/// What an image is made from.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// What the image is called.
    pub reference: Reference,
    /// The model.
    pub bundle: &'a Bundle,
    /// Its evaluation, which travels with it.
    pub evaluation: Option<&'a Evaluation>,
    /// What serves it.
    pub runtime: &'a Runtime,
    /// The time of everything in the image, in seconds since 1970.
    pub created: u32,
}

impl Recipe<'_> {
    /// Reads the files and makes the image of them, in memory.
    ///
    /// # Errors
    ///
    /// Which file of the bundle cannot be read.
    pub fn build(&self) -> Result<Image> {
        let runtime = Layer::new("runtime", vec![self.server()], self.created)?;
        let model = Layer::new("model", self.model()?, self.created)?;
        Image::assemble(
            self.reference.clone(),
            self.runtime.architecture(),
            vec![runtime, model],
            &self.labels(),
            self.created,
        )
    }

    fn server(&self) -> Entry {
        Entry::file(RUNTIME_PATH, 0o755, self.runtime.bytes().to_vec())
    }

    /// The bundle as `/model`, and its evaluation beside it, where the server looks for it.
    fn model(&self) -> Result<Vec<Entry>> {
        let bundle = self.bundle;
        let mut entries = vec![Entry::folder(MODEL_PATH)];
        for name in bundle.manifest().files.keys().map(String::as_str).chain([MANIFEST]) {
            let bytes = files::read(&bundle.path().join(name))?;
            entries.push(Entry::file(&format!("{MODEL_PATH}/{name}"), 0o644, bytes));
        }
        if self.evaluation.is_some() {
            let bytes = files::read(&evaluation_path(bundle.path()))?;
            let path = evaluation_path(MODEL_PATH.as_ref());
            entries.push(Entry::file(&path.to_string_lossy(), 0o644, bytes));
        }
        Ok(entries)
    }

    /// What `docker inspect` and a registry show of the image.
    fn labels(&self) -> BTreeMap<String, String> {
        let manifest = self.bundle.manifest();
        let classes = manifest.classes.len();
        let verdict = self
            .evaluation
            .map_or("unevaluated", |evaluation| evaluation.verdict.name());
        let mut labels = BTreeMap::from([
            (BUNDLE_LABEL, self.bundle.digest().to_owned()),
            (DATA_LABEL, manifest.data.digest.clone()),
            (VERDICT_LABEL, verdict.to_owned()),
            (CREATED_LABEL, utc(u64::from(self.created))),
            (
                "org.opencontainers.image.description",
                format!("model `{}` ({classes} classes), served over HTTP", manifest.name),
            ),
            ("org.opencontainers.image.title", manifest.name.clone()),
            (VERSION_LABEL, self.bundle.version().to_owned()),
        ]);
        if let Some(revision) = &manifest.source_revision {
            labels.insert(REVISION_LABEL, revision.clone());
        }
        labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}
