//! The address of the service: one nginx of this machine, which spreads requests over the containers' ports. It knows
//! ports and no containers.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result};

use super::spec::Release;
use crate::deploy::records::Records;
use crate::gateway::nginx::Nginx;
use crate::gateway::{Gateway, Route, Upstream};
use crate::problem::Problem;
use crate::project::Balance;

/// The nginx of one service.
#[derive(Debug)]
pub struct Front {
    name: String,
    nginx: Nginx,
    max_body: usize,
}

impl Front {
    /// The front of the service `name`, with its files beside the target's; it need not run yet. Bodies of requests
    /// hold up to `max_body` bytes.
    pub fn new(name: &str, records: &Records, max_body: usize) -> Self {
        Self {
            name: name.to_owned(),
            nginx: Nginx::new(&records.folder().join("nginx")),
            max_body,
        }
    }

    /// Whether a release could be served; changes nothing.
    ///
    /// # Errors
    ///
    /// No nginx, a host that is not found, or a port that is taken.
    pub fn check(&self, release: &Release) -> Result<()> {
        self.nginx.check(listen(release)?, "--port")
    }

    /// Has the containers at `ports` answer at the address of `release`, and no others. Returns when no request is on
    /// its way to any other.
    ///
    /// # Errors
    ///
    /// Why nginx does not take it; what served before serves on.
    pub fn serve(&self, release: &Release, ports: impl Iterator<Item = u16>) -> Result<()> {
        let mut ports: Vec<u16> = ports.collect();
        // The same set is the same configuration, which changes nothing.
        ports.sort_unstable();
        let upstreams: Result<Vec<Upstream>> = ports
            .into_iter()
            .map(|port| Upstream::of_service("127.0.0.1", port))
            .collect();
        let listen = listen(release)?;
        let gateway = Gateway::new(&self.name, listen, Balance::RoundRobin, upstreams?, self.max_body)?;
        self.nginx.hand_over(&gateway.at(Route::Root)).map(drop)
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.nginx.runs()
    }

    /// Ends it, after it has answered what it has accepted.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn down(&self) -> Result<()> {
        if self.runs() {
            self.nginx.down()?;
        }
        Ok(())
    }
}

fn listen(release: &Release) -> Result<SocketAddr> {
    let Release { host, port, .. } = release;
    let failed = || format!("cannot find host `{host}`");
    let mut addresses = (host.trim_matches(['[', ']']), *port)
        .to_socket_addrs()
        .with_context(failed)?;
    addresses.next().ok_or_else(|| Problem::new(failed()).into())
}
