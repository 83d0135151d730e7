//! When to go, and how: without losing a request.
//!
//! Told to go (SIGTERM, SIGINT, or a supervisor that is no more), a server
//!
//! 1. says so on its readiness endpoints, and, when `--drain` asks for it, goes on accepting for that long, because
//!    load balancers look away only after they have seen it; one that is slow to is waited for a little longer, for
//!    as long as it still sends connections;
//! 2. stops accepting, and answers the connections that are open, each answer with `Connection: close`;
//! 3. leaves idle connections open for `--idle-grace`, because a request may be on its way on any of them, then closes
//!    them;
//! 4. waits up to `--grace` for what is in flight.
//!
//! SIGINT meanwhile ends the waiting: that is a person at a terminal. A second SIGTERM does not, nor does a supervisor
//! that goes after it has sent one.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::doors::Doors;
use super::event_loop::Loops;
use super::service::{Phase, Service};
use super::settings::Settings;
use super::shortage::Shortage;

/// A load balancer that has sent no connection for so long has looked away.
const QUIET: Duration = Duration::from_secs(1);
/// How much longer than `--drain` it is waited for: one that never looks away ends nothing.
const LONGER: Duration = Duration::from_secs(10);

/// What tells a server to go.
#[derive(Debug)]
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
    supervisor: Option<JoinHandle<()>>,
}

impl Stop {
    /// Watches for signals. Done first of all: in a container the server is process 1, which SIGTERM does not end
    /// unless it is watched for.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn watch() -> Result<Self> {
        let watch = |kind| signal(kind).context("cannot watch for signals");
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            supervisor: None,
        })
    }

    /// Watches a supervisor as well, whose control channel is served by `task`.
    pub fn watch_supervisor(&mut self, task: JoinHandle<()>) {
        self.supervisor = Some(task);
    }

    /// Waits for the first reason to go, and tells it.
    pub async fn told(&mut self) -> &'static str {
        let supervisor = async {
            match &mut self.supervisor {
                // The task ends with the channel.
                Some(task) => drop(task.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = supervisor => "the supervisor has gone",
        }
    }
}

/// Finishes what is in flight; gives the connections that were open still when the time was over.
pub async fn drain(
    doors: Doors,
    loops: &Loops,
    service: &Service,
    settings: &Settings,
    mut stop: Stop,
    log: &dyn Fn(&str),
) -> usize {
    tokio::select! {
        () = finish(doors, loops, service, settings, log) => {}
        _ = stop.interrupt.recv() => {}
    }
    loops.count()
}

async fn finish(doors: Doors, loops: &Loops, service: &Service, settings: &Settings, log: &dyn Fn(&str)) {
    if !settings.drain.is_zero() {
        service.enter(Phase::Draining);
        let mut end = Instant::now() + settings.drain;
        let latest = end + LONGER;
        let mut shortage = Shortage::default();
        loop {
            tokio::select! {
                accepted = doors.accept() => match accepted {
                    Ok(stream) => {
                        loops.serve(stream);
                        end = end.max(Instant::now() + QUIET).min(latest);
                    }
                    Err(error) => shortage.cope(&error, loops, log).await,
                },
                () = sleep_until(end) => break,
            }
        }
    }
    // First the sockets, then the phase: a client that is told to close its connection opens another one at once, and is
    // better refused by the kernel than let in by a socket that goes away.
    for stream in doors.close() {
        loops.serve(stream);
    }
    service.enter(Phase::Draining);
    let end = Instant::now() + settings.grace;
    tokio::select! {
        () = loops.closed() => return,
        () = sleep(settings.idle_grace.min(settings.grace)) => {}
    }
    loops.close();
    tokio::select! {
        () = loops.closed() => {}
        () = sleep_until(end) => {}
    }
}
