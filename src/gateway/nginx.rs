//! A gateway on this machine: nginx, started, reloaded and ended, with its state in a folder of its own.
//!
//! nginx is its own supervisor: it leaves the terminal by itself, its master starts workers that die again, SIGHUP takes a
//! new configuration and SIGQUIT ends it after the requests in hand. So there is no process of ours beside it, and what
//! is remembered is nginx's own file with its process id. Whether that process is still this nginx is asked of [`process`],
//! so that no other process ever gets a signal. A master that was killed leaves its workers, which answer as before and
//! hold the port: they are this nginx still, until the next `up` or `down` ends them.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::{Gateway, Rendered, process};
use crate::files;
use crate::problem::Problem;

/// nginx's file, relative to the folder.
const CONFIG: &str = "nginx.conf";
/// A configuration that nginx has not accepted yet.
const CANDIDATE: &str = "candidate.conf";
/// How long a configuration may take until it is in force: nginx itself tries for a port for 2.5 s.
const IN_FORCE: Duration = Duration::from_secs(10);
/// How long nginx may take to end: what `worker_shutdown_timeout` gives to requests in hand, and a margin.
const END: Duration = Duration::from_secs(35);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);
/// How long nginx may take to tell of itself.
const ANSWER: Duration = Duration::from_secs(1);

/// One nginx.
#[derive(Debug)]
pub struct Nginx {
    folder: PathBuf,
}

/// What `up` had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Nothing ran.
    Started,
    /// It ran with another configuration.
    Reloaded,
    /// It ran as it should.
    Unchanged,
}

impl Nginx {
    /// The nginx whose state is in `folder`. Nothing of it needs to be there.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
        }
    }

    /// Where its configuration and its logs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether [`Nginx::up`] could listen on `listen`; changes nothing. `flag` is what chooses another port.
    ///
    /// # Errors
    ///
    /// No nginx, or a port that is taken.
    pub fn check(&self, listen: SocketAddr, flag: &str) -> Result<()> {
        Command::new("nginx").arg("-v").output().map_err(cannot_run)?;
        if self.runs() && self.listens_on(listen) {
            return Ok(());
        }
        check_port(listen, flag)
    }

    /// Whether it runs, be it without its master.
    pub fn runs(&self) -> bool {
        self.pid().is_some() || !self.workers().is_empty()
    }

    /// As [`Nginx::up`], and waits until no request is on its way by the former configuration, so that an upstream which
    /// is not in the new one may end.
    ///
    /// # Errors
    ///
    /// As [`Nginx::up`].
    pub fn hand_over(&self, gateway: &Gateway) -> Result<Change> {
        let former = self.workers();
        let change = self.up(gateway)?;
        if change != Change::Unchanged {
            // They end by themselves after `worker_shutdown_timeout`, whatever they have in hand.
            let deadline = Instant::now() + END;
            while Instant::now() < deadline && self.any_runs(&former) {
                std::thread::sleep(POLL);
            }
        }
        Ok(change)
    }

    /// Makes `gateway` run: starts nginx, or hands the new configuration to the one that runs, which loses no request.
    ///
    /// # Errors
    ///
    /// No nginx, a port that is taken, or a configuration that nginx refuses; what ran before goes on.
    pub fn up(&self, gateway: &Gateway) -> Result<Change> {
        let rendered = gateway.render()?;
        files::create_folder(&self.folder)?;
        let _lock = self.lock()?;
        let pid = self.pid();
        // Both: a worker of a former configuration answers for an instant after a reload, and a reload may have failed.
        if pid.is_some()
            && self.handed_over().as_deref() == Some(&rendered.config)
            && digest(gateway).as_deref() == Some(&rendered.digest)
        {
            return Ok(Change::Unchanged);
        }
        self.accept(&rendered)?;
        let listen = gateway.listen();
        if !(self.runs() && self.listens_on(listen)) {
            check_port(listen, "--listen")?;
        }
        // nginx reads this file when it is started and when it is reloaded, never in between.
        let candidate = self.folder.join(CANDIDATE);
        let config = self.folder.join(CONFIG);
        fs::rename(&candidate, &config).map_err(|error| files::cannot_write(&config, &error))?;
        let logged = self.logged();
        let change = if let Some(pid) = pid {
            kill_process(pid, Signal::HUP).context("cannot tell nginx to reload")?;
            Change::Reloaded
        } else {
            // They finish what they have while the new ones answer.
            self.end_workers(|| check_port(listen, "--listen").is_ok());
            let output = self.run(&["-c", CONFIG])?;
            if !output.status.success() {
                return Err(Problem::new(format!("nginx did not start: {}", said(&output))).into());
            }
            Change::Started
        };
        self.wait_until_in_force(gateway, &rendered.digest, logged)?;
        Ok(change)
    }

    /// Ends nginx after it has answered what it has accepted; says which process that was.
    ///
    /// # Errors
    ///
    /// When nothing runs, or it does not end.
    pub fn down(&self) -> Result<u32> {
        let not_running = || {
            Problem::new(format!("no gateway runs in `{}`", self.folder.display()))
                .hint("`emberline gateway up` starts one")
        };
        if !self.folder.is_dir() {
            return Err(not_running().into());
        }
        let _lock = self.lock()?;
        let pid = self.pid();
        let ended = pid
            .or_else(|| self.workers().first().copied())
            .ok_or_else(not_running)?;
        if let Some(pid) = pid {
            kill_process(pid, Signal::QUIT).context("cannot tell nginx to end")?;
            let deadline = Instant::now() + END;
            while self.pid() == Some(pid) {
                if Instant::now() > deadline {
                    return Err(Problem::new(format!(
                        "nginx (process {}) has not ended after {} s",
                        pid.as_raw_nonzero(),
                        END.as_secs()
                    ))
                    .hint(format!("`{}` says what it does", self.error_log().display()))
                    .into());
                }
                std::thread::sleep(POLL);
            }
        }
        self.end_workers(|| false);
        Ok(ended.as_raw_nonzero().get().cast_unsigned())
    }

    /// Processor time that its workers have used, in seconds; none when it does not run.
    pub fn cpu_seconds(&self) -> Option<f64> {
        process::cpu_seconds(&self.folder)
    }

    /// The master's process, if it runs.
    fn pid(&self) -> Option<Pid> {
        process::master(&self.folder)
    }

    /// The processes that answer; a reload replaces them all.
    fn workers(&self) -> Vec<Pid> {
        process::workers(&self.folder)
    }

    fn any_runs(&self, workers: &[Pid]) -> bool {
        workers.iter().any(|pid| process::is_worker(*pid, &self.folder))
    }

    /// Tells workers to end whose master was killed, since nobody else will: they finish what they have, or are killed.
    /// Returns when none is left, or that is `enough`.
    fn end_workers(&self, enough: impl Fn() -> bool) {
        let workers = self.workers();
        let tell = |signal| {
            for pid in workers.iter().filter(|pid| process::is_worker(**pid, &self.folder)) {
                // One that has ended by itself needs none.
                let _ = kill_process(*pid, signal);
            }
        };
        tell(Signal::QUIT);
        let begin = Instant::now();
        while self.any_runs(&workers) && !enough() {
            if begin.elapsed() > END {
                tell(Signal::KILL);
            }
            std::thread::sleep(POLL);
        }
    }

    /// One command at a time: each takes seconds, so the next one waits.
    fn lock(&self) -> Result<File> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(|error| files::cannot_write(&path, &error))?;
        file.lock()
            .with_context(|| format!("cannot lock `{}`", path.display()))?;
        Ok(file)
    }

    /// The configuration that nginx was given last.
    fn handed_over(&self) -> Option<String> {
        fs::read_to_string(self.folder.join(CONFIG)).ok()
    }

    /// Whether that one listens there, so that the port is taken by nginx itself.
    fn listens_on(&self, listen: SocketAddr) -> bool {
        let line = format!("listen {listen};");
        self.handed_over()
            .is_some_and(|config| config.lines().any(|found| found.trim() == line))
    }

    /// Writes a configuration beside the one that is in use, and has nginx check it.
    fn accept(&self, rendered: &Rendered) -> Result<()> {
        let candidate = self.folder.join(CANDIDATE);
        files::replace(&candidate, rendered.config.as_bytes())?;
        let output = self.run(&["-t", "-c", CANDIDATE])?;
        if output.status.success() {
            return Ok(());
        }
        let _ = fs::remove_file(&candidate);
        Err(Problem::new(format!("nginx refuses the configuration: {}", said(&output))).into())
    }

    /// Runs nginx until it has ended or left for the background.
    fn run(&self, arguments: &[&str]) -> Result<Output> {
        // The folder is its working directory for good, and tells it from any other nginx.
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(&self.folder)
            .args(arguments)
            .current_dir(&self.folder);
        command.output().map_err(cannot_run)
    }

    fn wait_until_in_force(&self, gateway: &Gateway, wanted: &str, logged: u64) -> Result<()> {
        let deadline = Instant::now() + IN_FORCE;
        while digest(gateway).as_deref() != Some(wanted) {
            if Instant::now() > deadline {
                let problem = Problem::new(format!(
                    "nginx has not taken the configuration after {} s{}",
                    IN_FORCE.as_secs(),
                    self.errors_since(logged)
                ));
                return Err(problem
                    .hint(format!("`{}` says more", self.error_log().display()))
                    .into());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn error_log(&self) -> PathBuf {
        self.folder.join("error.log")
    }

    /// Bytes that nginx has logged.
    fn logged(&self) -> u64 {
        fs::metadata(self.error_log()).map_or(0, |metadata| metadata.len())
    }

    /// What kept nginx from doing something since then.
    fn errors_since(&self, logged: u64) -> String {
        let log = fs::read(self.error_log()).unwrap_or_default();
        let new = log.get(logged as usize..).unwrap_or_default();
        let emergencies = emergencies(&String::from_utf8_lossy(new));
        if emergencies.is_empty() {
            emergencies
        } else {
            format!(": {emergencies}")
        }
    }
}

fn cannot_run(error: io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound => Problem::new("there is no `nginx` on the path")
            .hint("`apt-get install nginx` installs it, into /usr/sbin on Debian, which may have to go on the path")
            .into(),
        _ => anyhow::Error::from(error).context("cannot run `nginx`"),
    }
}

/// Whether nginx could listen there. `flag` is what chooses another address.
fn check_port(listen: SocketAddr, flag: &str) -> Result<()> {
    let Err(error) = TcpListener::bind(listen) else {
        return Ok(());
    };
    let what = format!("cannot listen on `{listen}`");
    Err(match error.kind() {
        ErrorKind::AddrInUse => Problem::new(format!("{what}: the port is in use"))
            .hint(format!("choose another one with `{flag}`, or end what listens there")),
        ErrorKind::PermissionDenied => Problem::new(format!("{what}: ports below 1024 are for the administrator"))
            .hint(format!("choose a higher one with `{flag}`")),
        ErrorKind::AddrNotAvailable => Problem::new(format!("{what}: this machine has no such address"))
            .hint("choose one that it has: `127.0.0.1`, or `0.0.0.0` for all"),
        _ => Problem::new(format!("{what}: {error}")),
    }
    .into())
}

/// The digest of the configuration that is in force.
fn digest(gateway: &Gateway) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Health {
        config: String,
    }
    let answer = ask(gateway.reachable(), gateway.health()).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let health: Health = serde_json::from_str(body).ok()?;
    Some(health.config)
}

fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    // With 1.0 the end of the answer is the end of the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Why nginx ended: what it calls an emergency, or all that it said.
fn said(output: &Output) -> String {
    let all = String::from_utf8_lossy(&output.stderr);
    let emergencies = emergencies(&all);
    if emergencies.is_empty() {
        all.trim().to_owned()
    } else {
        emergencies
    }
}

/// The emergencies of a log, each once, without time and process.
fn emergencies(log: &str) -> String {
    let mut found: Vec<&str> = Vec::new();
    for line in log.lines() {
        if let Some((_, text)) = line.split_once("[emerg] ") {
            let text = match text.split_once(": ") {
                Some((process, text)) if process.contains('#') => text,
                _ => text,
            };
            if !found.contains(&text) {
                found.push(text);
            }
        }
    }
    found.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emergencies_are_told_once_and_plainly() {
        let log = "nginx: [alert] could not open error log file\n\
                   nginx: [emerg] bind() to 127.0.0.1:80 failed (13: Permission denied)\n\
                   2026/11/23 18:00:00 [emerg] 12#12: host not found in upstream \"x:1\" in candidate.conf:3\n\
                   2026/11/23 18:00:01 [emerg] 13#13: host not found in upstream \"x:1\" in candidate.conf:3\n";
        assert_eq!(
            emergencies(log),
            "bind() to 127.0.0.1:80 failed (13: Permission denied); host not found in upstream \"x:1\" in candidate.conf:3"
        );
        assert_eq!(emergencies("2026/11/23 18:00:00 [notice] 12#12: start\n"), "");
    }
}
