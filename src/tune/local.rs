//! Trials as processes of this machine: this very executable, so many at a time, each on its share of the processors. They
//! end with this process, however that ends: each reads its stdin to the end, and that comes when nobody holds it any more.

use std::collections::{HashMap, VecDeque};
use std::env;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::trial::{Assignment, Said, report};
use super::{End, Event, Failure, Hear, Ledger, Pace, Record, Sweep, Trial, failure};

/// How a trial of this machine is named in results.
const PLACE: &str = "this machine";
/// Between two looks at the flag of Ctrl-C.
const LOOK: Duration = Duration::from_millis(100);
/// How long trials may take to end when they are told to.
const GOING: Duration = Duration::from_secs(10);

/// A trial that has ended: its number among those to do, its exit, what it said.
struct Ended {
    trial: usize,
    code: Option<i32>,
    said: Said,
}

/// Does `trials`, and tells of each. What is done is in the store and in the ledger.
///
/// # Errors
///
/// What the system says against processes, and the errors of `hear` and of the ledger.
pub fn run(
    sweep: &Sweep,
    trials: &[&Trial],
    ledger: &Ledger,
    pace: Pace,
    interrupt: &AtomicBool,
    hear: Hear<'_>,
) -> Result<End> {
    let executable = executable()?;
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parallel = pace.parallel.min(trials.len()).max(1);
    let threads = (processors / parallel).max(1);
    let (sender, ended) = channel();
    let mut waiting: VecDeque<usize> = (0..trials.len()).collect();
    // Dropped at whatever end: the trials that still run end then.
    let mut running: HashMap<usize, ChildStdin> = HashMap::new();
    loop {
        while running.len() < parallel
            && let Some(number) = waiting.pop_front()
        {
            let trial = trials[number];
            let stdin = start(&executable, &assignment(sweep, trial), threads, number, &sender)?;
            running.insert(number, stdin);
            hear(Event::Started { trial, place: PLACE })?;
        }
        if running.is_empty() {
            return Ok(End::Whole);
        }
        match ended.recv_timeout(LOOK) {
            Ok(end) => {
                running.remove(&end.trial);
                tell(trials[end.trial], &end, ledger, hear)?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the trials cannot be listened to any more"),
        }
        let end = if interrupt.load(Ordering::Relaxed) {
            End::Interrupted
        } else if Instant::now() > pace.deadline {
            End::Late
        } else {
            continue;
        };
        // What ends well all the same is kept; nothing else is told of those that were ended.
        let mut left = running.len();
        running.clear();
        let until = Instant::now() + GOING;
        while left > 0
            && let Ok(end) = ended.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            left -= 1;
            if end.code == Some(0) {
                tell(trials[end.trial], &end, ledger, hear)?;
            }
        }
        return Ok(end);
    }
}

/// What a trial is told.
fn assignment(sweep: &Sweep, trial: &Trial) -> Assignment {
    Assignment {
        id: trial.id.clone(),
        config: sweep.config(trial),
        source_revision: sweep.source_revision.clone(),
        folder: sweep.project.folder.clone(),
        data_dir: sweep.data_dir.clone(),
        carried: false,
    }
}

/// This program, also when its file was replaced meanwhile.
fn executable() -> Result<PathBuf> {
    let itself = PathBuf::from("/proc/self/exe");
    if itself.exists() {
        // Of this process: a child's own link is another one.
        return Ok(PathBuf::from(format!("/proc/{}/exe", std::process::id())));
    }
    env::current_exe().context("cannot find this program")
}

/// Starts a trial, and has somebody listen to it until it has ended.
fn start(
    executable: &PathBuf,
    assignment: &Assignment,
    threads: usize,
    trial: usize,
    sender: &Sender<Ended>,
) -> Result<ChildStdin> {
    let mut child = Command::new(executable)
        .args(["trial", "--progress", "quiet"])
        .env("RAYON_NUM_THREADS", threads.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C on the terminal is for this process, which then ends them.
        .process_group(0)
        .spawn()
        .context("cannot start a trial")?;
    let mut stdin = child.stdin.take().context("a trial has no stdin")?;
    // One that has ended already says why on its stderr.
    let _ = writeln!(stdin, "{}", serde_json::to_string(assignment)?);
    let sender = sender.clone();
    thread::spawn(move || {
        let (code, text) = listen(child);
        let said = report(&text);
        // Nobody listens when the sweep has ended.
        let _ = sender.send(Ended { trial, code, said });
    });
    Ok(stdin)
}

/// Everything that a trial says, and how it ends. The order of its two streams does not matter.
fn listen(mut child: Child) -> (Option<i32>, String) {
    let stderr = child.stderr.take();
    let listener = thread::spawn(move || all(stderr));
    let mut text = all(child.stdout.take());
    text.push_str(&listener.join().unwrap_or_default());
    (child.wait().ok().and_then(|status| status.code()), text)
}

fn all(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What was read before an error is as good as it gets.
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tells of a trial that has ended.
fn tell(trial: &Trial, end: &Ended, ledger: &Ledger, hear: Hear<'_>) -> Result<()> {
    match outcome(trial, end, ledger) {
        Ok(record) => {
            ledger.keep(&record)?;
            hear(Event::Done { trial, record: &record })
        }
        Err(failure) => hear(Event::Failed {
            trial,
            failure: &failure,
        }),
    }
}

fn outcome(trial: &Trial, end: &Ended, ledger: &Ledger) -> Result<Record, Failure> {
    let said = &end.said;
    let Some(outcome) = said.outcome.as_ref().filter(|_| end.code == Some(0)) else {
        let how = match end.code {
            Some(code) => format!("it ended with code {code}"),
            None => "a signal ended it; when it was the system's, for want of memory, fewer at a time (--parallel) need less"
                .to_owned(),
        };
        return Err(failure(&said.lines, how));
    };
    let bundle = ledger.store().open(&outcome.version);
    match bundle {
        Ok(bundle) if bundle.digest() == outcome.digest => Ok(Record::new(&trial.id, &bundle, outcome.seconds, PLACE)),
        Ok(_) => Err(failure(
            &said.lines,
            "its bundle is another one than it says".to_owned(),
        )),
        Err(error) => Err(failure(&said.lines, format!("{error:#}"))),
    }
}
