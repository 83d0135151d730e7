//! `deploy`: the running service.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::quantity::{Cpu, Memory};
use super::routes::{HttpRouteConfig, IngressConfig, ServiceMonitorConfig};

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
