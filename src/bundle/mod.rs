//! The bundle: the directory that a trained model lives in, written once, never changed, named by the digest of its
//! content. See docs/reference/bundle.md.
//!
//! Its version is the first 12 hex digits of the SHA-256 of `bundle.json`, which holds the digest of each other file: so
//! the version stands for every byte, and opening a bundle checks them all. What differs between two runs that
//! give the same model (times, host names) stays out of it: the same training gives the same version.

pub mod capacity;
mod evaluation;
mod footprint;
mod golden;
mod manifest;
mod profile;
mod slo;
mod store;

pub use evaluation::{BundleRef, Evaluation, GateRefusal, Verdict, require_pass};
pub use footprint::{Footprint, Usage};
pub use golden::{Golden, GoldenCase};
pub use manifest::{DataRecord, FORMAT, Manifest, Metrics, Schedule, Selection, TrainingRecord};
pub use profile::{FeatureProfile, Profile, each_feature, feature_names};
pub use store::{Bundle, BundleError, Draft, Store, evaluation_path};

/// Manifest of a bundle.
pub const MANIFEST: &str = "bundle.json";
/// Weights.
pub const WEIGHTS: &str = "model.safetensors";
/// Held-out inputs with the answers that the trained model gave.
pub const GOLDEN: &str = "golden.json";
/// Histograms of the training data.
pub const PROFILE: &str = "profile.json";
