//! One question to a server from beside it: is it ready? It is for the health check of a container, in which there is no
//! other program that could ask.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Settings, tls};
use crate::problem::Problem;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// Asks the server that listens as `settings` say.
///
/// # Errors
///
/// When it does not answer, or answers that it is not ready.
pub fn check(settings: &Settings) -> Result<()> {
    let (host, port) = (&settings.host, settings.port);
    let mut address = (host.as_str(), port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .with_context(|| format!("cannot find host `{host}`"))?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let silent = || format!("no server answers at {address}");
    let stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(silent)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A server with TLS answers within TLS; keys are not asked for here.
    let mut stream: Box<dyn Stream> = match settings.tls_cert {
        Some(_) => Box::new(tls::connect(stream, address.ip())?),
        None => Box::new(stream),
    };
    stream
        .write_all(format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .with_context(silent)?;
    let mut status = String::new();
    BufReader::new(stream.take(4096))
        .read_line(&mut status)
        .with_context(silent)?;
    let status = status.trim_end();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(Problem::new(format!("the server at {address} is not ready: `{status}`")).into())
}
