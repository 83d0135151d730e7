//! `package`: the image.

use serde::{Deserialize, Serialize};

/// `package`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PackageConfig {
    /// Repository part of the image reference; the project's name by default.
    pub repository: Option<String>,
    /// Who makes the image.
    pub builder: Builder,
    /// The form of the file that is written, when it is to be a file.
    pub output: Option<PackageOutput>,
    /// Processor architecture that the image runs on; this machine's by default.
    pub architecture: Option<Architecture>,
}

/// Who makes an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builder {
    /// The container engine when one answers, otherwise the tool itself.
    #[default]
    Auto,
    /// The container engine, which then has the image.
    Docker,
    /// The tool itself, into a file.
    Oci,
}

/// Forms of an image in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageOutput {
    /// An OCI image layout: a directory.
    #[default]
    Oci,
    /// A file for `docker load`.
    Tar,
}

/// Processor architectures, by the names that images use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// `x86_64`.
    Amd64,
    /// `aarch64`.
    Arm64,
}

impl Architecture {
    /// As written in `emberline.yaml` and in images.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}
