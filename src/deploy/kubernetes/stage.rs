//! What a pod is doing, as far as the cluster says it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::cluster::{Cluster, diagnosis};
use crate::deploy::Stage;

/// How long a container may be on its way before the cluster is asked whether its node gets the image. Where it has the image,
/// that is all over by then.
const MAKING: Duration = Duration::from_secs(2);

/// What it is doing.
pub fn stage(cluster: &Cluster, pod: &Pod) -> Stage {
    let status = pod.status.as_ref();
    if pod.metadata.deletion_timestamp.is_some() {
        return Stage::Ending;
    }
    if diagnosis::is_ready(pod) {
        return Stage::Ready;
    }
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let Some(container) = container else {
        let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        return if has_node { Stage::Starting } else { Stage::Waiting };
    };
    let state = container.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref());
    match waiting {
        Some("ContainerCreating" | "PodInitializing") if is_pulled(cluster, pod) => Stage::Pulling,
        Some("ContainerCreating" | "PodInitializing") => Stage::Starting,
        Some(_) => Stage::Failing,
        None if state.is_some_and(|state| state.running.is_some()) => running(pod),
        None if state.is_some_and(|state| state.terminated.is_some()) => Stage::Failing,
        None => Stage::Starting,
    }
}

/// A container that runs and does not answer: it has not done so yet, or no longer does.
fn running(pod: &Pod) -> Stage {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    let changed = conditions.find(|condition| condition.type_ == "Ready");
    let changed = changed.and_then(|ready| ready.last_transition_time.as_ref());
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let started = container.and_then(|container| container.state.as_ref()?.running.as_ref()?.started_at.as_ref());
    match (changed, started) {
        (Some(changed), Some(started)) if changed.0 > started.0 => Stage::Failing,
        _ => Stage::GoldenCheck,
    }
}

/// Whether its node is getting the image just now.
fn is_pulled(cluster: &Cluster, pod: &Pod) -> bool {
    let age = pod
        .creation_timestamp()
        .map(|since| Timestamp::now().duration_since(since.0).unsigned_abs());
    if age.is_none_or(|age| age < MAKING) {
        return false;
    }
    let events = cluster.events_of(pod);
    let has = |reason: &str| events.iter().any(|event| event == reason);
    has("Pulling") && !has("Pulled")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_that_has_answered_fails_and_one_that_has_not_is_checked() {
        let pod = |changed: &str| -> Pod {
            serde_json::from_value(json!({ "status": {
                "conditions": [{ "type": "Ready", "status": "False", "lastTransitionTime": changed }],
                "containerStatuses": [{
                    "name": "server", "image": "x:1", "imageID": "", "ready": false, "restartCount": 0, "started": true,
                    "state": { "running": { "startedAt": "2026-01-01T00:00:10Z" } },
                }],
            }}))
            .expect("a pod")
        };
        assert_eq!(running(&pod("2026-01-01T00:00:09Z")), Stage::GoldenCheck);
        assert_eq!(running(&pod("2026-01-01T00:00:20Z")), Stage::Failing);
    }
}
