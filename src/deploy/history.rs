//! What was deployed, when and by whom: one record for each revision.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Autoscale, Canary, DeployError, Proof, Service};
use crate::bundle::{Bundle, Verdict};
pub use crate::clock::{seconds, seconds_since_1970, utc};
use crate::problem::Problem;

/// Revisions that are kept; older ones are forgotten.
pub const KEPT: usize = 50;
/// Changes of the number of replicas that are kept with each.
const SCALED_KEPT: usize = 50;

/// One revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// Counted from 1, never used twice.
    pub revision: u64,
    /// The bundle.
    #[serde(flatten)]
    pub source: ReleaseSource,
    /// The revision whose bundle a rollback brought back.
    pub rolled_back_to: Option<u64>,
    /// When it was asked for, in seconds since 1970 (UTC).
    pub deployed_at: u64,
    /// Who asked: `user@host`.
    pub deployed_by: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it failed, if it did.
    pub reason: Option<String>,
    /// Whether it was left as it is when it failed, to be looked at.
    #[serde(default, skip_serializing_if = "is_false")]
    pub kept: bool,
    /// What requests through the service saw of the change to it, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// How the number of its replicas was changed since, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scaled: Vec<Scaled>,
    /// How it did as a canary, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// A change of the number of replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// When it was asked for, in seconds since 1970 (UTC).
    pub at: u64,
    /// Who asked: `user@host`.
    pub by: String,
    /// Replicas that were wanted before.
    pub from: usize,
    /// Replicas that were asked for; none where their number is to follow the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<usize>,
    /// How it is to follow the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What requests through the service saw of it, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

impl Scaled {
    /// A change from so many replicas to so many, asked for now by whoever runs this process.
    pub fn to(from: usize, to: usize) -> Self {
        Self {
            at: seconds_since_1970(),
            by: who(),
            from,
            to: Some(to),
            autoscale: None,
            outcome: Outcome::Progressing,
            reason: None,
            proof: None,
        }
    }

    /// A change from so many to what the load asks for.
    pub fn by_load(from: usize, autoscale: Autoscale) -> Self {
        Self {
            to: None,
            autoscale: Some(autoscale),
            ..Self::to(from, from)
        }
    }
}

/// The bundle of a revision, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseSource {
    /// Its version.
    pub version: String,
    /// Its digest, 64 hex digits.
    pub digest: String,
    /// Its directory, an absolute path on the machine that deployed it.
    pub bundle: PathBuf,
    /// The image that holds it, where images are deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The source revision of the project that it was trained from.
    pub source_revision: Option<String>,
    /// What its gate said; none when it was not evaluated.
    pub gate: Option<Verdict>,
}

/// What became of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is being rolled out.
    Progressing,
    /// All its replicas became ready.
    Deployed,
    /// It failed, and the former revision serves on.
    RolledBack,
    /// It failed, and there was no former revision.
    Failed,
    /// Another one came before it had arrived.
    Superseded,
    /// It was tried as a canary, and taken away; what served before has served on.
    Aborted,
}

impl Outcome {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Progressing => "progressing",
            Self::Deployed => "deployed",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Aborted => "aborted",
        }
    }
}

impl ReleaseSource {
    /// What is known of an opened bundle whose gate said `gate`.
    pub fn new(bundle: &Bundle, gate: Option<Verdict>) -> Self {
        let path = bundle.path();
        Self {
            version: bundle.version().to_owned(),
            digest: bundle.digest().to_owned(),
            bundle: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            image: None,
            source_revision: bundle.manifest().source_revision.clone(),
            gate,
        }
    }
}

impl Revision {
    /// A revision that is asked for now, by whoever runs this process.
    pub fn now(revision: u64, source: ReleaseSource, rolled_back_to: Option<u64>) -> Self {
        Self {
            revision,
            source,
            rolled_back_to,
            deployed_at: seconds_since_1970(),
            deployed_by: who(),
            outcome: Outcome::Progressing,
            reason: None,
            kept: false,
            proof: None,
            scaled: Vec::new(),
            canary: None,
        }
    }

    /// Notes that the number of replicas is to change. What was to change before, and has not come to an end, never will.
    pub fn begin_scaling(&mut self, scaled: Scaled) {
        for before in &mut self.scaled {
            if before.outcome == Outcome::Progressing {
                before.outcome = Outcome::Superseded;
            }
        }
        self.scaled.push(scaled);
        let surplus = self.scaled.len().saturating_sub(SCALED_KEPT);
        self.scaled.drain(..surplus);
    }

    /// Notes what became of that.
    pub fn end_scaling(&mut self, outcome: &Result<Service>) {
        let Some(scaled) = self.scaled.last_mut() else { return };
        match outcome {
            Ok(service) => {
                scaled.outcome = Outcome::Deployed;
                scaled.proof.clone_from(&service.proof);
            }
            Err(error) => {
                scaled.outcome = match error.downcast_ref::<DeployError>() {
                    Some(DeployError::RolledBack(_)) => Outcome::RolledBack,
                    // Nobody waits for it any longer, and it may well arrive.
                    Some(DeployError::Interrupted | DeployError::Halted(_)) => return,
                    _ => Outcome::Failed,
                };
                scaled.reason = Some(error.to_string());
            }
        }
    }

    /// Whether it is what there is, though it has not arrived: it is on its way, or was left as it failed. Of the newest.
    pub fn is_half_way(&self) -> bool {
        self.outcome == Outcome::Progressing || self.kept
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks so
fn is_false(value: &bool) -> bool {
    !value
}

/// The revision of all (the oldest first) that a rollback goes to: `to`, or the one that was there before the newest change.
///
/// Where the newest revision has arrived, or has failed and was taken back, that is the newest one that was deployed
/// with another bundle than the one that serves. Where it was left half-way, it is itself what is undone, and the newest
/// one that has arrived is where to go; but a rollback that was left half-way goes on to where it went.
///
/// # Errors
///
/// When there is none, or it never served.
pub fn target(revisions: &[Revision], to: Option<u64>) -> Result<&Revision> {
    let hint = "`emberline history` lists the revisions, `--revision N` takes one";
    let Some(to) = to else {
        return before(revisions).ok_or_else(|| match (unfinished(revisions), newest(revisions)) {
            (Some(first), None) => Problem::new(format!(
                "revision {} has not arrived, and none before it has",
                first.revision
            ))
            .hint(format!(
                "`emberline deploy --bundle {}` goes on with it",
                first.source.version
            ))
            .into(),
            (_, current) => {
                let current = current.map_or(0, |current| current.revision);
                Problem::new(format!("there is no bundle before revision {current} to go back to"))
                    .hint(hint)
                    .into()
            }
        });
    };
    let revision = revisions
        .iter()
        .find(|revision| revision.revision == to)
        .ok_or_else(|| Problem::new(format!("there is no revision {to}")).hint(hint))?;
    if revision.outcome != Outcome::Deployed {
        return Err(Problem::new(format!(
            "revision {to} never served: its outcome is `{}`",
            revision.outcome.name()
        ))
        .hint(hint)
        .into());
    }
    Ok(revision)
}

/// Where a rollback goes that is not told where.
fn before(revisions: &[Revision]) -> Option<&Revision> {
    let deployed = |revision: &&Revision| revision.outcome == Outcome::Deployed;
    let newest = newest(revisions)?;
    if let Some(unfinished) = unfinished(revisions) {
        let begun = unfinished.rolled_back_to;
        let begun = revisions.iter().find(|revision| Some(revision.revision) == begun);
        return begun.filter(deployed).or(Some(newest));
    }
    revisions
        .iter()
        .filter(deployed)
        .rfind(|revision| revision.source.digest != newest.source.digest)
}

/// The newest that has arrived.
fn newest(revisions: &[Revision]) -> Option<&Revision> {
    revisions.iter().rfind(|revision| revision.outcome == Outcome::Deployed)
}

/// The newest of all, if it is half-way.
fn unfinished(revisions: &[Revision]) -> Option<&Revision> {
    revisions.last().filter(|revision| revision.is_half_way())
}

/// `user@host`, as far as they are known.
pub(super) fn who() -> String {
    let user = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    let system = rustix::system::uname();
    format!("{user}@{}", system.nodename().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(revision: u64, digest: &str, outcome: Outcome) -> Revision {
        Revision {
            revision,
            source: ReleaseSource {
                version: digest.into(),
                digest: digest.into(),
                bundle: format!("/bundles/{digest}").into(),
                image: None,
                source_revision: None,
                gate: None,
            },
            rolled_back_to: None,
            deployed_at: 0,
            deployed_by: "someone@somewhere".into(),
            outcome,
            reason: None,
            kept: false,
            proof: None,
            scaled: Vec::new(),
            canary: None,
        }
    }

    fn to(revisions: &[Revision]) -> Option<u64> {
        target(revisions, None).ok().map(|revision| revision.revision)
    }

    #[test]
    fn a_rollback_goes_to_the_newest_other_bundle_that_was_deployed() {
        let revisions = [
            revision(1, "a", Outcome::Deployed),
            revision(2, "b", Outcome::Deployed),
            revision(3, "c", Outcome::RolledBack),
            revision(4, "d", Outcome::Deployed),
            revision(5, "d", Outcome::Deployed),
            revision(6, "e", Outcome::RolledBack),
        ];
        assert_eq!(to(&revisions), Some(2));
        assert_eq!(to(&revisions[..3]), Some(1));
        let error = target(&revisions[..1], None).expect_err("nothing before");
        assert!(error.to_string().contains("no bundle before revision 1"), "{error}");
        let error = target(&revisions, Some(3)).expect_err("it failed");
        assert!(error.to_string().contains("revision 3 never served"), "{error}");
    }

    #[test]
    fn what_was_left_half_way_is_what_a_rollback_undoes() {
        let progressing = |number, digest| revision(number, digest, Outcome::Progressing);
        let (first, second) = (revision(1, "a", Outcome::Deployed), revision(2, "b", Outcome::Deployed));
        assert_eq!(to(&[first.clone(), progressing(2, "b")]), Some(1));
        assert_eq!(to(&[first.clone(), second.clone(), progressing(3, "a")]), Some(2));
        // The same bundle in another image, or with other settings.
        assert_eq!(to(&[first.clone(), second.clone(), progressing(3, "b")]), Some(2));
        let kept = Revision {
            kept: true,
            ..revision(3, "c", Outcome::Failed)
        };
        assert_eq!(to(&[first.clone(), second.clone(), kept]), Some(2));
        let superseded = revision(3, "c", Outcome::Superseded);
        assert_eq!(
            to(&[first.clone(), second.clone(), superseded, progressing(4, "d")]),
            Some(2)
        );
        // The same command goes on.
        let back = Revision {
            rolled_back_to: Some(1),
            ..progressing(3, "a")
        };
        assert_eq!(to(&[first, second, back]), Some(1));
        let error = target(&[progressing(1, "a")], None).expect_err("nothing has arrived");
        assert!(error.to_string().contains("revision 1 has not arrived"), "{error}");
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let record = revision(7, "a", Outcome::RolledBack);
        let text = serde_json::to_string(&record).expect("json");
        assert!(text.contains(r#""outcome":"rolled_back""#));
        assert_eq!(serde_json::from_str::<Revision>(&text).expect("record"), record);
    }
}
