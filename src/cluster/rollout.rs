//! A Deployment on its way: how far it is, and what keeps it from arriving.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::ResourceExt;

use super::Cluster;
use super::denial::{Outlook, denial};
use super::diagnosis::{Cause, cause, is_ready, refused};
use crate::problem::Problem;

/// The label by which it tells the pods of one template from those of another.
const TEMPLATE: &str = "pod-template-hash";
/// Between two looks.
const POLL: Duration = Duration::from_millis(400);
/// How long room for a pod is waited for where nobody is seen to make any. An autoscaler of nodes looks each 10 s whether
/// one is needed, and says so.
const ROOM: Duration = Duration::from_secs(12);

/// A Deployment with its pods, as they are now.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The Deployment.
    pub deployment: Deployment,
    /// Its pods, the oldest first, also those that are on their way out.
    pub pods: Vec<Pod>,
    /// Who makes the pods of the newest template, once it is there.
    newest: Option<ReplicaSet>,
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
        let newest = sets
            .into_iter()
            .find(|set| wanted.is_some() && pod_template(set).as_ref() == wanted);
        let mut pods: Vec<Pod> = cluster.list(&labels)?;
        pods.sort_by_key(|pod| (pod.creation_timestamp(), pod.name_any()));
        Ok(Some(Self {
            deployment,
            pods,
            newest,
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
        let template = self.newest.as_ref().and_then(|set| set.labels().get(TEMPLATE));
        template.is_some() && pod.labels().get(TEMPLATE) == template
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
            .chain(self.newest.as_ref().and_then(refused))
            .chain(self.not_begun())
            .collect();
        causes.sort_by_key(|cause| match cause.outlook {
            Outlook::Hopeless => 0,
            Outlook::Room => 1,
            Outlook::Open => 2,
        });
        causes.into_iter().next()
    }

    /// That there may not even be somebody who makes its pods.
    fn not_begun(&self) -> Option<Cause> {
        let conditions = self.deployment.status.as_ref()?.conditions.as_ref()?;
        let failure = conditions.iter().find(|condition| {
            condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ReplicaSetCreateError")
        })?;
        let message = failure.message.clone().unwrap_or_default();
        let denial = denial(&message, &self.deployment.namespace().unwrap_or_default());
        Some(Cause {
            pod: None,
            reason: format!("the cluster makes no ReplicaSet: {message}"),
            outlook: denial.as_ref().map_or(Outlook::Hopeless, |denial| denial.outlook),
            hint: denial.map(|denial| denial.hint),
        })
    }

    /// Whether a pod of ours goes, whose place another one can take.
    fn makes_room(&self) -> bool {
        self.pods.iter().any(|pod| pod.metadata.deletion_timestamp.is_some())
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
    let mut room = Room::default();
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
            Some(cause) if cause.is_hopeless() || late => return Ok(Err(cause)),
            Some(cause) if cause.outlook == Outlook::Room && !room.may_come(cluster, &rollout, &cause) => {
                return Ok(Err(cause));
            }
            None if late => {
                return Ok(Err(Cause {
                    pod: None,
                    reason: format!(
                        "{best} of {} replicas are ready, and no further one has become so within {} s",
                        rollout.desired(),
                        timeout.as_secs()
                    ),
                    hint: Some("`--timeout` gives them longer".to_owned()),
                    outlook: Outlook::Open,
                }));
            }
            waiting => {
                if waiting.is_none_or(|cause| cause.outlook != Outlook::Room) {
                    room = Room::default();
                }
                std::thread::sleep(POLL);
            }
        }
    }
}

/// The wait for room.
#[derive(Default)]
struct Room {
    /// When to give it up, unless somebody is seen to make some.
    until: Option<Instant>,
}

impl Room {
    /// Whether room is still to be expected: a pod of ours goes, the scheduler has others end for it, a node is on its way,
    /// or it was not waited for long enough to know.
    fn may_come(&mut self, cluster: &Cluster, rollout: &Rollout, cause: &Cause) -> bool {
        let now = Instant::now();
        if rollout.makes_room() {
            self.until = Some(now + ROOM);
            return true;
        }
        let Some(pod) = cause.pod.as_ref() else {
            // A quota: what goes and is not ours may be anything. After a pod of ours has gone, it takes a moment to know.
            return self.until.is_some_and(|until| now < until);
        };
        let until = *self.until.get_or_insert(now + ROOM);
        if now < until {
            return true;
        }
        let is_on_its_way = rollout
            .pods
            .iter()
            .filter(|found| found.metadata.name.as_ref() == Some(pod))
            .any(|pod| cluster.makes_room_for(pod));
        if is_on_its_way {
            self.until = Some(now + ROOM);
        }
        is_on_its_way
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

    fn waiting() -> Value {
        json!({ "containerStatuses": [{
            "name": "server", "image": "x:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImagePull", "message": "why" } },
        }]})
    }

    fn crashed() -> Value {
        json!({ "containerStatuses": [{
            "name": "server", "image": "x:1", "imageID": "", "ready": false, "restartCount": 5,
            "state": { "running": {} },
            "lastState": { "terminated": { "exitCode": 1 } },
        }]})
    }

    fn ready() -> Value {
        json!({ "conditions": [{ "type": "Ready", "status": "True" }] })
    }

    fn set(status: &Value) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": { "name": "digits-new", "namespace": "models", "labels": { TEMPLATE: "new" } },
            "status": status,
        }))
        .expect("a set")
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
            newest: Some(set(&json!({}))),
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
        let old = rollout(&seen, vec![pod("old", &crashed()), pod("new", &ready())]);
        assert_eq!(old.cause(), None);
        assert_eq!(old.updated_and_ready(), 1);
        let new = rollout(&seen, vec![pod("new", &waiting()), pod("new", &crashed())]);
        assert!(new.cause().expect("a cause").is_hopeless());
        assert_eq!(rollout(&json!({ "observedGeneration": 1 }), new.pods).cause(), None);
    }

    #[test]
    fn a_deployment_that_may_make_no_pod_says_so() {
        let seen = json!({ "observedGeneration": 2 });
        let refused = |message: &str| {
            let condition = json!({ "type": "ReplicaFailure", "status": "True", "message": message });
            Rollout {
                newest: Some(set(&json!({ "replicas": 0, "conditions": [condition] }))),
                ..rollout(&seen, vec![])
            }
        };
        let quota = refused("exceeded quota: small").cause().expect("a cause");
        assert!(quota.reason.contains("the cluster makes no pod: exceeded quota"));
        assert!(quota.outlook == Outlook::Room && quota.hint.is_some());
        assert!(refused("anything else").cause().expect("a cause").is_hopeless());

        let status = json!({ "observedGeneration": 2, "conditions": [{
            "type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError", "message": "no",
        }]});
        let cause = rollout(&status, vec![]).cause().expect("a cause");
        assert!(cause.is_hopeless() && cause.reason.contains("makes no ReplicaSet: no"));
    }

    #[test]
    fn room_is_waited_for_while_a_pod_of_ours_goes() {
        let mut going = pod("old", &ready());
        assert!(!rollout(&json!({}), vec![going.clone()]).makes_room());
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
        assert!(rollout(&json!({}), vec![going]).makes_room());
    }
}
