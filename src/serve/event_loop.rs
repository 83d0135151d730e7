//! The threads that serve connections: one for each core, each with an event loop of its own.
//!
//! A connection stays on the loop that it was given to, and so does each of its requests, from the socket to the model
//! and back: nothing is handed from thread to thread on the way, and what is ready at once is answered as one batch.
//! Accepting is done elsewhere, so that no work on a loop holds it up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::closing::Closer;
use super::connection;
use super::doors::Speaks;
use super::front::Front;
use super::worker::{Task, Worker, Workers};

/// The loops of a server, with their connections, which are counted so that they can be waited for.
#[derive(Debug)]
pub struct Loops {
    loops: Vec<Loop>,
    closer: Closer,
}

#[derive(Debug)]
struct Loop {
    streams: mpsc::UnboundedSender<(std::net::TcpStream, Speaks)>,
    open: Arc<AtomicUsize>,
}

impl Loops {
    /// Starts a loop for each worker, with the task that it has to run, if any.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(workers: Workers, front: &Arc<Front>) -> Result<Self> {
        let closer = Closer::new();
        let loops = workers
            .into_iter()
            .enumerate()
            .map(|(index, (worker, task))| Loop::start(index, worker, task, Arc::clone(front), closer.clone()))
            .collect::<Result<_>>()?;
        Ok(Self { loops, closer })
    }

    /// Gives a stream to the loop that has the fewest.
    pub fn serve(&self, (stream, speaks): (TcpStream, Speaks)) {
        let open = |one: &&Loop| one.open.load(Ordering::Relaxed);
        if let (Some(least), Ok(stream)) = (self.loops.iter().min_by_key(open), stream.into_std()) {
            least.open.fetch_add(1, Ordering::Relaxed);
            // A loop ends with the process only.
            let _ = least.streams.send((stream, speaks));
        }
    }

    /// Connections that are open.
    pub fn count(&self) -> usize {
        self.loops.iter().map(|one| one.open.load(Ordering::Relaxed)).sum()
    }

    /// Closes connections that are idle, and the others after their request.
    pub fn close(&self) {
        self.closer.all();
    }

    /// The same of those that are open now, to make room for others.
    pub fn relieve(&self) {
        self.closer.present();
    }

    /// Waits until there is none.
    pub async fn closed(&self) {
        // A stream on its way to its loop is counted before it can be waited for.
        while self.count() > 0 {
            self.closer.closed().await;
            tokio::task::yield_now().await;
        }
    }
}

impl Loop {
    fn start(index: usize, worker: Worker, task: Option<Task>, front: Arc<Front>, closer: Closer) -> Result<Self> {
        let (streams, mut handed) = mpsc::unbounded_channel::<(std::net::TcpStream, Speaks)>();
        let open = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&open);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start an event loop")?;
        std::thread::Builder::new()
            .name(format!("loop-{index}"))
            .spawn(move || {
                runtime.block_on(async move {
                    if let Some(task) = task {
                        tokio::spawn(task);
                    }
                    let worker = Arc::new(worker);
                    while let Some((stream, speaks)) = handed.recv().await {
                        let closing = closer.subscribe();
                        let (worker, front) = (Arc::clone(&worker), Arc::clone(&front));
                        let open = Open::begin(&counted, &worker);
                        tokio::spawn(async move {
                            if let Ok(stream) = TcpStream::from_std(stream) {
                                connection::serve(stream, speaks, worker, front, closing).await;
                            }
                            drop(open);
                        });
                    }
                });
            })
            .context("cannot start the thread of an event loop")?;
        Ok(Self { streams, open })
    }
}

/// An open connection, which its loop has counted already.
struct Open {
    counted: Arc<AtomicUsize>,
    worker: Arc<Worker>,
}

impl Open {
    fn begin(counted: &Arc<AtomicUsize>, worker: &Arc<Worker>) -> Self {
        worker.service().metrics().connected();
        Self {
            counted: Arc::clone(counted),
            worker: Arc::clone(worker),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counted.fetch_sub(1, Ordering::Relaxed);
        self.worker.service().metrics().disconnected();
    }
}
