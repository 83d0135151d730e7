//! `emberline predict`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::output::{Report, percent};
use super::{Context, evaluate};
use crate::bundle::Store;
use crate::data::inputs::{self, Input};
use crate::files;
use crate::predict::{Predictor, argmax};
use crate::preprocess::Schema;

/// Shades from black to white.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];
/// Pictures wider than this are not drawn: the line would break.
const WIDEST_DRAWING: usize = 64;
/// Characters of the longest bar.
const BAR: f32 = 30.0;

/// Ask a bundle for its answer to files
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  emberline predict digit.png\n  emberline predict rows.csv --project penguins\n  echo '[[0, 0.5, ...]]' | emberline predict - -o json"
)]
pub struct Args {
    /// PNG, IDX (plain or gzip), JSON or CSV; `-` reads stdin
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Folder of the project whose bundle answers
    #[arg(long, default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Version or directory of the bundle; the newest one by default
    #[arg(long, env = "EMBERLINE_BUNDLE")]
    pub bundle: Option<String>,
    /// Turn black to white first: models of MNIST's kind read white digits on black
    #[arg(long, env = "EMBERLINE_INVERT")]
    pub invert: bool,
    /// Answer to the first N inputs of each file only
    #[arg(long, value_name = "N", env = "EMBERLINE_LIMIT")]
    pub limit: Option<usize>,
}

/// What `predict` gives.
#[derive(Debug, Serialize)]
pub struct PredictReport {
    /// The model's name.
    pub model: String,
    /// First 12 hex digits of the bundle's digest.
    pub version: String,
    /// One for each input.
    pub predictions: Vec<Prediction>,
    #[serde(skip)]
    drawings: Option<Vec<String>>,
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    /// The file, with `[N]` when it holds several.
    pub input: String,
    /// The most probable class.
    pub label: String,
    /// Its probability.
    pub confidence: f32,
    /// The probability of each class.
    pub probabilities: BTreeMap<String, f32>,
}

/// Runs the command. A bundle can be asked without its project: then `--bundle DIRECTORY` is enough.
///
/// # Errors
///
/// A file that cannot be read, or is no input of the model.
pub fn run(args: &Args, context: &Context) -> Result<PredictReport> {
    let bundle = evaluate::open(&Store::of_project(&args.project), args.bundle.as_deref())?;
    let predictor = Predictor::load(&bundle)?;
    let manifest = predictor.manifest();
    let mut inputs: Vec<Input> = Vec::new();
    for file in &args.files {
        let (name, bytes) = read(file)?;
        let mut read = inputs::read(&name, &bytes, &manifest.inputs)?;
        read.truncate(args.limit.unwrap_or(usize::MAX));
        inputs.extend(read);
    }
    if args.invert {
        anyhow::ensure!(
            matches!(manifest.inputs, Schema::Image { .. }),
            "`--invert` is for images, and this model reads a table"
        );
        for pixel in inputs.iter_mut().flat_map(|input| &mut input.raw) {
            *pixel = 255.0 - *pixel;
        }
    }
    let raw: Vec<f32> = inputs.iter().flat_map(|input| input.raw.iter().copied()).collect();
    let answers = predictor.predict(&raw)?;
    let predictions: Vec<Prediction> = inputs
        .iter()
        .zip(answers.chunks_exact(manifest.classes.len()))
        .map(|(input, answer)| prediction(&input.name, &manifest.classes, answer))
        .collect();
    let drawings = context.output.stdout_is_terminal().then(|| {
        inputs
            .iter()
            .zip(answers.chunks_exact(manifest.classes.len()))
            .map(|(input, answer)| beside(&picture(&input.raw, &manifest.inputs), &bars(&manifest.classes, answer)))
            .collect()
    });
    Ok(PredictReport {
        model: manifest.name.clone(),
        version: predictor.version().to_owned(),
        predictions,
        drawings,
    })
}

/// An answer with the names of its classes.
pub(super) fn prediction(input: &str, classes: &[String], answer: &[f32]) -> Prediction {
    let best = argmax(answer);
    Prediction {
        input: input.to_owned(),
        label: classes[best].clone(),
        confidence: answer[best],
        probabilities: classes.iter().cloned().zip(answer.iter().copied()).collect(),
    }
}

fn read(file: &Path) -> Result<(String, Vec<u8>)> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read stdin")?;
        return Ok(("stdin".into(), bytes));
    }
    Ok((file.display().to_string(), files::read(file)?))
}

impl Report for PredictReport {
    fn text(&self) -> String {
        let lines: Vec<String> = match &self.drawings {
            // A line that `cut` and `awk` can read.
            None => self
                .predictions
                .iter()
                .map(|prediction| {
                    format!(
                        "{}\t{}\t{:.6}",
                        prediction.input, prediction.label, prediction.confidence
                    )
                })
                .collect(),
            Some(drawings) => self
                .predictions
                .iter()
                .zip(drawings)
                .map(|(prediction, drawing)| {
                    format!(
                        "{}: {} ({})\n{drawing}",
                        prediction.input,
                        prediction.label,
                        percent(f64::from(prediction.confidence))
                    )
                })
                .collect(),
        };
        lines.join("\n")
    }
}

/// A grey picture in characters, two rows of pixels in one line of text; nothing for a table.
fn picture(raw: &[f32], schema: &Schema) -> Vec<String> {
    let Schema::Image { width, channels: 1, .. } = schema else {
        return Vec::new();
    };
    if *width > WIDEST_DRAWING {
        return Vec::new();
    }
    let rows: Vec<&[f32]> = raw.chunks_exact(*width).collect();
    rows.chunks(2)
        .map(|pair| {
            (0..*width)
                .map(|x| {
                    let mean = pair.iter().map(|row| row[x]).sum::<f32>() / pair.len() as f32;
                    let shade = (mean / 256.0 * SHADES.len() as f32) as usize;
                    SHADES[shade.min(SHADES.len() - 1)]
                })
                .collect()
        })
        .collect()
}

/// A line for each class: its name, its bar, its probability.
fn bars(classes: &[String], answer: &[f32]) -> Vec<String> {
    let width = classes
        .iter()
        .map(|class| class.chars().count())
        .max()
        .unwrap_or_default();
    classes
        .iter()
        .zip(answer)
        .map(|(class, probability)| {
            let bar = "█".repeat((probability * BAR).round() as usize);
            format!("{class:>width$} {bar} {}", percent(f64::from(*probability)))
        })
        .collect()
}

/// Two blocks of lines side by side.
fn beside(left: &[String], right: &[String]) -> String {
    let width = left
        .iter()
        .map(|line| line.chars().count())
        .max()
        .map_or(0, |width| width + 2);
    let mut text = String::new();
    for row in 0..left.len().max(right.len()) {
        let left = left.get(row).map_or("", String::as_str);
        let right = right.get(row).map_or("", String::as_str);
        let line = format!("{left:width$}{right}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_stands_beside_its_bars() {
        let schema = Schema::Image {
            height: 2,
            width: 2,
            channels: 1,
        };
        let picture = picture(&[0.0, 255.0, 0.0, 255.0], &schema);
        assert_eq!(picture, [" █"]);
        let bars = bars(&["a".into(), "bb".into()], &[0.9, 0.1]);
        assert_eq!(
            beside(&picture, &bars),
            format!(" █   a {} 90.00 %\n    bb ███ 10.00 %\n", "█".repeat(27))
        );
    }
}
