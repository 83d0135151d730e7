//! `emberline monitor`: promtool accepts what is printed, every alert is raised when it should be and only then, a real
//! Prometheus answers every expression with what a real server tells, and Grafana's own types know the dashboard.

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../prometheus/mod.rs"]
mod prometheus;
#[path = "../tool/mod.rs"]
mod tool;

mod files;
mod guide;
mod live;
mod rules;
