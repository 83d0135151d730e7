//! The listening sockets: opened when they are needed for the first time, held while anything serves on them, and shared
//! with the replicas. Nothing is accepted here.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::state::Release;

/// Connections that wait to be accepted while replicas are busy.
const BACKLOG: i32 = 1024;
/// Between two attempts at a port that is about to be free.
const RETRY: Duration = Duration::from_millis(50);

/// The sockets, by host and port.
#[derive(Debug)]
pub struct Listeners {
    sockets: BTreeMap<(String, u16), TcpListener>,
    patience: Instant,
}

impl Listeners {
    /// None yet. For `patience` a port in use may be in use by replicas that are about to end, and is waited for.
    pub fn new(patience: Duration) -> Self {
        Self {
            sockets: BTreeMap::new(),
            patience: Instant::now() + patience,
        }
    }

    /// The socket that a release is served on.
    ///
    /// # Errors
    ///
    /// As the system says; [`explain`] puts it in words.
    pub fn socket(&mut self, release: &Release) -> io::Result<TcpListener> {
        let (host, port) = (release.host.as_str(), release.port);
        let address = (host.to_owned(), port);
        if let Some(socket) = self.sockets.get(&address) {
            return socket.try_clone();
        }
        let socket = loop {
            match TcpListener::bind((host, port)) {
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < self.patience => {
                    std::thread::sleep(RETRY);
                }
                other => break other?,
            }
        };
        // The standard library's queue is short for a service whose replicas may all be restarting.
        rustix::net::listen(&socket, BACKLOG)?;
        let shared = socket.try_clone()?;
        self.sockets.insert(address, socket);
        Ok(shared)
    }

    /// Closes the sockets that none of `releases` is served on.
    pub fn keep(&mut self, releases: &[&Release]) {
        self.sockets.retain(|(host, port), _| {
            let serves = |release: &&Release| release.host == *host && release.port == *port;
            releases.iter().any(serves)
        });
    }

    /// Closes them all; each goes when the last replica that has it does.
    pub fn close(&mut self) {
        self.sockets.clear();
    }
}

/// What to say when the port cannot be had.
pub fn explain(release: &Release, error: &io::Error) -> (String, Option<String>) {
    let (host, port) = (&release.host, release.port);
    let what = format!("cannot listen on `{host}:{port}`");
    match error.kind() {
        ErrorKind::AddrInUse => (
            format!("{what}: the port is in use"),
            Some("choose another one with `--port`, or end what listens there".into()),
        ),
        ErrorKind::PermissionDenied => (
            format!("{what}: ports below 1024 are for the administrator"),
            Some("choose a higher one with `--port`".into()),
        ),
        ErrorKind::AddrNotAvailable => (
            format!("{what}: this machine has no such address"),
            Some("choose one that it has with `--host`: `127.0.0.1`, or `0.0.0.0` for all".into()),
        ),
        _ => (format!("{what}: {error}"), None),
    }
}
