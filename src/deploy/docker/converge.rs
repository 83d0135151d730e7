//! From what there is to what is wanted, one step of [`plan`] after another, with the front told of each change before
//! anything ends; and back again when it does not work.

use std::time::{Duration, Instant};

use anyhow::{Error, Result};

use super::Docker;
use super::container::Container;
use super::plan::{self, Slot, State, Step};
use super::spec::{Release, Spec};
use crate::deploy::history::{Outcome, seconds_since_1970};
use crate::deploy::trouble::explained;
use crate::deploy::{DeployError, Events, Phase, Service, Trouble};
use crate::problem::Problem;

/// Between two looks at a container that is to answer.
const POLL: Duration = Duration::from_millis(30);
/// What the way back gives a replica, however little time the way there was given.
const WAY_BACK: Duration = Duration::from_mins(1);
/// How long the engine may take to learn that it was the memory which a container was killed for.
const FLAG: Duration = Duration::from_secs(1);
/// Lines of a container's log that are told when it fails.
const TOLD_LINES: usize = 20;

/// How long starting may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Each replica.
    pub each: Duration,
    /// All of them together, if that is limited.
    pub until: Option<Instant>,
}

/// Why what is wanted is not there.
enum Failure {
    Interrupted,
    Trouble(Box<Trouble>),
}

/// Has what `spec` wants, or what was there before. Whoever calls it holds the lock.
///
/// # Errors
///
/// [`DeployError`] with the cause below it, or a problem with the state on the disk.
pub fn apply(docker: &Docker, mut spec: Spec, patience: Patience, events: &dyn Events) -> Result<Service> {
    spec.trouble = None;
    spec.write(&docker.records)?;
    let revision = spec.release.revision;
    // A number of replicas that does not work says nothing against a revision that has arrived.
    let arrives = spec.former.as_ref().is_none_or(|former| former.revision != revision);
    let conclude = |outcome, reason| {
        if arrives {
            docker.records.conclude(revision, outcome, reason)
        } else {
            Ok(())
        }
    };
    let progress = Progress {
        docker,
        release: &spec.release,
        phase: Phase::Progressing,
        events,
    };
    let trouble = match progress.converge(patience) {
        Ok(()) => {
            conclude(Outcome::Deployed, None)?;
            spec.former = None;
            spec.write(&docker.records)?;
            return docker.service(&spec);
        }
        Err(Failure::Interrupted) => return Err(interrupted(docker, &mut spec)),
        Err(Failure::Trouble(trouble)) => *trouble,
    };

    let reason = Some(trouble.reason.clone());
    let Some(former) = spec.former.clone() else {
        // What failed first leaves nothing behind; what keeps it from that is told by the next status.
        let _ = remove(docker);
        conclude(Outcome::Failed, reason)?;
        spec.trouble = Some(trouble);
        spec.write(&docker.records)?;
        return Err(explained(spec.trouble.as_ref(), DeployError::NotRolledBack));
    };
    let back = Progress {
        docker,
        release: &former,
        phase: Phase::RollingBack,
        events: &Deaf(events),
    };
    let patience = Patience {
        each: patience.each.max(WAY_BACK),
        until: None,
    };
    let returned = back.converge(patience);
    let outcome = if returned.is_ok() {
        Outcome::RolledBack
    } else {
        Outcome::Failed
    };
    conclude(outcome, reason)?;
    let spec = Spec {
        release: former.clone(),
        former: None,
        trouble: Some(trouble),
    };
    spec.write(&docker.records)?;
    Err(match returned {
        Ok(()) => explained(spec.trouble.as_ref(), DeployError::RolledBack),
        Err(Failure::Interrupted) => DeployError::Halted(serves(docker)).into(),
        Err(Failure::Trouble(second)) => explained(spec.trouble.as_ref(), |reason| {
            DeployError::NotRolledBack(format!("{reason}; and on the way back, {}", second.reason))
        }),
    })
}

/// Ends the front, then all containers.
///
/// # Errors
///
/// What stays.
pub fn remove(docker: &Docker) -> Result<()> {
    docker.front.down()?;
    let found = docker.containers.list()?;
    docker.containers.end(&found.iter().collect::<Vec<_>>())
}

/// Ctrl-C, between two steps: what answers is sent requests, and is what the error tells of.
fn interrupted(docker: &Docker, spec: &mut Spec) -> Error {
    let serving = docker.containers.list().and_then(|found| {
        let ready: Vec<u16> = ready(&found).map(|container| container.port).collect();
        if ready.is_empty() {
            return Ok(());
        }
        docker.front.serve(&spec.release, ready.into_iter())
    });
    let serves = match serving {
        Ok(()) => serves(docker),
        Err(error) => format!("{error:#}"),
    };
    spec.trouble = Some(Trouble {
        revision: spec.release.revision,
        at: seconds_since_1970(),
        reason: format!("interrupted; {serves}"),
        hint: None,
        log: Vec::new(),
    });
    if let Err(error) = spec.write(&docker.records) {
        return error;
    }
    Error::from(
        Problem::new("the change is not complete")
            .hint("the same command goes on from there; `emberline status` shows it"),
    )
    .context(DeployError::Halted(serves))
}

/// Which revisions answer, in words.
fn serves(docker: &Docker) -> String {
    let found = docker.containers.list().unwrap_or_default();
    let mut counts: Vec<(u64, usize)> = Vec::new();
    for container in ready(&found) {
        match counts.last_mut() {
            Some((revision, count)) if *revision == container.revision => *count += 1,
            _ => counts.push((container.revision, 1)),
        }
    }
    if counts.is_empty() || !docker.front.runs() {
        return "nothing serves".to_owned();
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(revision, count)| format!("{count} of revision {revision}"))
        .collect();
    format!("what serves now: {}", counts.join(", "))
}

fn ready(found: &[Container]) -> impl Iterator<Item = &Container> {
    found.iter().filter(|container| container.state == State::Ready)
}

/// A release on its way.
struct Progress<'a> {
    docker: &'a Docker,
    release: &'a Release,
    phase: Phase,
    events: &'a dyn Events,
}

impl Progress<'_> {
    fn converge(&self, patience: Patience) -> Result<(), Failure> {
        let docker = self.docker;
        loop {
            let found = docker.containers.list().map_err(|error| self.failed(&error))?;
            self.events.progress(&docker.told(self.release, &found, self.phase));
            if self.events.interrupted() {
                return Err(Failure::Interrupted);
            }
            for container in ready(&found).filter(|container| !container.restarts_by_itself) {
                docker.containers.keep(container).map_err(|error| self.failed(&error))?;
            }
            let slots: Vec<Slot> = found.iter().map(Container::slot).collect();
            match plan::next(self.release.goal(), &slots) {
                None => return self.serve(&found, &[]),
                Some(Step::Start(replica)) => self.start(replica, patience)?,
                Some(Step::Await(index)) => {
                    let container = &found[index];
                    match self.wait(&container.id, container.restarts, patience) {
                        // What does not answer is replaced, and if that does not either, it is what fails.
                        Err(Failure::Trouble(_)) => self.end(&found, &[index])?,
                        waited => waited?,
                    }
                }
                Some(Step::Retire(indices)) => self.end(&found, &indices)?,
            }
        }
    }

    /// Starts a replica and waits until it answers. One that does not is removed again.
    fn start(&self, replica: u32, patience: Patience) -> Result<(), Failure> {
        // One that answers is no failure, however late; another one is not begun.
        if patience.until.is_some_and(|until| Instant::now() > until) {
            let reason = format!("replica {replica} was not ready within the time that the replicas have together");
            let hint = "`--timeout` gives them longer";
            return Err(self.trouble(reason, Some(hint.to_owned()), Vec::new()));
        }
        let containers = &self.docker.containers;
        let id = containers
            .start(self.release, replica)
            .map_err(|error| self.failed(&error))?;
        let waited = self.wait(&id, 0, patience);
        if waited.is_err()
            && let Ok(Some(container)) = containers.look(&id)
        {
            containers.end(&[&container]).map_err(|error| self.failed(&error))?;
        }
        waited
    }

    /// Waits until a container answers that was started again `restarts` times so far.
    fn wait(&self, id: &str, restarts: u32, patience: Patience) -> Result<(), Failure> {
        let begin = Instant::now();
        let mut killed = None;
        let mut deadline = begin + patience.each;
        if let Some(until) = patience.until {
            deadline = deadline.min(until);
        }
        loop {
            let found = self.docker.containers.look(id).map_err(|error| self.failed(&error))?;
            let Some(container) = found else {
                return Err(self.trouble(
                    "a container was removed before it answered".to_owned(),
                    None,
                    Vec::new(),
                ));
            };
            let replica = container.replica;
            let last_lines = || self.docker.containers.last_lines(&container, TOLD_LINES);
            if container.out_of_memory {
                let reason = format!(
                    "replica {replica} was killed: `{}` of memory is not enough",
                    self.release.memory
                );
                let hint = "`deploy.memory` in emberline.yaml gives it more";
                return Err(self.trouble(reason, Some(hint.to_owned()), last_lines()));
            }
            if container.state == State::Ready {
                return Ok(());
            }
            if container.killed && killed.get_or_insert_with(Instant::now).elapsed() < FLAG {
                std::thread::sleep(POLL);
                continue;
            }
            if container.state == State::Dead || container.restarts > restarts {
                let condition = container.condition.clone().unwrap_or_default();
                let reason = format!("replica {replica} {condition} before it was ready");
                let alone = format!("`docker run --rm {}` shows it alone", self.release.image());
                let hint = if container.killed {
                    let memory = self.release.memory;
                    format!(
                        "it was killed, maybe because `{memory}` of memory is not enough (`deploy.memory`); {alone}"
                    )
                } else {
                    alone
                };
                return Err(self.trouble(reason, Some(hint), last_lines()));
            }
            if self.events.interrupted() {
                return Err(Failure::Interrupted);
            }
            if Instant::now() > deadline {
                let seconds = deadline.saturating_duration_since(begin).as_secs_f64();
                let reason = format!("replica {replica} was not ready within {seconds} s");
                return Err(self.trouble(reason, Some("`--timeout` gives it longer".to_owned()), last_lines()));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends no more requests to some, lets them finish, and removes them.
    fn end(&self, found: &[Container], gone: &[usize]) -> Result<(), Failure> {
        self.serve(found, gone)?;
        let gone: Vec<&Container> = gone.iter().map(|&index| &found[index]).collect();
        self.docker.containers.end(&gone).map_err(|error| self.failed(&error))
    }

    /// Has all that answer serve, but those that are about to go.
    fn serve(&self, found: &[Container], gone: &[usize]) -> Result<(), Failure> {
        let stay = found
            .iter()
            .enumerate()
            .filter(|(index, container)| container.state == State::Ready && !gone.contains(index));
        let ports: Vec<u16> = stay.map(|(_, container)| container.port).collect();
        if ports.is_empty() {
            return Ok(());
        }
        let served = self.docker.front.serve(self.release, ports.into_iter());
        served.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &Error) -> Failure {
        let hint = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Problem>()?.hint_text());
        self.trouble(format!("{error:#}"), hint.map(str::to_owned), Vec::new())
    }

    fn trouble(&self, reason: String, hint: Option<String>, log: Vec<String>) -> Failure {
        Failure::Trouble(Box::new(Trouble {
            revision: self.release.revision,
            at: seconds_since_1970(),
            reason,
            hint,
            log,
        }))
    }
}

/// Who is told, and not asked: the way back is gone to its end.
struct Deaf<'a>(&'a dyn Events);

impl Events for Deaf<'_> {
    fn progress(&self, service: &Service) {
        self.0.progress(service);
    }

    fn interrupted(&self) -> bool {
        false
    }
}
