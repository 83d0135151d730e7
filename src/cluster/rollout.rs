//! A Deployment on its way: how far it is, and what keeps it from arriving.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodTemplateSpec};
use kube::ResourceExt;
use kube::api::LogParams;

use super::Cluster;
use crate::problem::Problem;

/// The label by which it tells the pods of one template from those of another.
const TEMPLATE: &str = "pod-template-hash";
/// Between two looks.
const POLL: Duration = Duration::from_millis(400);
/// Lines of a log that are told with a cause.
const TOLD_LINES: i64 = 10;
/// Restarts after which a container that ends is one that always ends.
const HOPELESS_RESTARTS: i32 = 2;

/// What a node says of an image that it will not get by asking again.
const NOT_THERE: [&str; 6] = [
    "not found",
    "no such host",
    "name unknown",
    "manifest unknown",
    "unauthorized",
    "denied",
];

/// A Deployment with its pods, as they are now.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The Deployment.
    pub deployment: Deployment,
    /// Its pods, the oldest first, also those that are on their way out.
    pub pods: Vec<Pod>,
    /// What the pods of the newest template are labelled with, once there are any.
    template: Option<String>,
}

/// What keeps a pod, or a Deployment, from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The pod; none when there is not even that.
    pub pod: Option<String>,
    /// What is wrong, in a sentence.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether waiting is of no use.
    pub hopeless: bool,
}

impl Rollout {
    /// The Deployment of that name and its pods; none when it is not there.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn observe(cluster: &Cluster, name: &str) -> Result<Option<Self>> {
        let Some(deployment) = cluster.get::<Deployment>(name)? else {
            return Ok(None);
        };
        let labels = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.match_labels.clone());
        let labels = labels.unwrap_or_default();
        let sets: Vec<ReplicaSet> = cluster.list(&labels)?;
        let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
        let template = sets
            .iter()
            .find(|set| wanted.is_some() && pod_template(set).as_ref() == wanted)
            .and_then(|set| set.labels().get(TEMPLATE).cloned());
        let mut pods: Vec<Pod> = cluster.list(&labels)?;
        pods.sort_by_key(|pod| (pod.creation_timestamp(), pod.name_any()));
        Ok(Some(Self {
            deployment,
            pods,
            template,
        }))
    }

    /// Replicas that are wanted.
    pub fn desired(&self) -> usize {
        let replicas = self.deployment.spec.as_ref().and_then(|spec| spec.replicas);
        usize::try_from(replicas.unwrap_or(1)).unwrap_or_default()
    }

    /// Pods that answer, of whichever template.
    pub fn ready(&self) -> usize {
        let status = self.deployment.status.as_ref();
        count(status.and_then(|status| status.ready_replicas))
    }

    /// Pods of the newest template that answer.
    pub fn updated_and_ready(&self) -> usize {
        self.pods.iter().filter(|pod| self.is_new(pod) && is_ready(pod)).count()
    }

    /// Whether every pod is of the newest template and answers, and no other one is wanted any more.
    pub fn is_complete(&self) -> bool {
        let Some(status) = self.deployment.status.as_ref().filter(|_| self.is_seen()) else {
            return false;
        };
        let desired = self.desired();
        count(status.updated_replicas) == desired
            && count(status.available_replicas) == desired
            && count(status.replicas) == desired
    }

    /// Whether the cluster has looked at the Deployment since it was changed.
    fn is_seen(&self) -> bool {
        let seen = self
            .deployment
            .status
            .as_ref()
            .and_then(|status| status.observed_generation);
        seen >= self.deployment.metadata.generation
    }

    /// Whether a pod is of the newest template.
    pub fn is_new(&self, pod: &Pod) -> bool {
        self.template.is_some() && pod.labels().get(TEMPLATE) == self.template.as_ref()
    }

    /// What keeps the newest template from arriving: the most hopeless first.
    pub fn cause(&self) -> Option<Cause> {
        if !self.is_seen() {
            return None;
        }
        let mut causes: Vec<Cause> = self
            .pods
            .iter()
            .filter(|pod| self.is_new(pod) && pod.metadata.deletion_timestamp.is_none())
            .filter_map(cause)
            .chain(self.refused())
            .collect();
        causes.sort_by_key(|cause| !cause.hopeless);
        causes.into_iter().next()
    }

    /// That no pod may be made at all.
    fn refused(&self) -> Option<Cause> {
        let conditions = self.deployment.status.as_ref()?.conditions.as_ref()?;
        let failure = conditions
            .iter()
            .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
        let message = failure.message.clone().unwrap_or_default();
        let hint = if message.contains("exceeded quota") {
            Some("ask for less by `deploy.memory`, `deploy.cpu` or `--replicas`, or have the quota raised".to_owned())
        } else {
            None
        };
        Some(Cause {
            pod: None,
            reason: format!("the cluster makes no pod: {message}"),
            hint,
            hopeless: true,
        })
    }
}

/// Waits until a Deployment has arrived; gives what is in the way when it does not come to that, or when nothing has become
/// better for `timeout`. `look` sees what there is each time, and may end the wait.
///
/// # Errors
///
/// Those of `look`, and what the cluster says against being asked.
pub fn arrive(
    cluster: &Cluster,
    deployment: &str,
    timeout: Duration,
    look: &mut dyn FnMut(&Rollout) -> Result<()>,
) -> Result<Result<Rollout, Cause>> {
    let mut best = 0;
    let mut better = Instant::now();
    loop {
        let rollout = Rollout::observe(cluster, deployment)?
            .ok_or_else(|| Problem::new(format!("somebody has deleted the Deployment `{deployment}`")))?;
        look(&rollout)?;
        if rollout.is_complete() {
            return Ok(Ok(rollout));
        }
        if rollout.updated_and_ready() > best {
            best = rollout.updated_and_ready();
            better = Instant::now();
        }
        let late = better.elapsed() > timeout;
        match rollout.cause() {
            Some(cause) if cause.hopeless || late => return Ok(Err(cause)),
            None if late => {
                return Ok(Err(Cause {
                    pod: None,
                    reason: format!(
                        "{best} of {} replicas are ready, and no further one has become so within {} s",
                        rollout.desired(),
                        timeout.as_secs()
                    ),
                    hint: Some("`--timeout` gives them longer".to_owned()),
                    hopeless: false,
                }));
            }
            _ => std::thread::sleep(POLL),
        }
    }
}

/// The template of a `ReplicaSet`'s pods as it was asked for, without the label that tells it from others.
fn pod_template(set: &ReplicaSet) -> Option<PodTemplateSpec> {
    let mut template = set.spec.as_ref()?.template.clone()?;
    if let Some(labels) = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
        labels.remove(TEMPLATE);
    }
    Some(template)
}

impl Cause {
    /// The last lines of the log of its pod: of the container that ended, if one did.
    pub fn log(&self, cluster: &Cluster) -> Vec<String> {
        let Some(pod) = &self.pod else { return Vec::new() };
        let pods = cluster.pods();
        for previous in [true, false] {
            let parameters = LogParams {
                previous,
                tail_lines: Some(TOLD_LINES),
                ..LogParams::default()
            };
            // A log is told when there is one; what is wrong with the pod is known without it.
            if let Ok(text) = cluster.block_on(pods.logs(pod, &parameters))
                && !text.trim().is_empty()
            {
                return text.lines().map(str::to_owned).collect();
            }
        }
        Vec::new()
    }
}

/// Whether a pod answers.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How often the container of a pod was started again.
pub fn restarts(pod: &Pod) -> u32 {
    container(pod).map_or(0, |status| u32::try_from(status.restart_count).unwrap_or_default())
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// What keeps a pod from answering, in a sentence; none when it answers, or is only just starting.
pub fn cause(pod: &Pod) -> Option<Cause> {
    if is_ready(pod) {
        return None;
    }
    let name = pod.name_any();
    let told = |reason: String, hint: Option<&str>, hopeless| {
        Some(Cause {
            pod: Some(name.clone()),
            reason: format!("pod `{name}` {reason}"),
            hint: hint.map(str::to_owned),
            hopeless,
        })
    };
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let unscheduled = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(unscheduled) = unscheduled {
        let message = unscheduled.message.clone().unwrap_or_default();
        // Another node may come, or room on one.
        return told(
            format!("fits on no node: {message}"),
            Some("ask for less by `deploy.memory` and `deploy.cpu`, or add a node"),
            false,
        );
    }
    let status = container(pod)?;
    let image = &status.image;
    let state = status.state.as_ref()?;
    let ended = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
        .or(state.terminated.as_ref());
    let waiting = state.waiting.as_ref();
    let reason = waiting
        .and_then(|waiting| waiting.reason.as_deref())
        .unwrap_or_default();
    let message = waiting
        .and_then(|waiting| waiting.message.as_deref())
        .unwrap_or_default();
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" => told(
            format!("cannot use the image `{image}`: {message}"),
            Some("`emberline package` prints the reference that `--image` takes"),
            true,
        ),
        "ErrImagePull" | "ImagePullBackOff" => told(
            format!("cannot get the image `{image}`: {message}"),
            Some(
                "`emberline package --push` puts it into the registry that `package.repository` names, which the nodes must \
                 reach",
            ),
            // The second look: the first may have been a registry that was only just restarted.
            reason == "ImagePullBackOff" || NOT_THERE.iter().any(|words| message.contains(words)),
        ),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            told(format!("cannot be started: {message}"), None, true)
        }
        _ => match ended {
            Some(ended) => {
                let hopeless = reason == "CrashLoopBackOff" || status.restart_count >= HOPELESS_RESTARTS;
                if ended.reason.as_deref() == Some("OOMKilled") {
                    told(
                        "was ended because it took more memory than it may".to_owned(),
                        Some("give it more by `deploy.memory`"),
                        hopeless,
                    )
                } else {
                    told(format!("ended with code {}", ended.exit_code), None, hopeless)
                }
            }
            None if state.running.is_some() => told("runs, and is not ready".to_owned(), None, false),
            None => None,
        },
    }
}

fn count(number: Option<i32>) -> usize {
    usize::try_from(number.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(hash: &str, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": format!("digits-{hash}"), "labels": { TEMPLATE: hash } },
            "status": status,
        }))
        .expect("a pod")
    }

    fn waiting(reason: &str, message: &str) -> Value {
        json!({ "containerStatuses": [{
            "name": "server", "image": "x:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": message } },
        }]})
    }

    fn crashed(restarts: i32, reason: &str) -> Value {
        json!({ "containerStatuses": [{
            "name": "server", "image": "x:1", "imageID": "", "ready": false, "restartCount": restarts,
            "state": { "running": {} },
            "lastState": { "terminated": { "exitCode": 1, "reason": reason } },
        }]})
    }

    fn ready() -> Value {
        json!({ "conditions": [{ "type": "Ready", "status": "True" }] })
    }

    #[test]
    fn each_cause_is_told_and_weighed() {
        for (status, words, hopeless) in [
            (
                waiting("ErrImagePull", "connection refused"),
                "cannot get the image `x:1`: connection refused",
                false,
            ),
            (waiting("ErrImagePull", "x:1: not found"), "cannot get the image", true),
            (waiting("ImagePullBackOff", "why"), "cannot get the image", true),
            (waiting("InvalidImageName", "why"), "cannot use the image", true),
            (
                waiting("CreateContainerConfigError", "why"),
                "cannot be started: why",
                true,
            ),
            (crashed(1, "Error"), "ended with code 1", false),
            (crashed(2, "Error"), "ended with code 1", true),
            (crashed(2, "OOMKilled"), "more memory", true),
            (
                json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes" }] }),
                "fits on no node: 0/1 nodes",
                false,
            ),
        ] {
            let cause = cause(&pod("a", &status)).expect("a cause");
            assert!(cause.reason.contains(words), "{}", cause.reason);
            assert_eq!(cause.hopeless, hopeless, "{}", cause.reason);
        }
        assert_eq!(cause(&pod("a", &waiting("ContainerCreating", ""))), None);
        assert_eq!(cause(&pod("a", &ready())), None);
    }

    fn rollout(status: &Value, pods: Vec<Pod>) -> Rollout {
        Rollout {
            deployment: serde_json::from_value(json!({
                "metadata": { "generation": 2 },
                "spec": { "replicas": 2, "selector": {}, "template": {} },
                "status": status,
            }))
            .expect("a deployment"),
            pods,
            template: Some("new".into()),
        }
    }

    #[test]
    fn it_is_complete_when_only_new_pods_are_left_and_all_answer() {
        let all = json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 });
        assert!(rollout(&all, vec![]).is_complete());
        for (key, value) in [
            ("observedGeneration", 1),
            ("replicas", 3),
            ("updatedReplicas", 1),
            ("availableReplicas", 1),
        ] {
            let mut part = all.clone();
            part[key] = json!(value);
            assert!(!rollout(&part, vec![]).is_complete(), "{key}");
        }
    }

    #[test]
    fn only_new_pods_keep_it_from_arriving() {
        let seen = json!({ "observedGeneration": 2 });
        let old = rollout(&seen, vec![pod("old", &crashed(5, "Error")), pod("new", &ready())]);
        assert_eq!(old.cause(), None);
        assert_eq!(old.updated_and_ready(), 1);
        let new = rollout(
            &seen,
            vec![
                pod("new", &waiting("ErrImagePull", "why")),
                pod("new", &crashed(2, "Error")),
            ],
        );
        assert!(new.cause().expect("a cause").hopeless);
        assert_eq!(rollout(&json!({ "observedGeneration": 1 }), new.pods).cause(), None);
    }

    #[test]
    fn a_deployment_that_may_make_no_pod_says_so() {
        let status = json!({ "observedGeneration": 2, "conditions": [
            { "type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small" },
        ]});
        let cause = rollout(&status, vec![]).cause().expect("a cause");
        assert!(cause.reason.contains("exceeded quota"));
        assert!(cause.hopeless && cause.hint.is_some());
    }
}
