//! `emberline` on a real Kubernetes, the one that tests/cluster brings up.

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../prometheus/mod.rs"]
mod prometheus;
#[path = "../running/mod.rs"]
mod running;
#[path = "../tool/mod.rs"]
mod tool;

mod availability;
mod canary;
mod divided;
mod failures;
mod gateway;
mod guide;
mod harness;
mod monitoring;
mod objects;
mod pipeline;
mod requests;
mod rollout;
mod service;
mod setup;
mod ship;
