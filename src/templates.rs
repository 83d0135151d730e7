//! The embedded templates, and the strict environment that they are rendered in.
//!
//! A project may have templates of its own: a file in its `templates/` stands in the place of the embedded one of the same
//! path, and is held to the same. Whoever renders hands over the embedded text and knows nothing of that.
//!
//! A name that a template uses and nobody gives is an error, and in YAML every value goes through `tojson`, which is YAML
//! as well: no value can inject any. How that is for nginx is said in `gateway`. Data files of a project come from
//! examples/ as they are.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, filters};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A project that `init` can write.
#[derive(Clone, Copy, Debug)]
pub struct ProjectTemplate {
    /// As `--template` takes it.
    pub name: &'static str,
    /// The template of its `emberline.yaml`; it takes `name`.
    pub config: &'static str,
    /// Paths inside the project, with the content of each file.
    pub files: &'static [(&'static str, &'static [u8])],
}

/// All of them; the first is the default.
pub const PROJECTS: [ProjectTemplate; 3] = [
    ProjectTemplate {
        name: "digits",
        config: include_str!("../templates/project/digits.yaml"),
        files: &[
            (
                "real-images-idx3-ubyte.gz",
                include_bytes!("../examples/digits/real-images-idx3-ubyte.gz"),
            ),
            (
                "real-labels-idx1-ubyte.gz",
                include_bytes!("../examples/digits/real-labels-idx1-ubyte.gz"),
            ),
            ("seven.png", include_bytes!("../examples/digits/seven.png")),
            ("request.json", include_bytes!("../examples/digits/request.json")),
            ("CREDITS.md", include_bytes!("../examples/digits/CREDITS.md")),
        ],
    },
    ProjectTemplate {
        name: "mnist",
        config: include_str!("../templates/project/mnist.yaml"),
        files: &[],
    },
    ProjectTemplate {
        name: "tabular",
        config: include_str!("../templates/project/tabular.yaml"),
        files: &[
            ("penguins.csv", include_bytes!("../examples/tabular/penguins.csv")),
            ("CREDITS.md", include_bytes!("../examples/tabular/CREDITS.md")),
        ],
    },
];

/// The template of the Dockerfile; `image` gives it its values.
pub const DOCKERFILE: &str = include_str!("../templates/package/Dockerfile");
/// The template of the gateway's configuration; `gateway` gives it its values.
pub const NGINX: &str = include_str!("../templates/gateway/nginx.conf");
/// The objects of the gateway on Kubernetes; `gateway::kubernetes` gives them their values.
pub const GATEWAY_CONFIG_MAP: &str = include_str!("../templates/gateway/kubernetes/config-map.yaml");
/// See [`GATEWAY_CONFIG_MAP`].
pub const GATEWAY_DEPLOYMENT: &str = include_str!("../templates/gateway/kubernetes/deployment.yaml");
/// See [`GATEWAY_CONFIG_MAP`].
pub const GATEWAY_SERVICE: &str = include_str!("../templates/gateway/kubernetes/service.yaml");
/// The GitLab CI file; it takes `name`, `mnist` and the script of each stage by its name.
pub const GITLAB_CI: &str = include_str!("../templates/ci/gitlab-ci.yml");
/// The Jenkinsfile; it takes the script of each stage by its name.
pub const JENKINSFILE: &str = include_str!("../templates/ci/Jenkinsfile");
/// Stages of a pipeline in their order, with their scripts in plain shell, which take `name`.
pub const PIPELINE_STAGES: [(&str, &str); 4] = [
    ("train", include_str!("../templates/ci/train.sh")),
    ("evaluate", include_str!("../templates/ci/evaluate.sh")),
    ("package", include_str!("../templates/ci/package.sh")),
    ("deploy", include_str!("../templates/ci/deploy.sh")),
];

/// Prometheus' configuration; `monitor` gives it its values.
pub const PROMETHEUS: &str = include_str!("../templates/monitor/prometheus.yml");
/// Prometheus' alert rules; `monitor` gives them their values.
pub const ALERTS: &str = include_str!("../templates/monitor/alerts.yml");

/// The objects of a service on Kubernetes; `deploy::kubernetes` gives them their values.
pub const KUBERNETES_SERVICE_ACCOUNT: &str = include_str!("../templates/kubernetes/service-account.yaml");
/// See [`KUBERNETES_SERVICE_ACCOUNT`].
pub const KUBERNETES_DEPLOYMENT: &str = include_str!("../templates/kubernetes/deployment.yaml");
/// See [`KUBERNETES_SERVICE_ACCOUNT`].
pub const KUBERNETES_SERVICE: &str = include_str!("../templates/kubernetes/service.yaml");
/// See [`KUBERNETES_SERVICE_ACCOUNT`].
pub const KUBERNETES_DISRUPTION_BUDGET: &str = include_str!("../templates/kubernetes/disruption-budget.yaml");
/// See [`KUBERNETES_SERVICE_ACCOUNT`].
pub const KUBERNETES_NETWORK_POLICY: &str = include_str!("../templates/kubernetes/network-policy.yaml");
/// See [`KUBERNETES_SERVICE_ACCOUNT`].
pub const KUBERNETES_KEYS: &str = include_str!("../templates/kubernetes/keys.yaml");
/// See [`KUBERNETES_SERVICE_ACCOUNT`].
pub const KUBERNETES_AUTOSCALER: &str = include_str!("../templates/kubernetes/autoscaler.yaml");
/// What leads to a service from elsewhere, and who watches it; see [`KUBERNETES_SERVICE_ACCOUNT`].
pub const KUBERNETES_INGRESS: &str = include_str!("../templates/kubernetes/ingress.yaml");
/// See [`KUBERNETES_INGRESS`].
pub const KUBERNETES_HTTP_ROUTE: &str = include_str!("../templates/kubernetes/http-route.yaml");
/// See [`KUBERNETES_INGRESS`].
pub const KUBERNETES_SERVICE_MONITOR: &str = include_str!("../templates/kubernetes/service-monitor.yaml");
/// The pod that proves a change; see [`KUBERNETES_SERVICE_ACCOUNT`].
pub const KUBERNETES_PROBE: &str = include_str!("../templates/kubernetes/probe.yaml");
/// The Job of a sweep; `tune::kubernetes` gives it its values.
pub const KUBERNETES_TUNE: &str = include_str!("../templates/kubernetes/tune.yaml");
/// The pod that measures a replica; see [`KUBERNETES_SERVICE_ACCOUNT`].
pub const KUBERNETES_MEASURE: &str = include_str!("../templates/kubernetes/measure.yaml");

/// The templates that a project may have its own of, by their path in its `templates/`. Each is known by its text, so no two
/// are the same.
pub const OWN: [(&str, &str); 26] = [
    ("ci/Jenkinsfile", JENKINSFILE),
    ("ci/deploy.sh", PIPELINE_STAGES[3].1),
    ("ci/evaluate.sh", PIPELINE_STAGES[1].1),
    ("ci/gitlab-ci.yml", GITLAB_CI),
    ("ci/package.sh", PIPELINE_STAGES[2].1),
    ("ci/train.sh", PIPELINE_STAGES[0].1),
    ("gateway/kubernetes/config-map.yaml", GATEWAY_CONFIG_MAP),
    ("gateway/kubernetes/deployment.yaml", GATEWAY_DEPLOYMENT),
    ("gateway/kubernetes/service.yaml", GATEWAY_SERVICE),
    ("gateway/nginx.conf", NGINX),
    ("kubernetes/autoscaler.yaml", KUBERNETES_AUTOSCALER),
    ("kubernetes/deployment.yaml", KUBERNETES_DEPLOYMENT),
    ("kubernetes/disruption-budget.yaml", KUBERNETES_DISRUPTION_BUDGET),
    ("kubernetes/http-route.yaml", KUBERNETES_HTTP_ROUTE),
    ("kubernetes/ingress.yaml", KUBERNETES_INGRESS),
    ("kubernetes/keys.yaml", KUBERNETES_KEYS),
    ("kubernetes/measure.yaml", KUBERNETES_MEASURE),
    ("kubernetes/network-policy.yaml", KUBERNETES_NETWORK_POLICY),
    ("kubernetes/probe.yaml", KUBERNETES_PROBE),
    ("kubernetes/service-account.yaml", KUBERNETES_SERVICE_ACCOUNT),
    ("kubernetes/service-monitor.yaml", KUBERNETES_SERVICE_MONITOR),
    ("kubernetes/service.yaml", KUBERNETES_SERVICE),
    ("kubernetes/tune.yaml", KUBERNETES_TUNE),
    ("monitor/alerts.yml", ALERTS),
    ("monitor/prometheus.yml", PROMETHEUS),
    ("package/Dockerfile", DOCKERFILE),
];

/// Where a project has its own.
pub const FOLDER: &str = "templates";

/// The `templates/` of the project that this process works on.
static OWN_FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Has the templates in a project's folder stand in the place of the embedded ones. A process works on one project.
pub fn prefer(project: &Path) {
    // The first one stays.
    let _ = OWN_FOLDER.set(project.join(FOLDER));
}

/// The text that is rendered in the place of an embedded one, and what it is called in errors.
fn chosen<'a>(name: &'a str, template: &'a str) -> Result<(Cow<'a, str>, Cow<'a, str>)> {
    let own = OWN_FOLDER.get().zip(OWN.iter().find(|(_, text)| *text == template));
    if let Some((folder, (path, _))) = own {
        let file = folder.join(path);
        match fs::read_to_string(&file) {
            Ok(text) => return Ok((format!("{FOLDER}/{path}").into(), text.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", file.display())),
        }
    }
    Ok((name.into(), template.into()))
}

/// Renders a template with the values of `context`: the project's own, if it has one.
///
/// # Errors
///
/// A mistake in the template, or a name in it that `context` has not, with its line.
pub fn render(name: &str, template: &str, context: impl Into<Value>) -> Result<String> {
    let (name, template) = chosen(name, template)?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.add_filter("tojson", strict_tojson);
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
    environment
        .render_named_str(&name, &template, context)
        .with_context(|| format!("template `{name}` cannot be rendered"))
}

/// `tojson` to which a name that nobody gives is an error, as it is elsewhere: the engine's own makes `null` of it.
fn strict_tojson(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "nobody gives this name"));
    }
    filters::tojson(value, None, std::iter::empty::<(String, Value)>().collect())
}

/// Renders a template of YAML and parses what comes of it into its type.
///
/// # Errors
///
/// As [`render`], and what the type has against it: also a field that it does not know.
pub fn object<K: DeserializeOwned + Serialize>(name: &str, template: &str, values: &Value) -> Result<K> {
    let text = render(name, template, values.clone())?;
    let (name, template) = chosen(name, template)?;
    let wrong = || format!("template `{name}` gives no such object");
    let given: serde_json::Value = serde_saphyr::from_str(&text).with_context(wrong)?;
    let typed: K = serde_json::from_value(given.clone()).with_context(wrong)?;
    // The types skip what they do not know, which here is a slip of the pen that the cluster would skip as well.
    let kept = serde_json::to_value(&typed).with_context(wrong)?;
    if let Some(path) = lost(&given, &kept, "") {
        let key = path.rsplit('.').next().unwrap_or_default();
        let line = template.lines().position(|line| line.contains(&format!("{key}:")));
        let place = line.map(|line| format!(" at line {}", line + 1)).unwrap_or_default();
        anyhow::bail!("template `{name}` has a field `{path}`{place} that the object has not");
    }
    Ok(typed)
}

/// A whole object, or a part of one, as a value for a template.
pub fn part(part: &serde_json::Value) -> Value {
    match part {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(is) => Value::from(*is),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole),
            (None, number) => Value::from(number.unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(self::part).collect(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), self::part(value))))
        }
    }
}

/// The first field of `given` that `kept` has not.
fn lost(given: &serde_json::Value, kept: &serde_json::Value, path: &str) -> Option<String> {
    match (given, kept) {
        (serde_json::Value::Object(given), serde_json::Value::Object(kept)) => given.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match kept.get(key) {
                Some(kept) => lost(value, kept, &path),
                None => Some(path.trim_start_matches('.').to_owned()),
            }
        }),
        (serde_json::Value::Array(given), serde_json::Value::Array(kept)) => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (given, kept))| lost(given, kept, &format!("{path}[{index}]"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_value_cannot_inject_yaml_and_a_missing_one_is_an_error() {
        let rendered = render(
            "t",
            "name: {{ name | tojson }}\n",
            [("name", "a\nb: c")]
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>(),
        );
        assert_eq!(rendered.expect("rendered"), "name: \"a\\nb: c\"\n");
        assert!(render("t", "{{ nothing }}", ()).is_err());
        assert!(render("t", "{{ nothing | tojson }}", ()).is_err());
        assert_eq!(render("t", "{{ none | tojson }}", ()).expect("rendered"), "null");
    }

    #[test]
    fn every_file_that_a_project_may_have_its_own_of_is_listed_and_no_two_are_the_same() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
        let mut folders = vec![root.clone()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder").flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let path = entry.path();
                let path = path.strip_prefix(&root).expect("inside").to_str().expect("text");
                // Those of `init`, which has no project yet.
                if !path.starts_with("project/") {
                    found.push((path.to_owned(), fs::read_to_string(entry.path()).expect("text")));
                }
            }
        }
        found.sort();
        let listed = OWN.map(|(path, text)| (path.to_owned(), text.to_owned()));
        assert_eq!(found, listed);
        let texts: std::collections::BTreeSet<&str> = OWN.iter().map(|(_, text)| *text).collect();
        assert_eq!(texts.len(), OWN.len());
    }

    #[test]
    fn a_part_of_an_object_is_told_as_it_is() {
        let part = serde_json::json!({ "a": [1, -2, 0.5, true, null, "b: c\n"], "d": {}, "e": [] });
        let rendered = render(
            "t",
            "{{ part | tojson }}",
            minijinja::context! { part => super::part(&part) },
        );
        let told: serde_json::Value = serde_json::from_str(&rendered.expect("rendered")).expect("JSON");
        assert_eq!(told, part);
    }

    #[test]
    fn a_field_that_no_object_has_is_an_error() {
        let template = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {prots: []}\n";
        let error =
            object::<k8s_openapi::api::core::v1::Service>("t", template, &Value::UNDEFINED).expect_err("a slip");
        assert!(format!("{error:#}").contains("spec.prots` at line 4"), "{error:#}");
    }

    #[test]
    fn the_examples_are_what_init_writes() {
        for project in PROJECTS {
            let rendered = render(
                project.name,
                project.config,
                std::collections::BTreeMap::from([("name", project.name)]),
            )
            .expect("rendered");
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("examples")
                .join(project.name)
                .join("emberline.yaml");
            let example = fs::read_to_string(&path).expect("an example");
            assert_eq!(rendered, example, "{}", path.display());
        }
    }
}
