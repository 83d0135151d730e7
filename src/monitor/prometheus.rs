//! Prometheus' configuration: whom to scrape, and with what.

use std::path::PathBuf;

use anyhow::Result;
use minijinja::context;

use crate::templates;

/// The file of the alert rules, beside the configuration.
pub const ALERTS: &str = "alerts.yml";

/// How Prometheus finds the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// At these addresses, `HOST:PORT`.
    Addresses(Vec<String>),
    /// Among the containers of an engine: each of them is asked, and not the address that stands for all.
    Docker {
        /// The engine's address.
        host: String,
        /// What the containers' label `app.kubernetes.io/instance` says.
        instance: String,
    },
    /// Among the pods of a cluster.
    Kubernetes {
        /// Their namespace; Prometheus' own when there is none.
        namespace: Option<String>,
        /// How a Prometheus outside the cluster gets in.
        kubeconfig: Option<PathBuf>,
    },
}

/// The file for the service `name`, whose series have the label `job`, and which wants `keys` or does not.
///
/// # Errors
///
/// A mistake in the template.
pub fn configuration(name: &str, job: &str, keys: bool, targets: &Targets) -> Result<String> {
    let (kind, details) = match targets {
        Targets::Addresses(addresses) => ("addresses", context! { addresses }),
        Targets::Docker { host, instance } => {
            let labels = [
                format!("app.kubernetes.io/instance={instance}"),
                "app.kubernetes.io/managed-by=emberline".to_owned(),
            ];
            ("docker", context! { host, labels })
        }
        Targets::Kubernetes { namespace, kubeconfig } => {
            let selector = format!(
                "app.kubernetes.io/name={name},app.kubernetes.io/component=server,\
                 app.kubernetes.io/managed-by=emberline"
            );
            let kubeconfig = kubeconfig.as_ref().map(|path| path.display().to_string());
            ("kubernetes", context! { namespace, kubeconfig, selector })
        }
    };
    let values = context! { name, job, keys, kind, alerts => ALERTS, ..details };
    templates::render("prometheus.yml", templates::PROMETHEUS, values)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(targets: &Targets) -> Value {
        let text = configuration("digits", "digits-live", false, targets).expect("rendered");
        assert!(!text.contains("\\u00"), "an escape that nobody can read:\n{text}");
        let file: Value = serde_saphyr::from_str(&text).expect("YAML");
        assert_eq!(file["rule_files"], json!([ALERTS]));
        let scrape = file["scrape_configs"].as_array().expect("scrape configurations");
        assert_eq!(scrape.len(), 1);
        assert_eq!(scrape[0]["job_name"], "digits-live");
        scrape[0].clone()
    }

    #[test]
    fn addresses_are_scraped_as_they_are() {
        let scrape = parsed(&Targets::Addresses(vec!["10.0.0.1:5000".into(), "[::1]:5000".into()]));
        assert_eq!(
            scrape["static_configs"],
            json!([{"targets": ["10.0.0.1:5000", "[::1]:5000"]}])
        );
        assert_eq!(scrape.get("relabel_configs"), None);
    }

    #[test]
    fn a_key_is_shown_where_servers_want_one() {
        let targets = Targets::Addresses(vec!["10.0.0.1:5000".into()]);
        let text = configuration("digits", "digits", true, &targets).expect("rendered");
        let file: Value = serde_saphyr::from_str(&text).expect("YAML");
        let key = &file["scrape_configs"][0]["authorization"]["credentials_file"];
        assert_eq!(key, "metrics.key");
        assert_eq!(parsed(&targets).get("authorization"), None);
    }

    #[test]
    fn each_container_is_scraped_at_its_own_port() {
        let scrape = parsed(&Targets::Docker {
            host: "unix:///run/docker.sock".into(),
            instance: "digits-live".into(),
        });
        let found = &scrape["docker_sd_configs"][0];
        assert_eq!(found["host"], "unix:///run/docker.sock");
        assert_eq!(
            found["filters"][0]["values"][0],
            "app.kubernetes.io/instance=digits-live"
        );
        assert_eq!(scrape.get("static_configs"), None);
    }

    #[test]
    fn pods_are_those_of_one_namespace() {
        let scrape = |namespace: Option<&str>, kubeconfig: Option<&str>| {
            let found = parsed(&Targets::Kubernetes {
                namespace: namespace.map(str::to_owned),
                kubeconfig: kubeconfig.map(PathBuf::from),
            });
            found["kubernetes_sd_configs"][0].clone()
        };
        let named = scrape(Some("models"), Some("/home/me/config"));
        assert_eq!(named["namespaces"], json!({"names": ["models"]}));
        assert_eq!(named["kubeconfig_file"], "/home/me/config");
        let own = scrape(None, None);
        assert_eq!(own["namespaces"], json!({"own_namespace": true}));
        assert_eq!(own.get("kubeconfig_file"), None);
    }
}
