//! The pods of a Job: which trial each does, how far it is, and what came of it.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::LogParams;

use crate::bundle::Store;
use crate::cluster::Cluster;
use crate::cluster::diagnosis::{self, Cause};
use crate::problem::Problem;
use crate::tune::trial::{Said, report};
use crate::tune::{Failure, Record, failure, parcel};

/// The annotation with the index of a pod's trial.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its trial has not begun.
    Waiting,
    /// It trains.
    Running,
    /// It has ended well.
    Done,
    /// It has not.
    Failed,
}

/// Which trial it does.
pub fn index(pod: &Pod) -> Option<usize> {
    pod.annotations().get(INDEX)?.parse().ok()
}

/// How far it is.
pub fn phase(pod: &Pod) -> Phase {
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Done,
        Some("Failed") => Phase::Failed,
        _ => Phase::Waiting,
    }
}

/// What keeps a pod from beginning, if anything does; with a hint that is about sweeps.
pub fn obstacle(pod: &Pod) -> Option<Cause> {
    let mut cause = diagnosis::cause(pod)?;
    cause.hint = Some(
        if cause.reason.contains("image") {
            "the nodes must reach the registry that `package.repository` names; `--worker-image` takes an image that `emberline tune` \
             has pushed"
        } else {
            "ask for less by `tune.memory` and `tune.cpu`, or add a node"
        }
        .to_owned(),
    );
    Some(cause)
}

/// What a pod has said.
///
/// # Errors
///
/// What the cluster says against being asked.
pub fn said(cluster: &Cluster, pod: &str) -> anyhow::Result<Said> {
    let doing = format!("read the log of pod `{pod}`");
    let pods = cluster.pods();
    let log = cluster.find(&doing, pods.logs(pod, &LogParams::default()))?;
    Ok(report(&log.unwrap_or_default()))
}

/// The record of a trial whose pod has ended well, with its bundle in the store.
///
/// # Errors
///
/// Why its bundle has not arrived.
pub fn collect(trial: &str, pod: &str, said: &Said, store: &Store) -> Result<Record, Failure> {
    let arrived = || {
        let sent = said
            .outcome
            .as_ref()
            .and_then(|outcome| Some((outcome, outcome.seal.as_ref()?)));
        let (outcome, seal) = sent.ok_or_else(|| Problem::new("it has ended, and its log does not have its bundle"))?;
        let bundle = store.receive(&parcel::unpack(&said.parts, seal)?)?;
        anyhow::ensure!(
            bundle.digest() == outcome.digest,
            "its bundle has the digest {}, and it says {}",
            bundle.digest(),
            outcome.digest
        );
        Ok(Record::new(trial, &bundle, outcome.seconds, pod))
    };
    arrived().map_err(|error: anyhow::Error| failure(&said.lines, format!("{error:#}")))
}

/// Why a pod has failed.
pub fn reason(pod: &Pod, said: &Said) -> Failure {
    let status = pod.status.as_ref();
    let ended = status.and_then(|status| {
        status
            .container_statuses
            .as_ref()?
            .first()?
            .state
            .as_ref()?
            .terminated
            .as_ref()
    });
    match ended {
        Some(ended) if ended.reason.as_deref() == Some("OOMKilled") => Failure {
            reason: "it was ended because it took more memory than it may; `tune.memory` gives it more".to_owned(),
            log: said.lines.clone(),
        },
        Some(ended) => failure(
            &said.lines,
            format!("pod `{}` ended with code {}", pod.name_any(), ended.exit_code),
        ),
        None => {
            let told = status.and_then(|status| status.message.clone().or(status.reason.clone()));
            failure(
                &said.lines,
                format!("pod `{}` failed: {}", pod.name_any(), told.unwrap_or_default()),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "digits-tune-0", "annotations": { INDEX: "3" } },
            "status": status,
        }))
        .expect("a pod")
    }

    #[test]
    fn a_pod_says_which_trial_it_does_and_why_it_failed() {
        let killed = |reason: &str| {
            pod(&json!({ "phase": "Failed", "containerStatuses": [{
                "name": "trial", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "terminated": { "exitCode": 137, "reason": reason } },
            }]}))
        };
        assert_eq!(index(&killed("Error")), Some(3));
        assert_eq!(phase(&killed("Error")), Phase::Failed);
        let said = report("error: the disk is full\nhint: free some\n");
        assert!(reason(&killed("OOMKilled"), &said).reason.contains("tune.memory"));
        assert_eq!(reason(&killed("Error"), &said).reason, "the disk is full");
        let silent = reason(&killed("Error"), &Said::default());
        assert!(silent.reason.contains("ended with code 137"), "{}", silent.reason);
        let evicted = pod(&json!({ "phase": "Failed", "reason": "Evicted", "message": "the node was low on memory" }));
        let evicted = reason(&evicted, &Said::default());
        assert!(evicted.reason.contains("low on memory"), "{}", evicted.reason);
    }

    #[test]
    fn an_obstacle_has_a_hint_about_sweeps() {
        let waiting = |reason: &str, message: &str| {
            pod(&json!({ "phase": "Pending", "containerStatuses": [{
                "name": "trial", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": reason, "message": message } },
            }]}))
        };
        let gone = obstacle(&waiting("ErrImagePull", "x: not found")).expect("an obstacle");
        assert!(gone.is_hopeless() && gone.hint.is_some_and(|hint| hint.contains("--worker-image")));
        assert_eq!(obstacle(&waiting("ContainerCreating", "")), None);
        let full = pod(&json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "0/1 nodes" },
        ]}));
        let full = obstacle(&full).expect("an obstacle");
        assert!(!full.is_hopeless() && full.hint.is_some_and(|hint| hint.contains("tune.memory")));
    }
}
