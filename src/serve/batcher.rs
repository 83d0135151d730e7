//! The queue in front of the model, and who works behind it.
//!
//! While the model is busy, requests gather in a bounded queue; when it is free it takes what is there, up to a limit,
//! and answers it in one go. Nothing waits for a batch to fill: a request that finds the model free is answered at once,
//! and batches grow with the load alone. A full queue refuses; a request whose client has gone or whose deadline has
//! passed is not computed. Where the work is done is `placement`'s choice: on the event loop that the requests came in
//! on ([`Queue::work_here`]), or on a thread that blocks ([`Queue::work_apart`]). It knows rows of numbers, not where
//! they come from.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use super::metrics::{Dispatch, Metrics};
use super::places::{Places, Queued};

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// As many requests wait as may.
    #[error("the server is busy: {0} requests wait for the model already")]
    Full(usize),
    /// The request's deadline passed before the model was free.
    #[error("the deadline of the request passed before the model was free")]
    Late,
    /// The model has ended, which it does only with the process or by a fault.
    #[error("the model has stopped")]
    Stopped,
    /// The model's device failed.
    #[error("{0}")]
    Model(String),
}

/// The way to the model.
#[derive(Clone, Debug)]
pub struct Batcher {
    sender: mpsc::UnboundedSender<Job>,
    places: Arc<Places>,
}

/// The model's end of the queue.
#[derive(Debug)]
pub struct Queue {
    receiver: mpsc::UnboundedReceiver<Job>,
}

/// What a queue is worked with.
#[derive(Debug)]
pub struct Work<F> {
    width: usize,
    max_batch: usize,
    metrics: Arc<Metrics>,
    forward: F,
}

#[derive(Debug)]
struct Job {
    inputs: Vec<f32>,
    /// Known when its inputs have gone into a batch.
    rows: usize,
    since: Instant,
    deadline: Option<Instant>,
    place: Option<Queued>,
    reply: oneshot::Sender<Result<Vec<f32>, BatchError>>,
}

/// Jobs that go through the model together, at most `max_batch` rows at once.
struct Batch {
    jobs: Vec<Job>,
    inputs: Vec<f32>,
    /// Values of `inputs` that have gone through.
    done: usize,
    answers: Vec<f32>,
}

impl<F: Fn(Vec<f32>) -> Result<Vec<f32>>> Work<F> {
    /// `forward` is the model: encoded inputs, `width` values each and at most `max_batch` at once, to answers.
    pub fn new(width: usize, max_batch: usize, metrics: &Arc<Metrics>, forward: F) -> Self {
        Self {
            width,
            max_batch,
            metrics: Arc::clone(metrics),
            forward,
        }
    }
}

/// A queue whose requests take their places in `places`.
pub fn queue(places: &Arc<Places>) -> (Batcher, Queue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let places = Arc::clone(places);
    (Batcher { sender, places }, Queue { receiver })
}

impl Batcher {
    /// The model's answers to encoded inputs, row by row; refuses at once when the queue is full. After `deadline` it is
    /// not computed any more.
    ///
    /// # Errors
    ///
    /// [`BatchError`].
    pub async fn answer(&self, inputs: Vec<f32>, deadline: Option<Instant>) -> Result<Vec<f32>, BatchError> {
        let (_waiting, queued) = self.places.take().ok_or_else(|| self.full())?;
        let answer = self.send(inputs, deadline, Some(queued))?;
        let answer = match deadline {
            None => answer.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), answer)
                .await
                .map_err(|_| BatchError::Late)?,
        };
        answer.unwrap_or(Err(BatchError::Stopped))
    }

    /// As [`Batcher::answer`], whether or not there is a place.
    ///
    /// # Errors
    ///
    /// [`BatchError`], but never that the queue is full.
    pub async fn answer_anyway(&self, inputs: Vec<f32>) -> Result<Vec<f32>, BatchError> {
        let answer = self.send(inputs, None, None)?;
        answer.await.unwrap_or(Err(BatchError::Stopped))
    }

    /// Whether somebody works behind the queue.
    pub fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Refuses as [`Batcher::answer`] would now.
    ///
    /// # Errors
    ///
    /// When the queue is full.
    pub fn has_place(&self) -> Result<(), BatchError> {
        if self.places.has_one() {
            Ok(())
        } else {
            Err(self.full())
        }
    }

    fn full(&self) -> BatchError {
        BatchError::Full(self.places.capacity())
    }

    fn send(
        &self,
        inputs: Vec<f32>,
        deadline: Option<Instant>,
        place: Option<Queued>,
    ) -> Result<oneshot::Receiver<Result<Vec<f32>, BatchError>>, BatchError> {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            inputs,
            rows: 0,
            since: Instant::now(),
            deadline,
            place,
            reply,
        };
        self.sender.send(job).map_err(|_| BatchError::Stopped)?;
        Ok(answer)
    }
}

impl Queue {
    /// Answers requests on a thread that may block, until the last [`Batcher`] is gone.
    pub fn work_apart<F: Fn(Vec<f32>) -> Result<Vec<f32>>>(mut self, work: &Work<F>) {
        loop {
            let busy = self.receiver.try_recv().ok();
            let idle = busy.is_none();
            let Some(first) = busy.or_else(|| self.receiver.blocking_recv()) else {
                return;
            };
            if let Some(mut batch) = self.gather(first, idle, work) {
                let outcome = loop {
                    match batch.advance(work) {
                        Ok(true) => {}
                        ended => break ended,
                    }
                };
                batch.reply(outcome, work.width);
            }
        }
    }

    /// Answers requests on an event loop, until the last [`Batcher`] is gone. A request wakes this task, which has its
    /// turn after the connections that are ready, so that all that they bring is one batch; between the parts of a
    /// large batch it is others' turn.
    pub async fn work_here<F: Fn(Vec<f32>) -> Result<Vec<f32>>>(mut self, work: Work<F>) {
        loop {
            let (first, idle) = match self.receiver.try_recv() {
                Ok(job) => (Some(job), false),
                Err(_) => (self.receiver.recv().await, true),
            };
            let Some(first) = first else { return };
            if let Some(mut batch) = self.gather(first, idle, &work) {
                let outcome = loop {
                    match batch.advance(&work) {
                        Ok(true) => yield_now().await,
                        ended => break ended,
                    }
                };
                batch.reply(outcome, work.width);
            }
        }
    }

    /// What waits, up to the limit; none when nobody wants any of it.
    fn gather<F>(&mut self, first: Job, idle: bool, work: &Work<F>) -> Option<Batch> {
        let now = Instant::now();
        let limit = work.max_batch * work.width;
        let mut batch = Batch {
            jobs: Vec::new(),
            inputs: Vec::new(),
            done: 0,
            answers: Vec::new(),
        };
        let mut next = Some(first);
        while let Some(mut job) = next {
            job.place = None;
            if job.reply.is_closed() {
                work.metrics.abandoned();
            } else if job.deadline.is_some_and(|deadline| deadline <= now) {
                // The client's own timer may have been first.
                let _ = job.reply.send(Err(BatchError::Late));
            } else {
                work.metrics.queued(now.saturating_duration_since(job.since));
                job.rows = job.inputs.len() / work.width;
                if batch.jobs.is_empty() {
                    batch.inputs = std::mem::take(&mut job.inputs);
                } else {
                    batch.inputs.append(&mut job.inputs);
                }
                batch.jobs.push(job);
            }
            next = if batch.inputs.len() < limit {
                self.receiver.try_recv().ok()
            } else {
                None
            };
        }
        if batch.jobs.is_empty() {
            return None;
        }
        work.metrics.dispatched(if batch.inputs.len() >= limit {
            Dispatch::Full
        } else if idle {
            Dispatch::Idle
        } else {
            Dispatch::Busy
        });
        Some(batch)
    }
}

impl Batch {
    /// Sends the next part through the model; whether there is another.
    fn advance<F: Fn(Vec<f32>) -> Result<Vec<f32>>>(&mut self, work: &Work<F>) -> Result<bool> {
        let limit = work.max_batch * work.width;
        let left = self.inputs.len() - self.done;
        let part = if self.done == 0 && left <= limit {
            self.done = left;
            std::mem::take(&mut self.inputs)
        } else {
            let part = self.inputs[self.done..][..limit.min(left)].to_vec();
            self.done += part.len();
            part
        };
        work.metrics.batch(part.len() / work.width);
        let answers = (work.forward)(part)?;
        if self.answers.is_empty() {
            self.answers = answers;
        } else {
            self.answers.extend_from_slice(&answers);
        }
        Ok(self.done < self.inputs.len())
    }

    /// Gives each job its share of the answers. A client that has gone meanwhile is no fault.
    fn reply(self, outcome: Result<bool>, width: usize) {
        if let Err(error) = outcome {
            for job in self.jobs {
                let _ = job.reply.send(Err(BatchError::Model(format!("{error:#}"))));
            }
            return;
        }
        let per_row = self.answers.len() / (self.done / width).max(1);
        let mut rest = &self.answers[..];
        for job in self.jobs {
            let (own, others) = rest.split_at(job.rows * per_row);
            rest = others;
            let _ = job.reply.send(Ok(own.to_vec()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::places::MOST_GONE;
    use super::*;
    use std::sync::mpsc as gate;
    use std::thread;
    use std::time::Duration;

    /// A model of width 2 that answers the sum of each row, tells the size of each batch, and works only when let.
    struct Rig {
        batcher: Batcher,
        places: Arc<Places>,
        sizes: gate::Receiver<usize>,
        go: gate::Sender<()>,
    }

    fn work<F: Fn(Vec<f32>) -> Result<Vec<f32>>>(width: usize, max_batch: usize, forward: F) -> Work<F> {
        Work::new(width, max_batch, &Arc::new(Metrics::new(1)), forward)
    }

    fn rig(capacity: usize, max_batch: usize) -> Rig {
        let places = Places::new(capacity);
        let (batcher, queue) = queue(&places);
        let (tell, sizes) = gate::channel();
        let (go, may_go) = gate::channel();
        thread::spawn(move || {
            queue.work_apart(&work(2, max_batch, |inputs: Vec<f32>| {
                tell.send(inputs.len() / 2).expect("a listener");
                may_go.recv().expect("a go");
                Ok(sums(&inputs))
            }));
        });
        Rig {
            batcher,
            places,
            sizes,
            go,
        }
    }

    fn sums(inputs: &[f32]) -> Vec<f32> {
        inputs.chunks(2).map(|row| row[0] + row[1]).collect()
    }

    fn spawn(batcher: &Batcher, inputs: Vec<f32>) -> tokio::task::JoinHandle<Result<Vec<f32>, BatchError>> {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.answer(inputs, None).await })
    }

    async fn until(condition: impl Fn() -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while !condition() {
                yield_now().await;
            }
        });
        waited.await.expect("the condition comes true");
    }

    #[tokio::test]
    async fn what_comes_while_the_model_is_busy_is_one_batch() {
        let rig = rig(8, 64);
        let first = spawn(&rig.batcher, vec![1.0, 2.0]);
        until(|| rig.sizes.try_recv() == Ok(1)).await;
        let second = spawn(&rig.batcher, vec![3.0, 4.0]);
        let third = spawn(&rig.batcher, vec![5.0, 6.0, 7.0, 8.0]);
        until(|| rig.places.taken() == 2).await;
        rig.go.send(()).expect("go");
        rig.go.send(()).expect("go");
        assert_eq!(first.await.expect("joined"), Ok(vec![3.0]));
        assert_eq!(second.await.expect("joined"), Ok(vec![7.0]));
        assert_eq!(third.await.expect("joined"), Ok(vec![11.0, 15.0]));
        assert_eq!(rig.sizes.recv(), Ok(3));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_client_that_has_gone_is_skipped() {
        let rig = rig(1, 64);
        let first = spawn(&rig.batcher, vec![1.0, 2.0]);
        until(|| rig.sizes.try_recv() == Ok(1)).await;
        let second = spawn(&rig.batcher, vec![0.0, 0.0]);
        until(|| rig.places.taken() == 1).await;
        assert_eq!(rig.batcher.has_place(), Err(BatchError::Full(1)));
        assert_eq!(rig.batcher.answer(vec![5.0, 6.0], None).await, Err(BatchError::Full(1)));
        second.abort();
        assert!(second.await.expect_err("gone").is_cancelled());
        assert_eq!(rig.places.taken(), 0, "its place is another's at once");
        rig.go.send(()).expect("go");
        first.await.expect("joined").expect("answered");
        rig.go.send(()).expect("go");
        assert_eq!(
            rig.batcher.answer(vec![5.0, 6.0, 1.0, 1.0], None).await,
            Ok(vec![11.0, 2.0])
        );
        assert_eq!(rig.sizes.recv(), Ok(2), "the abandoned row was not computed");
    }

    #[tokio::test]
    async fn what_comes_too_late_is_not_computed() {
        let rig = rig(8, 64);
        let first = spawn(&rig.batcher, vec![1.0, 2.0]);
        until(|| rig.sizes.try_recv() == Ok(1)).await;
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(
            rig.batcher.answer(vec![3.0, 4.0], Some(soon)).await,
            Err(BatchError::Late)
        );
        assert_eq!(rig.places.taken(), 0, "its place is another's at once");
        rig.go.send(()).expect("go");
        assert_eq!(first.await.expect("joined"), Ok(vec![3.0]));
        rig.go.send(()).expect("go");
        let far = Instant::now() + Duration::from_mins(1);
        assert_eq!(rig.batcher.answer(vec![5.0, 6.0], Some(far)).await, Ok(vec![11.0]));
        assert_eq!(rig.sizes.try_iter().collect::<Vec<_>>(), [1]);
    }

    #[tokio::test]
    async fn requests_that_nobody_waits_for_do_not_pile_up() {
        let rig = rig(2, 64);
        let first = spawn(&rig.batcher, vec![1.0, 2.0]);
        until(|| rig.sizes.try_recv() == Ok(1)).await;
        let mut gone = 0;
        while gone < 100 {
            let soon = Some(Instant::now());
            match rig.batcher.answer(vec![3.0, 4.0], soon).await {
                Err(BatchError::Late) => gone += 1,
                other => {
                    assert_eq!(other, Err(BatchError::Full(2)));
                    break;
                }
            }
        }
        assert_eq!(gone, 2 * MOST_GONE);
        rig.go.send(()).expect("go");
        assert_eq!(first.await.expect("joined"), Ok(vec![3.0]));
        until(|| rig.batcher.has_place().is_ok()).await;
        rig.go.send(()).expect("go");
        assert_eq!(rig.batcher.answer(vec![5.0, 6.0], None).await, Ok(vec![11.0]));
    }

    #[tokio::test]
    async fn a_large_request_goes_through_in_parts() {
        let rig = rig(1, 2);
        for _ in 0..3 {
            rig.go.send(()).expect("go");
        }
        let inputs = (0..10).map(|value| value as f32).collect();
        assert_eq!(
            rig.batcher.answer(inputs, None).await,
            Ok(vec![1.0, 5.0, 9.0, 13.0, 17.0])
        );
        assert_eq!(rig.sizes.try_iter().collect::<Vec<_>>(), [2, 2, 1]);
    }

    #[tokio::test]
    async fn on_an_event_loop_all_that_is_ready_is_one_batch() {
        let places = Places::new(8);
        let (batcher, queue) = queue(&places);
        let (tell, sizes) = gate::channel();
        tokio::spawn(queue.work_here(work(2, 3, move |inputs: Vec<f32>| {
            tell.send(inputs.len() / 2).expect("a listener");
            Ok(sums(&inputs))
        })));
        let jobs: Vec<_> = (0..5).map(|row| spawn(&batcher, vec![row as f32, 1.0])).collect();
        for (row, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.expect("joined"), Ok(vec![row as f32 + 1.0]));
        }
        assert_eq!(sizes.try_iter().collect::<Vec<_>>(), [3, 2]);
    }

    #[tokio::test]
    async fn a_model_that_fails_answers_and_one_that_has_ended_is_told() {
        let (batcher, queue) = queue(&Places::new(1));
        let worker = thread::spawn(move || {
            queue.work_apart(&work(1, 1, |inputs: Vec<f32>| {
                assert!(inputs[0] < 2.0, "a fault in the model");
                Err(anyhow::anyhow!("no device"))
            }));
        });
        assert!(batcher.is_alive());
        assert_eq!(
            batcher.answer(vec![1.0], None).await,
            Err(BatchError::Model("no device".into()))
        );
        assert_eq!(batcher.answer_anyway(vec![2.0]).await, Err(BatchError::Stopped));
        assert!(worker.join().is_err());
        assert_eq!(batcher.answer(vec![1.0], None).await, Err(BatchError::Stopped));
        assert!(!batcher.is_alive());
    }
}
