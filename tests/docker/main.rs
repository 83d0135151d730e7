//! `--target docker`, over the real binary and a real engine: what is deployed answers, rolls, scales, goes back, is
//! adopted, and leaves nothing behind.

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../prometheus/mod.rs"]
mod prometheus;
#[path = "../running/mod.rs"]
mod running;
#[path = "../tool/mod.rs"]
mod tool;

mod adopting;
mod containers;
mod engine;
mod failing;
mod half_way;
mod monitoring;
mod rolling;
mod setup;
mod ship;
