//! A project in a folder of its own, deployed by the real binary, and load on it that counts every failure.
#![allow(dead_code)] // each test binary uses its part

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A project and whatever was deployed from it; deleted at the end of the test, however it ends.
pub struct Deployment {
    folder: TempDir,
    pub port: u16,
}

impl Deployment {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = crate::fixture::port::free();
        std::fs::write(
            folder.path().join("emberline.yaml"),
            format!("name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{port: {port}}}\n"),
        )
        .expect("a project");
        Self { folder, port }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn state(&self) -> PathBuf {
        self.path().join(".emberline/local")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_emberline"));
        for (name, _) in std::env::vars() {
            if name.starts_with("EMBERLINE_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// Runs a command that must succeed, and gives its report.
    pub fn ok(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}\n{}", self.journal());
        serde_json::from_slice(&output.stdout).expect("one JSON object on stdout")
    }

    /// Runs a command that must fail with `code`, and gives what it says on stderr.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {errors}\n{}",
            self.journal()
        );
        assert!(output.stdout.is_empty(), "data on stdout though it failed");
        errors
    }

    pub fn status(&self) -> Value {
        self.ok(&["status"])
    }

    /// Waits until the status is as `wanted`.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut status = Value::Null;
        wait(what, || {
            status = self.status();
            wanted(&status)
        });
        status
    }

    /// What the supervisor says that it did.
    pub fn journal(&self) -> String {
        std::fs::read_to_string(self.state().join("supervisor.log")).unwrap_or_default()
    }

    /// What the supervisor's file says: its process, and those of the replicas.
    pub fn processes(&self) -> (u32, Vec<u32>) {
        let text = std::fs::read(self.state().join("status.json")).expect("a status");
        let status: Value = serde_json::from_slice(&text).expect("JSON");
        let supervisor = status["supervisor"].as_u64().expect("a process") as u32;
        (supervisor, pids(&status))
    }

    /// A prediction over a new connection: the version that answered.
    pub fn ask(&self) -> io::Result<String> {
        let mut connection = Connection::open(self.port)?;
        connection.predict(true)
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if self.state().exists() {
            let _ = self.run(&["delete", "--yes"]);
        }
    }
}

/// Processes of the replicas in a status.
pub fn pids(status: &Value) -> Vec<u32> {
    let instances = status["instances"].as_array().expect("instances");
    instances
        .iter()
        .filter_map(|instance| instance["pid"].as_u64())
        .map(|pid| pid as u32)
        .collect()
}

pub fn version_of(bundle: &Path) -> String {
    bundle.file_name().expect("a name").to_string_lossy().into_owned()
}

pub fn wait(what: &str, mut wanted: impl FnMut() -> bool) {
    let start = Instant::now();
    while !wanted() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
    kill_process(pid, signal).expect("it takes the signal");
}

/// Whether a process runs; one that has ended and was not waited for does not.
pub fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// An HTTP/1.1 client that retries nothing.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks for a prediction: the version that answered. `last` asks for the connection to be closed.
    pub fn predict(&mut self, last: bool) -> io::Result<String> {
        self.exchange(last).map(|(version, _)| version)
    }

    /// The same, and whether the server closes the connection.
    fn exchange(&mut self, last: bool) -> io::Result<(String, bool)> {
        let body = format!("[{}]", vec!["0"; 784].join(","));
        let connection = if last { "close" } else { "keep-alive" };
        let request = format!(
            "POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let status = line.trim().to_owned();
        let (mut length, mut closes) = (0, last);
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::Error::other(format!("the answer ends after `{status}`")));
            }
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            closes |= header == "connection: close";
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        if status != "HTTP/1.1 200 OK" {
            return Err(io::Error::other(format!(
                "{status}: {}",
                String::from_utf8_lossy(&body)
            )));
        }
        let answer: Value = serde_json::from_slice(&body)?;
        let version = answer["version"].as_str().unwrap_or_default().to_owned();
        Ok((version, closes))
    }
}

/// Requests from four threads, two of which keep their connections.
pub struct Load {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Count>>,
}

/// What became of the requests.
#[derive(Default)]
pub struct Count {
    pub answered: usize,
    pub failures: Vec<String>,
    pub versions: Vec<String>,
}

impl Load {
    /// Every request must be answered.
    pub fn on(port: u16) -> Self {
        Self::start(port, false)
    }

    /// The same through nginx, which closes idle connections when it takes a new configuration: a request that finds its
    /// connection closed goes over another one, as with every HTTP client (RFC 9112, 9.3.1).
    pub fn through_nginx(port: u16) -> Self {
        Self::start(port, true)
    }

    fn start(port: u16, reopens: bool) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let threads = (0..4)
            .map(|number| {
                let end = Arc::clone(&end);
                std::thread::spawn(move || press(port, number % 2 == 0, reopens, &end))
            })
            .collect();
        Self { end, threads }
    }

    pub fn finish(self) -> Count {
        self.end.store(true, Ordering::Relaxed);
        let mut all = Count::default();
        for thread in self.threads {
            let count = thread.join().expect("the load ran");
            all.answered += count.answered;
            all.failures.extend(count.failures);
            all.versions.extend(count.versions);
        }
        all.versions.sort();
        all.versions.dedup();
        all
    }
}

fn press(port: u16, keep: bool, reopens: bool, end: &AtomicBool) -> Count {
    let mut count = Count::default();
    let mut connection: Option<Connection> = None;
    while !end.load(Ordering::Relaxed) {
        let reused = connection.is_some();
        let answer = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(port),
        }
        .and_then(|mut open| Ok((open.exchange(!keep)?, open)));
        match answer {
            Ok(((version, closes), open)) => {
                count.answered += 1;
                if !count.versions.contains(&version) {
                    count.versions.push(version);
                }
                connection = (!closes).then_some(open);
            }
            // Closed without a byte of an answer: at once again, over another connection, which must not fail.
            Err(error) if reused && reopens && closed(&error) => continue,
            Err(error) => count.failures.push(format!("keep-alive {keep}: {error}")),
        }
        // Enough to have requests on their way at every moment, and no more.
        std::thread::sleep(Duration::from_millis(5));
    }
    count
}

fn closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
