//! A stream that ends when the other side takes too long: slow clients cost a server its memory and its descriptors.
//!
//! A request's head has to arrive promptly once it has begun, an answer has to be taken in, and between requests a
//! connection may be idle for longer than the pools of proxies keep theirs: whoever closes an idle connection first
//! risks that a request is on its way, so that should be the client's side. How long a body may take is `payload`'s
//! business. The timer of a stream is set only when there is something to wait for: a request that arrives whole costs
//! none.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the head of a request, from its first byte on.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// To take in a part of an answer.
    pub stall: Duration,
}

impl Limits {
    /// Idle is longer than the 60 s of nginx, Kong and the large load balancers, and the 90 s of Go's clients.
    pub const DEFAULT: Self = Self {
        head: Duration::from_secs(10),
        idle: Duration::from_mins(2),
        stall: Duration::from_secs(30),
    };
}

/// Whose turn it is on a connection: the client's (even) or the server's (odd). It only ever rises, so that a number
/// stands for one request.
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<AtomicU64>);

impl Turn {
    /// The other side's.
    pub fn next(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn number(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream with its limits.
#[derive(Debug)]
pub struct Timed<S> {
    stream: S,
    turn: Turn,
    limits: Limits,
    /// The turn that is being waited in, when it began, and whether the client has sent something in it.
    waiting: (u64, Instant, bool),
    read: Timer,
    write: Timer,
}

impl<S> Timed<S> {
    /// Limits `stream`; `turn` tells when a request is being answered.
    pub fn new(stream: S, turn: Turn, limits: Limits) -> Self {
        let waiting = (turn.number(), Instant::now(), false);
        Self {
            stream,
            turn,
            limits,
            waiting,
            read: Timer::default(),
            write: Timer::default(),
        }
    }

    /// When the client has to have sent more; not while it is the server's turn.
    fn deadline(&mut self) -> Option<Instant> {
        let turn = self.turn.number();
        if turn != self.waiting.0 {
            self.waiting = (turn, Instant::now(), false);
        }
        let (_, since, begun) = self.waiting;
        turn.is_multiple_of(2)
            .then(|| since + if begun { self.limits.head } else { self.limits.idle })
    }

    /// An answer has been written: the client's time begins, though nobody may ask for what it sends before it does.
    fn answered(&mut self, context: &mut Context<'_>) {
        if self.turn.number() == self.waiting.0 {
            return;
        }
        if let Some(deadline) = self.deadline()
            && self.read.0.is_none()
        {
            // Its end wakes the task, which reads then.
            let _ = self.read.poll(context, deadline);
        }
    }

    fn received(&mut self) {
        let turn = self.turn.number();
        if self.waiting.0 != turn || !self.waiting.2 {
            self.waiting = (turn, Instant::now(), true);
        }
    }
}

/// A timer that is set late and seldom: moving a deadline away costs nothing until the old one has come.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when `deadline` has come.
    fn poll(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn stop(&mut self) {
        self.0 = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            if buffer.filled().len() > before {
                self.received();
            }
            return Poll::Ready(read);
        }
        match self.deadline() {
            Some(deadline) if self.read.poll(context, deadline).is_ready() => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            _ => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> Timed<S> {
    /// Passes on what a write gave, unless the client has taken nothing for too long.
    fn written<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write.stop();
            self.answered(context);
            return outcome;
        }
        let deadline = match &self.write.0 {
            Some(sleep) => sleep.deadline(),
            None => Instant::now() + self.limits.stall,
        };
        match self.write.poll(context, deadline) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, outcome)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_mins(1);
    const LIMITS: Limits = Limits {
        head: LONG,
        idle: LONG,
        stall: LONG,
    };

    /// Whether reading ends by a limit that is `SHORT`.
    async fn ends(stream: &mut (impl AsyncRead + Unpin)) -> bool {
        let begun = Instant::now();
        match timeout(SHORT * 4, stream.read_u8()).await {
            Ok(Err(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                assert!(begun.elapsed() >= SHORT);
                true
            }
            Ok(Ok(byte)) => panic!("{byte}"),
            Err(_) => false,
        }
    }

    #[tokio::test]
    async fn a_head_that_has_begun_has_to_end() {
        let (mut client, server) = duplex(64);
        let turn = Turn::default();
        let limits = Limits { head: SHORT, ..LIMITS };
        let mut server = Timed::new(server, turn.clone(), limits);
        assert!(!ends(&mut server).await, "an idle connection waits");
        client.write_all(b"G").await.expect("sent");
        assert_eq!(server.read_u8().await.expect("a byte"), b'G');
        assert!(ends(&mut server).await);
        turn.next();
        assert!(!ends(&mut server).await, "the server's turn");
        turn.next();
        assert!(!ends(&mut server).await, "idle again");
    }

    #[tokio::test]
    async fn an_idle_connection_ends_after_a_while() {
        let (mut client, server) = duplex(64);
        let turn = Turn::default();
        let limits = Limits { idle: SHORT, ..LIMITS };
        let mut server = Timed::new(server, turn.clone(), limits);
        assert!(ends(&mut server).await);
        client.write_all(b"G").await.expect("sent");
        assert_eq!(server.read_u8().await.expect("a byte"), b'G');
        assert!(!ends(&mut server).await, "its head has begun");
    }

    /// hyper reads on after an answer only when there is something to read.
    #[tokio::test]
    async fn an_answered_client_is_idle_from_then_on() {
        let (mut client, server) = duplex(64);
        let turn = Turn::default();
        let limits = Limits { idle: SHORT, ..LIMITS };
        let mut server = Timed::new(server, turn.clone(), limits);
        client.write_all(b"G").await.expect("sent");
        assert_eq!(server.read_u8().await.expect("a byte"), b'G');
        turn.next();
        tokio::time::sleep(SHORT).await;
        turn.next();
        server.write_all(b"answer").await.expect("written");
        let answered = Instant::now();
        // What is armed is the limit of the idle time, and it counts from the answer.
        let timer = server.read.0.as_ref().expect("a timer").deadline();
        assert!(
            timer >= answered - SHORT && timer <= answered + SHORT,
            "{:?}",
            timer - answered
        );
        sleep_until(timer).await;
        let ended = server.read_u8().await.map_err(|error| error.kind());
        assert_eq!(ended, Err(io::ErrorKind::TimedOut));
        assert!(answered.elapsed() < SHORT * 2);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_taken_in_ends_the_stream() {
        let (_client, server) = duplex(4);
        let limits = Limits { stall: SHORT, ..LIMITS };
        let mut server = Timed::new(server, Turn::default(), limits);
        let ended = server.write_all(b"12345").await.map_err(|error| error.kind());
        assert_eq!(ended, Err(io::ErrorKind::TimedOut));

        // A client that takes its time takes something.
        let (mut client, server) = duplex(1);
        let limits = Limits {
            stall: SHORT * 8,
            ..LIMITS
        };
        let mut server = Timed::new(server, Turn::default(), limits);
        let sent = tokio::spawn(async move { server.write_all(b"1234567890").await });
        for _ in 0..10 {
            tokio::time::sleep(SHORT).await;
            client.read_u8().await.expect("a byte");
        }
        sent.await.expect("joined").expect("sent");
    }
}
