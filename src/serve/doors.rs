//! The sockets that a server is reached by: the first, for HTTP/1.1, and a second for another protocol, if there is one.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use super::listener::Listener;
use super::second_port::SecondPort;
use super::settings::Settings;
use super::tls::Inside;
use crate::problem::Problem;

/// What is spoken on a stream.
#[derive(Clone, Copy, Debug)]
pub enum Speaks {
    /// HTTP/1.1.
    Http,
    /// Another protocol.
    Other(&'static dyn SecondPort),
}

impl Speaks {
    /// What it is inside of TLS.
    pub fn inside(self) -> Inside {
        match self {
            Self::Http => Inside::Http1,
            Self::Other(_) => Inside::Http2,
        }
    }
}

/// The listening sockets.
#[derive(Debug)]
pub struct Doors {
    first: Listener,
    second: Option<(Listener, &'static dyn SecondPort)>,
}

impl Doors {
    /// Binds what the settings ask for; `second` is spoken on the second port.
    ///
    /// # Errors
    ///
    /// When a second port is asked for and there is nothing to be spoken there, and as [`Listener::bind`].
    pub async fn bind(settings: &Settings, second: Option<&'static dyn SecondPort>) -> Result<Self> {
        let second = match (settings.grpc_port, second) {
            (None, _) => None,
            (Some(port), Some(speaks)) => Some((Listener::bind(settings, "grpc-port", port).await?, speaks)),
            (Some(_), None) => {
                return Err(Problem::new("`--grpc-port`: this build has no gRPC")
                    .hint("build it with the cargo feature `grpc`, or leave out --grpc-port (EMBERLINE_GRPC_PORT)")
                    .into());
            }
        };
        let first = Listener::bind(settings, "port", settings.port).await?;
        Ok(Self { first, second })
    }

    /// One that other processes accept from as well.
    pub fn shared(first: Listener) -> Self {
        Self { first, second: None }
    }

    /// Where HTTP is spoken.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn address(&self) -> Result<SocketAddr> {
        told(self.first.address())
    }

    /// Where something else is spoken, and what; none when there is one door.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn second(&self) -> Result<Option<(SocketAddr, &'static str)>> {
        let Some((listener, speaks)) = &self.second else {
            return Ok(None);
        };
        Ok(Some((told(listener.address())?, speaks.name())))
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// As [`Listener::accept`].
    pub async fn accept(&self) -> io::Result<(TcpStream, Speaks)> {
        let Some((second, speaks)) = &self.second else {
            return Ok((self.first.accept().await?, Speaks::Http));
        };
        tokio::select! {
            stream = self.first.accept() => Ok((stream?, Speaks::Http)),
            stream = second.accept() => Ok((stream?, Speaks::Other(*speaks))),
        }
    }

    /// Stops listening, and gives what [`Listener::close`] does.
    pub fn close(self) -> Vec<(TcpStream, Speaks)> {
        let first = self.first.close().into_iter().map(|stream| (stream, Speaks::Http));
        let second = self.second.into_iter().flat_map(|(listener, speaks)| {
            let streams = listener.close().into_iter();
            streams.map(move |stream| (stream, Speaks::Other(speaks)))
        });
        first.chain(second).collect()
    }
}

fn told(address: io::Result<SocketAddr>) -> Result<SocketAddr> {
    address.context("cannot tell the address of the socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_port_without_a_protocol_is_refused() {
        let settings = Settings {
            port: 0,
            grpc_port: Some(0),
            ..Settings::default()
        };
        let error = Doors::bind(&settings, None).await.expect_err("refused");
        assert!(error.to_string().contains("this build has no gRPC"), "{error}");
        let hint = error.downcast_ref::<Problem>().and_then(Problem::hint_text);
        assert!(hint.is_some_and(|hint| hint.contains("feature `grpc`")), "{hint:?}");
    }
}
