//! `emberline evaluate`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Context;
use super::data_progress::DataProgress;
use super::output::{Report, percent, table};
use crate::bundle::{Bundle, Evaluation, Store, Verdict};
use crate::data;
use crate::evaluate::{self, Gate, Measures};
use crate::predict::Predictor;

/// Measure a bundle and hold it against the gate
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  emberline evaluate\n  emberline evaluate --bundle 3f2a1b -o json | jq .gate\n\nExit code 3 means that a threshold of `evaluate.gate` was missed."
)]
pub struct Args {
    /// Folder with emberline.yaml
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Version or directory of the bundle; the newest one by default
    #[arg(long, env = "EMBERLINE_BUNDLE")]
    pub bundle: Option<String>,
    /// Folder with the MNIST files
    #[arg(long, env = "EMBERLINE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// What `evaluate` gives.
#[derive(Clone, Debug, Serialize)]
pub struct EvaluateReport {
    /// First 12 hex digits of the bundle's digest.
    pub version: String,
    /// Share of right answers on the test set.
    pub accuracy: f64,
    /// Mean cross-entropy on the test set, in nats.
    pub loss: f64,
    /// Samples of the test set.
    pub samples: usize,
    /// The verdict, with each threshold.
    pub gate: Gate,
    /// The test set in full.
    pub test: Measures,
    /// Each slice in full, by name.
    pub slices: BTreeMap<String, Measures>,
}

/// Runs the command. A missed gate is no error here: the report says so, and the caller decides.
///
/// # Errors
///
/// Whatever is wrong with project, bundle or data.
pub fn run(args: &Args, context: &Context) -> Result<EvaluateReport> {
    let project = context.project(&args.project)?;
    let bundle = open(&Store::of_project(&project.folder), args.bundle.as_deref())?;
    let predictor = Predictor::load(&bundle)?;
    let manifest = bundle.manifest();
    let data_dir = args.data_dir.as_deref();
    context.check_data_dir(&project, data_dir);
    let progress = DataProgress::new(&context.output);
    let events = |event| progress.show(&event);

    let test = data::load_test(
        &project,
        &manifest.inputs,
        &manifest.classes,
        &manifest.data.digest,
        data_dir,
        &events,
    )?;
    let test = evaluate::measure(&predictor, &test)?;
    let mut slices = BTreeMap::new();
    for slice in &project.config.evaluate.slices {
        let data = data::load_slice(
            &project,
            &slice.data,
            &manifest.inputs,
            &manifest.classes,
            data_dir,
            &events,
        )
        .with_context(|| format!("slice `{}`", slice.name))?;
        slices.insert(slice.name.clone(), evaluate::measure(&predictor, &data)?);
    }
    drop(progress);
    let gate = evaluate::gate(&project.config.evaluate.gate, &test, &slices);
    let report = EvaluateReport {
        version: bundle.version().to_owned(),
        accuracy: test.accuracy,
        loss: test.loss,
        samples: test.samples,
        gate,
        test,
        slices,
    };
    Evaluation::new(&bundle, report.gate.verdict, serde_json::to_value(&report)?).write(&bundle)?;
    Ok(report)
}

/// The named bundle, or the newest.
pub(super) fn open(store: &Store, reference: Option<&str>) -> Result<Bundle> {
    match reference {
        Some(reference) => store.open(reference),
        None => store.latest(),
    }
}

impl EvaluateReport {
    /// What failed, in a sentence, when the gate did.
    pub fn failure(&self) -> Option<String> {
        (self.gate.verdict == Verdict::Fail).then(|| {
            let missed: Vec<String> = self
                .gate
                .checks
                .iter()
                .filter(|check| !check.pass)
                .map(|check| {
                    format!(
                        "`{}` is {:.4} and must be {} {}",
                        check.name,
                        check.value,
                        if check.at_least { "at least" } else { "at most" },
                        check.threshold
                    )
                })
                .collect();
            format!("gate failed: {}", missed.join(", "))
        })
    }
}

impl Report for EvaluateReport {
    fn text(&self) -> String {
        let mut rows = vec![("version", self.version.clone()), ("test set", summary(&self.test))];
        let slices: Vec<(String, String)> = self
            .slices
            .iter()
            .map(|(name, measures)| (format!("slice {name}"), summary(measures)))
            .collect();
        rows.extend(slices.iter().map(|(name, text)| (name.as_str(), text.clone())));
        rows.push(("gate", self.gate.verdict.name().to_owned()));
        let mut text = table(&rows);
        for check in &self.gate.checks {
            let _ = write!(
                text,
                "\n  {} {} {:.4}, {} {}",
                if check.pass { "✓" } else { "✗" },
                check.name,
                check.value,
                if check.at_least { "at least" } else { "at most" },
                check.threshold
            );
        }
        let _ = write!(text, "\n\n{}\n\n{}", classes(&self.test), confusion(&self.test));
        text
    }
}

fn summary(measures: &Measures) -> String {
    format!(
        "accuracy {}, loss {:.4}, calibration error {}, {} samples",
        percent(measures.accuracy),
        measures.loss,
        percent(measures.calibration_error),
        measures.samples
    )
}

fn classes(measures: &Measures) -> String {
    let width = class_width(measures);
    let mut text = format!("{:width$}  precision   recall       F1  samples", "class");
    let share = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), percent);
    for class in &measures.classes {
        let _ = write!(
            text,
            "\n{:width$}  {:>9}  {:>7}  {:>7}  {:>7}",
            class.class,
            share(class.precision),
            share(class.recall),
            share(class.f1),
            class.samples
        );
    }
    text
}

fn confusion(measures: &Measures) -> String {
    let width = class_width(measures);
    let cell = measures
        .confusion
        .iter()
        .flatten()
        .map(|count| count.to_string().len())
        .chain(measures.classes.iter().map(|class| class.class.chars().count().min(8)))
        .max()
        .unwrap_or(1);
    let mut text = format!("{:width$}  answered as", "actual");
    let _ = write!(text, "\n{:width$}", "");
    for class in &measures.classes {
        let short: String = class.class.chars().take(8).collect();
        let _ = write!(text, "  {short:>cell$}");
    }
    for (class, row) in measures.classes.iter().zip(&measures.confusion) {
        let _ = write!(text, "\n{:width$}", class.class);
        for count in row {
            let _ = write!(text, "  {count:>cell$}");
        }
    }
    text
}

fn class_width(measures: &Measures) -> usize {
    measures
        .classes
        .iter()
        .map(|class| class.class.chars().count())
        .max()
        .unwrap_or_default()
        .max("actual".len())
}
