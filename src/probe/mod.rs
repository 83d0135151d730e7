//! A probe: predictions sent to a service at a steady pace, and what became of each, for the proof that a change of the
//! service lost none of them.
//!
//! The pace is open: a request is sent when it is due, whatever became of those before it, and its time runs from when
//! it was due. Half of the requests keep their connection and half take one of their own, because a replica that goes
//! can fail either. Nothing is tried again: what a client would hide by a second try is what is looked for. What fails before
//! the first answer is not counted.
//!
//! The inputs are the golden ones of a bundle. Where the same version answers, the answer must be the golden one;
//! another version may answer otherwise. It holds no model, and knows neither projects nor clusters.

mod client;
mod order;
mod tally;

pub use order::Order;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout_at};

use crate::bundle::Bundle;
use crate::problem::Problem;
use client::{Answer, Connection};
use tally::Tally;

/// How long a request may take; it has failed after that.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the name of the service may take to be known: a pod's network is a little younger than the pod.
const NAMING: Duration = Duration::from_secs(10);
/// Connections that are kept while nobody uses them.
const KEPT: usize = 4;
/// Golden inputs that take turns.
const INPUTS: usize = 16;
/// Between two lines.
const LINE: Duration = Duration::from_secs(1);
/// The header of a request that is nobody's: the server counts it neither as a prediction nor as drift.
pub const HEADER: &str = "x-emberline-probe";

/// Sends requests as `order` says, until its time is over or SIGTERM. `say` gets a line of JSON with the first answer,
/// every second, and at the end, which alone has `"final": true`.
///
/// # Errors
///
/// When the bundle cannot be read, or the service's name leads nowhere. Requests that fail are counted instead.
pub fn run(order: &Order, say: &dyn Fn(&str)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the probe")?;
    runtime.block_on(send(order, say))
}

async fn send(order: &Order, say: &dyn Fn(&str)) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // In a container it is process 1, which a signal does not end unless it is watched for.
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
    let service = Arc::new(Service {
        questions: Question::of_bundle(order)?,
        address: find(order).await?,
        kept: Mutex::default(),
    });
    let (tell, mut outcomes) = mpsc::unbounded_channel();
    let start = Instant::now();
    let end = start + order.duration;
    let mut next = 0;
    let mut count = Count::default();
    let mut lines = interval_at(start + LINE, LINE);
    lines.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = start + Duration::from_secs_f64(next as f64 / order.rate);
        tokio::select! {
            () = sleep_until(due), if due < end => {
                let (service, tell, number) = (Arc::clone(&service), tell.clone(), next);
                next += 1;
                count.tally.sent += 1;
                tokio::spawn(async move {
                    let outcome = service.ask(number, due + PATIENCE).await;
                    // Whoever asked has gone when nobody listens.
                    let _ = tell.send((number, outcome, due.elapsed()));
                });
            }
            Some((number, outcome, took)) = outcomes.recv() => {
                if count.add(number, next, outcome, took) {
                    say(&count.tally.line(start.elapsed(), false));
                }
            }
            _ = lines.tick() => say(&count.tally.line(start.elapsed(), false)),
            () = sleep_until(end) => break,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    // Each request ends within its time, one way or the other.
    drop(tell);
    while let Some((number, outcome, took)) = outcomes.recv().await {
        count.add(number, next, outcome, took);
    }
    say(&count.tally.line(start.elapsed(), true));
    Ok(())
}

/// What is counted: all but what failed of those that were sent before the first answer. A service that was only just made is
/// known on its node a moment later, and whoever waits for the first answer has changed nothing before it.
#[derive(Default)]
struct Count {
    tally: Tally,
    /// The first request that was sent after the first answer.
    from: Option<u64>,
}

impl Count {
    /// Counts what became of a request; `next` is the number of the one that is sent next. Gives whether it was the first
    /// answer.
    fn add(&mut self, number: u64, next: u64, outcome: Result<String, String>, took: Duration) -> bool {
        let is_first = self.from.is_none() && outcome.is_ok();
        if is_first {
            self.from = Some(next);
            self.tally.forget_failures();
        }
        if outcome.is_err() && self.from.is_some_and(|from| number < from) {
            self.tally.sent -= 1;
        } else {
            self.tally.count(outcome, took);
        }
        is_first
    }
}

/// The address of the service. It is looked up once: what a rollout changes is behind it.
async fn find(order: &Order) -> Result<SocketAddr> {
    let host = order.host.trim_start_matches('[').trim_end_matches(']');
    let end = Instant::now() + NAMING;
    loop {
        let found = timeout_at(end, tokio::net::lookup_host((host, order.port))).await;
        let reason = match found {
            Ok(Ok(mut addresses)) => match addresses.next() {
                Some(address) => return Ok(address),
                None => "it has no address".to_owned(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => "nobody answers".to_owned(),
        };
        if Instant::now() + LINE > end {
            return Err(Problem::new(format!("cannot find host `{host}`: {reason}")).into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A golden input as a request, and its answer.
struct Question {
    /// Over a connection that is kept, and over one of its own.
    requests: [Vec<u8>; 2],
    version: Arc<str>,
    classes: Arc<[String]>,
    probabilities: Vec<f32>,
    tolerance: f32,
}

/// What of an answer of `/predict` is looked at.
#[derive(Deserialize)]
struct Told {
    version: String,
    predictions: Vec<Value>,
}

impl Question {
    fn of_bundle(order: &Order) -> Result<Vec<Self>> {
        let bundle = Bundle::open(&order.bundle)?;
        let golden = bundle.golden()?;
        if golden.cases.is_empty() {
            let path = order.bundle.display();
            return Err(Problem::new(format!("bundle `{path}` has no golden case to ask for")).into());
        }
        let version: Arc<str> = bundle.version().into();
        let classes: Arc<[String]> = bundle.manifest().classes.clone().into();
        let questions = golden.cases.into_iter().take(INPUTS).map(|case| {
            let body = json!([case.told(&bundle.manifest().inputs)]).to_string();
            Self {
                requests: ["keep-alive", "close"].map(|connection| order.request(connection, &body)),
                version: Arc::clone(&version),
                classes: Arc::clone(&classes),
                probabilities: case.probabilities,
                tolerance: golden.tolerance,
            }
        });
        Ok(questions.collect())
    }

    /// The version that answered, or why its answer is none.
    fn check(&self, answer: &Answer) -> Result<String, String> {
        if answer.status != 200 {
            return Err(format!("status {}", answer.status));
        }
        let told: Told = serde_json::from_slice(&answer.body).map_err(|_| "no prediction".to_owned())?;
        let [prediction] = &told.predictions[..] else {
            return Err("no prediction".to_owned());
        };
        if *told.version == *self.version {
            let close = |(class, expected): (&String, &f32)| {
                let got = prediction["probabilities"][class].as_f64();
                got.is_some_and(|got| (got as f32 - expected).abs() <= self.tolerance)
            };
            if !self.classes.iter().zip(&self.probabilities).all(close) {
                return Err("not the golden answer".to_owned());
            }
        }
        Ok(told.version)
    }
}

/// The service that is asked, and the connections to it that are kept.
struct Service {
    questions: Vec<Question>,
    address: SocketAddr,
    kept: Mutex<VecDeque<Connection>>,
}

impl Service {
    /// Asks one question: the version that answered, or why it failed.
    async fn ask(&self, number: u64, deadline: Instant) -> Result<String, String> {
        let keeps = number.is_multiple_of(2);
        // Both kinds ask all questions.
        let question = &self.questions[(number / 2) as usize % self.questions.len()];
        let exchange = async {
            let idle = if keeps { self.idle() } else { None };
            let mut connection = match idle {
                Some(connection) => connection,
                None => Connection::open(self.address).await?,
            };
            let answer = connection.exchange(&question.requests[usize::from(!keeps)]).await?;
            if keeps && !answer.closes {
                self.keep(connection);
            }
            Ok(answer)
        };
        match timeout_at(deadline, exchange).await {
            Ok(Ok(answer)) => question.check(&answer),
            Ok(Err(error)) => Err(client::class(&error)),
            Err(_) => Err("timeout".to_owned()),
        }
    }

    /// The connection that has lain idle for longest, so that each is in use; one that the server has closed meanwhile is
    /// none, as for every client (RFC 9112, 9.3.1).
    fn idle(&self) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| kept.pop_front()).find(Connection::is_open)
    }

    fn keep(&self, connection: Connection) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push_back(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_before_the_first_answer_is_not_counted() {
        let mut count = Count::default();
        let (answer, refusal) = (|| Ok("v1".to_owned()), || Err("connection refused".to_owned()));
        let read = |count: &Count| {
            let line = count.tally.line(Duration::ZERO, false);
            serde_json::from_str::<Value>(&line).expect("JSON")
        };
        count.tally.sent = 4;
        assert!(!count.add(0, 4, refusal(), PATIENCE));
        assert_eq!((&read(&count)["sent"], &read(&count)["failed"]), (&json!(4), &json!(1)));
        assert!(count.add(2, 4, answer(), PATIENCE));
        // One that was sent before and fails only now, and one that is answered after all.
        assert!(!count.add(1, 4, refusal(), PATIENCE));
        assert!(!count.add(3, 4, answer(), PATIENCE));
        count.tally.sent += 1;
        assert!(!count.add(4, 5, refusal(), PATIENCE));
        let line = read(&count);
        assert_eq!((&line["sent"], &line["answered"]), (&json!(3), &json!(2)));
        assert_eq!(line["reasons"], json!({ "connection refused": 1 }));
    }
}
