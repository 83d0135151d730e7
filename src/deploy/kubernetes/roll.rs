//! A revision on its way: applied, waited for, and taken back when it does not arrive. What it is made of, and what there was
//! before it, is said by whoever rolls it.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;

use super::Kubernetes;
use super::former::{Former, leave};
use super::history::History;
use super::lock::Lock;
use super::told::changed;
use crate::cluster::Write;
use crate::deploy::history::Outcome;
use crate::deploy::trouble::explained;
use crate::deploy::{DeployError, Events, Service};

/// A Deployment that is to arrive.
pub(super) struct Change {
    pub revision: u64,
    pub deployment: Deployment,
    pub former: Former,
    pub timeout: Duration,
}

impl Kubernetes {
    /// Applies a Deployment as a revision, and waits; a revision that does not arrive is taken back.
    ///
    /// # Errors
    ///
    /// [`DeployError`] with the cause below it, or what the cluster says against it.
    pub(super) fn roll(
        &self,
        change: Change,
        lock: &Lock,
        history: &mut History,
        events: &dyn Events,
    ) -> Result<Service> {
        let Change {
            revision,
            deployment,
            former,
            timeout,
        } = change;
        let autoscale = self.autoscale()?;
        self.cluster.apply(&deployment, Write::Real)?;
        let wait = self.wait(lock, timeout, events);
        let told = wait.arrive(revision, |rollout| changed(self.service(rollout, history, autoscale)))?;
        let trouble = match told {
            Ok(rollout) => {
                history.end(revision, Outcome::Deployed, None)?;
                return Ok(changed(self.service(&rollout, history, autoscale)));
            }
            Err(trouble) => trouble,
        };
        if self.keeps_failures {
            return Err(leave(revision, &former, trouble, history)?);
        }
        let reason = Some(trouble.reason.clone());
        match former {
            Former::Nothing => {
                self.remove_release(history)?;
                history.end(revision, Outcome::Failed, reason)?;
                Err(explained(Some(&trouble), DeployError::NotRolledBack))
            }
            Former::Same(replicas) => {
                if autoscale.is_none() {
                    self.set_scale(replicas)?;
                }
                Err(explained(Some(&trouble), DeployError::RolledBack))
            }
            Former::Other(former) => {
                // In this order: a client that dies in between has not said that the former version is back.
                self.cluster.apply(&*former, Write::Real)?;
                history.end(revision, Outcome::RolledBack, reason)?;
                match wait.arrive(revision, |rollout| self.service(rollout, history, autoscale))? {
                    Ok(_) => Err(explained(Some(&trouble), DeployError::RolledBack)),
                    Err(again) => Err(explained(Some(&trouble), |reason| {
                        DeployError::NotRolledBack(format!(
                            "{reason}; and the former version does not come back either: {}",
                            again.reason
                        ))
                    })),
                }
            }
        }
    }
}
