//! The client: says what is wanted. How it is waited for is in [`super::converge`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::converge::{self, POLL};
use super::log;
use super::state::{Release, Spec, StateFolder};
use crate::bundle::Bundle;
use crate::deploy::history::{self, Outcome, ReleaseSource, Revision, Scaled};
use crate::deploy::{Autoscale, DeployError, Events, LogLine, LogQuery, Request, Service, Target, post};
use crate::problem::Problem;
use crate::project::Project;

/// Between two looks at logs that are followed.
const FOLLOW: Duration = Duration::from_millis(200);
/// What ending a replica, and the supervisor's own work, may add to the time that a replica may take to start.
const MARGIN: Duration = Duration::from_secs(50);
/// Replicas that fit on a machine: more are a slip of the finger.
const MOST_REPLICAS: usize = 100;

/// The service of one project on this machine.
#[derive(Debug)]
pub struct Local {
    name: String,
    state: StateFolder,
}

impl Local {
    /// The service of `project`; it need not be deployed yet.
    pub fn new(project: &Project) -> Self {
        Self {
            name: project.config.name.clone(),
            state: StateFolder::of_project(project),
        }
    }

    fn spec(&self) -> Result<Spec> {
        self.state.spec()?.ok_or_else(|| self.nothing_deployed())
    }

    fn nothing_deployed(&self) -> anyhow::Error {
        Problem::new(format!("`{}` is not deployed on this machine", self.name))
            .hint("`emberline deploy` serves the newest bundle")
            .into()
    }

    /// The release that serves, or served last: the wanted one once it has arrived, else the one before it.
    fn serving(&self, spec: Option<&Spec>) -> Result<Option<Release>> {
        let Some(spec) = spec else { return Ok(None) };
        let record = self.state.records().revision(spec.release.revision)?;
        if record.is_some_and(|record| record.outcome == Outcome::Deployed) {
            Ok(Some(spec.release.clone()))
        } else {
            Ok(spec.former.clone())
        }
    }

    /// Makes a revision of `source` and waits until it serves.
    fn roll(
        &self,
        source: ReleaseSource,
        rolled_back_to: Option<u64>,
        place: Place,
        events: &dyn Events,
    ) -> Result<Service> {
        let before = self.state.spec()?;
        let former = self.serving(before.as_ref())?;
        let newest = before.as_ref().map_or(0, |spec| spec.release.revision);
        let newest = newest.max(self.state.records().supersede()?);
        let record = Revision::now(newest + 1, source, rolled_back_to);
        let release = Release {
            revision: record.revision,
            version: record.source.version.clone(),
            bundle: record.source.bundle.clone(),
            host: place.host,
            port: place.port,
            replicas: place.replicas,
            start_timeout_ms: milliseconds(place.timeout),
        };
        let most = release.replicas + former.as_ref().map_or(0, |former| former.replicas);
        self.state.records().write_revision(&record)?;
        let spec = Spec {
            generation: before.map_or(0, |spec| spec.generation) + 1,
            name: self.name.clone(),
            release,
            former,
        };
        converge::apply(&self.state, &spec, patience(most, place.timeout), events)
    }

    /// Changes the number of replicas, and nothing else.
    fn rescale(&self, spec: Spec, replicas: usize, patience: Duration, events: &dyn Events) -> Result<Service> {
        // A release that failed is not what is scaled, but the one that serves in its place.
        let failed = self
            .state
            .records()
            .revision(spec.release.revision)?
            .is_some_and(|record| matches!(record.outcome, Outcome::RolledBack | Outcome::Failed));
        let (mut release, former) = match spec.former {
            Some(former) if failed => (former, None),
            former => (spec.release, former),
        };
        let scaled = Scaled::to(release.replicas, replicas);
        release.replicas = replicas;
        let spec = Spec {
            generation: spec.generation + 1,
            release,
            former,
            ..spec
        };
        self.state.records().scale(spec.release.revision, scaled, || {
            converge::apply(&self.state, &spec, patience, events)
        })
    }
}

/// Where a revision is served.
struct Place {
    host: String,
    port: u16,
    replicas: usize,
    timeout: Duration,
}

impl Target for Local {
    fn deploy(&self, request: &Request, events: &dyn Events) -> Result<Service> {
        check_number(request.replicas)?;
        let _lock = self.state.records().lock(&self.name, "emberline deploy")?;
        if let Some(mut spec) = self.state.spec()?
            && self.state.supervised()
            && let Some(record) = self.state.records().revision(spec.release.revision)?
            && matches!(record.outcome, Outcome::Deployed | Outcome::Progressing)
            && record.source.digest == request.source.digest
            && (spec.release.host.as_str(), spec.release.port) == (request.host.as_str(), request.port)
        {
            spec.release.start_timeout_ms = milliseconds(request.timeout);
            let patience = patience(spec.release.replicas + request.replicas, request.timeout);
            return self.rescale(spec, request.replicas, patience, events);
        }
        let place = Place {
            host: request.host.clone(),
            port: request.port,
            replicas: request.replicas,
            timeout: request.timeout,
        };
        self.roll(request.source.clone(), None, place, events)
    }

    fn scale(&self, replicas: usize, timeout: Duration, events: &dyn Events) -> Result<Service> {
        check_number(replicas)?;
        let _lock = self.state.records().lock(&self.name, "emberline scale")?;
        let spec = self.spec()?;
        if !self.state.supervised() {
            return Err(Problem::new(format!("nothing of `{}` runs", self.name))
                .hint(format!(
                    "`emberline deploy --bundle {} --replicas {replicas}` brings it back",
                    spec.release.version
                ))
                .into());
        }
        self.rescale(spec, replicas, timeout, events)
    }

    fn autoscale(&self, _: Autoscale, _: Duration, _: &dyn Events) -> Result<Service> {
        Err(
            Problem::new("processes of this machine do not follow their load by themselves")
                .hint("`emberline scale --replicas N` changes their number; `--target kubernetes` has an autoscaler")
                .into(),
        )
    }

    fn rollback(&self, to: Option<u64>, timeout: Duration, events: &dyn Events) -> Result<Service> {
        let _lock = self.state.records().lock(&self.name, "emberline rollback")?;
        let spec = self.spec()?;
        let serving = self.serving(Some(&spec))?.unwrap_or(spec.release);
        let revisions = self.state.records().revisions()?;
        let revision = history::target(&revisions, to)?;
        Bundle::open(&revision.source.bundle).with_context(|| {
            format!(
                "cannot go back to revision {} (version {})",
                revision.revision, revision.source.version
            )
        })?;
        let place = Place {
            host: serving.host,
            port: serving.port,
            replicas: serving.replicas,
            timeout,
        };
        self.roll(revision.source.clone(), Some(revision.revision), place, events)
    }

    fn status(&self) -> Result<Service> {
        let spec = self.spec()?;
        let alive = self.state.supervised();
        Ok(converge::service(&spec, self.state.status()?.as_ref(), alive))
    }

    fn history(&self) -> Result<Vec<Revision>> {
        let revisions = self.state.records().revisions()?;
        if revisions.is_empty() {
            return Err(self.nothing_deployed());
        }
        Ok(revisions)
    }

    fn delete(&self, events: &dyn Events) -> Result<()> {
        if self.state.spec_stamp().is_none() && !self.state.supervised() {
            return Err(self.nothing_deployed());
        }
        let lock = self.state.records().lock(&self.name, "emberline delete")?;
        let status = self.state.status().ok().flatten();
        self.state.remove_spec()?;
        let deadline = Instant::now() + MARGIN;
        while self.state.supervised() {
            if Instant::now() > deadline {
                let pid = status.map_or(0, |status| status.supervisor);
                return Err(Problem::new(format!("the supervisor (process {pid}) does not end"))
                    .hint(format!("`kill -9 {pid}` ends it; its replicas then end by themselves"))
                    .into());
            }
            if events.interrupted() {
                return Err(DeployError::Interrupted.into());
            }
            std::thread::sleep(POLL);
        }
        self.state.records().clear(&lock)
    }

    fn ask(&self, path: &str, body: &str, key: Option<&str>) -> Result<String> {
        let address = self.status()?.address.ok_or_else(|| self.nothing_deployed())?;
        post(&format!("{address}{path}"), body, key)
    }

    fn logs(&self, query: &LogQuery, sink: &mut dyn FnMut(LogLine) -> bool) -> Result<()> {
        self.spec()?;
        if let Some(replica) = query.replica
            && !self.state.logged_replicas().contains(&replica)
        {
            let known: Vec<String> = self.state.logged_replicas().iter().map(u32::to_string).collect();
            return Err(Problem::new(format!("there is no log of replica {replica}"))
                .hint(format!("there are logs of: {}", known.join(", ")))
                .into());
        }
        let wanted = |id: &u32| query.replica.is_none_or(|replica| replica == *id);
        let mut hand = |replica: u32, lines: Vec<String>| {
            lines.into_iter().all(|line| {
                sink(LogLine {
                    replica,
                    name: None,
                    line,
                })
            })
        };
        let mut offsets = BTreeMap::new();
        for id in self.state.logged_replicas().into_iter().filter(wanted) {
            let (lines, offset) = log::tail(&self.state.replica_log(id), 0, query.lines);
            offsets.insert(id, offset);
            if !hand(id, lines) {
                return Ok(());
            }
        }
        // The last look comes after the service has ended, so that its last words are heard.
        let mut serves = query.follow;
        while serves {
            std::thread::sleep(FOLLOW);
            serves = self.state.spec_stamp().is_some();
            for id in self.state.logged_replicas().into_iter().filter(wanted) {
                let offset = offsets.entry(id).or_insert(0);
                let (lines, end) = log::since(&self.state.replica_log(id), *offset);
                *offset = end;
                if !hand(id, lines) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// How long a roll over so many replicas may take, when the supervisor takes as long as it may over each.
fn patience(replicas: usize, timeout: Duration) -> Duration {
    let steps = u32::try_from(replicas + 1).unwrap_or(u32::MAX);
    (timeout + MARGIN).saturating_mul(steps)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
