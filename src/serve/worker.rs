//! The way of a request from raw inputs to answers, on one event loop.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;

use super::batcher::Batcher;
use super::cache::Cache;
use super::refusal::Refusal;
use super::service::Service;
use crate::predict::argmax;

/// Inputs of one request: encoding can make a row much larger than its JSON.
const MAX_INPUTS: usize = 10_000;

/// What an event loop has to do for its answers to come, when the model does not work elsewhere.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an event loop answers requests with: the service, and the loop's own way to the model.
#[derive(Debug)]
pub struct Worker {
    service: Arc<Service>,
    batcher: Batcher,
}

/// A worker for each event loop, with the task that the loop has to run, if any.
pub type Workers = Vec<(Worker, Option<Task>)>;

/// Raw inputs of one request, one after another.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The model's input width of values for each input, a missing one as NaN.
    pub raw: Vec<f32>,
    /// Inputs.
    pub count: usize,
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

impl Worker {
    /// Answers by way of `batcher`.
    pub fn new(service: Arc<Service>, batcher: Batcher) -> Self {
        Self { service, batcher }
    }

    /// What is served.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Refuses as [`Worker::answer`] would now.
    ///
    /// # Errors
    ///
    /// When as many requests wait as may.
    pub fn has_place(&self) -> Result<(), Refusal> {
        Ok(self.batcher.has_place()?)
    }

    /// The model's answers to encoded inputs that are nobody's prediction: they are not counted.
    ///
    /// # Errors
    ///
    /// That the model cannot answer now, or not by `deadline`.
    pub async fn ask(&self, encoded: Vec<f32>, deadline: Option<Instant>) -> Result<Vec<f32>, Refusal> {
        Ok(self.batcher.answer(encoded, deadline).await?)
    }

    /// The model's answers. What is not answered by `deadline` is not computed.
    ///
    /// # Errors
    ///
    /// Which input is wrong, and how; or that the model cannot answer now.
    pub async fn answer(&self, inputs: &Inputs, deadline: Option<Instant>) -> Result<Answers<'_>, Refusal> {
        let answers = self.answer_uncounted(inputs, deadline).await?;
        let width = self.service.predictor().input_width();
        for (raw, row) in inputs.raw.chunks_exact(width).zip(answers.rows()) {
            let class = argmax(row);
            self.service.metrics().predicted(class, row[class]);
            self.service.drift().observe(raw, class);
        }
        Ok(answers)
    }

    /// As [`Worker::answer`], for inputs that nobody wants to know of: they count neither as predictions nor as drift.
    ///
    /// # Errors
    ///
    /// As [`Worker::answer`].
    pub async fn answer_uncounted(&self, inputs: &Inputs, deadline: Option<Instant>) -> Result<Answers<'_>, Refusal> {
        if inputs.count == 0 {
            return Err(Refusal::bad("the request holds no input"));
        }
        if inputs.count > MAX_INPUTS {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the request holds {} inputs, and may hold {MAX_INPUTS}: send them in parts",
                    inputs.count
                ),
            ));
        }
        Ok(Answers {
            probabilities: match self.service.cache() {
                None => self.computed(inputs, None, deadline).await?,
                Some(cache) => self.remembered(cache, inputs, deadline).await?,
            },
            classes: &self.service.manifest().classes,
        })
    }

    /// The model's answers to all inputs, or to those at some places.
    async fn computed(
        &self,
        inputs: &Inputs,
        places: Option<&[usize]>,
        deadline: Option<Instant>,
    ) -> Result<Vec<f32>, Refusal> {
        let predictor = self.service.predictor();
        let width = predictor.input_width();
        let count = places.map_or(inputs.count, <[usize]>::len);
        let mut encoded = Vec::with_capacity(count * predictor.encoded_width());
        for number in 0..count {
            let index = places.map_or(number, |places| places[number]);
            predictor
                .encode(&inputs.raw[index * width..][..width], &mut encoded)
                .map_err(|error| Refusal::bad(format!("input {index}: {error}")))?;
        }
        Ok(self.batcher.answer(encoded, deadline).await?)
    }

    /// As [`Worker::computed`], and computes only what was not asked before.
    async fn remembered(&self, cache: &Cache, inputs: &Inputs, deadline: Option<Instant>) -> Result<Vec<f32>, Refusal> {
        let classes = self.service.manifest().classes.len();
        let width = self.service.predictor().input_width();
        let mut answers = vec![0.0; inputs.count * classes];
        let mut keys = Vec::new();
        let mut missing = Vec::new();
        for (index, raw) in inputs.raw.chunks_exact(width).enumerate() {
            let key = Cache::key(raw);
            if let Some(answer) = cache.get(&key) {
                answers[index * classes..][..classes].copy_from_slice(&answer);
            } else {
                keys.push(key);
                missing.push(index);
            }
        }
        if !missing.is_empty() {
            let computed = self.computed(inputs, Some(&missing), deadline).await?;
            for ((key, index), answer) in keys.into_iter().zip(missing).zip(computed.chunks_exact(classes)) {
                answers[index * classes..][..classes].copy_from_slice(answer);
                cache.put(key, answer);
            }
        }
        Ok(answers)
    }
}
