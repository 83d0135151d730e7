//! What may lead to a service in a cluster from elsewhere, and who may watch it: `deploy.ingress`, `deploy.http_route` and
//! `deploy.service_monitor`. The cluster has the last word on their values; here stands what it cannot know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `deploy.ingress`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngressConfig {
    /// Names that clients ask for; one of their own, unless a controller takes a prefix off.
    pub hosts: Vec<String>,
    /// Paths that lead to the service, which get there as they are; `/` by default.
    pub path: Option<String>,
    /// The class of the controller; the cluster's default one without it.
    pub class: Option<String>,
    /// The Secret with the certificate of the hosts; plain HTTP without it.
    pub tls_secret: Option<String>,
    /// What the controller reads besides.
    pub annotations: BTreeMap<String, String>,
}

/// `deploy.http_route`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpRouteConfig {
    /// The Gateway that it belongs to.
    pub gateway: String,
    /// The Gateway's namespace; the service's own without it.
    pub gateway_namespace: Option<String>,
    /// The listener of the Gateway; all that let it in without it.
    pub section: Option<String>,
    /// Names that clients ask for; those of the listener without them.
    pub hostnames: Vec<String>,
    /// The prefix that leads to the service, and is taken off; `/<name>/` by default.
    pub path: Option<String>,
}

/// `deploy.service_monitor`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceMonitorConfig {
    /// Labels that Prometheus chooses its monitors by.
    pub labels: BTreeMap<String, String>,
    /// Time between two scrapes; Prometheus' own without it.
    pub interval: Option<String>,
}

impl IngressConfig {
    /// The paths that lead to the service.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or("/")
    }

    /// Whether the path is one, and no pattern of the controller's.
    pub fn is_prefix(&self) -> bool {
        self.path()
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte))
    }

    /// Checks what leads nowhere, or to more than the service.
    ///
    /// # Errors
    ///
    /// A sentence that begins with the key.
    pub fn check(&self) -> Result<(), String> {
        absolute("deploy.ingress.path", self.path())?;
        if self.path() == "/" && self.hosts.is_empty() {
            return Err(
                "`deploy.ingress.hosts` is missing: without one, `/` would be every path of every host of the controller"
                    .into(),
            );
        }
        if self.path() != "/" && self.annotations.is_empty() {
            return Err(format!(
                "`deploy.ingress.path` is `{}`, and the server answers at `/`: an Ingress takes nothing off a path by \
                 itself; name the annotation by which your controller does in `deploy.ingress.annotations`, or leave the \
                 path out and give the service a host of its own",
                self.path()
            ));
        }
        Ok(())
    }
}

impl HttpRouteConfig {
    /// The prefix for the service `name`, without the slash at its end; empty when all paths lead to it.
    pub fn prefix(&self, name: &str) -> String {
        match &self.path {
            Some(path) => path.trim_end_matches('/').to_owned(),
            None => format!("/{name}"),
        }
    }

    /// Checks what belongs to no Gateway.
    ///
    /// # Errors
    ///
    /// A sentence that begins with the key.
    pub fn check(&self) -> Result<(), String> {
        if self.gateway.is_empty() {
            return Err("`deploy.http_route.gateway` is missing: the name of the Gateway that it belongs to".into());
        }
        match &self.path {
            Some(path) => absolute("deploy.http_route.path", path),
            None => Ok(()),
        }
    }
}

fn absolute(key: &str, path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        Ok(())
    } else {
        Err(format!("`{key}` is `{path}`, and must begin with `/`"))
    }
}
