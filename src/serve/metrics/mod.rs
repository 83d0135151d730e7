//! What the server counts. What each count is called is in `table`, and how `/metrics` tells them in `page`.
//!
//! Counting is a few relaxed atomic additions, so that it can stand on the path of each request.

mod page;
pub mod table;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;

use super::exposition::Histogram;

pub use page::Snapshot;

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
