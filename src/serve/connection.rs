//! One connection: HTTP/1.1 over a stream, until the client or the server is done with it.
//!
//! A request's head has to arrive promptly once it has begun, but between requests a connection may be idle for longer
//! than the pools of proxies keep theirs: whoever closes an idle connection first risks that a request is on its way,
//! so that should be the client's side.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

/// How long the head of a request may take from its first byte on.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may be idle: longer than the 60 s of nginx, Kong and the large load balancers, and the 90 s of
/// Go's clients.
const IDLE: Duration = Duration::from_mins(2);

/// The connections of a server, counted so that they can be waited for.
#[derive(Debug)]
pub struct Connections {
    router: Router,
    /// Each connection holds a receiver, and closes as soon as it can when this is true.
    close: watch::Sender<bool>,
}

impl Connections {
    /// None yet.
    pub fn new(router: Router) -> Self {
        let (close, _) = watch::channel(false);
        Self { router, close }
    }

    /// Serves a stream on a task of its own.
    pub fn serve(&self, stream: TcpStream) {
        let router = self.router.clone();
        let close = self.close.subscribe();
        tokio::spawn(serve(stream, router, close));
    }

    /// Connections that are open.
    pub fn count(&self) -> usize {
        self.close.receiver_count()
    }

    /// Closes connections that are idle, and the others after their request.
    pub fn close(&self) {
        self.close.send_replace(true);
    }

    /// Waits until there is none.
    pub async fn closed(&self) {
        self.close.closed().await;
    }
}

async fn serve(stream: TcpStream, router: Router, mut close: watch::Receiver<bool>) {
    // Answers are small and written at once: waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let turn = Turn::default();
    let io = TokioIo::new(Timed {
        stream,
        turn: turn.clone(),
        deadline: None,
    });
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        let turn = turn.clone();
        turn.next();
        let answer = router.call(request);
        async move {
            let answer = answer.await;
            turn.next();
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let mut connection = pin!(http.serve_connection(io, service));
    tokio::select! {
        biased;
        // How a connection ended is of no interest: clients go as they like.
        _ = connection.as_mut() => return,
        _ = close.wait_for(|close| *close) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Whose turn it is on a connection: the client's (even) or the server's (odd). It only ever rises, so that a number
/// stands for one request.
#[derive(Clone, Debug, Default)]
struct Turn(Arc<AtomicU64>);

impl Turn {
    fn next(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn number(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream whose reading fails when a request's head has begun and does not end in time.
struct Timed {
    stream: TcpStream,
    turn: Turn,
    /// When the head that began in this turn has to be there.
    deadline: Option<(u64, Pin<Box<Sleep>>)>,
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let turn = self.turn.number();
        if self.deadline.as_ref().is_some_and(|(begun, _)| *begun != turn) {
            self.deadline = None;
        }
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            if buffer.filled().len() > before && turn.is_multiple_of(2) && self.deadline.is_none() {
                self.deadline = Some((turn, Box::pin(sleep(HEAD))));
            }
            return Poll::Ready(read);
        }
        if let Some((_, deadline)) = &mut self.deadline {
            ready!(deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
