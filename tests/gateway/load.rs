//! Load on a gateway, every request of which must be answered.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::fixture::http::{Connection, Response};
use crate::fixture::process::until;
use crate::setup::{PREDICT, body};

/// Clients that send one request after another until they are told to stop; every one must be answered.
pub struct Load {
    pub address: SocketAddr,
    pub stop: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stop: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
        }
    }

    pub fn client(&self, keep: bool) {
        let body = body().to_string();
        let headers = if keep { "" } else { "connection: close\r\n" };
        let send = |connection: &mut Connection| connection.request("POST", PREDICT, headers, body.as_bytes());
        let mut idle: Option<Connection> = None;
        while !self.stop.load(Ordering::Relaxed) {
            // An idle connection that was closed meanwhile took no request: every client opens another one then.
            let reused: Option<(Connection, Response)> =
                idle.take().and_then(|mut connection| match send(&mut connection) {
                    Ok(response) => Some((connection, response)),
                    Err(error) if closed(&error) => None,
                    Err(error) => panic!("a request was lost: {error:?}"),
                });
            let (connection, response) = reused.unwrap_or_else(|| {
                let mut connection = Connection::open(self.address).expect("connected");
                let response = send(&mut connection).expect("answered");
                (connection, response)
            });
            assert_eq!(response.status, 200, "{}", response.text());
            self.answered.fetch_add(1, Ordering::Relaxed);
            idle = (keep && !response.closes()).then_some(connection);
        }
    }

    /// Waits until so many more requests were answered.
    pub fn goes_on(&self, more: usize) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        until("the load goes on", || self.answered.load(Ordering::Relaxed) >= target);
    }
}

fn closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Stops the clients when it is dropped, so that a failed assertion does so too.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
