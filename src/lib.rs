//! emberline: from labelled data to a served, scaled, watched model.
//!
//! The rooms, from the ground up; a room may use what stands below it and nothing else (`tests/layering.rs` holds it):
//!
//! - [`problem`]: an error that a person can act on, with its hint.
//! - [`files`]: files that are written whole or not at all.
//! - [`clock`]: times as they are written.
//! - [`usage`]: what a process has used of the machine.
//! - [`preprocess`]: what an input looks like, and the fitted way from raw values to the network's input.
//! - [`model`]: the networks and their weights.
//! - [`bundle`]: the versioned directory that a trained model lives in.
//! - [`predict`]: a bundle that answers.
//! - [`serve`]: the same over HTTP.
//! - `grpc` (in the feature of that name): the same over gRPC, on a second port.
//! - [`probe`]: a steady stream of predictions to a service, and what became of each; and as much of it as a server carries.
//!
//! That much is the runtime, `emberline-server`. The `cli` feature adds what the tool needs:
//!
//! - `project`: `emberline.yaml`.
//! - `data`: sources of labelled data.
//! - `train`, `evaluate`, `image`, `deploy`: one room for each verb.
//! - `tune`: many trainings, on this machine or in a cluster, and which of them is the best.
//! - `templates`: the files that `init`, `gateway`, `ci init` and `monitor` write.
//! - `canary`: two versions held against each other, by what their servers count.
//! - `gateway`: nginx in front of the replicas.
//! - `ci`: the pipelines of build servers.
//! - `monitor`: Prometheus' configuration and alerts, and a Grafana dashboard, from the server's table of metrics.
//! - `trace`: where something that runs, or an image, comes from.
//! - `capacity`: how many replicas a rate takes, from what one was measured to carry.
//! - `engine`, `cluster`: the container engine, and the Kubernetes cluster, that others work with.
//! - `cli`: arguments in, reports out.
//!
//! This is the only file that asks for features.

pub mod bundle;
pub mod clock;
pub mod files;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod model;
pub mod predict;
pub mod preprocess;
pub mod probe;
pub mod problem;
pub mod serve;
pub mod usage;

#[cfg(feature = "cli")]
pub mod canary;
#[cfg(feature = "cli")]
pub mod capacity;
#[cfg(feature = "cli")]
pub mod ci;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod cluster;
#[cfg(feature = "cli")]
pub mod data;
#[cfg(feature = "cli")]
pub mod deploy;
#[cfg(feature = "cli")]
pub mod engine;
#[cfg(feature = "cli")]
pub mod evaluate;
#[cfg(feature = "cli")]
pub mod gateway;
#[cfg(feature = "cli")]
pub mod image;
#[cfg(feature = "cli")]
pub mod monitor;
#[cfg(feature = "cli")]
pub mod project;
#[cfg(feature = "cli")]
pub mod templates;
#[cfg(feature = "cli")]
pub mod trace;
#[cfg(feature = "cli")]
pub mod train;
#[cfg(feature = "cli")]
pub mod tune;

/// What this build speaks on a second port of the server. It stands here because features are asked for nowhere else.
pub mod second_port {
    use crate::serve::second_port::SecondPort;

    /// The Open Inference Protocol over gRPC; none in a build without the feature `grpc`.
    #[cfg(feature = "grpc")]
    pub const GRPC: Option<&'static dyn SecondPort> = Some(&crate::grpc::Grpc);
    /// The Open Inference Protocol over gRPC; none in a build without the feature `grpc`.
    #[cfg(not(feature = "grpc"))]
    pub const GRPC: Option<&'static dyn SecondPort> = None;
}

/// Devices that this build can train on. It stands here because features are asked for nowhere else.
#[cfg(feature = "cli")]
pub mod backends {
    use burn::tensor::Device;

    /// A GPU, through Vulkan, Metal or DirectX; none in a build without the feature `wgpu`.
    #[cfg(feature = "wgpu")]
    pub const WGPU: Option<fn() -> Device> = Some(|| Device::wgpu(burn::tensor::DeviceKind::DefaultDevice));
    /// A GPU, through Vulkan, Metal or DirectX; none in a build without the feature `wgpu`.
    #[cfg(not(feature = "wgpu"))]
    pub const WGPU: Option<fn() -> Device> = None;

    /// burn's former CPU backend; none in a build without the feature `ndarray`.
    #[cfg(feature = "ndarray")]
    #[allow(deprecated)] // selectable as long as burn ships it: docs/decisions/0002-cpu-backend.md
    pub const NDARRAY: Option<fn() -> Device> = Some(Device::ndarray);
    /// burn's former CPU backend; none in a build without the feature `ndarray`.
    #[cfg(not(feature = "ndarray"))]
    pub const NDARRAY: Option<fn() -> Device> = None;
}
