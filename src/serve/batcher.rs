//! The queue in front of the model, and the thread behind it.
//!
//! One thread runs the model. While it is busy, requests gather in a bounded queue; when it is free it takes what is
//! there, up to a limit, and answers it in one go. Nothing waits for a batch to fill: a request that finds the thread
//! free is answered at once, and batches grow with the load alone. A full queue refuses, and a request whose client has
//! gone is not computed. It knows rows of numbers, not where they come from.

use anyhow::Result;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::metrics::Metrics;

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// As many requests wait as may.
    #[error("the server is busy: {0} requests wait for the model already")]
    Full(usize),
    /// The model's thread has ended, which it does only with the process or by a fault.
    #[error("the model has stopped")]
    Stopped,
    /// The model's device failed.
    #[error("{0}")]
    Model(String),
}

/// The way to the model's thread.
#[derive(Clone, Debug)]
pub struct Batcher {
    sender: mpsc::Sender<Job>,
}

/// The model thread's end of the queue.
#[derive(Debug)]
pub struct Queue {
    receiver: mpsc::Receiver<Job>,
}

#[derive(Debug)]
struct Job {
    inputs: Vec<f32>,
    reply: oneshot::Sender<Result<Vec<f32>, BatchError>>,
}

/// A queue that holds up to `capacity` requests.
pub fn queue(capacity: usize) -> (Batcher, Queue) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Batcher { sender }, Queue { receiver })
}

impl Batcher {
    /// The model's answers to encoded inputs, row by row; refuses at once when the queue is full.
    ///
    /// # Errors
    ///
    /// [`BatchError`].
    pub async fn answer(&self, inputs: Vec<f32>) -> Result<Vec<f32>, BatchError> {
        let (reply, answer) = oneshot::channel();
        self.sender
            .try_send(Job { inputs, reply })
            .map_err(|error| match error {
                TrySendError::Full(_) => BatchError::Full(self.sender.max_capacity()),
                TrySendError::Closed(_) => BatchError::Stopped,
            })?;
        answer.await.unwrap_or(Err(BatchError::Stopped))
    }

    /// As [`Batcher::answer`], and waits for a place in the queue.
    ///
    /// # Errors
    ///
    /// [`BatchError`], but never that the queue is full.
    pub async fn answer_when_free(&self, inputs: Vec<f32>) -> Result<Vec<f32>, BatchError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.sender.send(Job { inputs, reply }).await;
        sent.map_err(|_| BatchError::Stopped)?;
        answer.await.unwrap_or(Err(BatchError::Stopped))
    }

    /// Whether the model's thread is there.
    pub fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Requests that wait.
    pub fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// Requests that can wait.
    pub fn capacity(&self) -> usize {
        self.sender.max_capacity()
    }
}

impl Queue {
    /// Answers requests until the last [`Batcher`] is gone. `width` is the values of an encoded input, `max_batch` the
    /// inputs that go through `forward` at once.
    pub fn work(
        mut self,
        width: usize,
        max_batch: usize,
        metrics: &Metrics,
        forward: impl Fn(Vec<f32>) -> Result<Vec<f32>>,
    ) {
        while let Some(first) = self.receiver.blocking_recv() {
            let mut rows = 0;
            let mut jobs = Vec::new();
            let mut next = Some(first);
            while let Some(job) = next {
                if !job.reply.is_closed() {
                    rows += job.inputs.len() / width;
                    jobs.push(job);
                }
                next = if rows < max_batch {
                    self.receiver.try_recv().ok()
                } else {
                    None
                };
            }
            if !jobs.is_empty() {
                answer_all(jobs, width * max_batch, width, metrics, &forward);
            }
        }
    }
}

/// Sends the inputs of all `jobs` through the model, at most `chunk` values at once, and each its share of the answers.
fn answer_all(
    mut jobs: Vec<Job>,
    chunk: usize,
    width: usize,
    metrics: &Metrics,
    forward: impl Fn(Vec<f32>) -> Result<Vec<f32>>,
) {
    let rows_of = |job: &Job| job.inputs.len() / width;
    let rows: Vec<usize> = jobs.iter().map(rows_of).collect();
    let total: usize = rows.iter().sum();
    let mut inputs = std::mem::take(&mut jobs[0].inputs);
    for job in &mut jobs[1..] {
        inputs.append(&mut job.inputs);
    }
    let run = |inputs: Vec<f32>| {
        metrics.batch(inputs.len() / width);
        forward(inputs)
    };
    let outcome = if inputs.len() <= chunk {
        run(inputs)
    } else {
        inputs.chunks(chunk).try_fold(Vec::new(), |mut answers, inputs| {
            answers.append(&mut run(inputs.to_vec())?);
            Ok(answers)
        })
    };
    match outcome {
        Ok(answers) => {
            let per_row = answers.len() / total.max(1);
            let mut rest = &answers[..];
            for (job, rows) in jobs.into_iter().zip(rows) {
                let (own, others) = rest.split_at(rows * per_row);
                rest = others;
                // A client that has gone meanwhile is no fault.
                let _ = job.reply.send(Ok(own.to_vec()));
            }
        }
        Err(error) => {
            for job in jobs {
                let _ = job.reply.send(Err(BatchError::Model(format!("{error:#}"))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc as gate;
    use std::thread;
    use std::time::Duration;

    /// A model of width 2 that answers the sum of each row, tells the size of each batch, and works only when let.
    struct Rig {
        batcher: Batcher,
        sizes: gate::Receiver<usize>,
        go: gate::Sender<()>,
    }

    fn rig(capacity: usize, max_batch: usize) -> Rig {
        let (batcher, queue) = queue(capacity);
        let (tell, sizes) = gate::channel();
        let (go, may_go) = gate::channel();
        thread::spawn(move || {
            queue.work(2, max_batch, &Metrics::new(1), |inputs| {
                tell.send(inputs.len() / 2).expect("a listener");
                may_go.recv().expect("a go");
                Ok(inputs.chunks(2).map(|row| row[0] + row[1]).collect())
            });
        });
        Rig { batcher, sizes, go }
    }

    fn spawn(batcher: &Batcher, inputs: Vec<f32>) -> tokio::task::JoinHandle<Result<Vec<f32>, BatchError>> {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.answer(inputs).await })
    }

    async fn until(condition: impl Fn() -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while !condition() {
                tokio::task::yield_now().await;
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
        until(|| rig.batcher.depth() == 2).await;
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
        until(|| rig.batcher.depth() == 1).await;
        assert_eq!(rig.batcher.answer(vec![5.0, 6.0]).await, Err(BatchError::Full(1)));
        second.abort();
        assert!(second.await.expect_err("gone").is_cancelled());
        rig.go.send(()).expect("go");
        first.await.expect("joined").expect("answered");
        until(|| rig.batcher.depth() == 0).await;
        rig.go.send(()).expect("go");
        assert_eq!(rig.batcher.answer(vec![5.0, 6.0, 1.0, 1.0]).await, Ok(vec![11.0, 2.0]));
        assert_eq!(rig.sizes.recv(), Ok(2), "the abandoned row was not computed");
    }

    #[tokio::test]
    async fn a_large_request_goes_through_in_parts() {
        let rig = rig(1, 2);
        for _ in 0..3 {
            rig.go.send(()).expect("go");
        }
        let inputs = (0..10).map(|value| value as f32).collect();
        assert_eq!(rig.batcher.answer(inputs).await, Ok(vec![1.0, 5.0, 9.0, 13.0, 17.0]));
        assert_eq!(rig.sizes.try_iter().collect::<Vec<_>>(), [2, 2, 1]);
    }

    #[tokio::test]
    async fn a_model_that_fails_answers_and_one_that_has_ended_is_told() {
        let (batcher, queue) = queue(1);
        let worker = thread::spawn(move || {
            queue.work(1, 1, &Metrics::new(1), |inputs| {
                assert!(inputs[0] < 2.0, "a fault in the model");
                Err(anyhow::anyhow!("no device"))
            });
        });
        assert!(batcher.is_alive());
        assert_eq!(
            batcher.answer(vec![1.0]).await,
            Err(BatchError::Model("no device".into()))
        );
        assert_eq!(batcher.answer_when_free(vec![2.0]).await, Err(BatchError::Stopped));
        assert!(worker.join().is_err());
        assert_eq!(batcher.answer(vec![1.0]).await, Err(BatchError::Stopped));
        assert!(!batcher.is_alive());
    }
}
