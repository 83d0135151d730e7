//! Waiting for a Deployment to arrive: until it has, cannot, took too long, or nobody waits any longer.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::lock::Lock;
use crate::cluster::Cluster;
use crate::cluster::rollout::{Cause, Rollout};
use crate::deploy::history::seconds_since_1970;
use crate::deploy::{DeployError, Events, Service, Trouble};
use crate::problem::Problem;

/// Between two looks.
const POLL: Duration = Duration::from_millis(400);

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
        let mut best = 0;
        let mut better = Instant::now();
        loop {
            let rollout = Rollout::observe(self.cluster, &self.deployment)?.ok_or_else(|| {
                Problem::new(format!("somebody has deleted the Deployment `{}`", self.deployment))
                    .hint("`emberline deploy` makes it again")
            })?;
            self.events.progress(&tell(&rollout));
            if rollout.is_complete() {
                return Ok(Ok(rollout));
            }
            if rollout.updated_and_ready() > best {
                best = rollout.updated_and_ready();
                better = Instant::now();
            }
            let cause = rollout.cause();
            let late = better.elapsed() > self.timeout;
            if let Some(cause) = cause.as_ref().filter(|cause| cause.hopeless || late) {
                return Ok(Err(self.trouble(revision, cause)));
            }
            if late {
                let reason = format!(
                    "{best} of {} replicas are ready, and no further one has become so within {} s",
                    rollout.desired(),
                    self.timeout.as_secs()
                );
                return Ok(Err(Trouble {
                    revision,
                    at: seconds_since_1970(),
                    reason,
                    hint: Some("`--timeout` gives them longer".to_owned()),
                    log: Vec::new(),
                }));
            }
            if self.events.interrupted() {
                return Err(DeployError::Interrupted.into());
            }
            self.lock.renew()?;
            std::thread::sleep(POLL);
        }
    }

    fn trouble(&self, revision: u64, cause: &Cause) -> Trouble {
        Trouble {
            revision,
            at: seconds_since_1970(),
            reason: cause.reason.clone(),
            hint: cause.hint.clone(),
            log: cause.log(self.cluster),
        }
    }
}
