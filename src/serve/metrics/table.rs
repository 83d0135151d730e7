//! Every metric of the server: its name, kind, unit, labels and a sentence. This is the only such table: `/metrics` is
//! rendered from it, and so are the reference, the dashboards and the alerts.

/// What kind of thing a metric is, by Prometheus' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts of observations below each of a row of bounds.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What its numbers count.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence for people.
    pub help: &'static str,
}

/// Requests that were answered.
pub const REQUESTS: Metric = Metric {
    name: "emberline_requests_total",
    kind: Kind::Counter,
    unit: "requests",
    labels: &["protocol", "status"],
    help: "Requests answered, by protocol and class of status.",
};
/// Time to answer.
pub const DURATION: Metric = Metric {
    name: "emberline_request_duration_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &["protocol"],
    help: "Time from the head of a request to its answer, in seconds.",
};
/// Prediction requests at work.
pub const IN_FLIGHT: Metric = Metric {
    name: "emberline_requests_in_flight",
    kind: Kind::Gauge,
    unit: "requests",
    labels: &[],
    help: "Prediction requests that are being answered now.",
};
/// Connections that are open.
pub const CONNECTIONS: Metric = Metric {
    name: "emberline_connections",
    kind: Kind::Gauge,
    unit: "connections",
    labels: &[],
    help: "Connections that are open now, idle ones among them. Each is an open file of the process.",
};
/// Requests that wait for the model.
pub const QUEUE_DEPTH: Metric = Metric {
    name: "emberline_queue_depth",
    kind: Kind::Gauge,
    unit: "requests",
    labels: &[],
    help: "Prediction requests that wait for the model now.",
};
/// Room for requests that wait for the model.
pub const QUEUE_CAPACITY: Metric = Metric {
    name: "emberline_queue_capacity",
    kind: Kind::Gauge,
    unit: "requests",
    labels: &[],
    help: "Prediction requests that can wait for the model before more are refused.",
};
/// Inputs that went through the model at once.
pub const BATCH_SIZE: Metric = Metric {
    name: "emberline_batch_size",
    kind: Kind::Histogram,
    unit: "inputs",
    labels: &[],
    help: "Inputs that went through the model at once.",
};
/// Why batches went to the model.
pub const DISPATCHES: Metric = Metric {
    name: "emberline_dispatches_total",
    kind: Kind::Counter,
    unit: "batches",
    labels: &["reason"],
    help: "Batches gathered for the model: `idle` found it free, `busy` gathered while it worked, `full` reached the limit.",
};
/// Time in the queue.
pub const QUEUE_TIME: Metric = Metric {
    name: "emberline_queue_duration_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[],
    help: "Time that prediction requests waited for the model, in seconds.",
};
/// Requests that nobody waits for any more.
pub const ABANDONED: Metric = Metric {
    name: "emberline_requests_abandoned_total",
    kind: Kind::Counter,
    unit: "requests",
    labels: &[],
    help: "Prediction requests whose client went before the model was free: they were not computed.",
};
/// Requests for which there was no room.
pub const REFUSED: Metric = Metric {
    name: "emberline_requests_refused_total",
    kind: Kind::Counter,
    unit: "requests",
    labels: &[],
    help: "Prediction requests that were refused because the queue was full: with 429, and counted as 4xx as well.",
};
/// Inputs that were looked for in the cache.
pub const CACHE_LOOKUPS: Metric = Metric {
    name: "emberline_cache_lookups_total",
    kind: Kind::Counter,
    unit: "inputs",
    labels: &["outcome"],
    help: "Inputs looked for in the cache, by outcome: `hit` or `miss`. Nothing without --cache.",
};
/// Share of inputs that were answered from the cache.
pub const CACHE_HIT_RATIO: Metric = Metric {
    name: "emberline_cache_hit_ratio",
    kind: Kind::Gauge,
    unit: "ratio",
    labels: &[],
    help: "Share of inputs answered from the cache since the server started. Nothing before the first.",
};
/// Answers in the cache.
pub const CACHE_ENTRIES: Metric = Metric {
    name: "emberline_cache_entries",
    kind: Kind::Gauge,
    unit: "answers",
    labels: &[],
    help: "Answers that the cache holds. Nothing without --cache.",
};
/// Answers by class.
pub const PREDICTIONS: Metric = Metric {
    name: "emberline_predictions_total",
    kind: Kind::Counter,
    unit: "predictions",
    labels: &["class"],
    help: "Predictions, by the most likely class.",
};
/// Files that changed and could not be taken.
pub const RELOAD_FAILURES: Metric = Metric {
    name: "emberline_reload_failures_total",
    kind: Kind::Counter,
    unit: "failures",
    labels: &["file"],
    help: "Changes of the key file and of the TLS certificate that could not be taken: what was there stays in force.",
};
/// Lines that the access log has not.
pub const LOST_LINES: Metric = Metric {
    name: "emberline_access_log_lost_lines_total",
    kind: Kind::Counter,
    unit: "lines",
    labels: &[],
    help: "Lines of the access log that were lost because nobody took them in time.",
};
/// How sure the model was.
pub const CONFIDENCE: Metric = Metric {
    name: "emberline_prediction_confidence",
    kind: Kind::Histogram,
    unit: "probability",
    labels: &[],
    help: "Probability of the most likely class, by prediction.",
};
/// Predictions that drift is measured over.
pub const DRIFT_SAMPLES: Metric = Metric {
    name: "emberline_drift_window_samples",
    kind: Kind::Gauge,
    unit: "predictions",
    labels: &[],
    help: "Predictions in the window that drift is measured over.",
};
/// Drift of the inputs.
pub const DRIFT: Metric = Metric {
    name: "emberline_drift_psi",
    kind: Kind::Gauge,
    unit: "index",
    labels: &["feature"],
    help: "Population stability index of an input feature against training: 0 is the same, above 0.25 is another.",
};
/// Drift of the answers.
pub const PREDICTION_DRIFT: Metric = Metric {
    name: "emberline_prediction_drift_psi",
    kind: Kind::Gauge,
    unit: "index",
    labels: &[],
    help: "Population stability index of the predicted classes against training: 0 is the same, above 0.25 is another.",
};
/// Missing values.
pub const MISSING: Metric = Metric {
    name: "emberline_drift_missing_ratio",
    kind: Kind::Gauge,
    unit: "ratio",
    labels: &["feature"],
    help: "Share of a column's values in the window that are missing, or a name that training did not see.",
};
/// Processor time, by the name that Prometheus' own libraries give it.
pub const CPU: Metric = Metric {
    name: "process_cpu_seconds_total",
    kind: Kind::Counter,
    unit: "seconds",
    labels: &[],
    help: "Processor time that the server has used, in seconds. Nothing where the system does not tell.",
};
/// Memory, by the same convention.
pub const MEMORY: Metric = Metric {
    name: "process_resident_memory_bytes",
    kind: Kind::Gauge,
    unit: "bytes",
    labels: &[],
    help: "Memory that the server holds, in bytes. Nothing where the system does not tell.",
};
/// Whether the server is ready.
pub const READY: Metric = Metric {
    name: "emberline_ready",
    kind: Kind::Gauge,
    unit: "boolean",
    labels: &[],
    help: "1 when the golden outputs were reproduced and the server is not draining, 0 otherwise.",
};
/// What is served.
pub const BUILD_INFO: Metric = Metric {
    name: "emberline_build_info",
    kind: Kind::Gauge,
    unit: "info",
    labels: &["model", "version", "digest", "server"],
    help: "Always 1: the model, its bundle's version and digest, and the version of the server.",
};

/// Every metric, in the order of `/metrics`.
pub const TABLE: [&Metric; 26] = [
    &REQUESTS,
    &DURATION,
    &IN_FLIGHT,
    &CONNECTIONS,
    &QUEUE_DEPTH,
    &QUEUE_CAPACITY,
    &BATCH_SIZE,
    &DISPATCHES,
    &QUEUE_TIME,
    &ABANDONED,
    &REFUSED,
    &CACHE_LOOKUPS,
    &CACHE_HIT_RATIO,
    &CACHE_ENTRIES,
    &PREDICTIONS,
    &CONFIDENCE,
    &DRIFT_SAMPLES,
    &DRIFT,
    &PREDICTION_DRIFT,
    &MISSING,
    &RELOAD_FAILURES,
    &LOST_LINES,
    &CPU,
    &MEMORY,
    &READY,
    &BUILD_INFO,
];
