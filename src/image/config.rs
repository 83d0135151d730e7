//! How a container of the image runs. Both builders write it from the one value here, the one as the configuration of an
//! OCI image, the other as a Dockerfile, so that their images behave the same.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::{MODEL_PATH, RUNTIME_PATH};
use crate::problem::Problem;
use crate::templates;

/// The port that the service listens on in its container.
const PORT: u16 = 5000;
/// User and group of the service: nobody that a host knows, and a number, because an empty image has no user names.
pub(super) const USER: &str = "65532:65532";
const WORKING_DIRECTORY: &str = "/";
const STOP_SIGNAL: &str = "SIGTERM";

/// The health check: `emberline-server --health`, in seconds.
const INTERVAL: u32 = 5;
const TIMEOUT: u32 = 3;
/// A model may take that long to be loaded before a failed check counts.
const START_PERIOD: u32 = 30;
const RETRIES: u32 = 3;
const NANOSECONDS: u64 = 1_000_000_000;

/// Folders of the build context, each with what one layer holds.
pub(super) const RUNTIME_FOLDER: &str = "runtime";
pub(super) const MODEL_FOLDER: &str = "files";

/// How a container runs, and what its image says of itself.
#[derive(Debug)]
pub(super) struct Configuration<'a> {
    pub(super) labels: &'a BTreeMap<String, String>,
}

impl Configuration<'_> {
    /// As `config` of an OCI image's configuration, with the health check that engines read there.
    pub(super) fn oci(&self) -> Value {
        let environment: Vec<String> = environment().map(|(name, value)| format!("{name}={value}")).to_vec();
        let [server, flag] = health_command();
        json!({
            "User": USER,
            "ExposedPorts": { format!("{PORT}/tcp"): {} },
            "Env": environment,
            "Entrypoint": entrypoint(),
            "WorkingDir": WORKING_DIRECTORY,
            "Labels": self.labels,
            "StopSignal": STOP_SIGNAL,
            "Healthcheck": {
                "Test": ["CMD", server, flag],
                "Interval": u64::from(INTERVAL) * NANOSECONDS,
                "Timeout": u64::from(TIMEOUT) * NANOSECONDS,
                "StartPeriod": u64::from(START_PERIOD) * NANOSECONDS,
                "Retries": RETRIES,
            },
        })
    }

    /// As a Dockerfile that makes a layer of each of the two folders of its context.
    ///
    /// # Errors
    ///
    /// A label that a Dockerfile cannot hold.
    pub(super) fn dockerfile(&self) -> Result<String> {
        let labels = self.labels.iter().map(|(name, value)| assignment(name, value));
        let environment = environment().into_iter().map(|(name, value)| assignment(name, &value));
        let values = minijinja::context! {
            runtime => RUNTIME_FOLDER,
            model => MODEL_FOLDER,
            user => USER,
            working_directory => WORKING_DIRECTORY,
            environment => environment.collect::<Result<Vec<_>, _>>()?,
            port => PORT,
            labels => labels.collect::<Result<Vec<_>, _>>()?,
            health => minijinja::context! {
                command => health_command().to_vec(),
                interval => INTERVAL,
                timeout => TIMEOUT,
                start_period => START_PERIOD,
                retries => RETRIES,
            },
            stop_signal => STOP_SIGNAL,
            entrypoint => entrypoint().to_vec(),
        };
        templates::render("Dockerfile", templates::DOCKERFILE, values)
    }
}

fn environment() -> [(&'static str, String); 4] {
    [
        // Where there is none engines add one, of folders that the image has not.
        ("PATH", "/".into()),
        ("EMBERLINE_HOST", "0.0.0.0".into()),
        ("EMBERLINE_PORT", PORT.to_string()),
        // The runtime listens beyond its own machine only when told to; here that is the container's.
        ("EMBERLINE_ALLOW_PUBLIC", "true".into()),
    ]
}

fn entrypoint() -> [String; 2] {
    [format!("/{RUNTIME_PATH}"), format!("/{MODEL_PATH}")]
}

fn health_command() -> [String; 2] {
    [format!("/{RUNTIME_PATH}"), "--health".into()]
}

/// `"name"="value"`, as the words of a Dockerfile are quoted. `tojson` would not do: `$` names a variable there, and a
/// character in the form `\u0026` stays as it is written.
fn assignment(name: &str, value: &str) -> Result<String, Problem> {
    Ok(format!("{}={}", word(name)?, word(value)?))
}

fn word(text: &str) -> Result<String, Problem> {
    if text.contains(char::is_control) {
        return Err(Problem::new(format!(
            "`{}` holds a character that a Dockerfile cannot hold",
            text.escape_debug()
        ))
        .hint("`--builder oci` makes the image without a Dockerfile"));
    }
    let mut word = String::from("\"");
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '$') {
            word.push('\\');
        }
        word.push(character);
    }
    word.push('"');
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dockerfile(label: &str) -> Result<String> {
        let labels = BTreeMap::from([("title".to_owned(), "digits".to_owned()), ("more".into(), label.into())]);
        Configuration { labels: &labels }.dockerfile()
    }

    #[test]
    fn the_dockerfile_is_what_a_person_would_write() {
        let expected = r#"# From scratch: no shell, no libc, no root.
FROM scratch

# The runtime, the same for every model.
COPY ["runtime/", "/"]
# The model, and its evaluation beside it: one layer, so that a new model transfers only itself.
COPY ["files/", "/"]

USER "65532:65532"
WORKDIR "/"
ENV "PATH"="/" \
    "EMBERLINE_HOST"="0.0.0.0" \
    "EMBERLINE_PORT"="5000" \
    "EMBERLINE_ALLOW_PUBLIC"="true"
EXPOSE 5000/tcp
LABEL "more"="a model" \
    "title"="digits"
HEALTHCHECK --interval=5s --timeout=3s \
    --start-period=30s --retries=3 \
    CMD ["/emberline-server", "--health"]
STOPSIGNAL "SIGTERM"
ENTRYPOINT ["/emberline-server", "/model"]
"#;
        assert_eq!(dockerfile("a model").expect("a Dockerfile"), expected);
    }

    #[test]
    fn a_label_cannot_inject_an_instruction() {
        let text = dockerfile(r#"$HOME \ "x" 'y'"#).expect("a Dockerfile");
        assert!(text.contains(r#""more"="\$HOME \\ \"x\" 'y'""#), "{text}");
        let error = dockerfile("a\nRUN b").expect_err("refused");
        assert!(error.to_string().contains(r"`a\nRUN b` holds"), "{error}");
    }
}
