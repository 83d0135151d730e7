//! One question to a server from beside it: is it ready? It is for the health check of a container, in which there is no
//! other program that could ask.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Settings;
use crate::problem::Problem;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

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
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(silent)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream
        .write_all(format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .with_context(silent)?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).with_context(silent)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(Problem::new(format!("the server at {address} is not ready: `{status}`")).into())
}
