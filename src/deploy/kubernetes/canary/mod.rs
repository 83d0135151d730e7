//! A canary: the new version and the one that serves, both started anew beside the service, each with a share of its
//! requests, until their metrics say which of them goes.
//!
//! A record of it is the first that is written and the last that goes, and each step leaves alone what it finds done: a
//! client that was killed leaves a canary that `--promote`, `--abort` or another `--canary` deal with. Requests are divided
//! only between sides that answer, and a side ends only when the gateway leads nothing there any more.

mod begin;
mod record;
mod sides;
mod watch;

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;

use self::record::Record;
use self::sides::Objects;
use self::watch::Watch;
use super::former::{Former, former, set_replicas, settle};
use super::history::{History, template};
use super::lock::Lock;
use super::manifests::{MANAGED, Manifests};
use super::{Change, Kubernetes};
use crate::canary::{Comparison, Verdict};
use crate::cluster::diagnosis::Cause;
use crate::deploy::canary::{Canary, State, Step, Trial};
use crate::deploy::history::{Outcome, seconds_since_1970};
use crate::deploy::trouble::explained;
use crate::deploy::{DeployError, Events, Request, Service, Trouble};
use crate::gateway::divided;
use crate::problem::Problem;

/// How long the gateway may take for its pods to get ready again.
const GATEWAY: Duration = Duration::from_mins(2);

impl Kubernetes {
    /// Tries a version beside the one that serves: promoted where it passes, taken away where it fails, left as it is where
    /// there were too few requests to say.
    ///
    /// # Errors
    ///
    /// When there is nothing to compare with or no gateway, [`DeployError`], and what the cluster says against it. A verdict
    /// is none.
    pub fn canary(&self, request: &Request, trial: &Trial, events: &dyn Events) -> Result<Service> {
        let running = self.observe()?;
        self.check_canary(request, &running, trial)?;
        let lock = self.lock("emberline deploy --canary")?;
        let mut history = History::read(&self.cluster, &self.names)?;
        settle(&mut history, &running)?;
        let serves = history.current().ok_or_else(|| self.no_history())?;
        let wanted = Manifests::render(&self.project, request, Some(self.cluster.namespace()))?;
        let mut record = begin::record(request, trial, &wanted, serves)?;
        let replicas = begin::replicas(running.desired(), trial.percent);
        let objects = Objects::new(&self.names, &wanted, &serves.deployment, replicas)?;
        // All of them are checked before anything is changed, a canary that runs among it.
        objects.check(&self.cluster)?;
        let go_on = &mut || stays(&lock, events);
        if let Some(other) = Record::read(&self.cluster, &self.names)? {
            let reason = "another canary took its place";
            self.take_away(other, reason, &mut history, go_on, events)?;
        }
        events.canary(&Step::Starting);
        record.write(&self.cluster, &self.names)?;
        objects.apply(&self.cluster)?;
        if let Err(cause) = sides::arrive(&self.cluster, &self.names, request.timeout, go_on)? {
            let trouble = self.trouble(&history, cause);
            self.take_away(record, &trouble.reason, &mut history, go_on, events)?;
            return Err(explained(Some(&trouble), DeployError::RolledBack));
        }
        // What cannot be read is known before anybody's request goes there.
        if let Err(error) = Watch::begin(&self.cluster, &self.names, trial) {
            self.take_away(record, "its metrics cannot be read", &mut history, go_on, events)?;
            return Err(error);
        }
        events.canary(&Step::Dividing);
        let name = self.names.name();
        if let Err(error) = divided::divide(&self.cluster, name, Some(trial.percent), GATEWAY, go_on) {
            if !error.is::<DeployError>() {
                let reason = "the gateway does not lead to it";
                self.take_away(record, reason, &mut history, go_on, events)
                    .map_err(left)?;
            }
            return Err(error);
        }
        let mut tell = |comparison: &Comparison| {
            events.canary(&Step::Comparing {
                seconds: comparison.seconds as u64,
                requests: comparison.requests,
            });
            record.canary = record.canary.clone().compared(comparison.clone());
            record.write(&self.cluster, &self.names)
        };
        Watch::begin(&self.cluster, &self.names, trial)
            .and_then(|watch| watch.compare(&mut tell, go_on))
            .map_err(left)?;
        match record.canary.verdict {
            Verdict::Pass => self.take_over(record, request.timeout, &lock, &mut history, events),
            Verdict::Fail => {
                let reason = record.canary.failures().join("; ");
                let canary = self.take_away(record, &reason, &mut history, go_on, events)?;
                self.with_canary(&history, canary)
            }
            Verdict::Undecided => self.with_canary(&history, record.canary),
        }
    }

    /// Has the canary that runs serve in the place of the version that does.
    ///
    /// # Errors
    ///
    /// When none runs, and as a deployment of it.
    pub fn promote(&self, timeout: Duration, events: &dyn Events) -> Result<Service> {
        let running = self.observe()?;
        self.a_canary("promote")?;
        let lock = self.lock("emberline deploy --promote")?;
        let record = self.a_canary("promote")?;
        let mut history = History::read(&self.cluster, &self.names)?;
        settle(&mut history, &running)?;
        self.take_over(record, timeout, &lock, &mut history, events)
    }

    /// Takes the canary that runs away.
    ///
    /// # Errors
    ///
    /// When none runs, and what the cluster says against it.
    pub fn abort(&self, events: &dyn Events) -> Result<Service> {
        self.observe()?;
        self.a_canary("abort")?;
        let lock = self.lock("emberline deploy --abort")?;
        let record = self.a_canary("abort")?;
        let mut history = History::read(&self.cluster, &self.names)?;
        let go_on = &mut || stays(&lock, events);
        let canary = self.take_away(record, "aborted by hand", &mut history, go_on, events)?;
        self.with_canary(&history, canary)
    }

    /// What is told of the canary that runs, if one does.
    ///
    /// # Errors
    ///
    /// What the cluster says against being asked.
    pub(super) fn running_canary(&self) -> Result<Option<Canary>> {
        Ok(Record::read(&self.cluster, &self.names)?.map(|record| record.canary))
    }

    /// Refuses a change that would take one of the two sides' ground from under them.
    ///
    /// # Errors
    ///
    /// A [`Problem`] when a canary runs.
    pub(super) fn check_no_canary(&self) -> Result<()> {
        let Some(canary) = self.running_canary()? else {
            return Ok(());
        };
        Err(Problem::new(format!(
            "version {} is tried as a canary beside version {}",
            canary.version, canary.baseline
        ))
        .hint("`emberline deploy --promote` has it serve, `emberline deploy --abort` takes it away; then try again")
        .into())
    }

    /// Takes away all that is there of a canary, with what the history says of it: for those that end the service.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub(super) fn remove_canary(&self, lock: &Lock, events: &dyn Events) -> Result<()> {
        let found: Option<ConfigMap> = self.cluster.get(&self.names.canary())?;
        self.cluster.check_ours(found.as_ref(), MANAGED)?;
        if found.is_some() {
            self.clear(&mut || stays(lock, events))?;
        }
        Ok(())
    }

    fn a_canary(&self, verb: &str) -> Result<Record> {
        Record::read(&self.cluster, &self.names)?.ok_or_else(|| {
            Problem::new(format!(
                "there is no canary of `{}` in namespace `{}` to {verb}",
                self.names.name(),
                self.cluster.namespace()
            ))
            .hint("`emberline deploy --canary 10%` begins one")
            .into()
        })
    }

    /// Rolls the service to the canary's version, as any deployment is rolled, and takes the two sides away.
    fn take_over(
        &self,
        record: Record,
        timeout: Duration,
        lock: &Lock,
        history: &mut History,
        events: &dyn Events,
    ) -> Result<Service> {
        events.canary(&Step::Promoting);
        let running = self.observe()?;
        let autoscaled = self.autoscale()?.is_some();
        let mut deployment = record.deployment.clone();
        set_replicas(&mut deployment, (!autoscaled).then(|| running.desired()));
        let found = history
            .newest()
            .filter(|newest| template(&newest.deployment) == template(&deployment))
            .map(|newest| (newest.revision.revision, newest.revision.outcome));
        let (revision, former) = match found {
            // Somebody else has promoted it, and was killed.
            Some((revision, Outcome::Deployed)) => (revision, Former::Same(running.desired())),
            Some((revision, Outcome::Progressing)) => (revision, former(history, Some(&running), autoscaled)),
            _ => {
                let former = former(history, Some(&running), autoscaled);
                let revision = history.begin(record.source.clone(), None, deployment.clone())?;
                (revision, former)
            }
        };
        let probe = self.probe(Some(&running), lock, events)?;
        let change = Change {
            revision,
            deployment,
            former,
            timeout,
        };
        let outcome = self.roll(change, lock, history, events);
        let outcome = self.proved(probe, outcome, Some((&mut *history, revision)), lock, events);
        let go_on = &mut || stays(lock, events);
        let over = |error: &anyhow::Error| {
            let end = error.downcast_ref::<DeployError>();
            matches!(end, Some(DeployError::RolledBack(_) | DeployError::NotRolledBack(_)))
        };
        let state = match &outcome {
            Ok(_) => State::Promoted,
            Err(error) if over(error) => State::Aborted,
            // Nobody waits for it any longer, and it is there still.
            Err(_) => return outcome,
        };
        let canary = Canary { state, ..record.canary };
        history.tried(revision, canary.clone())?;
        events.canary(&Step::Ending);
        self.clear(go_on)?;
        Ok(Service {
            canary: Some(canary),
            ..outcome?
        })
    }

    /// Takes a canary away and keeps what became of it.
    fn take_away(
        &self,
        record: Record,
        reason: &str,
        history: &mut History,
        go_on: &mut dyn FnMut() -> Result<()>,
        events: &dyn Events,
    ) -> Result<Canary> {
        events.canary(&Step::Ending);
        // What is not to serve gets no request any more; only then is there time for the rest.
        self.undivide(go_on)?;
        let canary = Canary {
            state: State::Aborted,
            ..record.canary
        };
        // One that was promoted by a client that was killed on the way has its revision.
        let newest = history
            .newest()
            .map(|newest| (template(&newest.deployment), &newest.revision));
        let promoted = newest
            .is_some_and(|(pods, newest)| pods == template(&record.deployment) && newest.deployed_at >= canary.since);
        if !promoted {
            history.abort(record.source, record.deployment, reason, canary.clone())?;
        }
        self.clear(go_on)?;
        Ok(canary)
    }

    fn undivide(&self, go_on: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        if divided::is_there(&self.cluster, self.names.name())? {
            divided::divide(&self.cluster, self.names.name(), None, GATEWAY, go_on)?;
        }
        Ok(())
    }

    /// Takes away what there is of a canary, its record last.
    fn clear(&self, go_on: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.undivide(go_on)?;
        sides::remove(&self.cluster, &self.names, go_on)?;
        self.cluster.delete::<ConfigMap>(&self.names.canary())?;
        Ok(())
    }

    /// The service as it is, with what is told of a canary.
    fn with_canary(&self, history: &History, canary: Canary) -> Result<Service> {
        let service = self.service(&self.observe()?, history, self.autoscale()?);
        Ok(Service {
            canary: Some(canary),
            ..service
        })
    }

    fn trouble(&self, history: &History, cause: Cause) -> Trouble {
        Trouble {
            revision: history.newest().map_or(0, |newest| newest.revision.revision) + 1,
            at: seconds_since_1970(),
            log: cause.log(&self.cluster),
            reason: cause.reason,
            hint: cause.hint,
        }
    }
}

/// Keeps the lock, and ends at Ctrl-C.
fn stays(lock: &Lock, events: &dyn Events) -> Result<()> {
    if events.interrupted() {
        return Err(DeployError::Halted(
            "what there is of the canary stays as it is; `emberline deploy --abort` takes it away, `emberline deploy \
             --promote` has it serve"
                .to_owned(),
        )
        .into());
    }
    lock.renew()
}

/// What has ended the comparison, and what that leaves.
fn left(error: anyhow::Error) -> anyhow::Error {
    if error.is::<DeployError>() {
        return error;
    }
    error.context(
        Problem::new("the comparison has ended before its time, and the canary is there still")
            .hint("`emberline deploy --abort` takes it away, and another `emberline deploy --canary` compares anew"),
    )
}
