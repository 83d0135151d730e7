//! The service that is asked, and the connections to it that are kept.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio::time::{Instant, timeout_at};

use super::client::{self, Connection};
use super::question::Question;

/// The service, by its address, and what it is asked.
pub struct Service {
    questions: Vec<Question>,
    address: SocketAddr,
    kept: Mutex<VecDeque<Connection>>,
    /// Connections that are kept while nobody uses them.
    most_kept: usize,
}

/// What became of a request.
pub struct Outcome {
    /// The version that answered, or why it failed.
    pub version: Result<String, String>,
    /// Bytes that were sent, and that came back with an answer.
    pub bytes: [usize; 2],
}

impl Service {
    /// Nothing is asked yet.
    pub fn new(questions: Vec<Question>, address: SocketAddr, most_kept: usize) -> Self {
        Self {
            questions,
            address,
            kept: Mutex::default(),
            most_kept,
        }
    }

    /// Asks one question, of all in turn, over a connection that is kept or one of its own.
    pub async fn ask(&self, turn: u64, keeps: bool, deadline: Instant) -> Outcome {
        let question = &self.questions[turn as usize % self.questions.len()];
        let request = &question.requests[usize::from(!keeps)];
        let exchange = async {
            let idle = if keeps { self.idle() } else { None };
            let mut connection = match idle {
                Some(connection) => connection,
                None => Connection::open(self.address).await?,
            };
            let answer = connection.exchange(request).await?;
            if keeps && !answer.closes {
                self.keep(connection);
            }
            Ok(answer)
        };
        let (version, received) = match timeout_at(deadline, exchange).await {
            Ok(Ok(answer)) => (question.check(&answer), answer.head + answer.body.len()),
            Ok(Err(error)) => (Err(client::class(&error)), 0),
            Err(_) => (Err("timeout".to_owned()), 0),
        };
        Outcome {
            version,
            bytes: [request.len(), received],
        }
    }

    /// The answer to another request, over a connection of its own.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub async fn fetch(&self, request: &[u8], deadline: Instant) -> io::Result<client::Answer> {
        let exchange = async { Connection::open(self.address).await?.exchange(request).await };
        timeout_at(deadline, exchange).await?
    }

    /// The connection that has lain idle for longest, so that each is in use; one that the server has closed meanwhile is
    /// none, as for every client (RFC 9112, 9.3.1).
    fn idle(&self) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| kept.pop_front()).find(Connection::is_open)
    }

    fn keep(&self, connection: Connection) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.most_kept {
            kept.push_back(connection);
        }
    }
}
