//! What watches a service: Prometheus' configuration, its alert rules, and a Grafana dashboard.
//!
//! All of it is made from the metrics that the server itself counts by, [`TABLE`](crate::serve::metrics::table::TABLE): an
//! expression takes the name of a metric from its constant, so that none is left that nobody tells. It writes no file and
//! asks no server; where the servers are it is told.

mod alerts;
mod dashboard;
mod panel;
mod prometheus;
mod query;

pub use alerts::{Alert, Severity, alerts, rules};
pub use dashboard::dashboard;
pub use prometheus::{ALERTS, Targets, configuration};

/// What Prometheus calls the servers of the service `name`: those of each destination are a job of their own. Both are
/// made of lower-case letters, digits and dashes, so that they can stand in `PromQL` as they are.
pub fn job(name: &str, destination: Option<&str>) -> String {
    match destination {
        None => name.to_owned(),
        Some(destination) => format!("{name}-{destination}"),
    }
}
