//! One replica: a process that inherits the listening socket as its stdin and a control channel as its stdout.
//!
//! On the channel it says `ready`, or `failed REASON`; asked `ping`, it makes a prediction and says
//! `pong REQUESTS IN_FLIGHT`. When the channel closes from this side it drains and ends, so it never outlives its
//! supervisor. When to start and to end one is decided elsewhere.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::log;
use super::plan::{Backoff, Slot, State};
use super::state::Release;
use crate::deploy::history::seconds_since_1970;
use crate::deploy::{Instance, Stage};

/// Between two questions after a replica's health.
const PING_EVERY: Duration = Duration::from_secs(1);
/// A replica that leaves a question unanswered for so long is hung. The question waits in the queue with the requests, and
/// a replica that has much to do must not be killed for it.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// A replica that was asked to end and is still there is killed after so long.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// A line from a replica's channel, or its end.
#[derive(Debug)]
pub struct Message {
    /// Which replica.
    pub id: u32,
    /// The line; none when the channel has closed.
    pub line: Option<String>,
}

/// A replica, whether its process lives or waits to be started again.
#[derive(Debug)]
pub struct Replica {
    /// Its number.
    pub id: u32,
    /// What it serves.
    pub release: Arc<Release>,
    process: Option<Process>,
    state: State,
    /// Since it is in that state.
    since: Instant,
    /// When a waiting one is started again.
    restart_at: Instant,
    backoff: Backoff,
    restarts: u32,
    started_at: u64,
    log: PathBuf,
    log_start: u64,
    /// Why it is about to die, when that is known before it does.
    reason: Option<String>,
    killed: bool,
    requests: u64,
    /// The same as it is told.
    counted: u64,
}

#[derive(Debug)]
struct Process {
    child: Child,
    channel: UnixStream,
    reader: JoinHandle<()>,
    /// When the last question was put, and whether it is still open.
    asked: Instant,
    open: bool,
}

impl Replica {
    /// A replica without a process.
    pub fn new(id: u32, release: Arc<Release>, log: PathBuf) -> Self {
        let now = Instant::now();
        Self {
            id,
            release,
            process: None,
            state: State::Waiting,
            since: now,
            restart_at: now,
            backoff: Backoff::default(),
            restarts: 0,
            started_at: seconds_since_1970(),
            log,
            log_start: 0,
            reason: None,
            killed: false,
            requests: 0,
            counted: 0,
        }
    }

    /// Starts the process. What it says on its channel goes to `messages`.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn start(&mut self, program: &Path, listener: &TcpListener, messages: &Sender<Message>) -> io::Result<()> {
        log::cut(&self.log);
        let log = log::append(&self.log)?;
        self.log_start = log::length(&self.log);
        let (channel, theirs) = UnixStream::pair()?;
        // A replica that does not read must not hold up the supervisor.
        channel.set_write_timeout(Some(Duration::from_millis(100)))?;
        let child = self.spawn(program, listener, theirs, log)?;
        let reader = read_lines(self.id, channel.try_clone()?, messages.clone());
        let now = Instant::now();
        self.process = Some(Process {
            child,
            channel,
            reader,
            asked: now,
            open: false,
        });
        self.started_at = seconds_since_1970();
        self.reason = None;
        self.killed = false;
        self.requests = 0;
        self.counted = 0;
        self.enter(State::Starting);
        Ok(())
    }

    fn spawn(&self, program: &Path, listener: &TcpListener, channel: UnixStream, log: File) -> io::Result<Child> {
        Command::new(program)
            .args(["serve", "--inherit", "--bundle"])
            .arg(&self.release.bundle)
            .stdin(OwnedFd::from(listener.try_clone()?))
            .stdout(OwnedFd::from(channel))
            .stderr(log)
            .current_dir("/")
            .spawn()
    }

    /// Takes a line from the channel. Says what it means when it is news.
    pub fn hear(&mut self, line: &str) -> Option<String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ready" if self.state == State::Starting => {
                let took = self.since.elapsed();
                if took > self.start_timeout() {
                    return None;
                }
                self.enter(State::Ready);
                Some(format!("is ready after {} ms", took.as_millis()))
            }
            "pong" => {
                if let Some(process) = &mut self.process {
                    process.open = false;
                }
                if let Some(requests) = rest.split(' ').next().and_then(|count| count.parse().ok()) {
                    self.requests = requests;
                }
                None
            }
            "failed" => {
                self.reason = Some(format!("failed: {rest}"));
                Some(format!("failed: {rest}"))
            }
            _ => None,
        }
    }

    /// Puts the question after its health when it is time, and kills a replica that takes too long: to start, to answer
    /// or to end. Says why when it kills.
    pub fn check(&mut self) -> Option<String> {
        let state = self.state;
        let since = self.since;
        let start_timeout = self.start_timeout();
        let process = self.process.as_mut()?;
        let reason = match state {
            // One that says that it is ill is worse than none.
            State::Ready if self.reason.is_some() => self.reason.clone().unwrap_or_default(),
            State::Starting if since.elapsed() > start_timeout => {
                format!("was not ready within {} s", start_timeout.as_secs_f64())
            }
            State::Stopping if since.elapsed() > STOP_TIMEOUT => {
                format!("did not end within {} s", STOP_TIMEOUT.as_secs())
            }
            State::Ready if process.open && process.asked.elapsed() > PING_TIMEOUT => {
                format!("did not answer its health check for {} s", PING_TIMEOUT.as_secs())
            }
            State::Ready if !process.open && process.asked.elapsed() > PING_EVERY => {
                process.asked = Instant::now();
                // A channel that cannot be written leaves the question open, and so is found out.
                process.open = true;
                let _ = process.channel.write_all(b"ping\n");
                return None;
            }
            _ => return None,
        };
        if self.killed {
            return None;
        }
        self.killed = true;
        // It cannot be gone: it has not been waited for.
        let _ = process.child.kill();
        self.reason = Some(reason.clone());
        Some(format!("{reason}, and is killed"))
    }

    /// Asks the process to end. One that has none is only marked.
    pub fn stop(&mut self) {
        if let Some(process) = &self.process
            && let Some(pid) = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw)
        {
            // It cannot be gone: it has not been waited for.
            let _ = kill_process(pid, Signal::TERM);
        }
        self.enter(State::Stopping);
    }

    /// How the process ended, if it has; what it said before has then been sent, and nothing of it is left.
    pub fn reap(&mut self) -> Option<ExitStatus> {
        let process = self.process.as_mut()?;
        let status = process.child.try_wait().ok().flatten()?;
        if let Some(process) = self.process.take() {
            // The channel's other end is closed, so the reader ends.
            let _ = process.reader.join();
        }
        Some(status)
    }

    /// What made it die, once it has been reaped.
    pub fn cause(&self, status: ExitStatus) -> String {
        let ended = match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".into(),
        };
        match (&self.reason, self.state) {
            (Some(reason), _) => reason.clone(),
            (None, State::Starting) => format!("{ended} before it was ready"),
            (None, _) => ended,
        }
    }

    /// Waits for its next process, for as long as is told.
    pub fn wait(&mut self) -> Duration {
        let ready_for = match self.state {
            State::Ready => self.since.elapsed(),
            _ => Duration::ZERO,
        };
        let wait = self.backoff.after_death(ready_for);
        self.reason = None;
        self.restart_at = Instant::now() + wait;
        self.restarts += 1;
        self.enter(State::Waiting);
        wait
    }

    /// Whether it waits, and has waited long enough.
    pub fn is_due(&self) -> bool {
        self.state == State::Waiting && self.restart_at <= Instant::now()
    }

    /// Whether nothing of it is left.
    pub fn is_gone(&self) -> bool {
        self.state == State::Stopping && self.process.is_none()
    }

    /// Whether it was asked to end.
    pub fn is_stopping(&self) -> bool {
        self.state == State::Stopping
    }

    /// The last lines that this process has logged.
    pub fn last_lines(&self, lines: usize) -> Vec<String> {
        log::tail(&self.log, self.log_start, lines).0
    }

    /// Tells a new number of requests, and cuts the log when it has grown too large: what is done each few seconds only.
    pub fn count(&mut self) {
        self.counted = self.requests;
        log::cut(&self.log);
    }

    /// As planning sees it.
    pub fn slot(&self) -> Slot {
        Slot {
            id: self.id,
            revision: self.release.revision,
            state: self.state,
        }
    }

    /// As it is told.
    pub fn instance(&self) -> Instance {
        Instance {
            replica: self.id,
            name: None,
            pid: self.process.as_ref().map(|process| process.child.id()),
            version: self.release.version.clone(),
            revision: self.release.revision,
            ready: self.state == State::Ready,
            stage: match self.state {
                State::Waiting => Stage::Waiting,
                State::Starting => Stage::GoldenCheck,
                State::Ready => Stage::Ready,
                State::Stopping => Stage::Ending,
            },
            restarts: self.restarts,
            since: self.started_at,
            requests: Some(self.counted),
            waiting: None,
        }
    }

    fn start_timeout(&self) -> Duration {
        Duration::from_millis(self.release.start_timeout_ms)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.since = Instant::now();
    }
}

fn read_lines(id: u32, channel: UnixStream, messages: Sender<Message>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let lines = BufReader::new(channel).lines().map_while(Result::ok).map(Some);
        for line in lines.chain([None]) {
            if messages.send(Message { id, line }).is_err() {
                return;
            }
        }
    })
}
