//! `gateway`: what stands in front of the service.

use std::net::{Ipv4Addr, SocketAddr};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

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
