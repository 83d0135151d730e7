//! Waiting for a change: told to whoever watches, kept locked, and left alone when nobody waits any longer.

use std::time::Duration;

use anyhow::Result;

use super::lock::Lock;
use crate::cluster::Cluster;
use crate::cluster::rollout::{self, Rollout};
use crate::deploy::history::seconds_since_1970;
use crate::deploy::{DeployError, Events, Service, Trouble};

/// What is waited for, and how.
pub struct Wait<'a> {
    /// Where.
    pub cluster: &'a Cluster,
    /// The Deployment.
    pub deployment: String,
    /// The lock of the change.
    pub lock: &'a Lock<'a>,
    /// How long nothing may get better.
    pub timeout: Duration,
    /// Who is told.
    pub events: &'a dyn Events,
}

impl Wait<'_> {
    /// Waits until all is as wanted; gives what is in the way when it does not come to that. `tell` says what there is of
    /// `revision` meanwhile.
    ///
    /// # Errors
    ///
    /// [`DeployError::Interrupted`], and what the cluster says against being asked.
    pub fn arrive(&self, revision: u64, tell: impl Fn(&Rollout) -> Service) -> Result<Result<Rollout, Trouble>> {
        let arrived = rollout::arrive(self.cluster, &self.deployment, self.timeout, &mut |rollout| {
            self.events.progress(&tell(rollout));
            if self.events.interrupted() && !rollout.is_complete() {
                return Err(DeployError::Interrupted.into());
            }
            self.lock.renew()
        })?;
        Ok(arrived.map_err(|cause| Trouble {
            revision,
            at: seconds_since_1970(),
            log: cause.log(self.cluster),
            reason: cause.reason,
            hint: cause.hint,
        }))
    }
}
