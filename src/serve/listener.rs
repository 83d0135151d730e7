//! Where connections come from: a socket of the server's own, or one that a supervisor shares between replicas.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use super::settings::Settings;
use crate::problem::Problem;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    shared: bool,
}

impl Listener {
    /// Binds the host of the settings at `port`, which was given by the flag `--{flag}`.
    ///
    /// # Errors
    ///
    /// When the address is reachable from other machines and that was not asked for, when the port is taken, or as the
    /// system says.
    pub async fn bind(settings: &Settings, flag: &str, port: u16) -> Result<Self> {
        let host = &settings.host;
        let addresses: Vec<SocketAddr> = lookup_host((host.as_str(), port))
            .await
            .with_context(|| format!("cannot find host `{host}`"))?
            .collect();
        let anyone = settings.keys.is_none() && !settings.allow_public;
        if anyone && addresses.iter().any(|address| !address.ip().is_loopback()) {
            return Err(Problem::new(format!(
                "`{host}` can be reached from other machines, and without `--keys` this server answers anyone"
            ))
            .hint(
                "`emberline keys add NAME` makes a key, `--keys emberline.keys` lets in who has one; --allow-public lets in \
                 everyone; otherwise use --host 127.0.0.1",
            )
            .into());
        }
        match TcpListener::bind(&addresses[..]).await {
            Ok(socket) => Ok(Self { socket, shared: false }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Problem::new(format!(
                "port {port} of `{host}` is taken by another process"
            ))
            .hint(format!(
                "give another with `--{flag} N` (0 takes a free one); `ss -ltnp sport = :{port}` or `lsof -i :{port}` \
                         tells who has it"
            ))
            .into()),
            Err(error) => Err(Problem::new(format!("cannot listen on port {port} of `{host}`: {error}")).into()),
        }
    }

    /// A socket that other processes accept from as well.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn shared(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: TcpListener::from_std(socket)?,
            shared: true,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// That the system has no file descriptor or no memory for another one: those that are open will free some.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => return Ok(stream),
                // The client went before it was let in.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Stops listening. What the kernel has let in already would be lost with a socket of the server's own, so it is
    /// handed over; on a shared one it stays for the others. (What the kernel lets in between the last look and the
    /// closing, a few microseconds, it resets: `--drain` or a shared socket are there for those who cannot have that.)
    pub fn close(self) -> Vec<TcpStream> {
        let mut streams = Vec::new();
        if !self.shared
            && let Ok(socket) = self.socket.into_std()
        {
            while let Ok((stream, _)) = socket.accept() {
                let taken = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                streams.extend(taken);
            }
        }
        streams
    }
}
