//! Pieces of `PromQL`. What is asked, and what it means, is the alerts' and the dashboard's.

use crate::serve::metrics::Protocol;
use crate::serve::metrics::table::Metric;

/// The class of status of a server's own failures.
const FAILED: &str = r#"status="5xx""#;

/// The servers that are asked about, as a matcher of labels.
#[derive(Clone, Debug)]
pub struct Scope(String);

impl Scope {
    /// Those of a job. Its name is made of letters, digits and dashes.
    pub fn job(name: &str) -> Self {
        Self(format!("job=\"{name}\""))
    }

    /// Those that a person has chosen in Grafana.
    pub fn chosen() -> Self {
        Self(r#"instance=~"$instance""#.to_owned())
    }

    /// The matcher itself.
    pub fn matcher(&self) -> &str {
        &self.0
    }

    /// All series of a metric.
    pub fn all(&self, metric: &Metric) -> String {
        format!("{}{{{}}}", metric.name, self.0)
    }

    /// The buckets of a histogram.
    pub fn buckets(&self, metric: &Metric) -> String {
        format!("{}_bucket{{{}}}", metric.name, self.0)
    }

    /// Series of a metric that has the label `protocol`: those of predictions, and not of health checks or of whoever
    /// scrapes. A server that drains says 503 to the former, which is no failure.
    pub fn predictions(&self, metric: &Metric) -> String {
        self.with(metric.name, &format!("protocol!=\"{}\"", Protocol::Other.name()))
    }

    /// Of these, the failures.
    pub fn failures(&self, metric: &Metric) -> String {
        let failed = format!("protocol!=\"{}\", {FAILED}", Protocol::Other.name());
        self.with(metric.name, &failed)
    }

    /// The buckets of a histogram with the label `protocol`, of plain predictions: an explanation is some hundred of them.
    pub fn prediction_buckets(&self, metric: &Metric) -> String {
        let others = [Protocol::Other, Protocol::Explain].map(Protocol::name).join("|");
        self.with(&format!("{}_bucket", metric.name), &format!("protocol!~\"{others}\""))
    }

    fn with(&self, name: &str, matchers: &str) -> String {
        format!("{name}{{{}, {matchers}}}", self.0)
    }
}

/// A quantile of buckets; `by` are labels to keep, besides the bound.
pub fn quantile(share: f64, buckets: &str, by: &[&str], window: &str) -> String {
    let by = [&["le"], by].concat().join(", ");
    format!("histogram_quantile({share}, sum by ({by}) (rate({buckets}[{window}])))")
}
