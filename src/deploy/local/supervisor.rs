//! The supervisor: holds the listening sockets, starts and ends replicas as [`super::plan`] says, and tells what there is.
//!
//! It is one loop over one thread, beside a thread for each replica's channel. What it should do it reads from the spec,
//! so it needs no client to be there; when the spec is gone it drains its replicas and ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use super::listeners::{self, Listeners};
use super::log::Journal;
use super::plan::{Action, Rollout, Slot, plan};
use super::replica::{Message, Replica};
use super::state::{Spec, StateFolder, Status};
use crate::deploy::Trouble;
use crate::deploy::history::{Outcome, seconds_since_1970};

/// Between two looks at what there is, when nothing happens.
const TICK: Duration = Duration::from_millis(50);
/// Between two times that requests are counted and logs are cut.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// How long replicas of a supervisor that was killed may take to let go of the port.
const PORT_WAIT: Duration = Duration::from_secs(40);
/// Lines of a replica's log that are told when it fails.
const TOLD_LINES: usize = 20;
/// Logs of replicas that are gone which are kept.
const KEPT_LOGS: usize = 10;

/// Runs the supervisor of the deployment in `folder` until there is nothing left to supervise.
///
/// # Errors
///
/// When the state cannot be read at the start.
pub fn supervise(folder: &Path) -> Result<()> {
    // A session of its own, away from the terminal. It fails for the leader of a process group, which has one already.
    let _ = rustix::process::setsid();
    let state = StateFolder::new(folder);
    let Some(_held) = state.hold_supervisor()? else {
        return Ok(());
    };
    let end = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&end)).context("cannot watch for SIGTERM")?;
    }
    // A terminal that goes is none of its business.
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::default()).context("cannot ignore SIGHUP")?;
    let Some(spec) = state.spec()? else {
        return Ok(());
    };
    Supervisor::new(state, spec)?.run(&end);
    Ok(())
}

struct Supervisor {
    state: StateFolder,
    program: PathBuf,
    journal: Journal,
    rollout: Rollout,
    stamp: Option<(SystemTime, u64)>,
    listeners: Listeners,
    replicas: Vec<Replica>,
    next: u32,
    trouble: Option<Trouble>,
    told: Option<Status>,
    /// Not before then, because the disk did not take it.
    tell_at: Instant,
    counted: Instant,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

impl Supervisor {
    fn new(state: StateFolder, spec: Spec) -> Result<Self> {
        let mut journal = Journal::open(&state.supervisor_log());
        journal.line(&format!("supervisor {} of `{}` begins", std::process::id(), spec.name));
        journal.line(&wanted(&spec));
        // One that was killed may have left replicas behind, which end by themselves.
        let abandoned = state
            .status()
            .ok()
            .flatten()
            .is_some_and(|status| !status.instances.is_empty());
        let patience = if abandoned { PORT_WAIT } else { Duration::ZERO };
        let (sender, messages) = mpsc::channel();
        Ok(Self {
            program: std::env::current_exe().context("cannot tell which program this is")?,
            stamp: state.spec_stamp(),
            state,
            journal,
            rollout: Rollout::new(spec),
            listeners: Listeners::new(patience),
            replicas: Vec::new(),
            next: 1,
            trouble: None,
            told: None,
            tell_at: Instant::now(),
            counted: Instant::now(),
            sender,
            messages,
        })
    }

    fn run(mut self, end: &AtomicBool) {
        loop {
            self.listen_to_replicas();
            if end.load(Ordering::Relaxed) || !self.read_spec() {
                break;
            }
            self.reap();
            self.check();
            self.restart();
            self.act();
            let slots = self.slots();
            if self.rollout.observe(&slots) {
                self.journal.line("all replicas are ready");
                self.record(Outcome::Deployed, None);
            }
            self.tell();
            if self.rollout.target().is_none() && self.replicas.is_empty() {
                self.journal.line("nothing is left to supervise");
                return;
            }
        }
        self.drain();
    }

    /// Waits for a message or for the next tick, and takes all messages that there are.
    fn listen_to_replicas(&mut self) {
        let first = self.messages.recv_timeout(TICK).ok();
        self.hear(first);
    }

    fn hear(&mut self, first: Option<Message>) {
        let messages: Vec<Message> = first.into_iter().chain(self.messages.try_iter()).collect();
        for Message { id, line } in messages {
            let Some(line) = line else { continue };
            if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.id == id)
                && let Some(news) = replica.hear(&line)
            {
                self.journal.line(&format!("replica {id} {news}"));
            }
        }
    }

    /// Looks whether what is wanted has changed. Says no when nothing is wanted any longer.
    fn read_spec(&mut self) -> bool {
        let Some(stamp) = self.state.spec_stamp() else {
            self.journal.line("nothing is wanted any longer");
            return false;
        };
        if self.stamp == Some(stamp) {
            return true;
        }
        match self.state.spec() {
            Ok(Some(spec)) => {
                self.journal.line(&wanted(&spec));
                self.stamp = Some(stamp);
                self.trouble = None;
                self.rollout.change(spec);
            }
            // It has gone between the two looks: the next one finds out.
            Ok(None) => {}
            Err(error) => {
                self.stamp = Some(stamp);
                self.journal.line(&format!("{error:#}"));
            }
        }
        true
    }

    /// Takes leave of the processes that have ended.
    fn reap(&mut self) {
        let ended: Vec<_> = self
            .replicas
            .iter_mut()
            .enumerate()
            .filter_map(|(index, replica)| Some((index, replica.reap()?)))
            .collect();
        if ended.is_empty() {
            return;
        }
        // Their last words are in the channel by now.
        self.hear(None);
        for (index, status) in ended {
            let replica = &self.replicas[index];
            if replica.is_stopping() {
                self.journal.line(&format!("replica {} has ended", replica.id));
            } else {
                let cause = format!("replica {} {}", replica.id, replica.cause(status));
                self.died(index, cause, None);
            }
        }
        self.forget();
    }

    /// A replica has died, or could not be started.
    fn died(&mut self, index: usize, cause: String, hint: Option<String>) {
        self.journal.line(&cause);
        let replica = &mut self.replicas[index];
        let revision = replica.release.revision;
        let failed = self.rollout.replica_failed(revision, &cause);
        // What failed a release is told until the next one.
        if failed || self.rollout.failure().is_none() {
            self.trouble = Some(Trouble {
                revision,
                at: seconds_since_1970(),
                reason: cause.clone(),
                hint,
                log: replica.last_lines(TOLD_LINES),
            });
        }
        if self.rollout.restarts(revision) {
            replica.wait();
        } else {
            replica.stop();
        }
        if failed {
            let outcome = match self.rollout.target() {
                Some(former) => {
                    self.journal
                        .line(&format!("going back to revision {}", former.revision));
                    Outcome::RolledBack
                }
                None => Outcome::Failed,
            };
            self.record(outcome, Some(cause));
        }
    }

    /// Removes the replicas that are gone, and the logs and sockets that nobody needs any longer.
    fn forget(&mut self) {
        let before = self.replicas.len();
        self.replicas.retain(|replica| !replica.is_gone());
        if self.replicas.len() == before {
            return;
        }
        let logged = self.state.logged_replicas();
        let gone: Vec<u32> = logged
            .into_iter()
            .filter(|id| self.replicas.iter().all(|replica| replica.id != *id))
            .collect();
        for id in &gone[..gone.len().saturating_sub(KEPT_LOGS)] {
            let path = self.state.replica_log(*id);
            let _ = std::fs::remove_file(path.with_extension("log.1"));
            let _ = std::fs::remove_file(path);
        }
        let replicas = self.replicas.iter().map(|replica| &*replica.release);
        let releases: Vec<_> = replicas.chain(self.rollout.target()).collect();
        self.listeners.keep(&releases);
    }

    fn check(&mut self) {
        let count = self.counted.elapsed() > COUNT_EVERY;
        if count {
            self.counted = Instant::now();
        }
        for replica in &mut self.replicas {
            if let Some(news) = replica.check() {
                self.journal.line(&format!("replica {} {news}", replica.id));
            }
            if count {
                replica.count();
            }
        }
    }

    fn restart(&mut self) {
        let due: Vec<u32> = self
            .replicas
            .iter()
            .filter(|replica| replica.is_due())
            .map(|replica| replica.id)
            .collect();
        for id in due {
            self.start(id);
        }
    }

    /// Takes the steps that lead to what is wanted.
    fn act(&mut self) {
        let slots = self.slots();
        let Some(goal) = self.rollout.goal() else {
            self.stop_all();
            self.forget();
            return;
        };
        for action in plan(goal, &slots) {
            match action {
                Action::Start => {
                    let Some(release) = self.rollout.target().cloned() else {
                        return;
                    };
                    let id = self.next;
                    self.next += 1;
                    let log = self.state.replica_log(id);
                    self.replicas.push(Replica::new(id, Arc::new(release), log));
                    self.start(id);
                    if self.rollout.goal() != Some(goal) {
                        return;
                    }
                }
                Action::Stop(id) => {
                    self.journal.line(&format!("replica {id} is asked to end"));
                    for replica in self.replicas.iter_mut().filter(|replica| replica.id == id) {
                        replica.stop();
                    }
                }
            }
        }
        self.forget();
    }

    fn start(&mut self, id: u32) {
        let Some(index) = self.replicas.iter().position(|replica| replica.id == id) else {
            return;
        };
        let release = Arc::clone(&self.replicas[index].release);
        let listener = match self.listeners.socket(&release) {
            Ok(listener) => listener,
            Err(error) => {
                let (cause, hint) = listeners::explain(&release, &error);
                self.died(index, cause, hint);
                return;
            }
        };
        let replica = &mut self.replicas[index];
        match replica.start(&self.program, &listener, &self.sender) {
            Ok(()) => {
                let pid = replica.instance().pid.unwrap_or_default();
                self.journal.line(&format!(
                    "replica {id} of revision {} is process {pid}",
                    release.revision
                ));
            }
            Err(error) => {
                let cause = format!("cannot start `{}`: {error}", self.program.display());
                self.died(index, cause, None);
            }
        }
    }

    fn stop_all(&mut self) {
        for replica in self.replicas.iter_mut().filter(|replica| !replica.is_stopping()) {
            replica.stop();
        }
    }

    /// Ends all replicas after they have answered what they have accepted.
    fn drain(mut self) {
        self.stop_all();
        // With the last replica the port is closed.
        self.listeners.close();
        while !self.replicas.is_empty() {
            self.listen_to_replicas();
            self.check();
            self.reap();
            self.forget();
            self.tell();
        }
        self.journal.line("all replicas have ended");
    }

    fn slots(&self) -> Vec<Slot> {
        self.replicas.iter().map(Replica::slot).collect()
    }

    /// Writes what became of the wanted revision into its record.
    fn record(&mut self, outcome: Outcome, reason: Option<String>) {
        let revision = self.rollout.spec().release.revision;
        if let Err(error) = self.state.records().conclude(revision, outcome, reason) {
            self.journal.line(&format!("{error:#}"));
        }
    }

    /// Writes what there is, when that has changed.
    fn tell(&mut self) {
        let status = Status {
            supervisor: std::process::id(),
            generation: self.rollout.spec().generation,
            phase: self.rollout.phase(&self.slots()),
            release: self.rollout.target().cloned(),
            instances: self.replicas.iter().map(Replica::instance).collect(),
            trouble: self.trouble.clone(),
        };
        // A folder that was removed must not come back.
        if self.told.as_ref() == Some(&status) || Instant::now() < self.tell_at || !self.state.records().exists() {
            return;
        }
        match self.state.write_status(&status) {
            Ok(()) => self.told = Some(status),
            Err(error) => {
                self.tell_at = Instant::now() + COUNT_EVERY;
                self.journal.line(&format!("{error:#}"));
            }
        }
    }
}

fn wanted(spec: &Spec) -> String {
    let release = &spec.release;
    format!(
        "wanted: {} of revision {} (version {}) on {}:{}",
        release.replicas, release.revision, release.version, release.host, release.port
    )
}
