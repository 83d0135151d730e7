//! The end of a service: all that is its own goes, and nothing else does.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service as ClusterService, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::history::History;
use super::manifests::MANAGED;
use super::{Kubernetes, POLL, differences, routes};
use crate::deploy::{DeployError, Events};
use crate::problem::Problem;

/// How long pods may take to go: what they are given, and a margin.
const END: Duration = Duration::from_mins(1);

impl Kubernetes {
    /// Takes the service away, with its history, and waits until its pods have gone.
    ///
    /// # Errors
    ///
    /// What the cluster says against it, pods that do not go, and [`DeployError::Interrupted`].
    pub(super) fn remove(&self, events: &dyn Events) -> Result<()> {
        let deployment: Option<Deployment> = self.cluster.get(&self.names.deployment())?;
        let history: Option<ConfigMap> = self.cluster.get(&self.names.history())?;
        if deployment.is_none() && history.is_none() {
            return Err(self.nothing_deployed());
        }
        self.cluster.check_ours(deployment.as_ref(), MANAGED)?;
        self.cluster.check_ours(history.as_ref(), MANAGED)?;
        let lock = self.lock("emberline delete")?;
        self.remove_probe()?;
        self.remove_measurement()?;
        self.remove_canary(&lock, events)?;
        self.remove_release(&History::read(&self.cluster, &self.names)?)?;
        self.cluster.delete::<ConfigMap>(&self.names.history())?;
        let deadline = Instant::now() + END;
        loop {
            let left = self.cluster.list::<Pod>(&self.names.selector())?.len();
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(
                    Problem::new(format!("{left} pods have not ended after {} s", END.as_secs()))
                        .hint("their node may be gone; `kubectl get pods` shows them")
                        .into(),
                );
            }
            if events.interrupted() {
                return Err(DeployError::Interrupted.into());
            }
            lock.renew()?;
            std::thread::sleep(POLL);
        }
    }

    /// Takes a release away that has nothing to go back to.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub(super) fn remove_release(&self, history: &History) -> Result<()> {
        // Whoever deploys without keys needs no right to Secrets.
        let with_keys = history
            .deployments()
            .any(|deployment| !differences::secrets(deployment).is_empty());
        self.cluster
            .delete::<HorizontalPodAutoscaler>(&self.names.autoscaler())?;
        for extra in routes::found(&self.cluster, &self.names, history.extras())? {
            self.cluster.delete_manifest(&extra)?;
        }
        self.cluster.delete::<Deployment>(&self.names.deployment())?;
        self.cluster.delete::<ClusterService>(&self.names.service())?;
        self.cluster.delete::<PodDisruptionBudget>(&self.names.budget())?;
        self.cluster.delete::<NetworkPolicy>(&self.names.policy())?;
        if with_keys {
            self.cluster.delete::<Secret>(&self.names.keys())?;
        }
        self.cluster.delete::<ServiceAccount>(&self.names.account())?;
        Ok(())
    }
}
