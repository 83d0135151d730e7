//! What is told of a service: its pods and its history as one [`Service`]. Nothing is changed here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service as ClusterService;
use kube::ResourceExt;

use super::Kubernetes;
use super::history::{History, template};
use super::manifests::VERSION;
use super::stage::stage;
use crate::cluster::diagnosis;
use crate::cluster::rollout::Rollout;
use crate::deploy::history::Outcome;
use crate::deploy::{Autoscale, Instance, Phase, Replicas, Service, Trouble};
use crate::project::TargetKind;

impl Kubernetes {
    /// What is told of the service.
    pub(super) fn service(&self, rollout: &Rollout, history: &History, autoscale: Option<Autoscale>) -> Service {
        let record = history.current();
        let revision = record.map_or(0, |record| record.revision.revision);
        let failed = history
            .newest()
            .filter(|record| record.revision.outcome == Outcome::RolledBack || record.revision.kept);
        let kept = failed.is_some_and(|record| record.revision.kept);
        let phase = match (rollout.is_complete(), failed) {
            (true, Some(_)) if !kept => Phase::RolledBack,
            (true, _) => Phase::Ready,
            (false, None) => Phase::Progressing,
            (false, Some(_)) if kept => Phase::Failed,
            (false, Some(_)) => Phase::RollingBack,
        };
        let version =
            label(template(&rollout.deployment).and_then(|template| template.metadata.as_ref()?.labels.as_ref()));
        let instances = (1..).zip(&rollout.pods).map(|(replica, pod)| {
            let version = label(pod.metadata.labels.as_ref());
            let going = pod.metadata.deletion_timestamp.is_some();
            Instance {
                replica,
                name: Some(pod.name_any()),
                pid: None,
                revision: if rollout.is_new(pod) {
                    revision
                } else {
                    history.before(revision, &version).unwrap_or_default()
                },
                version,
                ready: diagnosis::is_ready(pod),
                stage: stage(&self.cluster, pod),
                restarts: diagnosis::restarts(pod),
                since: pod
                    .creation_timestamp()
                    .and_then(|time| u64::try_from(time.0.as_second()).ok())
                    .unwrap_or_default(),
                requests: None,
                waiting: if going {
                    Some("it goes".to_owned())
                } else {
                    diagnosis::cause(pod).map(|cause| cause.reason)
                },
            }
        });
        Service {
            name: self.names.name().to_owned(),
            target: TargetKind::Kubernetes,
            version,
            revision,
            replicas: Replicas {
                desired: rollout.desired(),
                ready: rollout.ready(),
            },
            image: template(&rollout.deployment)
                .and_then(|template| template.spec.as_ref()?.containers.first()?.image.clone()),
            namespace: Some(self.cluster.namespace().to_owned()),
            autoscale,
            address: None,
            address_hint: Some(self.way_in()),
            phase,
            instances: instances.collect(),
            trouble: failed.map(|record| Trouble {
                revision: record.revision.revision,
                at: record.revision.deployed_at,
                reason: record.revision.reason.clone().unwrap_or_default(),
                hint: None,
                log: Vec::new(),
            }),
            proof: None,
            proof_hint: None,
            canary: None,
        }
    }

    /// How a person on this machine reaches the Service.
    fn way_in(&self) -> String {
        let context = match self.cluster.context() {
            Some(context) => format!(" --context {context}"),
            None => String::new(),
        };
        format!(
            "the Service is inside the cluster; `kubectl{context} port-forward -n {} service/{} 5000:{}` brings it to \
             http://127.0.0.1:5000",
            self.cluster.namespace(),
            self.names.service(),
            self.port().unwrap_or(self.project.config.deploy.port),
        )
    }

    /// The port of the Service as it is.
    pub(super) fn port(&self) -> Option<u16> {
        let service: ClusterService = self.cluster.get(&self.names.service()).ok()??;
        u16::try_from(service.spec?.ports?.first()?.port).ok()
    }
}

/// A service as the change sees it that is made to it: what failed before is over.
pub fn changed(service: Service) -> Service {
    let phase = match service.phase {
        Phase::RolledBack => Phase::Ready,
        Phase::RollingBack | Phase::Failed => Phase::Progressing,
        phase => phase,
    };
    Service {
        phase,
        trouble: None,
        ..service
    }
}

/// The version that labels say.
fn label(labels: Option<&BTreeMap<String, String>>) -> String {
    labels
        .and_then(|labels| labels.get(VERSION).cloned())
        .unwrap_or_default()
}
