//! What leads to a service from elsewhere, and who watches it: objects that a project may ask for and need not, two of them
//! of kinds that a cluster may not have. Each is looked for only where a release has made one, so that whoever asks for none
//! needs no right to any.

use std::collections::BTreeSet;

use anyhow::Result;
use k8s_openapi::Resource;
use k8s_openapi::api::networking::v1::Ingress;
use minijinja::{Value, context};

use super::custom::{HttpRoute, ServiceMonitor};
use super::manifests::{MANAGED, Names};
use crate::cluster::{Cluster, Manifest};
use crate::deploy::Request;
use crate::monitor;
use crate::problem::Problem;
use crate::project::{DeployConfig, Project};
use crate::templates;

/// A kind of object that a project may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extra {
    /// `deploy.ingress`.
    Ingress,
    /// `deploy.http_route`.
    HttpRoute,
    /// `deploy.service_monitor`.
    ServiceMonitor,
}

impl Extra {
    /// All of them, in the order of their application.
    pub const ALL: [Self; 3] = [Self::Ingress, Self::HttpRoute, Self::ServiceMonitor];

    /// Those that the configuration asks for.
    pub fn wanted(config: &DeployConfig) -> BTreeSet<Self> {
        let wanted = |extra: &Self| match extra {
            Self::Ingress => config.ingress.is_some(),
            Self::HttpRoute => config.http_route.is_some(),
            Self::ServiceMonitor => config.service_monitor.is_some(),
        };
        Self::ALL.into_iter().filter(wanted).collect()
    }

    /// As the cluster calls it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::HttpRoute => "HTTPRoute",
            Self::ServiceMonitor => "ServiceMonitor",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Ingress => "deploy.ingress",
            Self::HttpRoute => "deploy.http_route",
            Self::ServiceMonitor => "deploy.service_monitor",
        }
    }

    /// The interface that the cluster must have for it, and what brings it there; none for what every cluster has.
    fn provider(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Ingress => None,
            Self::HttpRoute => Some((
                HttpRoute::API_VERSION,
                "install the Gateway API and a controller of it (https://gateway-api.sigs.k8s.io)",
            )),
            Self::ServiceMonitor => Some((
                ServiceMonitor::API_VERSION,
                "install the Prometheus operator (https://prometheus-operator.dev)",
            )),
        }
    }

    /// What the project asks for of this kind; nothing, when it asks for none.
    fn render(self, project: &Project, request: &Request, values: &Value) -> Result<Option<Manifest>> {
        let config = &project.config.deploy;
        let names = Names::new(&project.config.name);
        Ok(match self {
            Self::Ingress => {
                let Some(ingress) = &config.ingress else {
                    return Ok(None);
                };
                let values = context! {
                    ingress => context! {
                        hosts => ingress.hosts.clone(),
                        path => ingress.path().to_owned(),
                        is_prefix => ingress.is_prefix(),
                        class => ingress.class.clone(),
                        tls_secret => ingress.tls_secret.clone(),
                        annotations => ingress.annotations.clone(),
                    },
                    ..values.clone()
                };
                let object: Ingress = templates::object("ingress.yaml", templates::KUBERNETES_INGRESS, &values)?;
                Some(Manifest::of(&object)?)
            }
            Self::HttpRoute => {
                let Some(route) = &config.http_route else {
                    return Ok(None);
                };
                let values = context! {
                    route => context! {
                        gateway => route.gateway.clone(),
                        gateway_namespace => route.gateway_namespace.clone(),
                        section => route.section.clone(),
                        hostnames => route.hostnames.clone(),
                        prefix => route.prefix(names.name()),
                    },
                    ..values.clone()
                };
                let object: HttpRoute =
                    templates::object("http-route.yaml", templates::KUBERNETES_HTTP_ROUTE, &values)?;
                Some(Manifest::of(&object)?)
            }
            Self::ServiceMonitor => {
                let Some(monitor) = &config.service_monitor else {
                    return Ok(None);
                };
                let mut monitor_labels = monitor.labels.clone();
                // Ours stand above: what is ours is known by them.
                monitor_labels.extend(names.labels(Some(&request.source.version)));
                let mut service_labels = names.selector();
                service_labels.insert(MANAGED.0.to_owned(), MANAGED.1.to_owned());
                let job = monitor::job(names.name(), project.destination.as_deref());
                let interval = monitor.interval.clone();
                let values = context! {
                    monitor => context! { labels => monitor_labels, service_labels, job, interval },
                    ..values.clone()
                };
                let object: ServiceMonitor =
                    templates::object("service-monitor.yaml", templates::KUBERNETES_SERVICE_MONITOR, &values)?;
                Some(Manifest::of(&object)?)
            }
        })
    }

    /// What is ours of this kind in the cluster, and nothing where the cluster has no such kind.
    fn found(self, cluster: &Cluster, names: &Names) -> Result<Vec<Manifest>> {
        let labels = names.labels(None);
        match self {
            Self::Ingress => cluster.list_manifests::<Ingress>(&labels),
            Self::HttpRoute => cluster.list_manifests::<HttpRoute>(&labels),
            Self::ServiceMonitor => cluster.list_manifests::<ServiceMonitor>(&labels),
        }
    }
}

/// What the project asks for, in the order of its application; `values` are those of the other objects.
///
/// # Errors
///
/// A template that is wrong.
pub fn render(project: &Project, request: &Request, values: &Value) -> Result<Vec<Manifest>> {
    let rendered = Extra::ALL.map(|extra| extra.render(project, request, values).transpose());
    rendered.into_iter().flatten().collect()
}

/// What is ours of these kinds.
///
/// # Errors
///
/// What the cluster says against it.
pub fn found(cluster: &Cluster, names: &Names, extras: &BTreeSet<Extra>) -> Result<Vec<Manifest>> {
    let mut all = Vec::new();
    for extra in extras {
        all.extend(extra.found(cluster, names)?);
    }
    Ok(all)
}

/// Refuses what the cluster has no kind of.
///
/// # Errors
///
/// A [`Problem`] that says which, and what to do.
pub fn check_known(cluster: &Cluster, extras: &BTreeSet<Extra>) -> Result<()> {
    for extra in extras {
        let Some((interface, provided_by)) = extra.provider() else {
            continue;
        };
        let (kind, key) = (extra.kind(), extra.key());
        if !cluster.knows(interface, kind)? {
            return Err(Problem::new(format!(
                "the cluster has no kind {kind} ({interface}), which `{key}` asks for"
            ))
            .hint(format!("{provided_by}, or take `{key}` out"))
            .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::deploy::kubernetes::Manifests;
    use crate::deploy::kubernetes::manifests::tests::{project, request};

    /// The objects of these kinds that a project with this configuration asks for.
    fn rendered(deploy: &str, keys: bool) -> Vec<Value> {
        let mut project = project();
        project.config.deploy = serde_saphyr::from_str(deploy).expect("a configuration");
        let mut request = request("0123456789ab");
        request.keys = keys.then(|| "phone sha256:00\n".to_owned());
        let manifests = Manifests::render(&project, &request, Some("models")).expect("rendered");
        let values = manifests.extras.iter().map(|extra| extra.value().expect("JSON"));
        values.collect()
    }

    #[test]
    fn nothing_is_made_that_nobody_asks_for() {
        assert_eq!(rendered("{}", false), Vec::<Value>::new());
    }

    #[test]
    fn an_ingress_leads_to_the_service_by_hosts_of_its_own() {
        let ingress = &rendered(
            "ingress: {hosts: [a.example.com, b.example.com], class: c, tls_secret: t}",
            false,
        )[0];
        assert_eq!(ingress["metadata"]["name"], "digits-ingress");
        assert_eq!(ingress["metadata"]["namespace"], "models");
        assert_eq!(ingress["metadata"].get("annotations"), None);
        let spec = &ingress["spec"];
        assert_eq!(spec["ingressClassName"], "c");
        assert_eq!(
            spec["tls"],
            json!([{"secretName": "t", "hosts": ["a.example.com", "b.example.com"]}])
        );
        let hosts: Vec<&Value> = (0..2).map(|rule| &spec["rules"][rule]["host"]).collect();
        assert_eq!(hosts, ["a.example.com", "b.example.com"]);
        let path = json!({
            "path": "/",
            "pathType": "Prefix",
            "backend": {"service": {"name": "digits-service", "port": {"name": "http"}}},
        });
        assert_eq!(spec["rules"][1]["http"]["paths"], json!([path]));
    }

    #[test]
    fn a_prefix_of_an_ingress_is_the_controllers_to_take_off() {
        let ingress = |path| {
            let text = format!("ingress: {{path: '{path}', annotations: {{rewrite: /$2}}}}");
            rendered(&text, false)[0].clone()
        };
        let pattern = ingress("/digits(/|$)(.*)");
        assert_eq!(pattern["metadata"]["annotations"], json!({"rewrite": "/$2"}));
        assert_eq!(pattern["spec"].get("tls"), None);
        let rule = |ingress: &Value| ingress["spec"]["rules"][0].clone();
        assert_eq!(rule(&pattern).get("host"), None);
        assert_eq!(rule(&pattern)["http"]["paths"][0]["pathType"], "ImplementationSpecific");
        assert_eq!(rule(&ingress("/digits/"))["http"]["paths"][0]["pathType"], "Prefix");
    }

    #[test]
    fn a_route_takes_its_prefix_off() {
        let route = |more| rendered(&format!("http_route: {{gateway: public{more}}}"), false)[0].clone();
        let plain = route("");
        assert_eq!(plain["metadata"]["name"], "digits-route");
        assert_eq!(plain["spec"]["parentRefs"], json!([{"name": "public"}]));
        assert_eq!(plain["spec"].get("hostnames"), None);
        let rewritten = |value| {
            json!([{
                "matches": [{"path": {"type": "PathPrefix", "value": value}}],
                "filters": [{
                    "type": "URLRewrite",
                    "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}},
                }],
                "backendRefs": [{"name": "digits-service", "port": 8000}],
            }])
        };
        assert_eq!(plain["spec"]["rules"], rewritten("/digits"));
        let full = route(", gateway_namespace: infra, section: https, hostnames: [a.example.com], path: /a/b/");
        assert_eq!(
            full["spec"]["parentRefs"],
            json!([{"name": "public", "namespace": "infra", "sectionName": "https"}])
        );
        assert_eq!(full["spec"]["hostnames"], json!(["a.example.com"]));
        assert_eq!(full["spec"]["rules"], rewritten("/a/b"));
        // All paths: there is nothing to take off.
        let all = route(", path: /");
        assert_eq!(all["spec"]["rules"][0]["matches"][0]["path"]["value"], "/");
        assert_eq!(all["spec"]["rules"][0].get("filters"), None);
    }

    #[test]
    fn a_monitor_names_the_series_as_the_alerts_do_and_ours_stays_ours() {
        let text = "service_monitor: {interval: 15s, labels: {release: p, app.kubernetes.io/managed-by: p}}";
        let monitor = &rendered(text, false)[0];
        assert_eq!(monitor["metadata"]["name"], "digits-monitor");
        let labels = &monitor["metadata"]["labels"];
        assert_eq!(
            (&labels["release"], &labels[MANAGED.0]),
            (&json!("p"), &json!(MANAGED.1))
        );
        let endpoint = &monitor["spec"]["endpoints"][0];
        assert_eq!(
            (&endpoint["port"], &endpoint["path"]),
            (&json!("http"), &json!("/metrics"))
        );
        assert_eq!(endpoint["interval"], "15s");
        assert_eq!(endpoint.get("authorization"), None);
        assert_eq!(endpoint["relabelings"][0]["replacement"], "digits");
        let with_keys = &rendered("service_monitor: {}", true)[0];
        let endpoint = &with_keys["spec"]["endpoints"][0];
        assert_eq!(endpoint.get("interval"), None);
        assert_eq!(endpoint["authorization"]["credentials"]["name"], "digits-prometheus");
        // It chooses the Service, and what is not the Service's it leaves alone.
        let service = Names::new("digits").labels(Some("0123456789ab"));
        let chosen = with_keys["spec"]["selector"]["matchLabels"]
            .as_object()
            .expect("labels");
        assert!(
            chosen
                .iter()
                .all(|(name, value)| service.get(name).map(String::as_str) == value.as_str())
        );
        assert!(chosen.contains_key("app.kubernetes.io/component"));
    }

    #[test]
    fn a_field_that_such_an_object_has_not_is_an_error() {
        let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: x}\n\
                    spec: {parentRefs: [], rules: [], hostname: x}\n";
        let error = templates::object::<HttpRoute>("t", text, &minijinja::Value::UNDEFINED).expect_err("a slip");
        assert!(format!("{error:#}").contains("unknown field `hostname`"), "{error:#}");
        let text = text.replace("/v1", "/v1beta1").replace(", hostname: x", "");
        let error = templates::object::<HttpRoute>("t", &text, &minijinja::Value::UNDEFINED).expect_err("a slip");
        assert!(format!("{error:#}").contains("v1beta1"), "{error:#}");
    }
}
