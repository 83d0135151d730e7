//! Another protocol on a port of its own, beside HTTP/1.1 on the first: what it is given, and what it may use.
//!
//! Who starts a server brings the protocol; the server knows none, so the first port costs the same with and without.
//! A second port shares the loops, the model, the keys, the counts and the end of the server, through what is named here,
//! in [`super::signature`] and in [`super::tensor`], and nothing else.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

pub use super::closing::Closing;
pub use super::front::{Front, Outcome, Visit};
pub use super::metrics::Protocol;
pub use super::payload::read;
pub use super::refusal::Refusal;
pub use super::request_id::REQUEST_ID;
pub use super::service::Service;
pub use super::timed::{Limits, Timed, Turn};
pub use super::v2::SERVER;
pub use super::worker::{Answers, Inputs, Worker};

/// A protocol over HTTP/2.
pub trait SecondPort: Debug + Sync {
    /// What it is called, for people.
    fn name(&self) -> &'static str;

    /// Serves a connection until it is closed, or told to close and its requests are answered.
    fn serve(&self, connection: Connection) -> Serving;
}

/// A connection that is being served, on the loop that it was given to.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that a client has opened, with what its requests are answered with.
#[derive(Debug)]
pub struct Connection {
    /// What the client sends and receives, out of TLS where that is spoken.
    pub stream: Box<dyn Stream>,
    /// Where it comes from, when anyone wants to know.
    pub client: Option<SocketAddr>,
    /// The way to the model.
    pub worker: Arc<Worker>,
    /// What every request has to do with.
    pub front: Arc<Front>,
    /// Says when the connection is to close as soon as its requests are answered.
    pub closing: Closing,
}

/// Both ways of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Debug + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Debug + Unpin + Send> Stream for S {}
