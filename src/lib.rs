//! emberline: from labelled data to a served, scaled, watched model.
//!
//! The rooms, from the ground up; a room may use what stands below it and nothing else (`tests/layering.rs` holds it):
//!
//! - [`problem`]: an error that a person can act on, with its hint.
//! - [`files`]: files that are written whole or not at all.
//! - [`preprocess`]: what an input looks like, and the fitted way from raw values to the network's input.
//! - [`model`]: the networks and their weights.
//! - [`bundle`]: the versioned directory that a trained model lives in.
//! - [`predict`]: a bundle that answers.
//! - [`serve`]: the same over HTTP.
//!
//! That much is the runtime, `emberline-server`. The `cli` feature adds what the tool needs:
//!
//! - `project`: `emberline.yaml`.
//! - `data`: sources of labelled data.
//! - `train`, `evaluate`, `image`, `deploy`: one room for each verb.
//! - `templates`: the files that `init` writes.
//! - `cli`: arguments in, reports out.
//!
//! This is the only file that asks for features.

pub mod bundle;
pub mod files;
pub mod model;
pub mod predict;
pub mod preprocess;
pub mod problem;
pub mod serve;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod data;
#[cfg(feature = "cli")]
pub mod deploy;
#[cfg(feature = "cli")]
pub mod evaluate;
#[cfg(feature = "cli")]
pub mod image;
#[cfg(feature = "cli")]
pub mod project;
#[cfg(feature = "cli")]
pub mod templates;
#[cfg(feature = "cli")]
pub mod train;
