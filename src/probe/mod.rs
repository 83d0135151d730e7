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
//!
//! [`load`] sends the same requests for another end: to learn how many a server on this machine carries.

mod client;
mod destination;
pub mod load;
mod order;
mod question;
mod service;
mod tally;

pub use order::Order;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use question::Question;
use service::Service;
use tally::Tally;

/// How long a request may take; it has failed after that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are kept while nobody uses them.
const KEPT: usize = 4;
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
    let questions = Question::of_bundle(&order.bundle, &order.destination)?;
    let service = Arc::new(Service::new(questions, order.destination.find().await?, KEPT));
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
                    // Both kinds of connections ask all questions.
                    let asked = service.ask(number / 2, number.is_multiple_of(2), due + PATIENCE);
                    let outcome = asked.await.version;
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
