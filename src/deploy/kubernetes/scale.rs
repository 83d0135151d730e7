//! The number of replicas: fixed through the scale subresource, or handed over to an autoscaler, which is waited for until it
//! works. What the replicas are is not its business.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::former::{set_replicas, settle};
use super::history::History;
use super::lock::Lock;
use super::manifests::{MANAGED, autoscaler};
use super::proof::Probe;
use super::told::changed;
use super::{Kubernetes, MOST_REPLICAS, POLL};
use crate::cluster::rollout::Rollout;
use crate::cluster::{FIELD_MANAGER, Write};
use crate::deploy::history::Scaled;
use crate::deploy::trouble::explained;
use crate::deploy::{Autoscale, DeployError, Events, Service};
use crate::problem::Problem;

impl Kubernetes {
    /// Fixes the number; an autoscaler that stood against it goes.
    pub(super) fn fix_replicas(&self, replicas: usize, timeout: Duration, events: &dyn Events) -> Result<Service> {
        check_number(replicas)?;
        let rollout = self.observe()?;
        let lock = self.lock("emberline scale")?;
        let mut history = History::read(&self.cluster, &self.names)?;
        settle(&mut history, &rollout)?;
        let before = rollout.desired();
        let changes = before != replicas || self.autoscale()?.is_some();
        if changes {
            history.begin_scaling(Scaled::to(before, replicas))?;
        }
        self.cluster
            .delete::<HorizontalPodAutoscaler>(&self.names.autoscaler())?;
        let probe = if before == replicas {
            Probe::Unasked
        } else {
            self.probe(Some(&rollout), &lock, events)?
        };
        self.set_scale(replicas)?;
        let outcome = self.rescaled(before, &lock, timeout, events);
        let outcome = self.proved(probe, outcome, None, &lock, events);
        if changes {
            history.end_scaling(&outcome)?;
        }
        outcome
    }

    /// Has the number follow the load.
    pub(super) fn follow_load(&self, autoscale: Autoscale, timeout: Duration, events: &dyn Events) -> Result<Service> {
        check_number(usize::try_from(autoscale.max)?)?;
        let rollout = self.observe()?;
        let lock = self.lock("emberline scale")?;
        let object = autoscaler(&self.names, self.cluster.namespace(), autoscale)?;
        self.cluster.apply(&object, Write::DryRun)?;
        let mut history = History::read(&self.cluster, &self.names)?;
        settle(&mut history, &rollout)?;
        let current = history.current().ok_or_else(|| self.no_history())?;
        let mut deployment = current.deployment.clone();
        history.begin_scaling(Scaled::by_load(rollout.desired(), autoscale))?;
        let before = i32::try_from(rollout.desired())?;
        self.cluster.hand_over_replicas(&self.names.deployment(), before)?;
        set_replicas(&mut deployment, None);
        self.cluster.apply(&deployment, Write::Real)?;
        self.cluster.apply(&object, Write::Real)?;
        let outcome = self.autoscaled(&rollout, autoscale, &lock, timeout, events);
        history.end_scaling(&outcome)?;
        outcome
    }

    /// What the autoscaler is told, if there is one.
    pub(super) fn autoscale(&self) -> Result<Option<Autoscale>> {
        let found: Option<HorizontalPodAutoscaler> = self.cluster.get(&self.names.autoscaler())?;
        self.cluster.check_ours(found.as_ref(), MANAGED)?;
        let Some(spec) = found.and_then(|found| found.spec) else {
            return Ok(None);
        };
        let cpu = spec
            .metrics
            .iter()
            .flatten()
            .find_map(|metric| metric.resource.as_ref()?.target.average_utilization);
        let number = |value: Option<i32>| u32::try_from(value.unwrap_or(1)).unwrap_or(1);
        Ok(Some(Autoscale {
            min: number(spec.min_replicas),
            max: number(Some(spec.max_replicas)),
            cpu: number(cpu),
        }))
    }

    /// Changes the number of replicas through the scale subresource, and nothing else.
    pub(super) fn set_scale(&self, replicas: usize) -> Result<()> {
        let name = self.names.deployment();
        let deployments = self.cluster.untyped::<Deployment>();
        let patch = json!({ "spec": { "replicas": replicas } });
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.cluster.ask(
            &format!("scale Deployment `{name}`"),
            deployments.patch_scale(&name, &parameters, &Patch::Merge(&patch)),
        )?;
        Ok(())
    }

    /// Waits until the replicas are there; puts their number back when they do not come.
    fn rescaled(&self, before: usize, lock: &Lock, timeout: Duration, events: &dyn Events) -> Result<Service> {
        let history = History::read(&self.cluster, &self.names)?;
        let autoscale = self.autoscale()?;
        let revision = history.current().map_or(0, |record| record.revision.revision);
        let wait = self.wait(lock, timeout, events);
        match wait.arrive(revision, |rollout| changed(self.service(rollout, &history, autoscale)))? {
            Ok(rollout) => Ok(changed(self.service(&rollout, &history, autoscale))),
            Err(trouble) => {
                self.set_scale(before)?;
                Err(explained(Some(&trouble), |reason| {
                    DeployError::RolledBack(format!("{reason}; there are to be {before} replicas again"))
                }))
            }
        }
    }

    /// Waits until an autoscaler that was just made works; takes it away when it does not.
    fn autoscaled(
        &self,
        before: &Rollout,
        autoscale: Autoscale,
        lock: &Lock,
        timeout: Duration,
        events: &dyn Events,
    ) -> Result<Service> {
        let before = before.desired();
        if let Some(reason) = self.autoscaler_works(autoscale, lock, timeout, events)? {
            self.cluster
                .delete::<HorizontalPodAutoscaler>(&self.names.autoscaler())?;
            let problem = Problem::new(format!("the autoscaler does not work: {reason}"))
                .hint("it reads what pods use from the cluster's metrics-server; `kubectl top pods` asks it as well");
            return Err(anyhow::Error::from(problem).context(DeployError::RolledBack(format!(
                "the number of replicas stays at {before}"
            ))));
        }
        self.rescaled(before, lock, timeout, events)
    }

    /// Waits until the autoscaler knows how much its pods do, and has brought their number into its range; says why not, when
    /// that takes too long.
    fn autoscaler_works(
        &self,
        autoscale: Autoscale,
        lock: &Lock,
        timeout: Duration,
        events: &dyn Events,
    ) -> Result<Option<String>> {
        let deadline = Instant::now() + timeout;
        loop {
            let found: Option<HorizontalPodAutoscaler> = self.cluster.get(&self.names.autoscaler())?;
            let conditions = found.and_then(|found| found.status?.conditions).unwrap_or_default();
            let active = conditions.iter().find(|condition| condition.type_ == "ScalingActive");
            let rollout = self.observe()?;
            if active.is_some_and(|active| active.status == "True")
                && (autoscale.min as usize..=autoscale.max as usize).contains(&rollout.desired())
            {
                return Ok(None);
            }
            if Instant::now() > deadline {
                let message = active.and_then(|active| active.message.clone());
                return Ok(Some(message.unwrap_or_else(|| "nothing works on it".to_owned())));
            }
            if events.interrupted() {
                return Err(DeployError::Interrupted.into());
            }
            lock.renew()?;
            std::thread::sleep(POLL);
        }
    }
}

/// Whether a service may have so many.
///
/// # Errors
///
/// A [`Problem`] that says why not.
pub fn check_number(replicas: usize) -> Result<()> {
    if (1..=MOST_REPLICAS).contains(&replicas) {
        return Ok(());
    }
    let problem = Problem::new(format!(
        "`{replicas}` replicas: a service has 1 to {MOST_REPLICAS} of them"
    ));
    if replicas == 0 {
        return Err(problem.hint("`emberline delete` ends the service").into());
    }
    Err(problem.into())
}
