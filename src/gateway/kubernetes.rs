//! A gateway in a cluster: nginx as a Deployment with its configuration in a `ConfigMap`, behind a Service.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use minijinja::context;
use serde_json::Value;

use super::Gateway;
use super::divided::Divided;
use crate::cluster::diagnosis::Cause;
use crate::cluster::rollout::{self, Rollout};
use crate::cluster::{Cluster, Write};
use crate::problem::Problem;
use crate::project::GatewayConfig;
use crate::templates;

/// Where nginx listens in its pod.
pub(super) const PORT: u16 = 8080;
/// The label of everything that this tool has made.
pub(super) const MANAGED: (&str, &str) = ("app.kubernetes.io/managed-by", "emberline");

/// The objects of a gateway.
#[derive(Clone, Debug)]
pub struct Manifests {
    pub(super) config: ConfigMap,
    pub(super) deployment: Deployment,
    service: Service,
}

/// The Service that the gateway leads to, as it is in the cluster.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its port.
    pub port: u16,
    /// Its address: nginx keeps to the one that it found when it started.
    pub address: String,
}

/// What stands in front of `name` is called so, all of it.
pub fn called(name: &str) -> String {
    format!("{name}-gateway")
}

/// Labels of its pods that never change.
pub(super) fn selector(name: &str) -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/name", name),
        ("app.kubernetes.io/component", "gateway"),
    ];
    labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into()
}

impl Manifests {
    /// The objects of `gateway` in `namespace`; in whichever they are applied to when there is none. `backend` is what the
    /// cluster says of the Service behind it, and `divided` of those that have a share of the requests beside it.
    ///
    /// # Errors
    ///
    /// A template that is wrong.
    pub fn render(
        gateway: &Gateway,
        config: &GatewayConfig,
        namespace: Option<&str>,
        backend: Option<&Backend>,
        divided: Option<&Divided>,
    ) -> Result<Self> {
        let rendered = gateway.render()?;
        let name = gateway.name().to_owned();
        let selector = selector(&name);
        let mut labels = selector.clone();
        labels.insert("app.kubernetes.io/instance".to_owned(), name.clone());
        labels.insert("app.kubernetes.io/part-of".to_owned(), name.clone());
        labels.insert(MANAGED.0.to_owned(), MANAGED.1.to_owned());
        let mut annotations = BTreeMap::from([("emberline/config", rendered.digest)]);
        if let Some(backend) = backend {
            annotations.insert("emberline/backend", backend.address.clone());
        }
        if let Some(divided) = divided {
            annotations.insert("emberline/split", divided.addresses());
        }
        let values = context! {
            name,
            namespace => namespace.map(str::to_owned),
            labels,
            selector,
            annotations,
            config => rendered.config,
            image => config.image.clone(),
            replicas => config.replicas,
            service_type => config.service_type.name(),
        };
        Ok(Self {
            config: templates::object("config-map.yaml", templates::GATEWAY_CONFIG_MAP, &values)?,
            deployment: templates::object("deployment.yaml", templates::GATEWAY_DEPLOYMENT, &values)?,
            service: templates::object("service.yaml", templates::GATEWAY_SERVICE, &values)?,
        })
    }

    /// All of them as JSON, in the order of their application.
    ///
    /// # Errors
    ///
    /// Never in practice: typed objects can be written.
    pub fn objects(&self) -> Result<Vec<Value>> {
        Ok(vec![
            serde_json::to_value(&self.config)?,
            serde_json::to_value(&self.deployment)?,
            serde_json::to_value(&self.service)?,
        ])
    }

    /// Applies them and waits until nginx answers; `look` sees how far it is. Gives the Service's port on every node, if it
    /// has one.
    ///
    /// # Errors
    ///
    /// What the cluster says against them, and why nginx does not get ready.
    pub fn up(
        &self,
        cluster: &Cluster,
        name: &str,
        timeout: Duration,
        look: &mut dyn FnMut(&Rollout) -> Result<()>,
    ) -> Result<Option<u16>> {
        let called = called(name);
        cluster.check_ours(cluster.get::<Deployment>(&called)?.as_ref(), MANAGED)?;
        // All of them are checked before the first one is written.
        for write in [Write::DryRun, Write::Real] {
            cluster.apply(&self.config, write)?;
            cluster.apply(&self.deployment, write)?;
            cluster.apply(&self.service, write)?;
        }
        match rollout::arrive(cluster, &called, timeout, look)? {
            Ok(_) => {}
            Err(cause) => return Err(not_ready(&cause, cluster)),
        }
        let service: Option<Service> = cluster.get(&called)?;
        let port = service.and_then(|service| service.spec?.ports?.first()?.node_port);
        Ok(port.and_then(|port| u16::try_from(port).ok()))
    }
}

/// Takes the gateway of `name` away.
///
/// # Errors
///
/// When there is none, and what the cluster says against it.
pub fn down(cluster: &Cluster, name: &str) -> Result<()> {
    let called = called(name);
    let found: Option<Deployment> = cluster.get(&called)?;
    cluster.check_ours(found.as_ref(), MANAGED)?;
    let mut any = cluster.delete::<Deployment>(&called)?;
    any |= cluster.delete::<Service>(&called)?;
    any |= cluster.delete::<ConfigMap>(&called)?;
    if any {
        return Ok(());
    }
    Err(Problem::new(format!(
        "there is no gateway of `{name}` in namespace `{}`",
        cluster.namespace()
    ))
    .hint("`emberline gateway up --target kubernetes` makes one")
    .into())
}

/// What the cluster says of the Service that a gateway is to lead to.
///
/// # Errors
///
/// When it is not there: nginx would not start without it.
pub fn backend(cluster: &Cluster, service: &str) -> Result<Backend> {
    let found: Option<Service> = cluster.get(service)?;
    let spec = found.and_then(|found| found.spec).ok_or_else(|| {
        Problem::new(format!(
            "there is no Service `{service}` in namespace `{}` to lead to",
            cluster.namespace()
        ))
        .hint("`emberline deploy --target kubernetes` makes it")
    })?;
    let port = spec
        .ports
        .as_ref()
        .and_then(|ports| ports.first())
        .map(|port| port.port);
    Ok(Backend {
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or_default(),
        address: spec.cluster_ip.unwrap_or_default(),
    })
}

pub(super) fn not_ready(cause: &Cause, cluster: &Cluster) -> anyhow::Error {
    let mut text = format!("the gateway does not get ready: {}", cause.reason);
    for line in cause.log(cluster) {
        text.push_str("\n    ");
        text.push_str(&line);
    }
    let hint = if cause.reason.contains("cannot get the image") {
        Some("`gateway.image` names an image with nginx that the nodes can get".to_owned())
    } else {
        cause.hint.clone()
    };
    let problem = Problem::new(text);
    match hint {
        Some(hint) => problem.hint(hint).into(),
        None => problem.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_hold_the_configuration_and_change_with_it() {
        let render = |port, backend: Option<&Backend>| {
            let gateway = Gateway::of_service("digits", "digits-service", port, 1024).expect("a gateway");
            let manifests = Manifests::render(&gateway, &GatewayConfig::default(), Some("models"), backend, None);
            manifests.expect("rendered").objects().expect("JSON")
        };
        let objects = render(5000, None);
        let [config, deployment, service] = &objects[..] else {
            panic!("three objects");
        };
        let file = config["data"]["nginx.conf"].as_str().expect("a file");
        assert_eq!(
            file.matches("server digits-service:5000 max_fails=0;").count(),
            2,
            "{file}"
        );
        assert!(
            file.contains("access_log /dev/stdout gateway;") && !file.contains("keepalive 32"),
            "{file}"
        );
        let annotations = |deployment: &Value| deployment["spec"]["template"]["metadata"]["annotations"].clone();
        assert_ne!(annotations(deployment), annotations(&render(5001, None)[1]));
        let backend = Backend {
            port: 5000,
            address: "10.96.0.9".into(),
        };
        assert_ne!(annotations(deployment), annotations(&render(5000, Some(&backend))[1]));
        assert_eq!(service["spec"]["type"], "ClusterIP");
        assert_eq!(
            service["spec"]["selector"],
            deployment["spec"]["selector"]["matchLabels"]
        );
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    }
}
