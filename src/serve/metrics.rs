//! What the server counts, and how `/metrics` tells it. The table of metrics is here and nowhere else: the Prometheus
//! text is rendered from it, and so is whatever watches a deployment.
//!
//! Counting is a few relaxed atomic additions, so that it can stand on the path of each request.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;

use super::cache;
use super::drift::Reading;
use super::exposition::{Histogram, Page};
use crate::usage::Usage;

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

/// Upper bounds of the duration histogram, in seconds.
const DURATION_BOUNDS: [f64; 16] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// What a probability is counted in, for the sum of the histogram to be whole numbers.
const MILLION: f64 = 1e6;
/// Upper bounds of the confidence histogram.
const CONFIDENCE_BOUNDS: [f64; 11] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];
/// Upper bounds of the batch size histogram, in inputs.
const BATCH_BOUNDS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The way a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `POST /predict`.
    Plain,
    /// Predictions in the manner of TensorFlow Serving.
    V1,
    /// Predictions by the Open Inference Protocol.
    V2,
    /// The same over gRPC.
    Grpc,
    /// What a prediction rests on.
    Explain,
    /// Everything that is no prediction: health, metadata, metrics.
    Other,
}

impl Protocol {
    const ALL: [Self; 6] = [Self::Plain, Self::V1, Self::V2, Self::Grpc, Self::Explain, Self::Other];

    /// The methods that its endpoints take, as the header `Allow` lists them.
    pub fn methods(self) -> &'static str {
        match self {
            Self::Other => "GET,HEAD",
            _ => "POST",
        }
    }

    /// As it is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Grpc => "grpc",
            Self::Explain => "explain",
            Self::Other => "other",
        }
    }
}

/// Why a batch went to the model when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// The model was free when its first request came.
    Idle,
    /// It gathered while the model was at work.
    Busy,
    /// It was as large as a batch may be.
    Full,
}

impl Dispatch {
    const ALL: [Self; 3] = [Self::Idle, Self::Busy, Self::Full];

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Full => "full",
        }
    }
}

/// The classes of status; there is nothing to redirect to here.
const STATUS: [&str; 3] = ["2xx", "4xx", "5xx"];

/// The counts of one server.
#[derive(Debug)]
pub struct Metrics {
    /// By protocol and class of status.
    requests: [[AtomicU64; STATUS.len()]; Protocol::ALL.len()],
    durations: [Histogram; Protocol::ALL.len()],
    in_flight: AtomicI64,
    connections: AtomicI64,
    batches: Histogram,
    dispatches: [AtomicU64; Dispatch::ALL.len()],
    queue_times: Histogram,
    abandoned: AtomicU64,
    refused: AtomicU64,
    predictions: Vec<AtomicU64>,
    /// In millionths.
    confidences: Histogram,
}

/// What `/metrics` tells besides the counts.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// Requests that wait for the model.
    pub queue_depth: usize,
    /// Requests that can wait for the model.
    pub queue_capacity: usize,
    /// How the cache does, if there is one.
    pub cache: Option<cache::Reading>,
    /// Changes of each kind of file that could not be taken.
    pub reload_failures: [(&'static str, u64); 2],
    /// Lines that the access log has not.
    pub lost_lines: u64,
    /// What the process has used, where the system tells.
    pub process: Option<Usage>,
    /// Whether the server is ready.
    pub ready: bool,
    /// Name of the model.
    pub model: &'a str,
    /// Version of the bundle.
    pub version: &'a str,
    /// Digest of the bundle.
    pub digest: &'a str,
    /// Names of the classes.
    pub classes: &'a [String],
    /// What the window of drift says.
    pub drift: &'a Reading<'a>,
}

impl Metrics {
    /// Counts for a model with `classes` classes, all zero.
    pub fn new(classes: usize) -> Self {
        Self {
            requests: Default::default(),
            durations: std::array::from_fn(|_| Histogram::new(&DURATION_BOUNDS, 1e9)),
            in_flight: AtomicI64::new(0),
            connections: AtomicI64::new(0),
            batches: Histogram::new(&BATCH_BOUNDS, 1.0),
            dispatches: Default::default(),
            queue_times: Histogram::new(&DURATION_BOUNDS, 1e9),
            abandoned: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            predictions: (0..classes).map(|_| AtomicU64::new(0)).collect(),
            confidences: Histogram::new(&CONFIDENCE_BOUNDS, MILLION),
        }
    }

    /// Counts a prediction request as in flight until the guard is dropped.
    pub fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.in_flight)
    }

    /// Counts a connection as open, until [`Metrics::disconnected`].
    pub fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts it as closed.
    pub fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts an answered request.
    pub fn answered(&self, protocol: Protocol, status: StatusCode, duration: Duration) {
        let class = match status.as_u16() {
            ..400 => 0,
            400..500 => 1,
            500.. => 2,
        };
        // Nothing else is told so.
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.requests[protocol as usize][class].fetch_add(1, Ordering::Relaxed);
        self.durations[protocol as usize].observe(nanos(duration));
    }

    /// Counts a batch that goes to the model.
    pub fn dispatched(&self, reason: Dispatch) {
        self.dispatches[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the time that a request has waited.
    pub fn queued(&self, duration: Duration) {
        self.queue_times.observe(nanos(duration));
    }

    /// Counts a request that nobody waits for any more.
    pub fn abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts inputs that went through the model at once.
    pub fn batch(&self, inputs: usize) {
        self.batches.observe(inputs as u64);
    }

    /// Counts a prediction by its most likely class and the probability of that.
    pub fn predicted(&self, class: usize, confidence: f32) {
        if let Some(count) = self.predictions.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.confidences.observe((f64::from(confidence) * MILLION) as u64);
    }

    /// Prediction requests that were answered.
    pub fn requests_total(&self) -> u64 {
        Protocol::ALL
            .iter()
            .filter(|protocol| **protocol != Protocol::Other)
            .flat_map(|protocol| &self.requests[*protocol as usize])
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Prediction requests that are being answered.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// All of it in Prometheus' text format, version 0.0.4.
    pub fn render(&self, now: &Snapshot<'_>) -> String {
        let mut page = Page::default();
        page.head(&REQUESTS);
        for protocol in Protocol::ALL {
            for (status, count) in STATUS.iter().zip(&self.requests[protocol as usize]) {
                page.sample(&REQUESTS, &[protocol.name(), status], count.load(Ordering::Relaxed));
            }
        }
        page.head(&DURATION);
        for protocol in Protocol::ALL {
            page.histogram(&DURATION, &[protocol.name()], &self.durations[protocol as usize]);
        }
        page.single(&IN_FLIGHT, self.in_flight());
        page.single(&CONNECTIONS, self.connections.load(Ordering::Relaxed));
        page.single(&QUEUE_DEPTH, now.queue_depth);
        page.single(&QUEUE_CAPACITY, now.queue_capacity);
        page.head(&BATCH_SIZE);
        page.histogram(&BATCH_SIZE, &[], &self.batches);
        page.head(&DISPATCHES);
        for reason in Dispatch::ALL {
            let count = self.dispatches[reason as usize].load(Ordering::Relaxed);
            page.sample(&DISPATCHES, &[reason.name()], count);
        }
        page.head(&QUEUE_TIME);
        page.histogram(&QUEUE_TIME, &[], &self.queue_times);
        page.single(&ABANDONED, self.abandoned.load(Ordering::Relaxed));
        page.single(&REFUSED, self.refused.load(Ordering::Relaxed));
        cached(&mut page, now.cache);
        page.head(&PREDICTIONS);
        for (class, count) in now.classes.iter().zip(&self.predictions) {
            page.sample(&PREDICTIONS, &[class], count.load(Ordering::Relaxed));
        }
        page.head(&CONFIDENCE);
        page.histogram(&CONFIDENCE, &[], &self.confidences);
        drift(&mut page, now.drift);
        page.head(&RELOAD_FAILURES);
        for (file, count) in now.reload_failures {
            page.sample(&RELOAD_FAILURES, &[file], count);
        }
        page.single(&LOST_LINES, now.lost_lines);
        page.head(&CPU);
        if let Some(process) = now.process {
            page.sample(&CPU, &[], process.cpu_seconds);
        }
        page.head(&MEMORY);
        if let Some(process) = now.process {
            page.sample(&MEMORY, &[], process.resident_bytes);
        }
        page.single(&READY, u8::from(now.ready));
        page.head(&BUILD_INFO);
        page.sample(
            &BUILD_INFO,
            &[now.model, now.version, now.digest, env!("CARGO_PKG_VERSION")],
            1,
        );
        page.into_text()
    }
}

/// What the window says, and nothing where it does not say anything yet.
fn cached(page: &mut Page, reading: Option<cache::Reading>) {
    page.head(&CACHE_LOOKUPS);
    if let Some(reading) = reading {
        page.sample(&CACHE_LOOKUPS, &["hit"], reading.hits);
        page.sample(&CACHE_LOOKUPS, &["miss"], reading.misses);
    }
    page.head(&CACHE_HIT_RATIO);
    if let Some(reading) = reading.filter(|reading| reading.hits + reading.misses > 0) {
        let ratio = reading.hits as f64 / (reading.hits + reading.misses) as f64;
        page.sample(&CACHE_HIT_RATIO, &[], ratio);
    }
    page.head(&CACHE_ENTRIES);
    if let Some(reading) = reading {
        page.sample(&CACHE_ENTRIES, &[], reading.entries);
    }
}

fn drift(page: &mut Page, reading: &Reading<'_>) {
    page.single(&DRIFT_SAMPLES, reading.samples);
    page.head(&DRIFT);
    for feature in &reading.features {
        if let Some(index) = feature.index {
            page.sample(&DRIFT, &[feature.name], index);
        }
    }
    page.head(&PREDICTION_DRIFT);
    if let Some(index) = reading.predictions {
        page.sample(&PREDICTION_DRIFT, &[], index);
    }
    page.head(&MISSING);
    for feature in &reading.features {
        if let Some(missing) = feature.missing {
            page.sample(&MISSING, &[feature.name], missing);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One prediction request in flight.
#[derive(Debug)]
pub struct InFlight<'a>(&'a AtomicI64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::drift::FeatureReading;
    use super::*;

    fn page(metrics: &Metrics) -> String {
        let drift = Reading {
            samples: 600,
            predictions: Some(0.5),
            features: vec![FeatureReading {
                name: "age",
                index: Some(0.125),
                missing: Some(0.25),
            }],
        };
        metrics.render(&Snapshot {
            queue_depth: 3,
            queue_capacity: 8,
            reload_failures: [("keys", 1), ("certificate", 0)],
            lost_lines: 0,
            process: Some(Usage {
                cpu_seconds: 0.25,
                resident_bytes: 4096,
            }),
            cache: Some(cache::Reading {
                hits: 1,
                misses: 1,
                entries: 1,
            }),
            ready: true,
            model: "m",
            version: "v",
            digest: "d",
            classes: &["a\"b\\\n".to_owned(), "c".to_owned()],
            drift: &drift,
        })
    }

    #[test]
    fn every_metric_of_the_table_is_told_once_with_its_labels() {
        let metrics = Metrics::new(2);
        let page = page(&metrics);
        let told: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let table: Vec<&str> = TABLE.iter().map(|metric| metric.name).collect();
        assert_eq!(told, table);
        for metric in TABLE {
            let sample = page
                .lines()
                .find(|line| line.starts_with(metric.name))
                .expect("a sample");
            for label in metric.labels {
                assert!(sample.contains(&format!("{label}=\"")), "{sample}");
            }
        }
    }

    #[test]
    fn histograms_are_cumulative_and_in_units() {
        let metrics = Metrics::new(1);
        for micros in [50, 100, 101, 20_000_000] {
            metrics.answered(Protocol::V1, StatusCode::OK, Duration::from_micros(micros));
        }
        let page = page(&metrics);
        let has = |line: &str| assert!(page.contains(line), "{line}\n{page}");
        has("emberline_request_duration_seconds_bucket{protocol=\"v1\",le=\"0.0001\"} 2\n");
        has("emberline_request_duration_seconds_bucket{protocol=\"v1\",le=\"0.00025\"} 3\n");
        has("emberline_request_duration_seconds_bucket{protocol=\"v1\",le=\"10\"} 3\n");
        has("emberline_request_duration_seconds_bucket{protocol=\"v1\",le=\"+Inf\"} 4\n");
        has("emberline_request_duration_seconds_sum{protocol=\"v1\"} 20.000251\n");
        has("emberline_request_duration_seconds_count{protocol=\"v1\"} 4\n");
        has("emberline_requests_total{protocol=\"v1\",status=\"2xx\"} 4\n");
    }

    #[test]
    fn confidence_is_counted_in_shares_and_drift_is_told_when_it_is_known() {
        let metrics = Metrics::new(2);
        metrics.predicted(0, 0.5);
        metrics.predicted(1, 1.0);
        let page = page(&metrics);
        let has = |line: &str| assert!(page.contains(line), "{line}\n{page}");
        has("emberline_prediction_confidence_bucket{le=\"0.5\"} 1\n");
        has("emberline_prediction_confidence_bucket{le=\"0.99\"} 1\n");
        has("emberline_prediction_confidence_sum 1.5\n");
        has("emberline_drift_window_samples 600\n");
        has("emberline_drift_psi{feature=\"age\"} 0.125\n");
        has("emberline_prediction_drift_psi 0.5\n");
        has("emberline_drift_missing_ratio{feature=\"age\"} 0.25\n");
        let mut early = Page::default();
        drift(
            &mut early,
            &Reading {
                samples: 1,
                predictions: None,
                features: Vec::new(),
            },
        );
        let early = early.into_text();
        assert!(early.contains("# TYPE emberline_drift_psi gauge\n"), "{early}");
        assert!(
            early
                .lines()
                .all(|line| line.starts_with('#') || line == "emberline_drift_window_samples 1")
        );
    }

    #[test]
    fn label_values_are_escaped() {
        let page = page(&Metrics::new(2));
        assert!(
            page.contains("emberline_predictions_total{class=\"a\\\"b\\\\\\n\"} 0\n"),
            "{page}"
        );
    }

    #[test]
    fn only_predictions_count_as_requests_of_the_model() {
        let metrics = Metrics::new(1);
        metrics.answered(Protocol::Other, StatusCode::OK, Duration::ZERO);
        metrics.answered(Protocol::V2, StatusCode::TOO_MANY_REQUESTS, Duration::ZERO);
        assert_eq!(metrics.requests_total(), 1);
        let page = page(&metrics);
        assert!(page.contains("emberline_requests_refused_total 1\n"), "{page}");
    }
}
