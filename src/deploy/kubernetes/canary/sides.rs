//! The two sides: the objects of a release under other names and labels, so that the service's own never lead to them and
//! everything else about their pods is the same. Nothing here knows how they compare.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::canary::Sides;
use crate::cluster::diagnosis::{self, Cause};
use crate::cluster::rollout::{self, Rollout};
use crate::cluster::{Cluster, Manifest, Write};
use crate::deploy::kubernetes::manifests::{MANAGED, Manifests, Names};
use crate::gateway::divided;
use crate::problem::Problem;

/// The label that tells the sides, and the service itself, from one another.
const COMPONENT: &str = "app.kubernetes.io/component";
/// How long pods may take to go: what they are given, and a margin.
const END: Duration = Duration::from_mins(1);
/// Between two looks at what goes.
const POLL: Duration = Duration::from_millis(500);

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The version that serves, started anew: servers that have run for long do not compare with fresh ones.
    Baseline,
    /// The version that is tried.
    Canary,
}

/// The objects of both.
#[derive(Debug)]
pub struct Objects(Vec<Manifest>);

impl Side {
    /// Both; the canary first, because it is the one that may be wrong.
    pub const BOTH: [Self; 2] = [Self::Canary, Self::Baseline];

    /// What its objects are called.
    pub fn called(self, names: &Names) -> String {
        match self {
            Self::Baseline => divided::baseline(names.name()),
            Self::Canary => divided::canary(names.name()),
        }
    }

    fn component(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Canary => "canary",
        }
    }

    /// Labels of its pods that never change.
    pub fn selector(self, names: &Names) -> BTreeMap<String, String> {
        let mut labels = names.selector();
        self.relabel(Some(&mut labels));
        labels
    }

    fn relabel(self, labels: Option<&mut BTreeMap<String, String>>) {
        if let Some(component) = labels.and_then(|labels| labels.get_mut(COMPONENT)) {
            self.component().clone_into(component);
        }
    }

    fn rename(self, names: &Names, metadata: &mut ObjectMeta) {
        metadata.name = Some(self.called(names));
        self.relabel(metadata.labels.as_mut());
    }

    /// The Deployment of a release as this side's.
    fn deployment(self, names: &Names, of: &Deployment, replicas: i32) -> Deployment {
        let mut deployment = of.clone();
        self.rename(names, &mut deployment.metadata);
        if let Some(spec) = deployment.spec.as_mut() {
            spec.replicas = Some(replicas);
            self.relabel(spec.selector.match_labels.as_mut());
            if let Some(metadata) = spec.template.metadata.as_mut() {
                self.relabel(metadata.labels.as_mut());
            }
            let pod = spec.template.spec.as_mut();
            let spread = pod.and_then(|pod| pod.topology_spread_constraints.as_mut());
            for constraint in spread.into_iter().flatten() {
                let selector = constraint.label_selector.as_mut();
                self.relabel(selector.and_then(|selector| selector.match_labels.as_mut()));
            }
        }
        deployment
    }

    fn service(self, names: &Names, of: &Service) -> Service {
        let mut service = of.clone();
        self.rename(names, &mut service.metadata);
        self.relabel(service.spec.as_mut().and_then(|spec| spec.selector.as_mut()));
        service
    }

    fn policy(self, names: &Names, of: &NetworkPolicy) -> NetworkPolicy {
        let mut policy = of.clone();
        self.rename(names, &mut policy.metadata);
        let selector = policy.spec.as_mut().and_then(|spec| spec.pod_selector.as_mut());
        self.relabel(selector.and_then(|selector| selector.match_labels.as_mut()));
        policy
    }
}

impl Objects {
    /// Those of a release that is tried, and of the Deployment that serves, each with so many replicas.
    ///
    /// # Errors
    ///
    /// Never in practice: typed objects can be written.
    pub fn new(names: &Names, tried: &Manifests, serves: &Deployment, replicas: i32) -> Result<Self> {
        let mut all = Vec::new();
        for side in Side::BOTH {
            let deployment = match side {
                Side::Canary => &tried.deployment,
                Side::Baseline => serves,
            };
            // Nobody may reach a pod before it is said who may.
            all.push(Manifest::of(&side.policy(names, &tried.policy))?);
            all.push(Manifest::of(&side.service(names, &tried.service))?);
            all.push(Manifest::of(&side.deployment(names, deployment, replicas))?);
        }
        Ok(Self(all))
    }

    /// All of them, in the order of their application.
    #[cfg(test)]
    pub fn all(&self) -> &[Manifest] {
        &self.0
    }

    /// Has the cluster check them, and nothing of that name be somebody else's.
    ///
    /// # Errors
    ///
    /// What is against one of them.
    pub fn check(&self, cluster: &Cluster) -> Result<()> {
        for object in &self.0 {
            cluster.find_manifest(object, MANAGED)?;
            cluster.apply_manifest(object, Write::DryRun)?;
        }
        Ok(())
    }

    /// Puts them there.
    ///
    /// # Errors
    ///
    /// What the cluster says against one of them.
    pub fn apply(&self, cluster: &Cluster) -> Result<()> {
        for object in &self.0 {
            cluster.apply_manifest(object, Write::Real)?;
        }
        Ok(())
    }
}

/// Waits until both sides answer; gives what keeps one of them from it.
///
/// # Errors
///
/// Those of `look`, and what the cluster says against being asked.
pub fn arrive(
    cluster: &Cluster,
    names: &Names,
    timeout: Duration,
    look: &mut dyn FnMut() -> Result<()>,
) -> Result<Result<(), Cause>> {
    for side in Side::BOTH {
        if let Err(cause) = rollout::arrive(cluster, &side.called(names), timeout, &mut |_| look())? {
            return Ok(Err(cause));
        }
    }
    Ok(Ok(()))
}

/// Takes both away, and waits until their pods have answered what they have accepted, and gone.
///
/// # Errors
///
/// Those of `look`, what the cluster says against it, and pods that do not go.
pub fn remove(cluster: &Cluster, names: &Names, look: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    for side in Side::BOTH {
        cluster.delete::<Deployment>(&side.called(names))?;
    }
    let deadline = Instant::now() + END;
    while let Some(pod) = pods(cluster, names)?.first() {
        if Instant::now() > deadline {
            return Err(Problem::new(format!(
                "pod `{}` has not ended after {} s",
                pod.name_any(),
                END.as_secs()
            ))
            .hint("its node may be gone; `kubectl get pods` shows it, and `emberline deploy --abort` goes on")
            .into());
        }
        look()?;
        std::thread::sleep(POLL);
    }
    for side in Side::BOTH {
        cluster.delete::<Service>(&side.called(names))?;
        cluster.delete::<NetworkPolicy>(&side.called(names))?;
    }
    Ok(())
}

fn pods(cluster: &Cluster, names: &Names) -> Result<Vec<Pod>> {
    let mut all = Vec::new();
    for side in Side::BOTH {
        all.extend(cluster.list::<Pod>(&side.selector(names))?);
    }
    Ok(all)
}

/// How often containers of either side were started again.
///
/// # Errors
///
/// What the cluster says against being asked.
pub fn restarts(cluster: &Cluster, names: &Names) -> Result<Sides<u32>> {
    let of = |side: Side| -> Result<u32> {
        let rollout = Rollout::observe(cluster, &side.called(names))?;
        Ok(rollout.map_or(0, |rollout| rollout.pods.iter().map(diagnosis::restarts).sum()))
    };
    Ok(Sides {
        baseline: of(Side::Baseline)?,
        canary: of(Side::Canary)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::deploy::kubernetes::manifests::VERSION;
    use crate::deploy::kubernetes::manifests::tests::{project, request};

    #[test]
    fn the_service_leads_to_neither_side_and_each_is_as_its_release_otherwise() {
        let names = Names::new("digits");
        let render = |version| Manifests::render(&project(), &request(version), Some("models")).expect("rendered");
        let (serves, tried) = (render("0123456789ab"), render("ba9876543210"));
        let objects = Objects::new(&names, &tried, &serves.deployment, 2).expect("objects");
        let objects: BTreeMap<(String, String), Value> = objects
            .all()
            .iter()
            .map(|object| ((object.kind().to_owned(), object.name()), object.value().expect("JSON")))
            .collect();
        assert_eq!(objects.len(), 6);
        let get = |kind: &str, name: &str| &objects[&(kind.to_owned(), name.to_owned())];
        for (side, name, version) in [
            (Side::Canary, "digits-canary", "ba9876543210"),
            (Side::Baseline, "digits-baseline", "0123456789ab"),
        ] {
            let selector = serde_json::to_value(side.selector(&names)).expect("JSON");
            assert_ne!(selector, serde_json::to_value(names.selector()).expect("JSON"));
            let deployment = get("Deployment", name);
            let spec = &deployment["spec"];
            assert_eq!(spec["selector"]["matchLabels"], selector);
            assert_eq!(get("Service", name)["spec"]["selector"], selector);
            assert_eq!(
                get("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"],
                selector
            );
            assert_eq!(spec["replicas"], 2);
            let labels = &spec["template"]["metadata"]["labels"];
            assert_eq!(
                labels["app.kubernetes.io/component"],
                selector["app.kubernetes.io/component"]
            );
            assert_eq!(labels[VERSION], version);
            // The rest is the release's own.
            let text = |value: &Value| {
                let text = value.to_string().replace(&format!("\"component\":\"{name}\""), "");
                let component = selector["app.kubernetes.io/component"]
                    .as_str()
                    .expect("text")
                    .to_owned();
                text.replace(&format!("component\":\"{component}\""), "component\":\"server\"")
            };
            let of = if side == Side::Canary { &tried } else { &serves };
            let own = serde_json::to_value(&of.deployment).expect("JSON");
            assert_eq!(text(&spec["template"]), own["spec"]["template"].to_string());
        }
    }
}
