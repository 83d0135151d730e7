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
/// How the address of an engine on this machine begins.
const LOCAL: [&str; 2] = ["unix://", "npipe://"];
/// And of any other.
const REMOTE: [&str; 4] = ["tcp://", "http://", "https://", "ssh://"];
/// Characters of an answer that are told when it is no engine's.
const TOLD: usize = 200;
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
        let host = host()?;
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

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When `DOCKER_HOST` is no address of an engine.
    pub fn address() -> Result<String> {
        host()
    }

    /// Whether ports that it publishes on loopback are those of this machine.
    ///
    /// # Errors
    ///
    /// When `DOCKER_HOST` is no address of an engine.
    pub fn is_local() -> Result<bool> {
        let host = host()?;
        Ok(LOCAL.iter().any(|scheme| host.starts_with(scheme)))
    }
}

/// Where the engine listens.
fn host() -> Result<String> {
    let named = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    named.map_or_else(|| Ok(DEFAULT_HOST.to_owned()), |host| Ok(address(host)?))
}

/// What `DOCKER_HOST` says, if it may be an engine's address.
fn address(host: String) -> Result<String, Problem> {
    if LOCAL.iter().chain(&REMOTE).any(|scheme| host.starts_with(scheme)) {
        return Ok(host);
    }
    Err(Problem::new(format!(
        "DOCKER_HOST is `{host}`, which is no address of a container engine"
    ))
    .hint(format!(
        "an address begins with `unix://` or `tcp://`; unset it for the engine of this machine, `{DEFAULT_HOST}`"
    )))
}

fn unreachable(host: &str, error: &Error) -> Problem {
    let cause = brief(&innermost(error));
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

/// The first line of what may be a whole page of something that is no engine.
fn brief(cause: &str) -> String {
    let line = cause.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(TOLD) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
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

    #[test]
    fn what_is_no_address_is_told_from_another_machine() {
        for host in ["unix:///run/docker.sock", "tcp://10.0.0.1:2375"] {
            assert_eq!(address(host.to_owned()).expect("an address"), host);
        }
        let refused = address("garbage".to_owned()).expect_err("no address").to_string();
        assert!(refused.contains("`garbage`, which is no address"), "{refused}");
    }

    #[test]
    fn a_page_of_something_else_is_cut() {
        let error = |message: String| Error::DockerResponseServerError {
            status_code: 404,
            message,
        };
        let page = error(format!("<html>\n<body>{}</body>\n</html>", "no".repeat(500)));
        let told = unreachable(DEFAULT_HOST, &page).to_string();
        assert!(told.contains("<html>") && !told.contains("<body>"), "{told}");
        let told = unreachable(DEFAULT_HOST, &error("é".repeat(5000))).to_string();
        assert!(told.chars().count() < 2 * TOLD && told.ends_with("..."), "{told}");
    }
}
