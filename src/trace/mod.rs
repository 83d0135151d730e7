//! Where something that runs, or an image, comes from: facts, each with who says so. What runs is asked first, what is only
//! remembered last; who says otherwise than one before is a contradiction, and is told as one. Nothing is guessed: what
//! nobody knows is named as such.

mod sources;

pub use sources::{bundle, history, image, pod, running, server};

use serde::Serialize;

/// Facts that are looked for, in the order in which they are told.
pub const FACTS: [&str; 20] = [
    "image",
    "image_digest",
    "image_created",
    "name",
    "version",
    "bundle_digest",
    "weights_digest",
    "evaluation",
    "accuracy",
    "samples",
    "data_source",
    "data_digest",
    "source_revision",
    "seed",
    "tool_version",
    "revision",
    "deployed_at",
    "deployed_by",
    "outcome",
    "runs_in",
];

/// The fact that all others hang on.
const DIGEST: &str = "bundle_digest";

/// What is known.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trace {
    /// What is known, in the order of [`FACTS`].
    pub facts: Vec<Fact>,
    /// Those of [`FACTS`] that nobody knows.
    pub unknown: Vec<&'static str>,
    /// Who says otherwise than somebody before.
    pub contradictions: Vec<Contradiction>,
    /// Whoever was asked in vain.
    pub silent: Vec<Silent>,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// One of [`FACTS`].
    pub name: &'static str,
    /// What it is.
    pub value: String,
    /// Who says so: the first that was asked.
    pub from: String,
    /// Who says the same.
    pub confirmed_by: Vec<String>,
}

/// Two that say different things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    /// One of [`FACTS`].
    pub name: &'static str,
    /// What is taken for true, and who says so.
    pub value: String,
    /// Who says so.
    pub from: String,
    /// What else is said.
    pub other: String,
    /// Who says that.
    pub other_from: String,
}

/// Somebody that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Silent {
    /// Who.
    pub who: String,
    /// Why not.
    pub why: String,
}

impl Trace {
    /// Takes what somebody says of a fact, one of [`FACTS`].
    pub fn learn(&mut self, name: &'static str, value: impl Into<String>, from: &str) {
        debug_assert!(FACTS.contains(&name), "{name} is none of the facts");
        let value = value.into();
        if let Some(known) = self.facts.iter_mut().find(|fact| fact.name == name) {
            if known.value != value {
                self.contradictions.push(Contradiction {
                    name,
                    value: known.value.clone(),
                    from: known.from.clone(),
                    other: value,
                    other_from: from.to_owned(),
                });
            } else if known.from != from && !known.confirmed_by.iter().any(|by| by == from) {
                known.confirmed_by.push(from.to_owned());
            }
            return;
        }
        self.facts.push(Fact {
            name,
            value,
            from: from.to_owned(),
            confirmed_by: Vec::new(),
        });
        let order = |fact: &Fact| FACTS.iter().position(|name| *name == fact.name);
        self.facts.sort_by_key(order);
    }

    /// Takes the digest of a bundle; says whether it is the one that is traced. What else is said of another one is not to
    /// be taken.
    pub fn is_about(&mut self, digest: &str, from: &str) -> bool {
        self.learn(DIGEST, digest, from);
        self.get(DIGEST) == Some(digest)
    }

    /// What is known of a fact.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.facts
            .iter()
            .find(|fact| fact.name == name)
            .map(|fact| fact.value.as_str())
    }

    /// Notes that somebody does not answer.
    pub fn silent(&mut self, who: impl Into<String>, why: impl Into<String>) {
        let (who, why) = (who.into(), why.into());
        self.silent.push(Silent { who, why });
    }

    /// Names what nobody knows. All have been asked.
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.unknown = FACTS.into_iter().filter(|name| self.get(name).is_none()).collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_is_believed_and_who_says_otherwise_is_told() {
        let mut trace = Trace::default();
        trace.learn("version", "a", "the server");
        assert!(trace.is_about("aa", "the server"));
        trace.learn("image", "digits:a", "the pod");
        trace.learn("version", "a", "the history");
        trace.learn("version", "b", "the image");
        assert!(!trace.is_about("bb", "the image"));
        let trace = trace.finish();
        let names: Vec<&str> = trace.facts.iter().map(|fact| fact.name).collect();
        assert_eq!(names, ["image", "version", "bundle_digest"]);
        assert_eq!(trace.facts[1].confirmed_by, ["the history"]);
        assert_eq!((trace.get("version"), trace.get(DIGEST)), (Some("a"), Some("aa")));
        let told: Vec<&str> = trace.contradictions.iter().map(|other| other.other.as_str()).collect();
        assert_eq!(told, ["b", "bb"]);
        assert!(trace.unknown.contains(&"seed") && !trace.unknown.contains(&"image"));
    }
}
