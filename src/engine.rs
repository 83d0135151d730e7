//! The container engine of `DOCKER_HOST`, or of this machine: found, asked whether it answers, and told what is wrong
//! with it. What is done with it is in `image` and `deploy`.

use std::env;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use bollard::Docker;
use bollard::errors::Error;
use tokio::runtime::{Builder, Runtime};

use crate::problem::Problem;

/// How long an engine may take to say that it is there.
const HELLO: Duration = Duration::from_secs(5);
/// Where an engine listens that nobody has told to listen elsewhere.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// An engine that has answered.
#[derive(Debug)]
pub struct Engine {
    docker: Docker,
    runtime: Runtime,
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, or the one of this machine, with which a version of its interface was agreed on.
    ///
    /// # Errors
    ///
    /// A [`Problem`] with a hint when none answers or it may not be asked.
    pub fn connect() -> Result<Self> {
        let host = host();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot prepare to talk to the container engine")?;
        let docker = runtime.block_on(async {
            let docker = Docker::connect_with_host(&host).map_err(|error| unreachable(&host, &error))?;
            match tokio::time::timeout(HELLO, docker.negotiate_version()).await {
                Ok(answer) => answer.map_err(|error| unreachable(&host, &error)),
                Err(_) => Err(Problem::new(format!(
                    "the container engine at `{host}` does not answer within {} s",
                    HELLO.as_secs()
                ))
                .hint("`docker version` asks it as well")),
            }
        })?;
        Ok(Self { docker, runtime })
    }

    /// Its interface.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Waits for what was asked of it.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Whether ports that it publishes on loopback are those of this machine.
    pub fn is_local() -> bool {
        let host = host();
        host.starts_with("unix://") || host.starts_with("npipe://")
    }
}

/// Where the engine listens.
fn host() -> String {
    env::var("DOCKER_HOST")
        .ok()
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| DEFAULT_HOST.to_owned())
}

fn unreachable(host: &str, error: &Error) -> Problem {
    let cause = innermost(error);
    if cause.to_lowercase().contains("permission denied") {
        return Problem::new(format!("you may not use the container engine at `{host}`: {cause}"))
            .hint("add yourself to the group `docker`, and log in again: `sudo usermod -aG docker $USER`");
    }
    let problem = Problem::new(format!("no container engine answers at `{host}`: {cause}"));
    if env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty()) {
        problem.hint("DOCKER_HOST says where it is looked for; unset it for the one of this machine")
    } else {
        problem.hint("start Docker (`sudo systemctl start docker`), or name an engine in DOCKER_HOST")
    }
}

/// The last of an error's causes: what the others only wrap.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_told_from_a_missing_engine() {
        let error = |kind| Error::IOError {
            err: std::io::Error::from(kind),
        };
        let denied = unreachable(DEFAULT_HOST, &error(std::io::ErrorKind::PermissionDenied));
        assert!(denied.to_string().contains("may not"), "{denied}");
        let absent = unreachable(DEFAULT_HOST, &error(std::io::ErrorKind::NotFound));
        assert!(absent.to_string().contains("no container engine answers"), "{absent}");
    }
}
