//! What has to be so for a canary to begin, and what it begins as. Nothing is changed here.

use anyhow::Result;

use super::record::Record;
use crate::canary::{Sides, Verdict};
use crate::cluster::rollout::Rollout;
use crate::deploy::Request;
use crate::deploy::canary::{Canary, State, Trial};
use crate::deploy::history::{seconds_since_1970, who};
use crate::deploy::kubernetes::history::{Record as Served, template};
use crate::deploy::kubernetes::manifests::Manifests;
use crate::deploy::kubernetes::{Kubernetes, differences};
use crate::gateway::divided;
use crate::problem::Problem;

impl Kubernetes {
    /// Refuses what cannot be tried, before anything is changed.
    ///
    /// # Errors
    ///
    /// A [`Problem`] with what to do first.
    pub(super) fn check_canary(&self, request: &Request, running: &Rollout, trial: &Trial) -> Result<()> {
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
}

/// The record of a canary that is about to begin: of what is `wanted`, beside what serves.
///
/// # Errors
///
/// When that is the same.
pub fn record(request: &Request, trial: &Trial, wanted: &Manifests, serves: &Served) -> Result<Record> {
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
pub fn replicas(all: usize, percent: u8) -> i32 {
    let some = (all * usize::from(percent)).div_ceil(100).max(1);
    i32::try_from(some).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_its_share_of_the_replicas_and_one_at_least() {
        let some: Vec<i32> = [(1, 10), (3, 10), (10, 10), (11, 10), (4, 50)]
            .map(|(all, percent)| replicas(all, percent))
            .into();
        assert_eq!(some, [1, 1, 1, 2, 2]);
    }
}
