//! What a change finds: whether the last one has arrived though nobody waited for it, and what to go back to.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ObjectMeta;

use super::history::{History, template};
use crate::cluster::rollout::Rollout;
use crate::deploy::history::Outcome;

/// What there was before.
pub enum Former {
    /// Nothing.
    Nothing,
    /// The same pods, so many of them.
    Same(usize),
    /// Another version, as it was applied.
    Other(Box<Deployment>),
}

/// Whether the newest revision has arrived, though nobody has waited for it.
pub fn has_arrived(history: &History, rollout: &Rollout) -> Option<u64> {
    let image = |deployment: &Deployment| {
        template(deployment).and_then(|template| template.spec.as_ref()?.containers.first()?.image.clone())
    };
    let newest = history.newest()?;
    let arrived = newest.revision.outcome == Outcome::Progressing
        && rollout.is_complete()
        && image(&rollout.deployment) == image(&newest.deployment);
    arrived.then_some(newest.revision.revision)
}

/// Notes that it has.
pub fn settle(history: &mut History, rollout: &Rollout) -> Result<()> {
    match has_arrived(history, rollout) {
        Some(revision) => history.end(revision, Outcome::Deployed, None),
        None => Ok(()),
    }
}

/// What a revision that does not arrive is replaced by: the newest that has, or else what runs, whoever has brought it
/// there; with as many replicas as now, unless an autoscaler knows better.
pub fn former(history: &History, running: Option<&Rollout>, autoscaled: bool) -> Former {
    let Some(running) = running else {
        return Former::Nothing;
    };
    let mut deployment = match history.arrived() {
        Some(record) => record.deployment.clone(),
        None if running.ready() > 0 => applied(&running.deployment),
        None => return Former::Nothing,
    };
    set_replicas(&mut deployment, (!autoscaled).then(|| running.desired()));
    Former::Other(Box::new(deployment))
}

/// A Deployment as it was found, without what the cluster keeps for itself.
fn applied(found: &Deployment) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: found.metadata.name.clone(),
            namespace: found.metadata.namespace.clone(),
            labels: found.metadata.labels.clone(),
            ..ObjectMeta::default()
        },
        spec: found.spec.clone(),
        status: None,
    }
}

pub fn set_replicas(deployment: &mut Deployment, replicas: Option<usize>) {
    if let Some(spec) = deployment.spec.as_mut() {
        spec.replicas = replicas.and_then(|replicas| i32::try_from(replicas).ok());
    }
}
