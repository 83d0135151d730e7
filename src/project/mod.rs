//! `emberline.yaml`: the one configuration of a project, read, merged with its overlay, and checked.
//!
//! Every key is explained in docs/reference/emberline.yaml, which is read by a test. Values that come from flags and the
//! environment are laid over it by the commands; no other room has a configuration of its own.

mod data;
mod deployment;
mod evaluation;
mod gateway;
mod load;
mod package;
mod quantity;
mod resolve;
mod routes;
mod training;
mod tune;

pub use data::{DataConfig, PreprocessConfig, Source};
pub use deployment::{Clients, DeployConfig, TargetKind};
pub use evaluation::{EvaluateConfig, GateConfig, SliceConfig};
pub use gateway::{Balance, GatewayConfig, ServiceType};
pub use load::load;
pub use package::{Architecture, Builder, PackageConfig, PackageOutput};
pub use quantity::{Cpu, Memory};
pub use resolve::check_name;
pub use routes::{HttpRouteConfig, IngressConfig, ServiceMonitorConfig};
pub use training::{ModelKind, NetworkConfig, TrainConfig};
pub use tune::{Strategy, TuneConfig};

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

/// The name of the file.
pub const FILE: &str = "emberline.yaml";

/// A project: its folder and what `emberline.yaml` says.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder that relative paths start from.
    pub folder: PathBuf,
    /// The overlay's name, when there is one. Each destination has deployments of its own.
    pub destination: Option<String>,
    /// The merged configuration.
    pub config: Config,
}

impl Project {
    /// A path of the configuration, made relative to the project's folder.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// `.emberline/`: bundles, runs and local deployments.
    pub fn state(&self) -> PathBuf {
        self.folder.join(".emberline")
    }

    /// The folder in it for what runs as `what`; each destination has its own.
    pub fn state_of(&self, what: &str) -> PathBuf {
        self.state().join(match &self.destination {
            None => what.to_owned(),
            Some(destination) => format!("{what}.{destination}"),
        })
    }
}

/// What `emberline.yaml` says. Every key may be left out but `name` and `data.source`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the model: of its service, its image and its route.
    pub name: String,
    /// Where the labelled data comes from.
    #[serde(deserialize_with = "or_default")]
    pub data: DataConfig,
    /// What is done to the inputs.
    #[serde(deserialize_with = "or_default")]
    pub preprocess: PreprocessConfig,
    /// The network.
    #[serde(deserialize_with = "or_default")]
    pub model: NetworkConfig,
    /// How it is trained.
    #[serde(deserialize_with = "or_default")]
    pub train: TrainConfig,
    /// The training configurations that a sweep tries.
    #[serde(deserialize_with = "or_default")]
    pub tune: TuneConfig,
    /// What it is measured on, and what it must reach.
    #[serde(deserialize_with = "or_default")]
    pub evaluate: EvaluateConfig,
    /// The image.
    #[serde(deserialize_with = "or_default")]
    pub package: PackageConfig,
    /// The running service.
    #[serde(deserialize_with = "or_default")]
    pub deploy: DeployConfig,
    /// What stands in front of it.
    #[serde(deserialize_with = "or_default")]
    pub gateway: GatewayConfig,
}

impl Config {
    /// Whether any data of the project comes from `source`: its own, or that of a slice.
    pub fn reads(&self, source: Source) -> bool {
        let slices = self.evaluate.slices.iter().map(|slice| &slice.data);
        slices.chain([&self.data]).any(|data| data.source == Some(source))
    }
}

/// A section whose keys are all commented out is there and has no value: all of it is as by default.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
