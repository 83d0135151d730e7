//! The containers of one service, as the engine knows them: found by their labels, started, ended and read. What should
//! be there is decided elsewhere.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HealthConfig, HostConfig, HostConfigLogConfig, PortBinding,
    RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder};
use bollard::query_parameters::{RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptions};
use futures_util::StreamExt;
use futures_util::future::{join_all, try_join_all};

use super::container::{Container, PORT, PROJECT, REPLICA, REVISION, VERSION};
use super::spec::{Release, is_packaged};
use crate::deploy::history::ReleaseSource;
use crate::engine::Engine;
use crate::problem::Problem;

/// The one that asks a server from beside it, without a shell.
const HEALTH: [&str; 3] = ["CMD", "/emberline-server", "--health"];
/// How long a container may take to end: what the server gives to requests in hand, and a margin.
const STOP_SECONDS: i64 = 30;
/// Processes and threads of a container: a server has one thread for each processor, and a few more.
const MOST_THREADS: i64 = 512;
/// Where ports are taken from: below those that the kernel gives to outgoing connections, any of which could hold the
/// port when the engine comes back.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// Ports that are tried when another process takes the one that was free.
const ATTEMPTS: usize = 5;
/// How long a server may take to say whether it is ready.
const ANSWER: Duration = Duration::from_secs(1);

/// Whose containers they are.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The project's name.
    pub name: String,
    /// The project's name, with its destination.
    pub instance: String,
    /// What no other project's folder and destination has, 12 hex digits.
    pub project: String,
}

/// The containers of one service.
#[derive(Debug)]
pub struct Containers {
    engine: Engine,
    identity: Identity,
    agent: ureq::Agent,
}

impl Containers {
    /// Those of `identity`; there need not be any.
    pub fn new(engine: Engine, identity: Identity) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            // Loopback is never behind a proxy.
            .proxy(None)
            .build();
        Self {
            engine,
            identity,
            agent: config.into(),
        }
    }

    /// The engine's id of the image of a bundle.
    ///
    /// # Errors
    ///
    /// A [`Problem`] when the engine has no such image, or it holds another bundle.
    pub fn image(&self, source: &ReleaseSource) -> Result<String> {
        let ReleaseSource {
            version, digest, image, ..
        } = source;
        let reference = image.as_deref().unwrap_or_default();
        // Any other image is one that somebody has named.
        let package = is_packaged(reference, version)
            .then(|| format!("`emberline package --builder docker --bundle {version}` makes it"));
        let found = self.engine.block_on(self.engine.docker().inspect_image(reference));
        let image = match found {
            Ok(image) => image,
            Err(error) if status(&error) == Some(404) => {
                let pull =
                    format!("`docker pull {reference}` gets it from a registry, `docker load` reads it from a file");
                return Err(Problem::new(format!("there is no image `{reference}` in the engine"))
                    .hint(package.map_or(pull.clone(), |package| format!("{package}, {pull}")))
                    .into());
            }
            Err(error) => return Err(error).with_context(|| format!("cannot inspect image `{reference}`")),
        };
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        let held = labels.get("emberline.bundle.digest").map(String::as_str);
        if held != Some(digest) {
            let held = match held {
                Some(held) => format!("bundle `{}`", short(held)),
                None => "no bundle that it tells of".to_owned(),
            };
            return Err(Problem::new(format!(
                "image `{reference}` holds {held}, and bundle `{}` is to be deployed",
                short(digest)
            ))
            .hint(package.map_or_else(
                || format!("`emberline deploy --bundle {version} --image REFERENCE` takes the image of that bundle"),
                |package| format!("{package} anew"),
            ))
            .into());
        }
        image.id.context("the engine tells no id of the image")
    }

    /// Those that there are, in the order of revisions and replicas.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn list(&self) -> Result<Vec<Container>> {
        let label = format!("{PROJECT}={}", self.identity.project);
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let docker = self.engine.docker();
        let found = self.engine.block_on(async {
            let listed = docker.list_containers(Some(options)).await?;
            let ids = listed.into_iter().filter_map(|found| found.id);
            try_join_all(ids.map(|id| async move {
                match docker.inspect_container(&id, None).await {
                    // It has gone between the two looks.
                    Err(error) if status(&error) == Some(404) => Ok(None),
                    found => found.map(Some),
                }
            }))
            .await
        });
        let found = found.context("cannot ask the engine for its containers")?;
        let mut containers: Vec<Container> = found
            .into_iter()
            .flatten()
            .filter_map(|found| Container::of(found, |port| self.answers(port)))
            .collect();
        containers.sort_by_key(|container| (container.revision, container.replica));
        Ok(containers)
    }

    /// One of them, as it is now; none when it has gone.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn look(&self, id: &str) -> Result<Option<Container>> {
        match self.engine.block_on(self.engine.docker().inspect_container(id, None)) {
            Ok(found) => Ok(Container::of(found, |port| self.answers(port))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error).context("cannot ask the engine for a container"),
        }
    }

    /// Whether the server behind a port of this machine says that it is ready.
    fn answers(&self, port: u16) -> bool {
        self.agent.get(format!("http://127.0.0.1:{port}/readyz")).call().is_ok()
    }

    /// Starts a replica, and gives its id. Until [`Containers::keep`] it is not started again when it ends, so that how it
    /// ended can be told.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn start(&self, release: &Release, replica: u32) -> Result<String> {
        let Identity { name, project, .. } = &self.identity;
        let name = format!("{name}-{}-r{}-{replica}", &project[..6], release.revision);
        let mut attempts = 0;
        let mut taken: Vec<u16> = self.list()?.iter().map(|container| container.port).collect();
        loop {
            let port = self.free_port(&taken)?;
            let options = CreateContainerOptionsBuilder::new().name(&name).build();
            let body = self.body(release, replica, port);
            let docker = self.engine.docker();
            let started = self.engine.block_on(async {
                let created = docker.create_container(Some(options), body).await?;
                let started = docker.start_container(&created.id, None::<StartContainerOptions>).await;
                if started.is_err() {
                    let _ = docker.remove_container(&created.id, Some(force())).await;
                }
                started.map(|()| created.id)
            });
            attempts += 1;
            match started {
                Err(error) if attempts < ATTEMPTS && is_port_taken(&error) => taken.push(port),
                started => return started.with_context(|| format!("the engine does not start `{name}`")),
            }
        }
    }

    /// A port that nobody listens on, and none of `taken`. Each project begins elsewhere, so that two of them are not
    /// after the same one.
    fn free_port(&self, taken: &[u16]) -> Result<u16> {
        let count = usize::from(PORTS.end - PORTS.start);
        let begin = usize::from_str_radix(&self.identity.project[..6], 16).unwrap_or_default();
        (0..count)
            .map(|step| PORTS.start + ((begin + step) % count) as u16)
            .find(|port| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
            .ok_or_else(|| Problem::new(format!("no port of {} to {} is free", PORTS.start, PORTS.end - 1)).into())
    }

    fn body(&self, release: &Release, replica: u32, port: u16) -> ContainerCreateBody {
        let Identity {
            name,
            instance,
            project,
        } = &self.identity;
        let labels = [
            ("app.kubernetes.io/name", name.clone()),
            ("app.kubernetes.io/instance", instance.clone()),
            (VERSION, release.source.version.clone()),
            ("app.kubernetes.io/managed-by", "emberline".to_owned()),
            ("emberline.bundle.digest", release.source.digest.clone()),
            (PROJECT, project.clone()),
            (REVISION, release.revision.to_string()),
            (REPLICA, replica.to_string()),
        ];
        let nanoseconds = |seconds: i64| Some(seconds * 1_000_000_000);
        let memory = i64::try_from(release.memory.bytes()).ok();
        ContainerCreateBody {
            image: Some(release.image().to_owned()),
            labels: Some(labels.map(|(label, value)| (label.to_owned(), value)).into()),
            healthcheck: Some(HealthConfig {
                test: Some(HEALTH.map(str::to_owned).to_vec()),
                interval: nanoseconds(10),
                timeout: nanoseconds(5),
                start_period: nanoseconds(60),
                retries: Some(3),
                start_interval: None,
            }),
            stop_timeout: Some(STOP_SECONDS),
            host_config: Some(HostConfig {
                readonly_rootfs: Some(true),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
                memory,
                // As much as the memory alone: no swap.
                memory_swap: memory,
                pids_limit: Some(MOST_THREADS),
                port_bindings: Some(HashMap::from([(
                    PORT.to_owned(),
                    Some(vec![PortBinding {
                        host_ip: Some(Ipv4Addr::LOCALHOST.to_string()),
                        host_port: Some(port.to_string()),
                    }]),
                )])),
                log_config: Some(HostConfigLogConfig {
                    typ: Some("json-file".to_owned()),
                    config: Some([("max-size", "4m"), ("max-file", "2")].map(owned).into()),
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// From now on the engine starts it again whenever it ends, and when the engine itself comes back.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn keep(&self, container: &Container) -> Result<()> {
        let update = ContainerUpdateBody {
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            ..ContainerUpdateBody::default()
        };
        self.engine
            .block_on(self.engine.docker().update_container(&container.id, update))
            .with_context(|| format!("the engine does not change `{}`", container.name))
    }

    /// Ends containers after they have answered what they have accepted, all at the same time, and removes them.
    ///
    /// # Errors
    ///
    /// What the engine says of the first one that stays.
    pub fn end(&self, containers: &[&Container]) -> Result<()> {
        let docker = self.engine.docker();
        let ends = containers.iter().map(|container| async move {
            // One that does not stop is killed by the removal.
            let _ = docker.stop_container(&container.id, None::<StopContainerOptions>).await;
            match docker.remove_container(&container.id, Some(force())).await {
                Err(error) if !matches!(status(&error), Some(404 | 409)) => {
                    Err(error).with_context(|| format!("the engine does not remove `{}`", container.name))
                }
                _ => Ok(()),
            }
        });
        self.engine.block_on(join_all(ends)).into_iter().collect()
    }

    /// The last lines of a container's log; none when it cannot be read.
    pub fn last_lines(&self, container: &Container, lines: usize) -> Vec<String> {
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail(&lines.to_string());
        let stream = self.engine.docker().logs(&container.id, Some(options.build()));
        self.engine.block_on(
            stream
                .filter_map(|output| async move { output.ok().map(|output| line(output.as_ref())) })
                .collect(),
        )
    }

    /// The engine, for what is done with it over a longer time.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Without its newline.
pub fn line(output: &[u8]) -> String {
    String::from_utf8_lossy(output)
        .trim_end_matches(['\n', '\r'])
        .to_owned()
}

fn force() -> bollard::query_parameters::RemoveContainerOptions {
    RemoveContainerOptionsBuilder::new().force(true).v(true).build()
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A digest as people tell bundles apart.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// The HTTP status of a refusal.
fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn is_port_taken(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("port is already allocated") || text.contains("address already in use")
}
