//! A probe: predictions sent to a service at a steady pace, and what became of each, for the proof that a change of the
//! service lost none of them.
//!
//! The pace is open: a request is sent when it is due, whatever became of those before it, and its time runs from when
//! it was due. Half of the requests keep their connection and half take one of their own, because a replica that goes
//! can fail either. Nothing is tried again: what a client would hide by a second try is what is looked for.
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
    let mut tally = Tally::default();
    let mut lines = interval_at(start + LINE, LINE);
    lines.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = start + Duration::from_secs_f64(tally.sent as f64 / order.rate);
        tokio::select! {
            () = sleep_until(due), if due < end => {
                let (service, tell, number) = (Arc::clone(&service), tell.clone(), tally.sent);
                tally.sent += 1;
                tokio::spawn(async move {
                    // Both kinds of connections ask all questions.
                    let asked = service.ask(number / 2, number.is_multiple_of(2), due + PATIENCE);
                    let outcome = asked.await.version;
                    // Whoever asked has gone when nobody listens.
                    let _ = tell.send((outcome, due.elapsed()));
                });
            }
            Some((outcome, took)) = outcomes.recv() => {
                tally.count(outcome, took);
                if tally.answered == 1 {
                    say(&tally.line(start.elapsed(), false));
                }
            }
            _ = lines.tick() => say(&tally.line(start.elapsed(), false)),
            () = sleep_until(end) => break,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    // Each request ends within its time, one way or the other.
    drop(tell);
    while let Some((outcome, took)) = outcomes.recv().await {
        tally.count(outcome, took);
    }
    say(&tally.line(start.elapsed(), true));
    Ok(())
}
