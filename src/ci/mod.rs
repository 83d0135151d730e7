//! Pipelines of build servers: the four stages, and the file that each system reads them from.
//!
//! What a stage does is a script in plain shell, the same on every system: what differs is how a system names stages,
//! passes files on and keeps reports. It writes no file and knows nothing of what the commands do.

use std::collections::BTreeMap;

use anyhow::Result;
use minijinja::Value;

use crate::problem::Problem;
use crate::project::{Config, Source};
use crate::templates::{self, PIPELINE_STAGES};

/// A build server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Jenkins, with a declarative pipeline.
    Jenkins,
    /// GitLab CI.
    Gitlab,
}

impl System {
    /// The file that it reads, at the top of a repository.
    pub fn file(self) -> &'static str {
        match self {
            Self::Jenkins => "Jenkinsfile",
            Self::Gitlab => ".gitlab-ci.yml",
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::Jenkins => templates::JENKINSFILE,
            Self::Gitlab => templates::GITLAB_CI,
        }
    }
}

/// Names of the stages, the first one first.
pub fn stages() -> [&'static str; 4] {
    PIPELINE_STAGES.map(|(name, _)| name)
}

/// The file of `system` for the project that `config` describes, with the overlay of `destination` that it was read with.
///
/// # Errors
///
/// A destination that a build server would read as more than a name.
pub fn render(system: System, config: &Config, destination: Option<&str>) -> Result<String> {
    // A name was checked to be letters, digits and dashes: it can stand in a script as it is. So can this one then.
    let odd = |letter: char| !(letter.is_ascii_alphanumeric() || "-_.".contains(letter));
    if let Some(destination) = destination.filter(|destination| destination.contains(odd)) {
        return Err(
            Problem::new(format!("destination `{destination}` cannot be written into a pipeline"))
                .hint("a name of letters, digits, dots, dashes and underscores can")
                .into(),
        );
    }
    let mut values = BTreeMap::from([
        ("name", Value::from(config.name.as_str())),
        ("destination", Value::from(destination)),
        ("target", Value::from(config.deploy.target.name())),
        ("mnist", Value::from(config.reads(Source::Mnist))),
    ]);
    for (stage, script) in PIPELINE_STAGES {
        let script = templates::render(stage, script, values.clone())?;
        values.insert(stage, Value::from(script.trim_end()));
    }
    templates::render(system.file(), system.template(), values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::DataConfig;

    fn config(source: Source) -> Config {
        Config {
            name: "digits".into(),
            data: DataConfig {
                source: Some(source),
                ..DataConfig::default()
            },
            ..Config::default()
        }
    }

    #[test]
    fn groovy_reads_the_scripts_as_they_are() {
        // Within its ''' a backslash is an escape, and ''' the end.
        for (stage, script) in PIPELINE_STAGES {
            assert!(!script.contains('\\') && !script.contains("'''"), "{stage}");
        }
    }

    #[test]
    fn a_destination_is_written_into_the_file() {
        let config = config(Source::Csv);
        let gitlab = render(System::Gitlab, &config, Some("live")).expect("rendered");
        assert!(gitlab.contains("  EMBERLINE_DESTINATION: \"live\"\n"), "{gitlab}");
        let jenkins = render(System::Jenkins, &config, Some("live")).expect("rendered");
        assert!(jenkins.contains("  EMBERLINE_DESTINATION = 'live'\n"), "{jenkins}");
        for system in [System::Gitlab, System::Jenkins] {
            assert!(render(system, &config, Some("a'; b")).is_err());
            assert!(!render(system, &config, None).expect("rendered").contains("DESTINATION"));
        }
    }

    #[test]
    fn the_data_is_cached_where_it_is_downloaded() {
        let render = |source| render(System::Gitlab, &config(source), None).expect("rendered");
        let yaml = |text: &str| serde_saphyr::from_str::<serde_json::Value>(text).expect("YAML");
        let mnist = yaml(&render(Source::Mnist));
        for stage in ["train", "evaluate"] {
            assert_eq!(mnist[stage]["cache"]["key"], "emberline-mnist", "{mnist}");
        }
        let drawn = yaml(&render(Source::SyntheticDigits));
        assert_eq!(drawn["train"].get("cache"), None, "{drawn}");
        assert_eq!(drawn["stages"], serde_json::json!(stages()));
    }
}
