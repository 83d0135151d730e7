//! What every protocol shares: the model that is served and whether the server is ready. It knows no protocol and no
//! connection; the way of a request to the model is `worker`'s.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};

use super::batcher::{self, Batcher, Work};
use super::cache::Cache;
use super::drift::Drift;
use super::front::Front;
use super::metrics::{Metrics, Snapshot};
use super::placement::Placement;
use super::places::Places;
use super::refusal::Refusal;
use super::settings::Settings;
use super::worker::{Task, Worker, Workers};
use crate::bundle::{Bundle, Golden, Manifest};
use crate::predict::Predictor;
use crate::problem::Problem;
use crate::usage::Usage;

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
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
    /// The ways to the model, one for each event loop.
    batchers: Vec<Batcher>,
    places: Arc<Places>,
    metrics: Arc<Metrics>,
    drift: Drift,
    cache: Option<Cache>,
    phase: AtomicU8,
    max_body: usize,
}

impl Service {
    /// Opens and verifies the bundle, loads the model, checks that it reproduces the golden outputs, and places it.
    /// Gives the service, and a worker for each of `loops` event loops with the task that the loop has to run, if any.
    ///
    /// # Errors
    ///
    /// Why the bundle cannot be served.
    pub fn start(path: &Path, settings: &Settings, loops: usize) -> Result<(Arc<Self>, Workers)> {
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
        predictor.check_golden(&golden)?;
        let manifest = predictor.manifest();
        let drift = Drift::new(&manifest.inputs, bundle.profile()?, settings.drift_window)?;
        let metrics = Arc::new(Metrics::new(manifest.classes.len()));
        let work = |max_batch| {
            let model = Arc::clone(&predictor);
            Work::new(predictor.encoded_width(), max_batch, &metrics, move |inputs| {
                model.forward(inputs)
            })
        };
        let places = Places::new(settings.queue);
        let mut tasks = Vec::new();
        let batchers: Vec<Batcher> = match Placement::measure(&predictor, settings.max_batch)? {
            Placement::Loops { max_batch } => (0..loops)
                .map(|_| {
                    let (batcher, queue) = batcher::queue(&places);
                    tasks.push(Box::pin(queue.work_here(work(max_batch))) as Task);
                    batcher
                })
                .collect(),
            Placement::Thread => {
                let (batcher, queue) = batcher::queue(&places);
                let work = work(settings.max_batch);
                std::thread::Builder::new()
                    .name("model".into())
                    .spawn(move || queue.work_apart(&work))
                    .context("cannot start the model's thread")?;
                vec![batcher; loops]
            }
        };
        let service = Arc::new(Self {
            golden,
            batchers: batchers.clone(),
            places,
            metrics,
            drift,
            cache: settings.cache.map(Cache::new),
            predictor,
            phase: AtomicU8::new(Phase::Ready as u8),
            max_body: settings.max_body,
        });
        let mut tasks = tasks.into_iter();
        let workers = batchers
            .into_iter()
            .map(|batcher| (Worker::new(Arc::clone(&service), batcher), tasks.next()))
            .collect();
        Ok((service, workers))
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

    /// The model.
    pub fn predictor(&self) -> &Predictor {
        &self.predictor
    }

    /// The counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The inputs and answers of late.
    pub fn drift(&self) -> &Drift {
        &self.drift
    }

    /// Answers that were given before, if they are kept.
    pub fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Largest body of a request, in bytes.
    pub fn max_body(&self) -> usize {
        self.max_body
    }

    /// The counts and what is served, in Prometheus' text format.
    pub fn metrics_page(&self, front: &Front) -> String {
        self.metrics.render(&Snapshot {
            queue_depth: self.places.taken(),
            queue_capacity: self.places.capacity(),
            cache: self.cache.as_ref().map(Cache::read),
            reload_failures: front.reload_failures(),
            lost_lines: front.lost_lines(),
            process: Usage::of_this(),
            ready: self.ready().is_ok(),
            model: &self.manifest().name,
            version: self.version(),
            digest: self.digest(),
            classes: &self.manifest().classes,
            drift: &self.drift.read(),
        })
    }

    /// What the server is doing.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            _ => Phase::Draining,
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
    /// When the model has ended.
    pub fn alive(&self) -> Result<(), Refusal> {
        if self.batchers.iter().all(Batcher::is_alive) {
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

    /// Sends a golden input the way of any request and checks what comes back.
    ///
    /// # Errors
    ///
    /// When no answer comes, or a wrong one.
    pub async fn check(&self) -> Result<()> {
        let case = &self.golden.cases[0];
        let mut encoded = Vec::new();
        self.predictor.encode(&case.raw(), &mut encoded)?;
        let answer = self.batchers[0].answer_anyway(encoded).await?;
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
