//! A gateway in a cluster that leads some of its requests to two more Services, a canary and its baseline, for a while.
//!
//! What divides them is written at the canary's Service, an annotation with the share: so a gateway that is put there anew
//! in the meantime divides them too. The gateway that runs is changed in nothing else, and by a roll of its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::kubernetes::{Backend, MANAGED, Manifests, PORT, backend, called, not_ready, selector};
use super::{Gateway, Upstream};
use crate::cluster::rollout::{self, Rollout};
use crate::cluster::{Cluster, FIELD_MANAGER, Write};
use crate::problem::Problem;
use crate::project::GatewayConfig;

/// The annotation of the canary's Service: the share of the requests that it has, in percent.
const SHARE: &str = "emberline/share";
/// What stands in the gateway's file before the number of bytes that it takes.
const MAX_BODY: &str = "client_max_body_size ";
/// How long pods of the former configuration may take to go: what they are given, and a margin.
const GOING: Duration = Duration::from_secs(50);
/// Between two looks.
const POLL: Duration = Duration::from_millis(400);

/// Two more sides beside a Service, each with the same share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The share of each, in percent.
    pub percent: u8,
    /// Where the version that serves runs anew.
    pub baseline: Upstream,
    /// Where the version runs that is tried.
    pub canary: Upstream,
}

impl Split {
    /// What the template is given.
    pub(super) fn values(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("percent", self.percent.to_string()),
            ("baseline", self.baseline.to_string()),
            ("canary", self.canary.to_string()),
        ])
    }
}

/// The two Services beside a service, and their share of its requests.
#[derive(Clone, Debug)]
pub struct Divided {
    percent: u8,
    baseline: Backend,
    canary: Backend,
}

/// The Service of the baseline of `name`.
pub fn baseline(name: &str) -> String {
    format!("{name}-baseline")
}

/// The Service of the canary of `name`.
pub fn canary(name: &str) -> String {
    format!("{name}-canary")
}

/// Whether there is a gateway in front of `name`.
///
/// # Errors
///
/// What the cluster says against being asked, and a Deployment of its name that somebody else has made.
pub fn is_there(cluster: &Cluster, name: &str) -> Result<bool> {
    let found: Option<Deployment> = cluster.get(&called(name))?;
    cluster.check_ours(found.as_ref(), MANAGED)?;
    Ok(found.is_some())
}

impl Divided {
    /// How the requests to `name` are to be divided, if they are.
    ///
    /// # Errors
    ///
    /// What the cluster says against being asked.
    pub fn find(cluster: &Cluster, name: &str) -> Result<Option<Self>> {
        let found: Option<Service> = cluster.get(&canary(name))?;
        let share = found.and_then(|found| found.annotations().get(SHARE)?.parse().ok());
        let Some(percent) = share else { return Ok(None) };
        Ok(Some(Self {
            percent,
            baseline: backend(cluster, &baseline(name))?,
            canary: backend(cluster, &canary(name))?,
        }))
    }

    /// What nginx is told of it.
    ///
    /// # Errors
    ///
    /// Never in practice: the names of Services are hosts.
    pub fn split(&self, name: &str) -> Result<Split> {
        Ok(Split {
            percent: self.percent,
            baseline: format!("{}:{}", baseline(name), self.baseline.port).parse()?,
            canary: format!("{}:{}", canary(name), self.canary.port).parse()?,
        })
    }

    /// The addresses that nginx finds when it starts, and keeps to.
    pub(super) fn addresses(&self) -> String {
        format!("{},{}", self.baseline.address, self.canary.address)
    }
}

/// Has the gateway in front of `name` lead each of the two sides `percent` of the requests, or none of them any more.
/// Returns when no pod of the gateway does otherwise. `look` sees how far it is.
///
/// # Errors
///
/// What the cluster says against it, and why nginx does not get ready.
pub fn divide(
    cluster: &Cluster,
    name: &str,
    percent: Option<u8>,
    timeout: Duration,
    look: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let side = canary(name);
    let note = json!({ "metadata": { "annotations": { SHARE: percent.map(|percent| percent.to_string()) } } });
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let services = cluster.untyped::<Service>();
    cluster.find(
        &format!("note the share of Service `{side}`"),
        services.patch(&side, &parameters, &Patch::Merge(&note)),
    )?;
    let called = called(name);
    let Some(running) = Rollout::observe(cluster, &called)? else {
        return Ok(());
    };
    cluster.check_ours(Some(&running.deployment), MANAGED)?;
    let file: Option<ConfigMap> = cluster.get(&called)?;
    let max_body = file.as_ref().and_then(max_body).ok_or_else(|| {
        Problem::new(format!("the ConfigMap `{called}` holds no configuration of a gateway"))
            .hint("`emberline gateway up` makes it anew")
    })?;
    let divided = Divided::find(cluster, name)?;
    let split = divided.as_ref().map(|divided| divided.split(name)).transpose()?;
    let service = format!("{name}-service");
    let before = backend(cluster, &service)?;
    let gateway = Gateway::of_service(name, &service, before.port, max_body)?.divided(split);
    let config = as_it_is(&running);
    let namespace = Some(cluster.namespace());
    let manifests = Manifests::render(&gateway, &config, namespace, Some(&before), divided.as_ref())?;
    cluster.apply(&manifests.config, Write::Real)?;
    cluster.apply(&manifests.deployment, Write::Real)?;
    if let Err(cause) = rollout::arrive(cluster, &called, timeout, &mut |_| look())? {
        return Err(not_ready(&cause, cluster));
    }
    in_force(cluster, name, &gateway.render()?.digest, gateway.health(), look)
}

/// Waits until each pod of the gateway says that it has the configuration, and no other pod of it is left.
fn in_force(
    cluster: &Cluster,
    name: &str,
    digest: &str,
    health: &str,
    look: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let deadline = Instant::now() + GOING;
    let told = format!(r#""config": "{digest}""#);
    let mut known = BTreeSet::new();
    loop {
        let pods: Vec<Pod> = cluster.list(&selector(name))?;
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let pod = pod.name_any();
            // One that does not answer yet is asked again.
            if !known.contains(&pod)
                && let Ok(Some(says)) = cluster.ask_pod(&pod, PORT, health, None)
                && says.contains(&told)
            {
                known.insert(pod);
            }
        }
        let late: Vec<String> = pods
            .iter()
            .map(ResourceExt::name_any)
            .filter(|pod| !known.contains(pod))
            .collect();
        let gone = pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none());
        if late.is_empty() && gone {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Problem::new(format!(
                "pods of the gateway divide requests as before after {} s: {}",
                GOING.as_secs(),
                late.join(", ")
            ))
            .hint(format!(
                "`kubectl delete pod -n {} {}` has them replaced; then the same command goes on",
                cluster.namespace(),
                late.join(" ")
            ))
            .into());
        }
        look()?;
        std::thread::sleep(POLL);
    }
}

/// What the project's configuration may say otherwise by now: the gateway is left as it is.
fn as_it_is(running: &Rollout) -> GatewayConfig {
    let spec = running.deployment.spec.as_ref();
    let image = spec.and_then(|spec| spec.template.spec.as_ref()?.containers.first()?.image.clone());
    let usual = GatewayConfig::default();
    GatewayConfig {
        image: image.unwrap_or(usual.image),
        replicas: running.desired(),
        ..usual
    }
}

/// The largest body that a gateway's file takes.
fn max_body(file: &ConfigMap) -> Option<usize> {
    let text = file.data.as_ref()?.get("nginx.conf")?;
    let (_, rest) = text.split_once(MAX_BODY)?;
    rest.split_once(';')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided() -> Divided {
        let backend = |address: &str| Backend {
            port: 8000,
            address: address.to_owned(),
        };
        Divided {
            percent: 10,
            baseline: backend("10.96.0.1"),
            canary: backend("10.96.0.2"),
        }
    }

    fn rendered(divided: Option<&Divided>) -> Manifests {
        let split = divided.map(|divided| divided.split("digits").expect("hosts"));
        let gateway = Gateway::of_service("digits", "digits-service", 5000, 1024).expect("a gateway");
        let config = GatewayConfig::default();
        Manifests::render(&gateway.divided(split), &config, None, None, divided).expect("rendered")
    }

    #[test]
    fn a_split_gives_each_side_its_share_and_nothing_of_it_is_left_without_one() {
        let (whole, divided) = (rendered(None), rendered(Some(&divided())));
        let file = |manifests: &Manifests| manifests.config.data.clone().expect("data")["nginx.conf"].clone();
        let (without, with) = (file(&whole), file(&divided));
        for line in [
            "        10% digits-canary;\n        10% digits-baseline;\n        * digits;\n",
            "        server digits-canary:8000 max_fails=0;\n        server digits-service:5000 max_fails=0 backup;\n",
            "            rewrite \"(?s)^/digits/(.*)$\" /$1 break;\n            proxy_pass http://$gateway_side;\n",
        ] {
            assert!(with.contains(line), "{with}");
        }
        assert!(
            without.contains("            proxy_pass http://digits/;\n"),
            "{without}"
        );
        assert!(!without.contains("canary") && !without.contains("rewrite"), "{without}");
        let annotations = |manifests: &Manifests| {
            let spec = manifests.deployment.spec.clone().expect("a spec");
            spec.template
                .metadata
                .and_then(|metadata| metadata.annotations)
                .expect("annotations")
        };
        assert_eq!(annotations(&divided)["emberline/split"], "10.96.0.1,10.96.0.2");
        assert_eq!(annotations(&whole).get("emberline/split"), None);
        assert_eq!(max_body(&whole.config), Some(1024));
    }
}
