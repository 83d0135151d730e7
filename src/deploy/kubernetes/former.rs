//! What a change finds: whether the last one has arrived though nobody waited for it, and what to go back to.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ObjectMeta;

use super::history::{History, template};
use crate::cluster::rollout::Rollout;
use crate::deploy::history::Outcome;
use crate::deploy::trouble::explained;
use crate::deploy::{DeployError, Trouble};

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
    let arrived = newest.revision.is_half_way()
        && rollout.is_complete()
        && image(&rollout.deployment) == image(&newest.deployment);
    arrived.then_some(newest.revision.revision)
}

/// The revision whose last change of its number of replicas has arrived, though nobody has waited for it.
pub fn scaling_has_arrived(history: &History, rollout: &Rollout) -> Option<u64> {
    let current = history.current()?;
    let scaled = current.revision.scaled.last()?;
    let arrived = scaled.outcome == Outcome::Progressing
        && rollout.is_complete()
        && scaled.to.is_none_or(|replicas| replicas == rollout.desired());
    arrived.then_some(current.revision.revision)
}

/// Notes that they have.
pub fn settle(history: &mut History, rollout: &Rollout) -> Result<()> {
    if let Some(revision) = has_arrived(history, rollout) {
        history.end(revision, Outcome::Deployed, None)?;
    }
    if scaling_has_arrived(history, rollout).is_some() {
        history.scaling_has_arrived()?;
    }
    Ok(())
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

/// Leaves a version that did not arrive as it is, and says how to go back.
pub fn leave(revision: u64, former: &Former, trouble: Trouble, history: &mut History) -> Result<anyhow::Error> {
    let back = match former {
        Former::Nothing => "`emberline delete` takes it away".to_owned(),
        Former::Same(replicas) => format!("`emberline scale --replicas {replicas}` goes back"),
        Former::Other(_) => "`emberline rollback` goes back".to_owned(),
    };
    // More replicas of a revision that has arrived say nothing against it.
    if !matches!(former, Former::Same(_)) {
        history.keep(revision, trouble.reason.clone())?;
    }
    let hint = match &trouble.hint {
        Some(hint) => format!("{hint}; {back}"),
        None => format!("`emberline logs` shows more; {back}"),
    };
    let trouble = Trouble {
        hint: Some(hint),
        ..trouble
    };
    Ok(explained(Some(&trouble), |reason| {
        DeployError::NotRolledBack(format!("{reason}; revision {revision} is left as it is"))
    }))
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
