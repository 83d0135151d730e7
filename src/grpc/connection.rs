//! One connection of HTTP/2: many calls at once, with a limit to how many, and an end when there are none.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::sleep;

use super::calls;
use crate::serve::second_port::{Connection, Limits, Timed, Turn};

/// Calls that a connection may have at once; a client opens another one for more. Each may have a body in memory.
const CALLS: u32 = 128;
/// Bytes of a call's headers.
const HEADERS: u32 = 16 << 10;
/// How long a client may take to go that was told to, when its calls are answered.
const LAST: Duration = Duration::from_secs(5);

/// Serves a connection until it is closed, or told to close and its calls are answered. One that has had no call for a
/// while is closed as well, by telling the client first, so that no call is on its way then (GOAWAY).
pub async fn serve(connection: Connection) {
    let Connection {
        stream,
        client,
        worker,
        front,
        mut closing,
    } = connection;
    let limits = Limits::DEFAULT;
    // What a client sends at any time, calls and pings and windows, is limited as a whole, below; here only what it
    // takes in. So it is always the server's turn.
    let turn = Turn::default();
    turn.next();
    let io = TokioIo::new(Timed::new(stream, turn, limits));
    let calls = Arc::new(Calls::default());
    let service = service_fn(|request| {
        let (call, worker, front) = (Call::begin(&calls), Arc::clone(&worker), Arc::clone(&front));
        async move {
            let answer = calls::answer(&worker, &front, client, request).await;
            drop(call);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_concurrent_streams(CALLS).max_header_list_size(HEADERS);
    let mut connection = pin!(http.serve_connection(io, service));
    loop {
        let seen = calls.begun();
        tokio::select! {
            biased;
            // How a connection ended is of no interest: clients go as they like.
            _ = connection.as_mut() => return,
            () = closing.told() => break,
            () = sleep(limits.idle) => if calls.none_since(seen) { break },
        }
    }
    connection.as_mut().graceful_shutdown();
    // What is left is the client's to take in, and to say that it has heard. One that has gone says nothing.
    loop {
        let seen = calls.begun();
        tokio::select! {
            _ = connection.as_mut() => return,
            () = sleep(LAST) => if calls.none_since(seen) { return },
        }
    }
}

/// The calls of a connection. Answers that the client has not taken in yet are HTTP/2's, which counts them among the
/// calls that it may have.
#[derive(Debug, Default)]
struct Calls {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Calls {
    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether no call is open, and none has begun since there were so many.
    fn none_since(&self, seen: u64) -> bool {
        self.begun() == seen && self.ended.load(Ordering::Relaxed) == seen
    }
}

/// An open call; it ends when this is dropped, with an answer or because the client has gone.
#[derive(Debug)]
struct Call(Arc<Calls>);

impl Call {
    fn begin(calls: &Arc<Calls>) -> Self {
        calls.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(calls))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_when_no_call_is_open_and_none_has_begun() {
        let calls = Arc::new(Calls::default());
        assert!(calls.none_since(0));
        let (first, second) = (Call::begin(&calls), Call::begin(&calls));
        assert!(!calls.none_since(2), "two are open");
        drop(first);
        assert!(!calls.none_since(2), "one is open");
        drop(second);
        assert!(calls.none_since(2));
        assert!(!calls.none_since(1), "one has come and gone");
    }
}
