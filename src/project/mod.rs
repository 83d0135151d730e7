//! `emberline.yaml`: the one configuration of a project, read, merged with its overlay, and checked.
//!
//! Every key is explained in docs/reference/emberline.yaml, which is read by a test. Values that come from flags and the
//! environment are laid over it by the commands; no other room has a configuration of its own.

mod load;
mod quantity;
mod resolve;
mod routes;
mod tune;

pub use load::load;
pub use quantity::{Cpu, Memory};
pub use resolve::check_name;
pub use routes::{HttpRouteConfig, IngressConfig, ServiceMonitorConfig};
pub use tune::{Strategy, TuneConfig};

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::bundle::Schedule;
use crate::preprocess::{Missing, Normalise};

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

/// `data`, and `data` of an evaluation slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Kind of source.
    pub source: Option<Source>,
    /// `synthetic-digits`: digits to draw for training. 60,000 by default.
    pub count: Option<usize>,
    /// `synthetic-digits`: digits to draw for the test set. 10,000 by default.
    pub test_count: Option<usize>,
    /// `mnist`: folder of the four files; downloaded when absent.
    pub dir: Option<PathBuf>,
    /// `idx`: images.
    pub images: Option<PathBuf>,
    /// `idx`: labels.
    pub labels: Option<PathBuf>,
    /// `idx`: images of the test set. A share of `images` is held out when there are none.
    pub test_images: Option<PathBuf>,
    /// `idx`: labels of the test set.
    pub test_labels: Option<PathBuf>,
    /// `csv`: the table, with a header.
    pub file: Option<PathBuf>,
    /// `csv`: the test set's table. A share of `file` is held out when there is none.
    pub test_file: Option<PathBuf>,
    /// `csv`: the column that holds the class.
    pub label: Option<String>,
    /// `csv`: columns that hold names even where they look like numbers.
    pub categorical: Option<Vec<String>>,
    /// `csv`: columns that are not used.
    pub ignore: Option<Vec<String>>,
    /// `idx`, `csv`: share of the data that is held out as the test set when there is none. 0.2 by default.
    pub test_split: Option<f64>,
}

/// Kinds of data source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Digits that the tool draws itself.
    SyntheticDigits,
    /// The MNIST handwritten digits.
    Mnist,
    /// Files in the MNIST format.
    Idx,
    /// A table.
    Csv,
}

impl Source {
    /// As written in `emberline.yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SyntheticDigits => "synthetic-digits",
            Self::Mnist => "mnist",
            Self::Idx => "idx",
            Self::Csv => "csv",
        }
    }
}

/// `preprocess`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreprocessConfig {
    /// Scale of the numbers.
    pub normalise: Normalise,
    /// What becomes of missing numbers.
    pub missing: Missing,
}

/// `model`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Kind of network.
    pub kind: ModelKind,
    /// `mlp`: neurons of each hidden layer, `[64, 64]` by default. `cnn`: of its one hidden layer, `[128]` by default.
    pub hidden: Option<Vec<usize>>,
    /// `cnn`: channels of its two convolution blocks, `[16, 32]` by default.
    pub filters: Option<[usize; 2]>,
    /// Share of activations that training drops, 0.2 by default.
    pub dropout: Option<f64>,
}

/// Kinds of network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Dense.
    #[default]
    Mlp,
    /// Convolutional.
    Cnn,
}

/// `train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the training split.
    pub epochs: usize,
    /// Samples in a step.
    pub batch_size: usize,
    /// Adam's step size at the beginning.
    pub learning_rate: f64,
    /// What becomes of it.
    pub schedule: Schedule,
    /// Share of the data that is held out to choose the best pass.
    pub validation_split: f64,
    /// Seed of drawn digits, validation split, order, initial weights and dropout; the test set stays the same.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 128,
            learning_rate: 0.002,
            schedule: Schedule::Cosine,
            validation_split: 0.2,
            seed: 42,
        }
    }
}

/// `evaluate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// More labelled data, each measured on its own.
    #[serde(deserialize_with = "or_default")]
    pub slices: Vec<SliceConfig>,
    /// What must be reached.
    #[serde(deserialize_with = "or_default")]
    pub gate: GateConfig,
}

/// One of `evaluate.slices`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SliceConfig {
    /// Name in the report and in the gate.
    pub name: String,
    /// Where its data comes from.
    #[serde(deserialize_with = "or_default")]
    pub data: DataConfig,
}

/// `evaluate.gate`: thresholds, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Least accuracy on the test set, 0 to 1.
    pub accuracy: Option<f64>,
    /// Greatest mean cross-entropy on the test set, in nats.
    pub loss: Option<f64>,
    /// Least recall of the worst class on the test set, 0 to 1.
    pub worst_class_recall: Option<f64>,
    /// Greatest expected calibration error on the test set, 0 to 1.
    pub calibration_error: Option<f64>,
    /// Least accuracy on each slice, by its name.
    #[serde(deserialize_with = "or_default")]
    pub slices: BTreeMap<String, f64>,
}

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

/// `deploy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeployConfig {
    /// Where the service runs.
    pub target: TargetKind,
    /// `local`, `docker`: address that the service listens on.
    pub host: String,
    /// Port that it listens on.
    pub port: u16,
    /// Processes that answer.
    pub replicas: usize,
    /// `docker`, `kubernetes`: most memory of a replica, such as `128Mi`; by what `package` has measured without it.
    pub memory: Option<Memory>,
    /// `kubernetes`: share of a processor that each replica is promised, in thousandths; likewise.
    pub cpu: Option<Cpu>,
    /// `kubernetes`: who may reach the pods, where the cluster enforces network policies.
    pub clients: Clients,
    /// `kubernetes`: file with the digests of the keys that clients need, as `emberline keys add` writes it; relative to
    /// the project's folder. Nobody needs one without it.
    pub keys: Option<PathBuf>,
    /// `kubernetes`: an Ingress that leads to the service.
    pub ingress: Option<IngressConfig>,
    /// `kubernetes`: a route of the Gateway API that does.
    pub http_route: Option<HttpRouteConfig>,
    /// `kubernetes`: what has the Prometheus operator watch the service.
    pub service_monitor: Option<ServiceMonitorConfig>,
    /// `kubernetes`: namespace; that of the context by default.
    pub namespace: Option<String>,
    /// `kubernetes`: context of the kubeconfig; its current one by default.
    pub context: Option<String>,
}

impl Default for DeployConfig {
    fn default() -> Self {
        Self {
            target: TargetKind::Local,
            host: "127.0.0.1".into(),
            port: 5000,
            replicas: 1,
            memory: None,
            cpu: None,
            clients: Clients::default(),
            keys: None,
            ingress: None,
            http_route: None,
            service_monitor: None,
            namespace: None,
            context: None,
        }
    }
}

/// Who may reach the pods of a service. The gateway and Prometheus always may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clients {
    /// Nobody else.
    #[default]
    Gateway,
    /// Every pod of their namespace.
    Namespace,
    /// Every pod of the cluster.
    Cluster,
    /// Whoever reaches them, also from beyond the cluster.
    Everyone,
}

impl Clients {
    /// As written in `emberline.yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Namespace => "namespace",
            Self::Cluster => "cluster",
            Self::Everyone => "everyone",
        }
    }
}

/// Where a service can run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Processes on this machine.
    #[default]
    Local,
    /// Containers of this machine's engine.
    Docker,
    /// Pods.
    Kubernetes,
}

impl TargetKind {
    /// As written in `emberline.yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// `gateway`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Address and port that it listens on.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// How it spreads requests.
    pub balance: Balance,
    /// `kubernetes`: image with nginx.
    pub image: String,
    /// `kubernetes`: pods with nginx.
    pub replicas: usize,
    /// `kubernetes`: type of its Service.
    pub service_type: ServiceType,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            balance: Balance::RoundRobin,
            image: "nginx:1.28-alpine".into(),
            replicas: 2,
            service_type: ServiceType::ClusterIP,
        }
    }
}

/// Types of a Service, by the names that Kubernetes has for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    /// Inside the cluster alone.
    #[default]
    ClusterIP,
    /// A port of every node.
    NodePort,
    /// An address of the cloud's load balancer.
    LoadBalancer,
}

impl ServiceType {
    /// As written in `emberline.yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("`{text}` is no address with a port, such as `127.0.0.1:8080`")))
}

/// How a gateway spreads requests over replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// To each in turn.
    #[default]
    RoundRobin,
    /// To the one with the fewest requests in hand.
    LeastConn,
    /// By the client's address, so that a client keeps its replica.
    IpHash,
}

impl Balance {
    /// As written in `emberline.yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastConn => "least_conn",
            Self::IpHash => "ip_hash",
        }
    }
}
