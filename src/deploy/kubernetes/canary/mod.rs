//! A canary: the new version and the one that serves, both started anew beside the service, each with a share of its
//! requests, until their metrics say which of them goes.
//!
//! A record of it is the first that is written and the last that goes, and each step leaves alone what it finds done: a
//! client that was killed leaves a canary that `--promote`, `--abort` or another `--canary` deal with. Requests are divided
//! only between sides that answer, and a side ends only when the gateway leads nothing there any more.

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
use super::history::{History, Record as Served, template};
use super::lock::Lock;
use super::manifests::{MANAGED, Manifests};
use super::{Change, Kubernetes, differences};
use crate::canary::{Sides, Verdict};
use crate::cluster::rollout::{Cause, Rollout};
use crate::deploy::canary::{Canary, State, Step, Trial};
use crate::deploy::history::{Outcome, seconds_since_1970, who};
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
        let lock = Lock::take(&self.cluster, &self.names, "emberline deploy --canary")?;
        let mut history = History::read(&self.cluster, &self.names)?;
        settle(&mut history, &running)?;
        let serves = history.current().ok_or_else(|| self.no_history())?;
        let wanted = Manifests::render(&self.project, request, Some(self.cluster.namespace()))?;
        let mut record = begin(request, trial, &wanted, serves)?;
        let replicas = replicas(running.desired(), trial.percent);
        let objects = Objects::new(&self.names, &wanted, &serves.deployment, replicas)?;
        // All of them are checked before anything is changed, a canary that runs among it.
        objects.check(&self.cluster)?;
        let go_on = &mut || self.go_on(&lock, events);
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
        divided::divide(&self.cluster, name, Some(trial.percent), GATEWAY, go_on)?;
        let watch = Watch::begin(&self.cluster, &self.names, trial)?;
        watch.compare(
            &mut |comparison| {
                events.canary(&Step::Comparing {
                    seconds: comparison.seconds as u64,
                    requests: comparison.requests,
                });
                record.canary = record.canary.clone().compared(comparison.clone());
                record.write(&self.cluster, &self.names)
            },
            go_on,
        )?;
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
        let lock = Lock::take(&self.cluster, &self.names, "emberline deploy --promote")?;
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
        let lock = Lock::take(&self.cluster, &self.names, "emberline deploy --abort")?;
        let record = self.a_canary("abort")?;
        let mut history = History::read(&self.cluster, &self.names)?;
        let go_on = &mut || self.go_on(&lock, events);
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
            self.clear(&mut || self.go_on(lock, events))?;
        }
        Ok(())
    }

    /// Refuses what cannot be tried, before anything is changed.
    fn check_canary(&self, request: &Request, running: &Rollout, trial: &Trial) -> Result<()> {
        let namespace = self.cluster.namespace();
        if !divided::is_there(&self.cluster, self.names.name())? {
            return Err(Problem::new(format!(
                "there is no gateway in front of `{}` in namespace `{namespace}`, and it is what divides the requests",
                self.names.name()
            ))
            .hint(format!(
                "`emberline gateway up --target kubernetes -n {namespace}` makes one"
            ))
            .into());
        }
        if !running.is_complete() {
            return Err(Problem::new(format!(
                "`{}` is on its way to another version, or not all of its replicas answer",
                self.names.name()
            ))
            .hint("`emberline status` shows how far it is; try again when it is ready")
            .into());
        }
        if self.port().is_some_and(|port| port != request.port) {
            return Err(
                Problem::new(format!("a canary does not move the service to port {}", request.port))
                    .hint("`--port` is the one that it has; `emberline deploy` moves it")
                    .into(),
            );
        }
        let serves_with = !differences::secrets(&running.deployment).is_empty();
        if serves_with != request.keys.is_some() {
            let (now, then) = if serves_with {
                ("with", "without")
            } else {
                ("without", "with")
            };
            return Err(Problem::new(format!(
                "the service answers {now} keys, and its canary would {then} them: the two do not compare"
            ))
            .hint(if serves_with {
                "`--keys FILE` or `deploy.keys` names the key file of the service"
            } else {
                "`emberline deploy --keys FILE` asks for keys first"
            })
            .into());
        }
        if serves_with && trial.key.is_none() {
            return Err(Problem::new("the servers show their metrics to those with a key only")
                .hint("EMBERLINE_KEY holds the key that they are read with")
                .into());
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
        let go_on = &mut || self.go_on(lock, events);
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

    /// Keeps the lock, and ends at Ctrl-C.
    fn go_on(&self, lock: &Lock, events: &dyn Events) -> Result<()> {
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

/// The record of a canary that is about to begin.
fn begin(request: &Request, trial: &Trial, wanted: &Manifests, serves: &Served) -> Result<Record> {
    let source = request.source.clone();
    if template(&wanted.deployment) == template(&serves.deployment) {
        return Err(Problem::new(format!(
            "version {} serves already: there is nothing to compare it with",
            source.version
        ))
        .hint("`--bundle VERSION` tries another one; `emberline history` lists those that were deployed")
        .into());
    }
    let canary = Canary {
        version: source.version.clone(),
        baseline: serves.revision.source.version.clone(),
        percent: trial.percent,
        since: seconds_since_1970(),
        by: who(),
        verdict: Verdict::Undecided,
        seconds: 0.0,
        requests: Sides::default(),
        tests: Vec::new(),
        state: State::Running,
    };
    Ok(Record {
        source,
        deployment: wanted.deployment.clone(),
        canary,
    })
}

/// The replicas that a share of the requests takes, of those that take all of them.
fn replicas(all: usize, percent: u8) -> i32 {
    let some = (all * usize::from(percent)).div_ceil(100).max(1);
    i32::try_from(some).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::sides::Side;
    use super::*;
    use crate::deploy::kubernetes::manifests::tests::{project, request};
    use crate::deploy::kubernetes::manifests::{Names, VERSION};

    #[test]
    fn each_side_has_its_share_of_the_replicas_and_one_at_least() {
        let some: Vec<i32> = [(1, 10), (3, 10), (10, 10), (11, 10), (4, 50)]
            .map(|(all, percent)| replicas(all, percent))
            .into();
        assert_eq!(some, [1, 1, 1, 2, 2]);
    }

    #[test]
    fn the_service_leads_to_neither_side_and_each_is_as_its_release_otherwise() {
        let names = Names::new("digits");
        let render = |version| Manifests::render(&project(), &request(version), Some("models")).expect("rendered");
        let (serves, tried) = (render("0123456789ab"), render("ba9876543210"));
        let objects = Objects::new(&names, &tried, &serves.deployment, 2).expect("objects");
        let objects: BTreeMap<(String, String), Value> = objects
            .all()
            .iter()
            .map(|object| ((object.kind().to_owned(), object.name()), object.value().expect("JSON")))
            .collect();
        assert_eq!(objects.len(), 6);
        let get = |kind: &str, name: &str| &objects[&(kind.to_owned(), name.to_owned())];
        for (side, name, version) in [
            (Side::Canary, "digits-canary", "ba9876543210"),
            (Side::Baseline, "digits-baseline", "0123456789ab"),
        ] {
            let selector = serde_json::to_value(side.selector(&names)).expect("JSON");
            assert_ne!(selector, serde_json::to_value(names.selector()).expect("JSON"));
            let deployment = get("Deployment", name);
            let spec = &deployment["spec"];
            assert_eq!(spec["selector"]["matchLabels"], selector);
            assert_eq!(get("Service", name)["spec"]["selector"], selector);
            assert_eq!(
                get("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"],
                selector
            );
            assert_eq!(spec["replicas"], 2);
            let labels = &spec["template"]["metadata"]["labels"];
            assert_eq!(
                labels["app.kubernetes.io/component"],
                selector["app.kubernetes.io/component"]
            );
            assert_eq!(labels[VERSION], version);
            // The rest is the release's own.
            let text = |value: &Value| {
                let text = value.to_string().replace(&format!("\"component\":\"{name}\""), "");
                let component = selector["app.kubernetes.io/component"]
                    .as_str()
                    .expect("text")
                    .to_owned();
                text.replace(&format!("component\":\"{component}\""), "component\":\"server\"")
            };
            let of = if side == Side::Canary { &tried } else { &serves };
            let own = serde_json::to_value(&of.deployment).expect("JSON");
            assert_eq!(text(&spec["template"]), own["spec"]["template"].to_string());
        }
    }
}
