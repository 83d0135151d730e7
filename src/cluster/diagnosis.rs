//! What keeps a pod from answering, or a Deployment from having its pods: told in a sentence, with what to do about it and
//! whether waiting is of use. It reads what the cluster says of them; who waits, and for how long, is not its business.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Event, Pod};
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};

use super::Cluster;
use super::denial::{Denial, Outlook, denial};

/// Lines of a log that are told with a cause.
const TOLD_LINES: i64 = 10;
/// Restarts after which a container that ends is one that always ends.
const HOPELESS_RESTARTS: i32 = 2;
/// What a server says that does not reproduce the golden answers of its bundle. It will not the next time either.
const GOLDEN: &str = "golden case";

/// What a node says of an image that it will not get by asking again.
const NOT_THERE: [&str; 6] = [
    "not found",
    "no such host",
    "name unknown",
    "manifest unknown",
    "unauthorized",
    "denied",
];
/// What a node says that has no time for a container now: to read a Secret, to have it made, or to forget one that was made too
/// late. It tries again.
const BUSY: [&str; 4] = [
    "failed to sync ",
    "timed out waiting",
    "context deadline exceeded",
    "is reserved for",
];
/// What a scheduler says of nodes that are away for a while: on their way up, cut off, or drained.
const AWAY: [&str; 3] = ["node.kubernetes.io/", "were unschedulable", "no nodes available"];
/// What autoscalers of nodes say of a pod that they make a node for: cluster-autoscaler, and Karpenter.
const NODE_COMES: [&str; 2] = ["TriggeredScaleUp", "Nominated"];

/// What keeps a pod, or a Deployment, from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The pod; none when there is not even that.
    pub pod: Option<String>,
    /// What is wrong, in a sentence.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether waiting is of use.
    pub outlook: Outlook,
}

impl Cause {
    /// Whether waiting is of no use.
    pub fn is_hopeless(&self) -> bool {
        self.outlook == Outlook::Hopeless
    }

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

impl Cluster {
    /// Whether somebody is seen to make room for a pod: the scheduler, by ending others, or an autoscaler of nodes.
    pub fn makes_room_for(&self, pod: &Pod) -> bool {
        if pod
            .status
            .as_ref()
            .is_some_and(|status| status.nominated_node_name.is_some())
        {
            return true;
        }
        self.events_of(pod)
            .iter()
            .any(|reason| NODE_COMES.contains(&reason.as_str()))
    }

    /// The reasons of the events about a pod. Whoever may not see events sees none.
    pub fn events_of(&self, pod: &Pod) -> Vec<String> {
        let query = ListParams::default().fields(&format!("involvedObject.uid={}", pod.uid().unwrap_or_default()));
        let found = self
            .find("list Events", self.untyped::<Event>().list(&query))
            .ok()
            .flatten();
        let events = found.into_iter().flat_map(|found| found.items);
        events
            .filter_map(|event| Some(event.data["reason"].as_str()?.to_owned()))
            .collect()
    }
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
    let told = |reason: String, hint: Option<&str>, outlook| {
        Some(Cause {
            pod: Some(name.clone()),
            reason: format!("pod `{name}` {reason}"),
            hint: hint.map(str::to_owned),
            outlook,
        })
    };
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let unscheduled = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(unscheduled) = unscheduled {
        let message = unscheduled.message.clone().unwrap_or_default();
        let comes_back = AWAY.iter().any(|words| message.contains(words));
        let outlook = if unscheduled.reason.as_deref() == Some("Unschedulable") && !comes_back {
            Outlook::Room
        } else {
            Outlook::Open
        };
        return told(
            format!("fits on no node: {message}"),
            Some("ask for less by `deploy.memory` and `deploy.cpu`, or add a node"),
            outlook,
        );
    }
    let status = container(pod)?;
    let image = &status.image;
    let state = status.state.as_ref()?;
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
            Outlook::Hopeless,
        ),
        "ErrImagePull" | "ImagePullBackOff" => told(
            format!("cannot get the image `{image}`: {message}"),
            Some(
                "`emberline package --push` puts it into the registry that `package.repository` names, which the nodes must \
                 reach",
            ),
            // The second look: the first may have been a registry that was only just restarted.
            hopeless(reason == "ImagePullBackOff" || NOT_THERE.iter().any(|words| message.contains(words))),
        ),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let is_busy = BUSY.iter().any(|words| message.contains(words));
            told(format!("cannot be started: {message}"), None, hopeless(!is_busy))
        }
        _ => match ended(status) {
            Some(ended) => {
                let (how, hint, always) = end(ended);
                let outlook =
                    hopeless(always || reason == "CrashLoopBackOff" || status.restart_count >= HOPELESS_RESTARTS);
                told(how, hint.as_deref(), outlook)
            }
            None if state.running.is_some() => told("runs, and is not ready".to_owned(), None, Outlook::Open),
            None => None,
        },
    }
}

fn hopeless(is_hopeless: bool) -> Outlook {
    if is_hopeless { Outlook::Hopeless } else { Outlook::Open }
}

/// How a container ended last, if it did.
fn ended(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    last.or(status.state.as_ref()?.terminated.as_ref())
}

/// How a container ended, what to do about it, and whether it always will.
fn end(ended: &ContainerStateTerminated) -> (String, Option<String>, bool) {
    if ended.reason.as_deref() == Some("OOMKilled") {
        let hint = "give it more by `deploy.memory`".to_owned();
        return (
            "was ended because it took more memory than it may".to_owned(),
            Some(hint),
            false,
        );
    }
    // The last lines of its log, where its Deployment asks for them.
    let said = ended.message.as_deref().unwrap_or_default();
    let line = |begin: &str| {
        said.lines()
            .rev()
            .find_map(|line| Some(line.strip_prefix(begin)?.to_owned()))
    };
    let hint = line("hint: ");
    match line("error: ") {
        Some(error) if error.contains(GOLDEN) => (format!("failed its golden check: {error}"), hint, true),
        Some(error) => (format!("ended with code {}: {error}", ended.exit_code), hint, false),
        None => (format!("ended with code {}", ended.exit_code), None, false),
    }
}

/// That a `ReplicaSet` may make no pod.
pub fn refused(set: &ReplicaSet) -> Option<Cause> {
    let conditions = set.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    let message = failure.message.clone().unwrap_or_default();
    let denial = denial(&message, &set.namespace().unwrap_or_default());
    let (hint, outlook) = match denial {
        Some(Denial { hint, outlook }) => (Some(hint), outlook),
        None => (None, Outlook::Hopeless),
    };
    Some(Cause {
        pod: None,
        reason: format!("the cluster makes no pod: {message}"),
        hint,
        outlook,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "digits-a" }, "status": status })).expect("a pod")
    }

    fn container(state: &Value, last: &Value, restarts: i32) -> Value {
        json!({ "containerStatuses": [{
            "name": "server", "image": "x:1", "imageID": "", "ready": false, "restartCount": restarts,
            "state": state, "lastState": last,
        }]})
    }

    fn waiting(reason: &str, message: &str) -> Value {
        container(
            &json!({ "waiting": { "reason": reason, "message": message } }),
            &json!({}),
            0,
        )
    }

    fn crashed(restarts: i32, reason: &str, message: &str) -> Value {
        let ended = json!({ "terminated": { "exitCode": 1, "reason": reason, "message": message } });
        container(&json!({ "running": {} }), &ended, restarts)
    }

    fn unscheduled(reason: &str, message: &str) -> Value {
        json!({ "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        }]})
    }

    #[test]
    fn each_cause_is_told_and_weighed() {
        use Outlook::{Hopeless, Open, Room};
        let golden = "error: golden case 0 is off by more than 0.001\nhint: train again\n";
        for (status, words, outlook) in [
            (
                waiting("ErrImagePull", "connection refused"),
                "cannot get the image `x:1`: connection refused",
                Open,
            ),
            (
                waiting("ErrImagePull", "x:1: not found"),
                "cannot get the image",
                Hopeless,
            ),
            (waiting("ImagePullBackOff", "why"), "cannot get the image", Hopeless),
            (waiting("InvalidImageName", "why"), "cannot use the image", Hopeless),
            (
                waiting("CreateContainerConfigError", "why"),
                "cannot be started: why",
                Hopeless,
            ),
            (
                waiting(
                    "CreateContainerConfigError",
                    "failed to sync secret cache: timed out waiting for the condition",
                ),
                "cannot be started: failed to sync",
                Open,
            ),
            (
                waiting("CreateContainerError", "context deadline exceeded"),
                "cannot be started: context",
                Open,
            ),
            (
                waiting("CreateContainerError", "the name `a` is reserved for `b`"),
                "cannot be started: the name",
                Open,
            ),
            (crashed(1, "Error", ""), "ended with code 1", Open),
            (crashed(2, "Error", ""), "ended with code 1", Hopeless),
            (crashed(1, "Error", "error: no\n"), "ended with code 1: no", Open),
            (
                crashed(0, "Error", golden),
                "failed its golden check: golden case 0 is off",
                Hopeless,
            ),
            (crashed(2, "OOMKilled", ""), "more memory", Hopeless),
            (
                unscheduled("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu."),
                "fits on no node: 0/1 nodes",
                Room,
            ),
            (
                unscheduled(
                    "Unschedulable",
                    "1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }",
                ),
                "fits on no node: 1 node(s)",
                Open,
            ),
            (unscheduled("SchedulingGated", "gates"), "fits on no node", Open),
        ] {
            let cause = cause(&pod(&status)).expect("a cause");
            assert!(cause.reason.contains(words), "{}", cause.reason);
            assert_eq!(cause.outlook, outlook, "{}", cause.reason);
        }
        let hint = cause(&pod(&crashed(0, "Error", golden))).expect("a cause").hint;
        assert_eq!(hint.as_deref(), Some("train again"));
        assert_eq!(cause(&pod(&waiting("ContainerCreating", ""))), None);
        let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        assert_eq!(cause(&pod(&ready)), None);
    }
}
