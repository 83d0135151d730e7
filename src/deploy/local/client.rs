//! The client: says what is wanted, and waits until it is there.
//!
//! It changes nothing but files, and starts the supervisor where there is none. What it waits for goes on without it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::log;
use super::state::{Release, Spec, StateFolder, Status};
use crate::bundle::Bundle;
use crate::deploy::history::{self, Outcome, ReleaseSource, Revision};
use crate::deploy::{DeployError, Events, LogLine, LogQuery, Phase, Replicas, Request, Service, Target, Trouble};
use crate::files;
use crate::problem::Problem;
use crate::project::{Project, TargetKind};

/// Between two looks at what there is.
const POLL: Duration = Duration::from_millis(20);
/// Between two looks at logs that are followed.
const FOLLOW: Duration = Duration::from_millis(200);
/// What ending a replica, and the supervisor's own work, may add to the time that a replica may take to start.
const MARGIN: Duration = Duration::from_secs(50);
/// Replicas that fit on a machine: more are a slip of the finger.
const MOST_REPLICAS: usize = 100;
/// Supervisors that are started for one change before it is given up.
const STARTS: u32 = 3;
/// Lines of the supervisor's log that are told when it dies.
const TOLD_LINES: usize = 10;

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
            state: StateFolder::new(&project.state().join("local")),
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
        let record = self.state.revision(spec.release.revision)?;
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
        let mut newest = before.as_ref().map_or(0, |spec| spec.release.revision);
        for mut record in self.state.revisions()? {
            newest = newest.max(record.revision);
            if record.outcome == Outcome::Progressing {
                record.outcome = Outcome::Superseded;
                self.state.write_revision(&record)?;
            }
        }
        let record = Revision::now(newest + 1, source, rolled_back_to);
        let release = Release {
            revision: record.revision,
            version: record.source.version.clone(),
            bundle: record.source.bundle.clone(),
            host: place.host,
            port: place.port,
            replicas: place.replicas,
            start_timeout_ms: u64::try_from(place.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let most = release.replicas + former.as_ref().map_or(0, |former| former.replicas) + 1;
        let patience = (place.timeout + MARGIN).saturating_mul(u32::try_from(most).unwrap_or(u32::MAX));
        self.state.write_revision(&record)?;
        let spec = Spec {
            generation: before.map_or(0, |spec| spec.generation) + 1,
            name: self.name.clone(),
            release,
            former,
        };
        self.apply(&spec, patience, events)
    }

    fn rescale(&self, spec: Spec, replicas: usize, timeout: Duration, events: &dyn Events) -> Result<Service> {
        // A release that failed is not what is scaled, but the one that serves in its place.
        let failed = self
            .state
            .revision(spec.release.revision)?
            .is_some_and(|record| matches!(record.outcome, Outcome::RolledBack | Outcome::Failed));
        let (mut release, former) = match spec.former {
            Some(former) if failed => (former, None),
            former => (spec.release, former),
        };
        release.replicas = replicas;
        let spec = Spec {
            generation: spec.generation + 1,
            release,
            former,
            ..spec
        };
        self.apply(&spec, timeout, events)
    }

    /// Says what is wanted and waits until it is there, has failed, or took longer than `patience`.
    fn apply(&self, spec: &Spec, patience: Duration, events: &dyn Events) -> Result<Service> {
        self.state.write_spec(spec)?;
        let deadline = Instant::now() + patience;
        let mut supervisor: Option<Child> = None;
        let mut starts = 0;
        let mut told: Option<Service> = None;
        loop {
            if events.interrupted() {
                return Err(anyhow::Error::from(
                    Problem::new("the supervisor does not need it").hint("`emberline status` shows how far it is"),
                )
                .context(DeployError::Interrupted));
            }
            // In this order: what a supervisor that is gone has said is its last word.
            let started = supervisor
                .as_mut()
                .is_some_and(|child| matches!(child.try_wait(), Ok(None)));
            let alive = started || self.state.supervised();
            let status = self
                .state
                .status()?
                .filter(|status| status.generation == spec.generation);
            let service = self.service(spec, status.as_ref(), alive);
            match status.as_ref() {
                Some(status) if status.phase == Phase::Ready => return Ok(service),
                Some(status) if status.phase == Phase::RolledBack => {
                    return Err(explained(status.trouble.as_ref(), DeployError::RolledBack));
                }
                Some(status) if !alive && status.phase == Phase::Failed => {
                    return Err(explained(status.trouble.as_ref(), DeployError::NotRolledBack));
                }
                Some(_) if !alive => return Err(self.supervisor_died()),
                None if !alive => {
                    if starts == STARTS {
                        return Err(self.supervisor_died());
                    }
                    starts += 1;
                    supervisor = Some(self.start_supervisor()?);
                }
                _ => {}
            }
            if Instant::now() > deadline {
                let Replicas { desired, ready } = service.replicas;
                let reason = format!(
                    "{ready} of {desired} replicas are ready after {} s",
                    patience.as_secs_f64()
                );
                let trouble = status.and_then(|status| status.trouble);
                return Err(explained(trouble.as_ref(), |cause| {
                    DeployError::NotRolledBack(if cause.is_empty() {
                        reason
                    } else {
                        format!("{reason}; last, {cause}")
                    })
                }));
            }
            if status.is_some() && told.as_ref() != Some(&service) {
                events.progress(&service);
                told = Some(service);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Starts a supervisor that does not belong to this terminal.
    fn start_supervisor(&self) -> Result<Child> {
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let path = self.state.supervisor_log();
        let errors = log::append(&path).map_err(|error| files::cannot_write(&path, &error))?;
        let mut command = Command::new(&program);
        command
            .arg("supervise")
            .arg(self.state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .current_dir("/");
        // What was meant for this command is not meant for the server.
        for name in [
            "HOST",
            "PORT",
            "BUNDLE",
            "FORMAT",
            "PROGRESS",
            "QUIET",
            "DESTINATION",
            "DRAIN",
        ] {
            command.env_remove(format!("EMBERLINE_{name}"));
        }
        command
            .spawn()
            .with_context(|| format!("cannot start `{}`", program.display()))
    }

    fn supervisor_died(&self) -> anyhow::Error {
        let (lines, _) = log::tail(&self.state.supervisor_log(), 0, TOLD_LINES);
        anyhow::Error::from(
            Problem::new(quoted("supervisor", &lines)).hint("`emberline deploy` starts another supervisor"),
        )
        .context(DeployError::NotRolledBack("the supervisor died".into()))
    }

    /// What is told of the service.
    fn service(&self, spec: &Spec, status: Option<&Status>, alive: bool) -> Service {
        let status = status.filter(|status| status.generation == spec.generation);
        let release = status
            .and_then(|status| status.release.as_ref())
            .unwrap_or(&spec.release);
        let phase = match status.map(|status| status.phase) {
            Some(Phase::Failed) => Phase::Failed,
            _ if !alive => Phase::Stopped,
            phase => phase.unwrap_or(Phase::Progressing),
        };
        let instances = match status {
            Some(status) if alive => status.instances.clone(),
            _ => Vec::new(),
        };
        let runs = !matches!(phase, Phase::Failed | Phase::Stopped);
        Service {
            name: self.name.clone(),
            target: TargetKind::Local,
            version: release.version.clone(),
            revision: release.revision,
            replicas: Replicas {
                desired: release.replicas,
                ready: instances.iter().filter(|instance| instance.ready).count(),
            },
            address: runs.then(|| address(&release.host, release.port)),
            address_hint: (!runs).then(|| "nothing runs; `emberline deploy` brings it back".to_owned()),
            phase,
            instances,
            trouble: status.and_then(|status| status.trouble.clone()),
        }
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
        let _lock = self.state.lock(&self.name, "emberline deploy")?;
        if let Some(spec) = self.state.spec()?
            && self.state.supervised()
            && let Some(record) = self.state.revision(spec.release.revision)?
            && matches!(record.outcome, Outcome::Deployed | Outcome::Progressing)
            && record.source.digest == request.source.digest
            && (spec.release.host.as_str(), spec.release.port) == (request.host.as_str(), request.port)
        {
            return self.rescale(spec, request.replicas, request.timeout, events);
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
        let _lock = self.state.lock(&self.name, "emberline scale")?;
        let spec = self.spec()?;
        if !self.state.supervised() {
            return Err(Problem::new(format!("nothing of `{}` runs", self.name))
                .hint("`emberline deploy --replicas N` brings it back")
                .into());
        }
        self.rescale(spec, replicas, timeout, events)
    }

    fn rollback(&self, to: Option<u64>, timeout: Duration, events: &dyn Events) -> Result<Service> {
        let _lock = self.state.lock(&self.name, "emberline rollback")?;
        let spec = self.spec()?;
        let serving = self.serving(Some(&spec))?.unwrap_or(spec.release);
        let revisions = self.state.revisions()?;
        let hint = "`emberline history` lists the revisions, `--to REVISION` takes one";
        let revision = match to {
            None => history::before(&revisions, serving.revision).ok_or_else(|| {
                Problem::new(format!(
                    "there is no bundle before revision {} to go back to",
                    serving.revision
                ))
                .hint(hint)
            })?,
            Some(to) => revisions
                .iter()
                .find(|revision| revision.revision == to)
                .ok_or_else(|| Problem::new(format!("there is no revision {to}")).hint(hint))?,
        };
        if revision.outcome != Outcome::Deployed {
            return Err(Problem::new(format!(
                "revision {} never served: its outcome is `{}`",
                revision.revision,
                revision.outcome.name()
            ))
            .hint(hint)
            .into());
        }
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
        Ok(self.service(&spec, self.state.status()?.as_ref(), alive))
    }

    fn history(&self) -> Result<Vec<Revision>> {
        let revisions = self.state.revisions()?;
        if revisions.is_empty() {
            return Err(self.nothing_deployed());
        }
        Ok(revisions)
    }

    fn delete(&self, events: &dyn Events) -> Result<()> {
        if self.state.spec_stamp().is_none() && !self.state.supervised() {
            return Err(self.nothing_deployed());
        }
        let lock = self.state.lock(&self.name, "emberline delete")?;
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
        self.state.clear(&lock)
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
        let mut hand = |replica: u32, lines: Vec<String>| lines.into_iter().all(|line| sink(LogLine { replica, line }));
        let mut offsets = std::collections::BTreeMap::new();
        for id in self.state.logged_replicas().into_iter().filter(wanted) {
            let (lines, offset) = log::tail(&self.state.replica_log(id), 0, query.lines);
            offsets.insert(id, offset);
            if !hand(id, lines) {
                return Ok(());
            }
        }
        while query.follow && self.state.spec_stamp().is_some() {
            for id in self.state.logged_replicas().into_iter().filter(wanted) {
                let offset = offsets.entry(id).or_insert(0);
                let (lines, end) = log::since(&self.state.replica_log(id), *offset);
                *offset = end;
                if !hand(id, lines) {
                    return Ok(());
                }
            }
            std::thread::sleep(FOLLOW);
        }
        Ok(())
    }
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

/// An end with what is known of its cause below it.
fn explained(trouble: Option<&Trouble>, end: impl FnOnce(String) -> DeployError) -> anyhow::Error {
    let Some(trouble) = trouble else {
        return end(String::new()).into();
    };
    let end = end(trouble.reason.clone());
    let below = match (&trouble.log[..], &trouble.hint) {
        ([], None) => return end.into(),
        // The reason stands in the error above, and is printed once.
        ([], Some(hint)) => Problem::new(trouble.reason.clone()).hint(hint.clone()),
        (log, hint) => {
            let problem = Problem::new(quoted("replica", log));
            problem.hint(hint.clone().unwrap_or_else(|| "`emberline logs` shows more".into()))
        }
    };
    anyhow::Error::from(below).context(end)
}

/// The last lines of a log, as part of an error.
fn quoted(whose: &str, lines: &[String]) -> String {
    let mut text = format!("the {whose}'s log ends with:");
    for line in lines {
        text.push_str("\n    ");
        text.push_str(line);
    }
    text
}

/// A URL that answers from this machine.
fn address(host: &str, port: u16) -> String {
    match host {
        "0.0.0.0" => format!("http://127.0.0.1:{port}"),
        "::" => format!("http://[::1]:{port}"),
        host if host.contains(':') => format!("http://[{host}]:{port}"),
        host => format!("http://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_answer_from_this_machine() {
        assert_eq!(address("127.0.0.1", 5000), "http://127.0.0.1:5000");
        assert_eq!(address("0.0.0.0", 80), "http://127.0.0.1:80");
        assert_eq!(address("::", 80), "http://[::1]:80");
        assert_eq!(address("::1", 80), "http://[::1]:80");
        assert_eq!(address("localhost", 80), "http://localhost:80");
    }

    #[test]
    fn an_end_carries_its_cause_its_log_and_its_hint() {
        let trouble = Trouble {
            revision: 2,
            at: 0,
            reason: "replica 3 ended with exit code 1 before it was ready".into(),
            hint: None,
            log: vec!["error: golden case 0 is off".into()],
        };
        let error = explained(Some(&trouble), DeployError::RolledBack);
        assert_eq!(error.downcast_ref::<DeployError>().map(DeployError::exit_code), Some(4));
        let text = format!("{error:#}");
        assert!(
            text.contains("replica 3 ended") && text.contains("golden case 0"),
            "{text}"
        );
    }
}
