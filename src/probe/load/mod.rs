//! A load: golden inputs sent to a server on this machine at one rate after another, to find the highest at which it keeps
//! an objective.
//!
//! The pace is open, as the probe's: times run from when a request was due, whatever became of those before it. How late
//! requests were sent is the sender's own fault, and is told, so that nobody takes it for the server's. It is bounded in
//! time, in its rate and in requests that are on their way, and leaves no machine but this one: an address that is not of
//! the loopback is refused.

mod order;
mod pace;
mod search;

pub use order::Order;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::sleep;

use self::pace::Pace;
use self::search::Search;
use super::question::Question;
use super::service::Service;
use super::tally::Tally;
use crate::bundle::capacity::{Limit, Machine, Step};
use crate::problem::Problem;

/// Requests that may be on their way: a server that keeps more of them waiting has failed those that come then.
const MOST_IN_FLIGHT: u64 = 512;
/// How long a request may take; it has failed after that.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for an objective that is not much shorter: so many times as long.
const PATIENCES: u32 = 4;
/// How long the server may take until it is ready.
const READY: Duration = Duration::from_mins(2);
/// Between two questions after that.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the server is asked before anything counts.
const WARMING: Duration = Duration::from_millis(500);
/// Between two steps, in which the server ends what it has begun.
const REST: Duration = Duration::from_millis(100);

/// What a load tells, a line of JSON each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The server is ready, on this machine.
    Machine(Machine),
    /// What became of a rate.
    Step(Step),
    /// It is over, and this has kept it from higher rates.
    End(Limit),
}

/// Sends requests as `order` says, until the highest rate is known that keeps the objective, or there was `enough`
/// between two rates.
///
/// # Errors
///
/// When the bundle cannot be read, the address is another machine's, or the server does not get ready. Requests that fail
/// are counted instead.
pub fn run(order: &Order, enough: &dyn Fn() -> bool, tell: &mut dyn FnMut(&Told)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the load")?;
    runtime.block_on(measure(order, enough, tell))
}

async fn measure(order: &Order, enough: &dyn Fn() -> bool, tell: &mut dyn FnMut(&Told)) -> Result<()> {
    let questions = Question::of_bundle(&order.bundle, &order.destination)?;
    let address = order.destination.find().await?;
    if !address.ip().is_loopback() {
        return Err(Problem::new(format!(
            "`{}` is another machine, and a load goes to this one alone",
            order.destination.host
        ))
        .hint("run it beside the server, and name it as `http://127.0.0.1:PORT`")
        .into());
    }
    let load = Load {
        order,
        service: Arc::new(Service::new(questions, address, MOST_IN_FLIGHT as usize)),
    };
    load.wait_until_ready().await?;
    tell(&Told::Machine(machine()));
    load.step(order.from, WARMING).await;
    let mut search = Search::new(order.from, order.to);
    while let Some(rate) = search.next() {
        if enough() {
            return Ok(());
        }
        sleep(REST).await;
        let step = load.step(rate, order.each).await;
        search.take(step.verdict(&order.slo));
        tell(&Told::Step(step));
    }
    tell(&Told::End(search.limit()));
    Ok(())
}

/// A load on one server.
struct Load<'a> {
    order: &'a Order,
    service: Arc<Service>,
}

impl Load<'_> {
    async fn wait_until_ready(&self) -> Result<()> {
        let (end, question) = (Instant::now() + READY, self.order.destination.get("/readyz"));
        loop {
            let answer = self.service.fetch(&question, deadline(PATIENCE)).await;
            let reason = match answer {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => format!("it answers with status {}", answer.status),
                Err(error) => super::client::class(&error),
            };
            if Instant::now() > end {
                return Err(
                    Problem::new(format!("the server is not ready after {} s: {reason}", READY.as_secs())).into(),
                );
            }
            sleep(AGAIN).await;
        }
    }

    /// Sends requests at one rate.
    async fn step(&self, rate: f64, each: Duration) -> Step {
        let before = self.used().await;
        let pace = Pace {
            start: Instant::now(),
            rate,
            total: ((rate * each.as_secs_f64()).round() as u64).max(1),
        };
        let patience = PATIENCE.max(self.order.slo.within * PATIENCES);
        let mut numbers = pace.begin();
        let (tell, mut outcomes) = mpsc::unbounded_channel();
        let (mut tally, mut late) = (Tally::default(), Tally::default());
        let mut bytes = [0, 0];
        let mut in_flight = 0;
        while tally.answered + tally.failed < pace.total {
            tokio::select! {
                Some(number) = numbers.recv() => {
                    let due = pace.due(number);
                    late.count(Ok(String::new()), due.elapsed());
                    if in_flight == MOST_IN_FLIGHT {
                        tally.count(Err(format!("more than {MOST_IN_FLIGHT} had no answer")), Duration::ZERO);
                        continue;
                    }
                    in_flight += 1;
                    let (service, tell) = (Arc::clone(&self.service), tell.clone());
                    tokio::spawn(async move {
                        let outcome = service.ask(number, true, (due + patience).into()).await;
                        // Whoever asked has gone when nobody listens.
                        let _ = tell.send((outcome, due.elapsed()));
                    });
                }
                Some((outcome, took)) = outcomes.recv() => {
                    in_flight -= 1;
                    tally.count(outcome.version, took);
                    for (sum, more) in bytes.iter_mut().zip(outcome.bytes) {
                        *sum += more as u64;
                    }
                }
            }
        }
        let seconds = pace.start.elapsed().as_secs_f64();
        let after = self.used().await;
        Step {
            rate,
            seconds: (seconds * 1e3).round() / 1e3,
            sent: pace.total,
            answered: tally.answered,
            failed: tally.failed,
            p50_seconds: rounded(tally.quantile(0.5)),
            p90_seconds: rounded(tally.quantile(0.9)),
            p99_seconds: rounded(tally.quantile(0.99)),
            behind_seconds: rounded(late.quantile(0.99)).unwrap_or_default(),
            cpu_seconds: before
                .zip(after)
                .map(|(before, after)| Step::processor_seconds(before.0, after.0)),
            memory_bytes: after.map(|after| after.1),
            reasons: tally.reasons,
            sent_bytes: bytes[0],
            received_bytes: bytes[1],
        }
    }

    /// Processor time that the server has used, and memory that it holds; none when it does not tell.
    async fn used(&self) -> Option<(f64, u64)> {
        let question = self.order.destination.get("/metrics");
        let page = self.service.fetch(&question, deadline(PATIENCE)).await.ok()?;
        let page = String::from_utf8(page.body).ok()?;
        let value = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Some((
            value("process_cpu_seconds_total")?.parse().ok()?,
            value("process_resident_memory_bytes")?.parse().ok()?,
        ))
    }
}

fn deadline(after: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + after
}

/// To whole microseconds.
fn rounded(seconds: Option<f64>) -> Option<f64> {
    seconds.map(|seconds| (seconds * 1e6).round() / 1e6)
}

/// The machine that this runs on.
fn machine() -> Machine {
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = told.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    Machine {
        cpu: name.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    }
}
