//! The objects of a service: rendered from their templates, and parsed into their types, so that a template that is wrong
//! fails here and not in the cluster. Nothing here asks a cluster.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use minijinja::context;

use super::routes;
use crate::bundle::Verdict;
use crate::cluster::Manifest;
use crate::deploy::{Autoscale, Request};
use crate::project::Project;
use crate::templates;

/// What the objects of a service are called.
#[derive(Clone, Debug)]
pub struct Names {
    name: String,
}

impl Names {
    /// Those of the project's service.
    pub fn new(project: &str) -> Self {
        Self {
            name: project.to_owned(),
        }
    }

    /// The service itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its Deployment.
    pub fn deployment(&self) -> String {
        format!("{}-deployment", self.name)
    }

    /// Its Service.
    pub fn service(&self) -> String {
        format!("{}-service", self.name)
    }

    /// Its `ServiceAccount`.
    pub fn account(&self) -> String {
        self.name.clone()
    }

    /// Its `HorizontalPodAutoscaler`.
    pub fn autoscaler(&self) -> String {
        format!("{}-autoscaler", self.name)
    }

    /// Its `PodDisruptionBudget`.
    pub fn budget(&self) -> String {
        format!("{}-budget", self.name)
    }

    /// Its `NetworkPolicy`.
    pub fn policy(&self) -> String {
        format!("{}-policy", self.name)
    }

    /// The Secret with the digests of its clients' keys.
    pub fn keys(&self) -> String {
        format!("{}-keys", self.name)
    }

    /// The `ConfigMap` of its history.
    pub fn history(&self) -> String {
        format!("{}-history", self.name)
    }

    /// The `ConfigMap` of a canary that runs.
    pub fn canary(&self) -> String {
        format!("{}-canary", self.name)
    }

    /// The Lease that one change at a time holds.
    pub fn lock(&self) -> String {
        format!("{}-lock", self.name)
    }

    /// Labels of its pods that never change.
    pub fn selector(&self) -> BTreeMap<String, String> {
        owned([
            ("app.kubernetes.io/name", &self.name),
            ("app.kubernetes.io/component", "server"),
        ])
    }

    /// Labels of everything that belongs to it.
    pub fn labels(&self, version: Option<&str>) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.extend(owned([
            ("app.kubernetes.io/instance", &self.name),
            ("app.kubernetes.io/part-of", &self.name),
            MANAGED,
        ]));
        labels.extend(version.map(|version| (VERSION.to_owned(), version.to_owned())));
        labels
    }
}

fn owned<const N: usize>(labels: [(&str, &str); N]) -> BTreeMap<String, String> {
    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The label of everything that this tool has made.
pub const MANAGED: (&str, &str) = ("app.kubernetes.io/managed-by", "emberline");
/// The label with the bundle's version.
pub const VERSION: &str = "app.kubernetes.io/version";

/// The objects of one release.
#[derive(Clone, Debug)]
pub struct Manifests {
    /// The account of the pods.
    pub account: ServiceAccount,
    /// Whose keys their clients need, if any.
    pub keys: Option<Secret>,
    /// Who may reach them.
    pub policy: NetworkPolicy,
    /// How many of them may be taken away at once.
    pub budget: PodDisruptionBudget,
    /// Their address.
    pub service: Service,
    /// What leads to it from elsewhere, and who watches it.
    pub extras: Vec<Manifest>,
    /// The pods.
    pub deployment: Deployment,
}

impl Manifests {
    /// The objects that `request` asks for, in `namespace`; in whichever they are applied to when there is none.
    ///
    /// # Errors
    ///
    /// A template that is wrong.
    pub fn render(project: &Project, request: &Request, namespace: Option<&str>) -> Result<Self> {
        super::check_number(request.replicas)?;
        let config = &project.config.deploy;
        let names = Names::new(&project.config.name);
        let (source, resources) = (&request.source, &request.resources);
        let mut annotations = BTreeMap::from([
            ("emberline/bundle-digest", source.digest.clone()),
            (
                "emberline/gate",
                source.gate.map_or("unevaluated", Verdict::name).to_owned(),
            ),
        ]);
        if let Some(revision) = &source.source_revision {
            annotations.insert("emberline/source-revision", revision.clone());
        }
        let values = context! {
            name => names.name().to_owned(),
            namespace => namespace.map(str::to_owned),
            labels => names.labels(Some(&source.version)),
            selector => names.selector(),
            annotations,
            replicas => request.replicas,
            image => source.image.clone(),
            port => request.port,
            memory_request => resources.memory_request.to_string(),
            memory => resources.memory.to_string(),
            cpu => resources.cpu.to_string(),
            clients => config.clients.name(),
            keys => request.keys.as_deref().map(in_base_64).transpose()?,
        };
        let keys = request
            .keys
            .as_ref()
            .map(|_| templates::object("keys.yaml", templates::KUBERNETES_KEYS, &values));
        Ok(Self {
            account: templates::object("service-account.yaml", templates::KUBERNETES_SERVICE_ACCOUNT, &values)?,
            keys: keys.transpose()?,
            policy: templates::object("network-policy.yaml", templates::KUBERNETES_NETWORK_POLICY, &values)?,
            budget: templates::object(
                "disruption-budget.yaml",
                templates::KUBERNETES_DISRUPTION_BUDGET,
                &values,
            )?,
            service: templates::object("service.yaml", templates::KUBERNETES_SERVICE, &values)?,
            extras: routes::render(project, request, &values)?,
            deployment: templates::object("deployment.yaml", templates::KUBERNETES_DEPLOYMENT, &values)?,
        })
    }

    /// What the pods need, or what is about them: all but the Deployment, in the order of their application.
    ///
    /// # Errors
    ///
    /// Never in practice: typed objects can be written.
    pub fn around(&self) -> Result<Vec<Manifest>> {
        let keys = self.keys.as_ref().map(Manifest::of).transpose()?;
        let mut all = vec![Manifest::of(&self.account)?];
        all.extend(keys);
        all.push(Manifest::of(&self.policy)?);
        all.push(Manifest::of(&self.budget)?);
        all.push(Manifest::of(&self.service)?);
        all.extend(self.extras.iter().cloned());
        Ok(all)
    }

    /// All of them, in the order of their application.
    ///
    /// # Errors
    ///
    /// Never in practice: typed objects can be written.
    pub fn all(&self) -> Result<Vec<Manifest>> {
        let mut all = self.around()?;
        all.push(Manifest::of(&self.deployment)?);
        Ok(all)
    }
}

/// A text as a Secret holds it.
fn in_base_64(text: &str) -> Result<String> {
    let bytes = serde_json::to_value(ByteString(text.as_bytes().to_vec()))?;
    Ok(serde_json::from_value(bytes)?)
}

/// The autoscaler of a service.
///
/// # Errors
///
/// A template that is wrong.
pub fn autoscaler(names: &Names, namespace: &str, autoscale: Autoscale) -> Result<HorizontalPodAutoscaler> {
    let values = context! {
        name => names.name().to_owned(),
        namespace => namespace.to_owned(),
        labels => names.labels(None),
        min => autoscale.min,
        max => autoscale.max,
        cpu => autoscale.cpu,
    };
    templates::object("autoscaler.yaml", templates::KUBERNETES_AUTOSCALER, &values)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::deploy::Resources;
    use crate::deploy::history::ReleaseSource;
    use crate::project::{Clients, Config};

    pub fn project() -> Project {
        Project {
            folder: ".".into(),
            destination: None,
            config: Config {
                name: "digits".into(),
                ..Config::default()
            },
        }
    }

    pub fn request(version: &str) -> Request {
        Request {
            source: ReleaseSource {
                version: version.into(),
                digest: version.repeat(5),
                bundle: "/bundles".into(),
                image: Some(format!("localhost:5000/digits:{version}")),
                source_revision: Some("5ca1ab1e".into()),
                gate: Some(Verdict::Pass),
            },
            host: "127.0.0.1".into(),
            port: 8000,
            replicas: 3,
            resources: Resources {
                memory_request: "32Mi".parse().expect("memory"),
                memory: "136Mi".parse().expect("memory"),
                cpu: "110m".parse().expect("a share"),
            },
            timeout: Duration::from_mins(1),
            keys: None,
        }
    }

    fn object(manifests: &Manifests, kind: &str) -> Value {
        let all = manifests.all().expect("objects");
        let found = all.iter().find(|object| object.kind() == kind);
        found.expect(kind).value().expect("JSON")
    }

    #[test]
    fn the_objects_have_the_names_and_the_security_that_users_expect() {
        let manifests = Manifests::render(&project(), &request("0123456789ab"), Some("models")).expect("rendered");
        let object = |kind| object(&manifests, kind);
        let (account, service, deployment) = (object("ServiceAccount"), object("Service"), object("Deployment"));
        assert_eq!(account["automountServiceAccountToken"], false);
        assert_eq!(service["metadata"]["name"], "digits-service");
        assert_eq!(service["spec"]["ports"][0]["port"], 8000);
        assert_eq!(deployment["metadata"]["name"], "digits-deployment");
        assert_eq!(deployment["metadata"]["namespace"], "models");
        assert_eq!(deployment["spec"]["replicas"], 3);
        let selector = &deployment["spec"]["selector"]["matchLabels"];
        assert_eq!(selector.get(VERSION), None, "a selector never holds the version");
        assert_eq!(service["spec"]["selector"], *selector);
        let template = &deployment["spec"]["template"];
        assert_eq!(template["metadata"]["labels"][VERSION], "0123456789ab");
        let pod = &template["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0];
        assert_eq!(container["image"], "localhost:5000/digits:0123456789ab");
        assert_eq!(container["ports"][0]["containerPort"], 5000);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(
            container["resources"],
            json!({"requests": {"cpu": "110m", "memory": "32Mi"}, "limits": {"memory": "136Mi"}})
        );
        assert_eq!(container["lifecycle"]["preStop"]["sleep"]["seconds"], 4);
    }

    #[test]
    fn keys_come_from_a_secret_and_nobody_needs_one_without() {
        let without = Manifests::render(&project(), &request("0123456789ab"), None).expect("rendered");
        assert!(without.keys.is_none());
        assert_eq!(
            object(&without, "Deployment")["spec"]["template"]["spec"].get("volumes"),
            None
        );
        let mut request = request("0123456789ab");
        request.keys = Some("phone sha256:00\n".into());
        let with = Manifests::render(&project(), &request, None).expect("rendered");
        assert_eq!(
            object(&with, "Secret")["data"]["emberline.keys"],
            "cGhvbmUgc2hhMjU2OjAwCg=="
        );
        let pod = &object(&with, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["volumes"][0]["secret"]["secretName"], "digits-keys");
        assert_eq!(pod["volumes"][0]["secret"]["defaultMode"], 0o444);
        let container = &pod["containers"][0];
        let path = container["env"][1]["value"].as_str().expect("a path");
        let folder = container["volumeMounts"][0]["mountPath"].as_str().expect("a folder");
        assert_eq!(path, format!("{folder}/emberline.keys"));
    }

    #[test]
    fn the_policy_lets_in_whom_the_project_names() {
        let from = |clients| {
            let mut project = project();
            project.config.deploy.clients = clients;
            let manifests = Manifests::render(&project, &request("0123456789ab"), None).expect("rendered");
            let policy = object(&manifests, "NetworkPolicy");
            assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
            policy["spec"]["ingress"][0]["from"].clone()
        };
        let gateway = from(Clients::Gateway);
        let gateway = gateway.as_array().expect("a list");
        assert_eq!(gateway.len(), 2);
        assert_eq!(
            gateway[0]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"],
            "digits"
        );
        assert_eq!(
            gateway[1]["podSelector"]["matchLabels"]["app.kubernetes.io/name"],
            "prometheus"
        );
        assert_eq!(from(Clients::Namespace)[2], json!({ "podSelector": {} }));
        assert_eq!(from(Clients::Cluster)[2], json!({ "namespaceSelector": {} }));
        assert_eq!(from(Clients::Everyone), Value::Null);
    }

    #[test]
    fn a_namespace_that_nobody_names_is_left_to_the_context() {
        let manifests = Manifests::render(&project(), &request("0123456789ab"), None).expect("rendered");
        for object in manifests.all().expect("objects") {
            assert_eq!(object.value().expect("JSON")["metadata"].get("namespace"), None);
        }
    }

    #[test]
    fn no_value_can_inject_yaml() {
        let mut request = request("0123456789ab");
        request.source.image = Some("x\"\n      hostNetwork: true".into());
        let manifests = Manifests::render(&project(), &request, None).expect("rendered");
        let pod = &object(&manifests, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod.get("hostNetwork"), None);
        assert_eq!(pod["containers"][0]["image"], "x\"\n      hostNetwork: true");
    }

    #[test]
    fn the_autoscaler_scales_the_deployment() {
        let autoscale = Autoscale {
            min: 2,
            max: 10,
            cpu: 70,
        };
        let object = autoscaler(&Names::new("digits"), "models", autoscale).expect("rendered");
        let spec = object.spec.expect("a spec");
        assert_eq!(spec.scale_target_ref.name, "digits-deployment");
        assert_eq!((spec.min_replicas, spec.max_replicas), (Some(2), 10));
    }
}
