//! What an image is called.

use std::fmt;

use crate::problem::Problem;

/// A repository and a tag: `digits:0123456789ab`, `registry.example.com/team/digits:0123456789ab`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    repository: String,
    tag: String,
}

impl Reference {
    /// A reference in `repository`, whose tag is the version of a bundle.
    ///
    /// # Errors
    ///
    /// When no registry would take the repository's name.
    pub fn new(repository: &str, version: &str) -> Result<Self, Problem> {
        let (host, path) = split(repository);
        if host.is_some_and(|host| !is_host(host)) || !path.split('/').all(is_component) {
            return Err(Problem::new(format!("`{repository}` is no name of an image repository")).hint(
                "it takes lower-case letters and digits with `.`, `_` or `-` between them, in parts with `/` between them, \
                 after the host of a registry if there is one; the tag is the bundle's version",
            ));
        }
        Ok(Self {
            repository: repository.to_owned(),
            tag: version.to_owned(),
        })
    }

    /// The repository, with its registry's host if it has one.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The host of the registry, with its port if it has one; none when the repository does not name any.
    pub fn registry(&self) -> Option<&str> {
        split(&self.repository).0
    }

    /// The host of the registry that it is pushed to.
    ///
    /// # Errors
    ///
    /// When the repository does not name any.
    pub fn require_registry(&self) -> Result<&str, Problem> {
        self.registry().ok_or_else(|| {
            Problem::new(format!("`{self}` names no registry, so there is nowhere to push it")).hint(
                "begin `package.repository`, or --repository, with a registry's host: `registry.example.com/team/NAME`",
            )
        })
    }

    /// The host of the registry that a reference of any form names.
    ///
    /// # Errors
    ///
    /// When it does not name any.
    pub fn registry_of(text: &str) -> Result<&str, Problem> {
        split(text)
            .0
            .ok_or_else(|| Problem::new(format!("`{text}` names no registry, so there is none to ask")))
    }

    /// Checks a reference that somebody has written: a repository with a tag, a digest, or both.
    ///
    /// # Errors
    ///
    /// When no registry would take it.
    pub fn check(text: &str) -> Result<(), Problem> {
        let wrong = || {
            Problem::new(format!("`{text}` is no reference of an image"))
                .hint("`digits:0123456789ab` and `registry.example.com/team/digits@sha256:...` are")
        };
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        };
        // A colon after the last slash begins the tag; one before belongs to a registry's port.
        let (repository, tag) = match named.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (named, None),
        };
        let good_tag = tag.is_none_or(|tag| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            (1..=128).contains(&tag.len())
                && tag.bytes().next().is_some_and(letter)
                && tag.bytes().all(|byte| letter(byte) || byte == b'.' || byte == b'-')
        });
        let good_digest = digest.is_none_or(|digest| {
            digest
                .strip_prefix("sha256:")
                .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        });
        if good_tag && good_digest && Self::new(repository, "tag").is_ok() {
            Ok(())
        } else {
            Err(wrong())
        }
    }

    /// The reference with the registry that container engines add in their heads.
    pub fn canonical(&self) -> String {
        match split(&self.repository) {
            (Some(_), _) => self.to_string(),
            (None, path) if path.contains('/') => format!("docker.io/{self}"),
            (None, _) => format!("docker.io/library/{self}"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.repository, self.tag)
    }
}

/// The registry's host and the rest. The first part is a host when it could not be anything else.
fn split(repository: &str) -> (Option<&str>, &str) {
    match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, repository),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let letters = |label: &str| label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    name.split('.').all(|label| !label.is_empty() && letters(label)) && port.parse::<u16>().is_ok()
}

fn is_component(component: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-');
    component.starts_with(letter) && component.ends_with(letter) && component.split(letter).all(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_get_their_registry_as_engines_do() {
        for (repository, registry, canonical) in [
            ("digits", None, "docker.io/library/digits:v"),
            ("team/digits", None, "docker.io/team/digits:v"),
            ("localhost/digits", Some("localhost"), "localhost/digits:v"),
            (
                "registry:5000/a--b/c__d",
                Some("registry:5000"),
                "registry:5000/a--b/c__d:v",
            ),
            (
                "registry.example.com/digits",
                Some("registry.example.com"),
                "registry.example.com/digits:v",
            ),
        ] {
            let reference = Reference::new(repository, "v").expect(repository);
            assert_eq!(reference.registry(), registry);
            assert_eq!(reference.canonical(), canonical);
            assert_eq!(reference.to_string(), format!("{repository}:v"));
        }
    }

    #[test]
    fn what_somebody_writes_is_checked() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for good in [
            "digits",
            "digits:v1",
            "localhost:5000/digits",
            "localhost:5000/a/b:1.0-rc_1",
            &format!("digits@{digest}"),
            &format!("host.example.com/digits:v@{digest}"),
        ] {
            assert!(Reference::check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "Not Valid",
            "digits:",
            "digits:a b",
            "digits:-a",
            "digits@sha256:12",
            "BAD:::1",
            ":v",
            "a@b@c",
        ] {
            assert!(Reference::check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_no_registry_takes_are_refused() {
        for repository in [
            "",
            "Digits",
            "digits:latest",
            "a//b",
            "a/",
            "-a",
            "a..b",
            "a.-b",
            "host:x/a",
            "a b",
            "host.:1/a",
        ] {
            assert!(Reference::new(repository, "v").is_err(), "{repository}");
        }
    }
}
