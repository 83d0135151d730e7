//! `docker`: replicas as containers of this machine's engine, behind one nginx that holds the service's address.
//!
//! What is wanted stands in a file ([`spec`]), and what there is in the engine alone: containers are told apart by
//! their labels, so that every command adopts what it finds. Which step comes next is decided in [`plan`], and taken in
//! [`converge`] with [`containers`] and the [`front`].

mod container;
mod containers;
mod converge;
mod front;
mod logs;
mod plan;
mod spec;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::container::Container;
use self::containers::{Containers, Identity};
use self::converge::Patience;
use self::front::Front;
use self::plan::State;
use self::spec::{Release, Spec};
use crate::bundle::Footprint;
use crate::deploy::history::{self, Outcome, Revision, Scaled};
use crate::deploy::records::Records;
use crate::deploy::{
    Autoscale, DeployError, Events, LogLine, LogQuery, Phase, Replicas, Request, Resources, Service, Target, Trouble,
    address, post,
};
use crate::engine::Engine;
use crate::files;
use crate::problem::Problem;
use crate::project::{DeployConfig, Project, TargetKind};

/// Replicas that fit on a machine: more are a slip of the finger.
const MOST_REPLICAS: usize = 100;

/// The service of one project in this machine's engine.
#[derive(Debug)]
pub struct Docker {
    name: String,
    config: DeployConfig,
    records: Records,
    containers: Containers,
    front: Front,
}

impl Docker {
    /// The service of `project`; it need not be deployed yet. Its address takes bodies of up to `max_body` bytes.
    ///
    /// # Errors
    ///
    /// When no engine answers, or it is not of this machine.
    pub fn new(project: &Project, max_body: usize) -> Result<Self> {
        if !Engine::is_local()? {
            return Err(
                Problem::new("the container engine is another machine's, and the address would be this one's")
                    .hint("run `emberline` over there, or unset DOCKER_HOST for the engine of this machine")
                    .into(),
            );
        }
        let engine = Engine::connect()?;
        let name = project.config.name.clone();
        let records = Records::of_project(project, "docker");
        Ok(Self {
            config: project.config.deploy.clone(),
            front: Front::new(&name, &records, max_body),
            containers: Containers::new(engine, identity(project)),
            records,
            name,
        })
    }

    fn spec(&self) -> Result<Spec> {
        Spec::read(&self.records)?.ok_or_else(|| self.nothing_deployed())
    }

    fn nothing_deployed(&self) -> anyhow::Error {
        Problem::new(format!("`{}` is not deployed to this machine's engine", self.name))
            .hint("`emberline deploy --target docker` serves the newest bundle")
            .into()
    }

    /// What is told while `release` is on its way.
    fn told(&self, release: &Release, found: &[Container], phase: Phase) -> Service {
        let runs = !matches!(phase, Phase::Failed | Phase::Stopped);
        let ready = |container: &&Container| container.state == State::Ready;
        Service {
            name: self.name.clone(),
            target: TargetKind::Docker,
            version: release.source.version.clone(),
            revision: release.revision,
            replicas: Replicas {
                desired: release.replicas,
                ready: found.iter().filter(ready).count(),
            },
            image: release.source.image.clone(),
            namespace: None,
            autoscale: None,
            address: runs.then(|| address(&release.host, release.port)),
            address_hint: (!runs).then(|| format!("nothing answers; `{}` brings it back", release.command())),
            phase,
            instances: found.iter().map(Container::instance).collect(),
            trouble: None,
            proof: None,
            proof_hint: None,
            canary: None,
        }
    }

    /// What there is, when nobody is changing it.
    fn service(&self, spec: &Spec) -> Result<Service> {
        let found = self.containers.list()?;
        let release = &spec.release;
        let outcome = spec.outcome(&self.records)?;
        let as_wanted = found.len() == release.replicas
            && found
                .iter()
                .all(|container| container.revision == release.revision && container.state == State::Ready);
        let serves = self.front.runs() && found.iter().any(|container| container.state != State::Dead);
        let failed_later = spec
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.revision > release.revision);
        let phase = match outcome {
            Outcome::Failed if !serves => Phase::Failed,
            _ if !serves => Phase::Stopped,
            Outcome::Deployed if as_wanted && failed_later => Phase::RolledBack,
            Outcome::Deployed if as_wanted => Phase::Ready,
            _ => Phase::Progressing,
        };
        let trouble = match spec.half_way(&self.records)? {
            Some(half_way) if !self.records.is_locked() => Some(half_way),
            _ => spec.trouble.clone(),
        };
        Ok(Service {
            trouble,
            ..self.told(release, &found, phase)
        })
    }

    /// Makes a revision of `release`, whose number is not set yet, and rolls it out.
    fn roll(
        &self,
        mut release: Release,
        rolled_back_to: Option<u64>,
        timeout: Duration,
        events: &dyn Events,
    ) -> Result<Service> {
        let before = Spec::read(&self.records)?;
        let former = match &before {
            Some(spec) => spec.serving(&self.records)?,
            None => None,
        };
        // The engine may remember revisions that the folder has forgotten.
        let found = self.containers.list()?.iter().map(|container| container.revision).max();
        let newest = self
            .records
            .supersede()?
            .max(before.map_or(0, |spec| spec.release.revision))
            .max(found.unwrap_or(0));
        let record = Revision::now(newest + 1, release.source.clone(), rolled_back_to);
        self.records.write_revision(&record)?;
        release.revision = record.revision;
        let spec = Spec {
            release,
            former,
            trouble: None,
        };
        let patience = Patience {
            each: timeout,
            until: None,
        };
        converge::apply(self, spec, patience, events)
    }
}

impl Target for Docker {
    fn deploy(&self, request: &Request, events: &dyn Events) -> Result<Service> {
        check_number(request.replicas)?;
        let _lock = self.records.lock(&self.name, "emberline deploy")?;
        let image = self.containers.image(&request.source)?;
        let release = Release {
            revision: 0,
            source: request.source.clone(),
            host: request.host.clone(),
            port: request.port,
            replicas: request.replicas,
            memory: request.resources.memory,
        };
        self.front.check(&release)?;
        if let Some(before) = Spec::read(&self.records)?
            && matches!(before.outcome(&self.records)?, Outcome::Deployed | Outcome::Progressing)
            && (&before.release.source.digest, &before.release.source.image)
                == (&release.source.digest, &release.source.image)
            && before.release.memory == release.memory
            && self
                .containers
                .list()?
                .iter()
                .all(|container| container.revision != before.release.revision || container.image == image)
        {
            let former = before.serving(&self.records)?;
            let scaled = Scaled::to(before.release.replicas, release.replicas);
            let release = Release {
                revision: before.release.revision,
                ..release
            };
            let spec = Spec {
                release,
                former,
                trouble: None,
            };
            let patience = Patience {
                each: request.timeout,
                until: None,
            };
            let revision = spec.release.revision;
            return self
                .records
                .scale(revision, scaled, || converge::apply(self, spec, patience, events));
        }
        self.roll(release, None, request.timeout, events)
    }

    fn scale(&self, replicas: usize, timeout: Duration, events: &dyn Events) -> Result<Service> {
        check_number(replicas)?;
        let _lock = self.records.lock(&self.name, "emberline scale")?;
        let before = self.spec()?;
        let former = before.serving(&self.records)?;
        if former.is_none() && before.outcome(&self.records)? == Outcome::Failed {
            return Err(Problem::new(format!("nothing of `{}` runs", self.name))
                .hint(format!(
                    "`emberline deploy --target docker --replicas {replicas}` serves the newest bundle"
                ))
                .into());
        }
        if let Some(Trouble { reason, hint, .. }) = before.half_way(&self.records)? {
            return Err(Problem::new(format!("{reason}; `scale` would complete it"))
                .hint(hint.unwrap_or_default())
                .into());
        }
        if self.containers.list()?.len() < replicas {
            self.containers.image(&before.release.source)?;
        }
        self.front.check(&before.release)?;
        let (revision, scaled) = (before.release.revision, Scaled::to(before.release.replicas, replicas));
        let spec = Spec {
            release: Release {
                replicas,
                ..before.release
            },
            former,
            trouble: None,
        };
        let patience = Patience {
            each: timeout,
            until: Some(Instant::now() + timeout),
        };
        self.records
            .scale(revision, scaled, || converge::apply(self, spec, patience, events))
    }

    fn autoscale(&self, _: Autoscale, _: Duration, _: &dyn Events) -> Result<Service> {
        Err(
            Problem::new("containers of this machine do not follow their load by themselves")
                .hint("`emberline scale --replicas N` changes their number; `--target kubernetes` has an autoscaler")
                .into(),
        )
    }

    fn rollback(&self, to: Option<u64>, timeout: Duration, events: &dyn Events) -> Result<Service> {
        let _lock = self.records.lock(&self.name, "emberline rollback")?;
        let spec = self.spec()?;
        let serving = spec.serving(&self.records)?.unwrap_or(spec.release);
        let revisions = self.records.revisions()?;
        let revision = history::target(&revisions, to)?;
        self.containers.image(&revision.source).with_context(|| {
            format!(
                "cannot go back to revision {} (version {})",
                revision.revision, revision.source.version
            )
        })?;
        let source = &revision.source;
        // What that bundle takes, if it is still known.
        let footprint = Footprint::read(&source.bundle, &source.digest)?;
        let release = Release {
            revision: 0,
            source: source.clone(),
            memory: Resources::of(&self.config, footprint.as_ref().map(|found| &found.usage)).memory,
            ..serving
        };
        self.front.check(&release)?;
        self.roll(release, Some(revision.revision), timeout, events)
    }

    fn status(&self) -> Result<Service> {
        self.service(&self.spec()?)
    }

    fn history(&self) -> Result<Vec<Revision>> {
        let revisions = self.records.revisions()?;
        if revisions.is_empty() {
            return Err(self.nothing_deployed());
        }
        Ok(revisions)
    }

    fn delete(&self, events: &dyn Events) -> Result<()> {
        let remembered = Spec::read(&self.records).map_or(true, |spec| spec.is_some());
        if !remembered && !self.front.runs() && self.containers.list()?.is_empty() {
            return Err(self.nothing_deployed());
        }
        let lock = self.records.lock(&self.name, "emberline delete")?;
        if events.interrupted() {
            return Err(DeployError::Halted("nothing was deleted".to_owned()).into());
        }
        converge::remove(self)?;
        self.records.clear(&lock)
    }

    fn ask(&self, path: &str, body: &str, key: Option<&str>) -> Result<String> {
        let address = self.status()?.address.ok_or_else(|| self.nothing_deployed())?;
        post(&format!("{address}{path}"), body, key)
    }

    fn logs(&self, query: &LogQuery, sink: &mut dyn FnMut(LogLine) -> bool) -> Result<()> {
        self.spec()?;
        let deployed = || matches!(Spec::read(&self.records), Ok(Some(_)));
        logs::read(&self.containers, query, &deployed, sink)
    }
}

/// What tells the containers of a project from those of another one, though it has the same name.
fn identity(project: &Project) -> Identity {
    let name = project.config.name.clone();
    let folder = project.folder.canonicalize().unwrap_or_else(|_| project.folder.clone());
    Identity {
        instance: match &project.destination {
            None => name.clone(),
            Some(destination) => format!("{name}-{destination}"),
        },
        project: fingerprint(&folder, project.destination.as_deref()),
        name,
    }
}

/// 12 hex digits.
fn fingerprint(folder: &Path, destination: Option<&str>) -> String {
    let text = format!("{}\n{}", folder.display(), destination.unwrap_or_default());
    files::sha256(text.as_bytes())[..12].to_owned()
}

fn check_number(replicas: usize) -> Result<()> {
    if (1..=MOST_REPLICAS).contains(&replicas) {
        return Ok(());
    }
    Err(Problem::new(format!(
        "`{replicas}` replicas: one machine runs 1 to {MOST_REPLICAS} of them"
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_folder_nor_a_destination_shares_its_containers() {
        let one = fingerprint(Path::new("/projects/one"), None);
        assert_eq!(one, fingerprint(Path::new("/projects/one"), None));
        assert_eq!(one.len(), 12);
        assert_ne!(one, fingerprint(Path::new("/projects/other"), None));
        assert_ne!(one, fingerprint(Path::new("/projects/one"), Some("staging")));
    }
}
