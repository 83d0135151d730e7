//! `VERSION.evaluation.json`: what `evaluate` measured, and the gate's verdict. It lies beside the bundle, because a
//! bundle never changes, and names the bundle's digest, so that it cannot vouch for another one.
//!
//! The rule that only a bundle whose gate has passed goes on is here, once, for all that ask. How the verdict comes about
//! is the business of `evaluate`, and so is what its report holds.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Bundle, evaluation_path};
use crate::files;
use crate::problem::Problem;

/// The format that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// What the gate says of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every threshold is reached.
    Pass,
    /// A threshold is missed.
    Fail,
    /// There are too few samples to say.
    Undecided,
    /// There are no thresholds.
    None,
}

impl Verdict {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Undecided => "undecided",
            Self::None => "none",
        }
    }
}

/// The bundle that an attachment is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleRef {
    /// First 12 hex digits of the digest.
    pub version: String,
    /// SHA-256 of `bundle.json`, 64 hex digits.
    pub digest: String,
}

impl BundleRef {
    /// This bundle.
    pub fn of(bundle: &Bundle) -> Self {
        Self {
            version: bundle.version().to_owned(),
            digest: bundle.digest().to_owned(),
        }
    }
}

/// An evaluation of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The format of the file, 1.
    pub format: u32,
    /// What was evaluated.
    pub bundle: BundleRef,
    /// The gate's verdict.
    pub verdict: Verdict,
    /// Everything that was measured, as `evaluate` reports it.
    pub report: serde_json::Value,
}

impl Evaluation {
    /// An evaluation of `bundle`.
    pub fn new(bundle: &Bundle, verdict: Verdict, report: serde_json::Value) -> Self {
        Self {
            format: FORMAT,
            bundle: BundleRef::of(bundle),
            verdict,
            report,
        }
    }

    /// The evaluation that lies beside `bundle`, if it was evaluated.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is of another bundle or another format.
    pub fn read(bundle: &Bundle) -> Result<Option<Self>> {
        let path = evaluation_path(bundle.path());
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        let refuse = |reason: String| {
            Problem::new(format!("`{}` {reason}", path.display())).hint("`emberline evaluate` writes it anew")
        };
        let evaluation: Self =
            serde_json::from_slice(&text).map_err(|error| refuse(format!("is no evaluation: {error}")))?;
        if evaluation.format != FORMAT {
            return Err(refuse(format!(
                "has format {}, and this version reads format {FORMAT}",
                evaluation.format
            ))
            .into());
        }
        if evaluation.bundle.digest != bundle.digest() {
            return Err(refuse(format!(
                "is an evaluation of bundle `{}`, and it lies beside bundle `{}`",
                evaluation.bundle.version,
                bundle.version()
            ))
            .into());
        }
        Ok(Some(evaluation))
    }

    /// Writes the evaluation beside `bundle`, in place of the former one.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the former one is then as it was.
    pub fn write(&self, bundle: &Bundle) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        files::replace(&evaluation_path(bundle.path()), &text)
    }
}

/// A bundle whose gate has not passed: the tool ends with code 3. Its cause says why, with a hint.
#[derive(Debug, thiserror::Error)]
#[error("the gate of bundle `{version}` has not passed")]
pub struct GateRefusal {
    /// The bundle's version.
    pub version: String,
    /// What the gate says, when the bundle was evaluated.
    pub verdict: Option<Verdict>,
}

/// Gives the evaluation of a bundle whose gate has passed, with the `thresholds` that are asked for now (as JSON).
///
/// # Errors
///
/// A [`GateRefusal`] (downcast the error to it) when the bundle was not evaluated, or with other thresholds, or with any
/// verdict but `pass`; or as [`Evaluation::read`].
pub fn require_pass(bundle: &Bundle, thresholds: &serde_json::Value) -> Result<Evaluation> {
    let Some(evaluation) = Evaluation::read(bundle)? else {
        return Err(refusal(
            bundle,
            None,
            "it was not evaluated",
            "run `emberline evaluate` first",
        ));
    };
    if evaluation.report.pointer("/gate/thresholds") != Some(thresholds) {
        return Err(refusal(
            bundle,
            Some(evaluation.verdict),
            "`evaluate.gate` has changed since it was evaluated",
            "run `emberline evaluate` again",
        ));
    }
    let (reason, hint) = match evaluation.verdict {
        Verdict::Pass => return Ok(evaluation),
        Verdict::Fail => (
            "it misses a threshold of `evaluate.gate`",
            "`emberline evaluate` shows which one",
        ),
        Verdict::Undecided => (
            "it was evaluated on too few samples to say whether it reaches `evaluate.gate`",
            "evaluate it on more data",
        ),
        Verdict::None => (
            "it was measured, and `evaluate.gate` has no threshold to hold it against",
            "add one to emberline.yaml (`evaluate: {gate: {accuracy: 0.95}}`) and run `emberline evaluate` again",
        ),
    };
    Err(refusal(bundle, Some(evaluation.verdict), reason, hint))
}

fn refusal(bundle: &Bundle, verdict: Option<Verdict>, reason: &str, hint: &str) -> anyhow::Error {
    let problem = Problem::new(reason).hint(format!("{hint}; or `--allow-ungated` goes on without"));
    anyhow::Error::from(problem).context(GateRefusal {
        version: bundle.version().to_owned(),
        verdict,
    })
}
