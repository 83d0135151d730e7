//! What every protocol shares: the model that is served, the way from JSON inputs to answers, and whether the server is
//! ready. It knows no protocol and no connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};
use axum::http::StatusCode;
use serde_json::Value;
use tokio::sync::oneshot;

use super::batcher::{self, Batcher};
use super::metrics::{Metrics, Snapshot};
use super::refusal::Refusal;
use super::settings::Settings;
use crate::bundle::{Bundle, Golden, Manifest};
use crate::predict::{Predictor, argmax, raw_from_json};
use crate::problem::Problem;

/// Inputs of one request: encoding can make a row much larger than its JSON.
const MAX_INPUTS: usize = 10_000;

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The golden outputs are not reproduced yet.
    Starting,
    /// Serving.
    Ready,
    /// Told to go: finishing what is in flight.
    Draining,
}

/// A model that is served.
#[derive(Debug)]
pub struct Service {
    predictor: Arc<Predictor>,
    golden: Golden,
    batcher: Batcher,
    metrics: Arc<Metrics>,
    phase: AtomicU8,
    max_body: usize,
}

/// The model's answers to the inputs of one request.
#[derive(Debug)]
pub struct Answers<'a> {
    /// The probability of each class, input by input.
    pub probabilities: Vec<f32>,
    /// Names of the classes.
    pub classes: &'a [String],
}

impl Answers<'_> {
    /// The probabilities of each input.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.probabilities.chunks_exact(self.classes.len())
    }

    /// The most likely class of each input.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.rows().map(|row| self.classes[argmax(row)].as_str())
    }
}

impl Service {
    /// Opens and verifies the bundle, loads the model and starts its thread, whose first work is to reproduce the
    /// golden outputs: the receiver hears how that went. Requests that come meanwhile wait in the queue.
    ///
    /// # Errors
    ///
    /// Why the bundle cannot be served.
    pub fn start(path: &std::path::Path, settings: &Settings) -> Result<(Arc<Self>, oneshot::Receiver<Result<()>>)> {
        let bundle = Bundle::open(path)?;
        let golden = bundle.golden()?;
        if golden.cases.is_empty() {
            return Err(Problem::new(format!(
                "bundle `{}` has no golden case, so nothing can show that it works here",
                bundle.version()
            ))
            .into());
        }
        let predictor = Arc::new(Predictor::load(&bundle)?);
        let metrics = Arc::new(Metrics::new(predictor.manifest().classes.len()));
        let (batcher, queue) = batcher::queue(settings.queue);
        let (tell, checked) = oneshot::channel();
        let service = Arc::new(Self {
            predictor: Arc::clone(&predictor),
            golden,
            batcher,
            metrics: Arc::clone(&metrics),
            phase: AtomicU8::new(Phase::Starting as u8),
            max_body: settings.max_body,
        });
        let max_batch = settings.max_batch;
        std::thread::Builder::new()
            .name("model".into())
            .spawn(move || {
                let outcome = predictor.check_golden(&bundle);
                let good = outcome.is_ok();
                // Nobody listens when the server was told to go meanwhile.
                let _ = tell.send(outcome);
                if good {
                    queue.work(predictor.encoded_width(), max_batch, &metrics, |inputs| {
                        predictor.forward(inputs)
                    });
                }
            })
            .context("cannot start the model's thread")?;
        Ok((service, checked))
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        self.predictor.manifest()
    }

    /// Version of the bundle.
    pub fn version(&self) -> &str {
        self.predictor.version()
    }

    /// Digest of the bundle.
    pub fn digest(&self) -> &str {
        self.predictor.digest()
    }

    /// The counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Largest body of a request, in bytes.
    pub fn max_body(&self) -> usize {
        self.max_body
    }

    /// The counts and what is served, in Prometheus' text format.
    pub fn metrics_page(&self) -> String {
        self.metrics.render(&Snapshot {
            queue_depth: self.batcher.depth(),
            queue_capacity: self.batcher.capacity(),
            ready: self.ready().is_ok(),
            model: &self.manifest().name,
            version: self.version(),
            digest: self.digest(),
            classes: &self.manifest().classes,
        })
    }

    /// What the server is doing.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            phase if phase == Phase::Draining as u8 => Phase::Draining,
            _ => Phase::Starting,
        }
    }

    /// Goes on to another phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Whether the process is of any use still.
    ///
    /// # Errors
    ///
    /// When the model's thread has ended.
    pub fn alive(&self) -> Result<(), Refusal> {
        if self.batcher.is_alive() {
            Ok(())
        } else {
            Err(Refusal::unavailable("the model has stopped"))
        }
    }

    /// Whether requests should be sent here.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn ready(&self) -> Result<(), Refusal> {
        self.alive()?;
        match self.phase() {
            Phase::Ready => Ok(()),
            Phase::Starting => Err(Refusal::unavailable(
                "starting: the golden outputs are not reproduced yet",
            )),
            Phase::Draining => Err(Refusal::unavailable(
                "draining: this server was told to go and finishes what is in flight",
            )),
        }
    }

    /// Checks that a request means the model that is here.
    ///
    /// # Errors
    ///
    /// 404 that names the model and the version that are.
    pub fn check_model(&self, name: &str, version: Option<&str>) -> Result<(), Refusal> {
        let here = &self.manifest().name;
        if name != here {
            return Err(Refusal::not_found(format!(
                "there is no model `{name}` here, there is `{here}`"
            )));
        }
        match version {
            Some(version) if version != self.version() => Err(Refusal::not_found(format!(
                "there is no version `{version}` of model `{here}` here, there is `{}`",
                self.version()
            ))),
            _ => Ok(()),
        }
    }

    /// The model's answers to JSON inputs.
    ///
    /// # Errors
    ///
    /// Which input is wrong, and how; or that the model cannot answer now.
    pub async fn answer(&self, inputs: &[Value]) -> Result<Answers<'_>, Refusal> {
        if inputs.is_empty() {
            return Err(Refusal::bad("the request holds no input"));
        }
        if inputs.len() > MAX_INPUTS {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the request holds {} inputs, and may hold {MAX_INPUTS}: send them in parts",
                    inputs.len()
                ),
            ));
        }
        let schema = &self.manifest().inputs;
        let mut raw = Vec::with_capacity(schema.width());
        let mut encoded = Vec::with_capacity(inputs.len() * self.predictor.encoded_width());
        for (index, input) in inputs.iter().enumerate() {
            raw.clear();
            raw_from_json(schema, input, &mut raw).map_err(|error| Refusal::bad(format!("input {index}: {error}")))?;
            self.predictor
                .encode(&raw, &mut encoded)
                .map_err(|error| Refusal::bad(format!("input {index}: {error}")))?;
        }
        let answers = Answers {
            probabilities: self.batcher.answer(encoded).await?,
            classes: &self.manifest().classes,
        };
        for row in answers.rows() {
            self.metrics.predicted(argmax(row));
        }
        Ok(answers)
    }

    /// Sends a golden input the way of any request and checks what comes back.
    ///
    /// # Errors
    ///
    /// When no answer comes, or a wrong one.
    pub async fn check(&self) -> Result<()> {
        let case = &self.golden.cases[0];
        let mut encoded = Vec::new();
        self.predictor.encode(&case.raw(), &mut encoded)?;
        let answer = self.batcher.answer_when_free(encoded).await?;
        let same = case.probabilities.len() == answer.len()
            && case
                .probabilities
                .iter()
                .zip(&answer)
                .all(|(expected, got)| (expected - got).abs() <= self.golden.tolerance);
        if same {
            Ok(())
        } else {
            Err(Problem::new("a golden input gives another answer than before").into())
        }
    }
}
