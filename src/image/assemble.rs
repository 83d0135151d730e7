//! From layers and labels to an image: its configuration, its manifest, and the index that names it, as the OCI image
//! specification has them.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::Reference;
use super::config::Configuration;
use super::layer::{self, Layer};
use crate::clock::utc;
use crate::project::Architecture;

pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image, whole in memory.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) reference: Reference,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
    pub(super) index: Vec<u8>,
    pub(super) layers: Vec<Layer>,
    pub(super) created: u32,
    architecture: Architecture,
}

impl Image {
    /// An image of `layers`, the lowest first, for Linux on `architecture`.
    ///
    /// # Errors
    ///
    /// Never in practice: JSON that is made here can be written.
    pub(super) fn assemble(
        reference: Reference,
        architecture: Architecture,
        layers: Vec<Layer>,
        labels: &BTreeMap<String, String>,
        created: u32,
    ) -> Result<Self> {
        let runs = Configuration { labels }.oci();
        Self::assemble_to_run(reference, architecture, layers, labels, created, &runs)
    }

    /// The same of an image that runs as `runs` says: `config` of an OCI image's configuration.
    ///
    /// # Errors
    ///
    /// As [`Image::assemble`].
    pub(super) fn assemble_to_run(
        reference: Reference,
        architecture: Architecture,
        layers: Vec<Layer>,
        labels: &BTreeMap<String, String>,
        created: u32,
        runs: &Value,
    ) -> Result<Self> {
        let time = utc(u64::from(created));
        let mut config = json!({
            "architecture": architecture.name(),
            "os": "linux",
            "created": time,
            "config": runs,
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(Layer::diff_id).collect::<Vec<_>>(),
            },
            "history": layers.iter().map(|layer| json!({
                "created": time,
                "created_by": format!("emberline package: {}", layer.content()),
            })).collect::<Vec<_>>(),
        });
        let mut platform = json!({ "architecture": architecture.name(), "os": "linux" });
        if architecture == Architecture::Arm64 {
            config["variant"] = json!("v8");
            platform["variant"] = json!("v8");
        }
        let config = serde_json::to_vec(&config)?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, &layer::digest(&config), config.len()),
            "layers": layers
                .iter()
                .map(|layer| descriptor(LAYER_TYPE, layer.digest(), layer.blob().len()))
                .collect::<Vec<_>>(),
            "annotations": labels,
        }))?;
        let mut named = descriptor(MANIFEST_TYPE, &layer::digest(&manifest), manifest.len());
        named["platform"] = platform;
        named["annotations"] = json!({
            "org.opencontainers.image.ref.name": reference.to_string(),
            // What Docker with containerd's image store calls it after `docker load`.
            "io.containerd.image.name": reference.canonical(),
        });
        let index = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [named],
        }))?;
        Ok(Self {
            reference,
            config,
            manifest,
            index,
            layers,
            created,
            architecture,
        })
    }

    /// What it is called.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The processor that it runs on.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Its layers, the lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// `sha256:` and the digest of the manifest: what a registry knows the image by.
    pub fn digest(&self) -> String {
        layer::digest(&self.manifest)
    }

    /// Bytes of the manifest, the configuration and the compressed layers: what a registry stores and a pull transfers.
    pub fn size_bytes(&self) -> u64 {
        let layers: usize = self.layers.iter().map(|layer| layer.blob().len()).sum();
        (self.manifest.len() + self.config.len() + layers) as u64
    }
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

#[cfg(test)]
mod tests {
    use super::super::layer::Entry;
    use super::*;

    fn image(runtime: &[u8], weights: &[u8], created: u32) -> Image {
        let layer = |content, path: &str, bytes: &[u8]| {
            Layer::new(content, vec![Entry::file(path, 0o644, bytes.to_vec())], created).expect("layer")
        };
        Image::assemble(
            Reference::new("digits", "0123456789ab").expect("reference"),
            Architecture::Arm64,
            vec![
                layer("runtime", "emberline-server", runtime),
                layer("model", "model/weights", weights),
            ],
            &BTreeMap::from([("title".into(), "digits".into())]),
            created,
        )
        .expect("image")
    }

    #[test]
    fn the_same_parts_are_the_same_image() {
        let one = image(b"runtime", b"weights", 0);
        assert_eq!(one.digest(), image(b"runtime", b"weights", 0).digest());
        assert_ne!(one.digest(), image(b"runtime", b"weights", 1).digest());
    }

    #[test]
    fn another_model_leaves_the_runtime_layer_as_it_is() {
        let (one, two) = (image(b"runtime", b"weights", 0), image(b"runtime", b"others", 0));
        assert_eq!(one.layers[0].digest(), two.layers[0].digest());
        assert_ne!(one.layers[1].digest(), two.layers[1].digest());
        assert_ne!(one.digest(), two.digest());
    }

    #[test]
    fn the_configuration_says_how_the_image_runs() {
        let image = image(b"runtime", b"weights", 0);
        let config: Value = serde_json::from_slice(&image.config).expect("JSON");
        assert_eq!(config["architecture"], "arm64");
        assert_eq!(config["created"], "1970-01-01T00:00:00Z");
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["ExposedPorts"], json!({ "5000/tcp": {} }));
        assert_eq!(config["config"]["Entrypoint"], json!(["/emberline-server", "/model"]));
        assert_eq!(config["config"].get("Cmd"), None);
        assert_eq!(
            config["config"]["Healthcheck"],
            json!({
                "Test": ["CMD", "/emberline-server", "--health"],
                "Interval": 5_000_000_000_u64,
                "Timeout": 3_000_000_000_u64,
                "StartPeriod": 30_000_000_000_u64,
                "Retries": 3,
            })
        );
        assert_eq!(config["config"]["Labels"]["title"], "digits");
        assert_eq!(config["rootfs"]["diff_ids"][1], image.layers[1].diff_id());
        let manifest: Value = serde_json::from_slice(&image.manifest).expect("JSON");
        assert_eq!(manifest["config"]["digest"], layer::digest(&image.config));
        assert_eq!(manifest["layers"][0]["digest"], image.layers[0].digest());
        assert_eq!(manifest["layers"][0]["size"], image.layers[0].blob().len());
        let index: Value = serde_json::from_slice(&image.index).expect("JSON");
        assert_eq!(index["manifests"][0]["digest"], image.digest());
        assert_eq!(index["manifests"][0]["platform"]["variant"], "v8");
        let name = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
        assert_eq!(name, "digits:0123456789ab");
    }
}
