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
mod capacity;
mod denials;
mod disruption;
mod divided;
mod failures;
mod footprint;
mod gateway;
mod guide;
mod harness;
mod killed;
mod logs;
mod monitoring;
mod objects;
mod operator;
mod pipeline;
mod requests;
mod rollout;
mod routes;
mod service;
mod setup;
mod ship;
mod trace;
mod tune;
mod webhook;
