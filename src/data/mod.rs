//! Labelled data: sources that give a [`Dataset`], its splits, and the fitting of the preprocessing.
//!
//! A source checks everything that can be wrong with a file before training begins, and names the file, row and column.
//! This room knows no network: `train` and `evaluate` turn a dataset into batches. Nor does it draw progress: it tells
//! an [`Event`] to whoever asked.

pub mod digits;

mod fit;
mod idx;
pub mod inputs;
mod mnist;
mod source;
mod split;
mod table;

pub use fit::{complete_rows, fit, in_schema};
pub use source::{DataFile, files, load, load_slice, load_test};
pub use split::stratified;

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::files;
use crate::preprocess::Schema;
use crate::problem::Problem;

/// Raw samples with their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// What a sample looks like.
    pub schema: Schema,
    /// `schema.width()` raw values for each sample, one after another; a missing value is NaN.
    pub values: Vec<f32>,
    /// The class of each sample, an index into `classes`.
    pub labels: Vec<u32>,
    /// Names of the classes.
    pub classes: Vec<String>,
}

/// What a project trains on and what it is measured on.
#[derive(Clone, Debug)]
pub struct ProjectData {
    /// To be split into training and validation.
    pub training: Dataset,
    /// Never trained on.
    pub test: Dataset,
}

/// What happens while data is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A file of a public data set is on its way; told often, the last time with everything received.
    Downloading {
        /// Its name.
        file: &'static str,
        /// Bytes so far.
        received: u64,
        /// Bytes in all, where the server says so.
        total: Option<u64>,
    },
    /// Digits are about to be drawn.
    Drawing {
        /// How many.
        count: usize,
    },
    /// Rows with a missing number were left out, as `preprocess.missing: drop` asks.
    LeftOut {
        /// The table that they are in.
        file: PathBuf,
        /// How many.
        rows: usize,
    },
}

impl Dataset {
    /// Samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The raw values of one sample.
    pub fn row(&self, index: usize) -> &[f32] {
        let width = self.schema.width();
        &self.values[index * width..(index + 1) * width]
    }

    /// The samples with these numbers, in this order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut values = Vec::with_capacity(rows.len() * self.schema.width());
        for &row in rows {
            values.extend_from_slice(self.row(row));
        }
        Self {
            schema: self.schema.clone(),
            values,
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            classes: self.classes.clone(),
        }
    }

    /// SHA-256 of the schema, the classes, the values and the labels: equal data has equal digests on every machine.
    ///
    /// Values are hashed as bytes when all of them are whole numbers from 0 to 255, as pixels are, and otherwise as
    /// little-endian 32-bit floats with one pattern for every NaN.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let head = serde_json::json!({
            "schema": self.schema,
            "classes": self.classes,
            "samples": self.len(),
        })
        .to_string();
        // The length in front keeps one part from passing for the beginning of the next.
        hash.update((head.len() as u64).to_le_bytes());
        hash.update(head);
        // Only the two zeros share a value and not a pattern; both are the byte 0, so floats hash them alike as well.
        let bytes = self.values.iter().all(|&value| f32::from(value as u8) == value);
        hash.update([u8::from(bytes)]);
        let mut buffer = Vec::with_capacity(4 * CHUNK);
        for chunk in self.values.chunks(CHUNK) {
            buffer.clear();
            if bytes {
                buffer.extend(chunk.iter().map(|&value| value as u8));
            } else {
                buffer.extend(chunk.iter().flat_map(|&value| canonical(value).to_le_bytes()));
            }
            hash.update(&buffer);
        }
        for label in &self.labels {
            hash.update(label.to_le_bytes());
        }
        files::hex(&hash.finalize())
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Problem {
    let problem = Problem::new(format!("cannot read `{}`: {error}", path.display()));
    if error.kind() == io::ErrorKind::NotFound {
        problem.hint("a path in `emberline.yaml` starts from the folder that the file is in")
    } else {
        problem
    }
}

/// Values that are hashed at a time.
const CHUNK: usize = 16 * 1024;

/// One pattern for every NaN, and one for both zeros.
fn canonical(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value + 0.0 }
}

#[cfg(test)]
mod loading_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Column, ColumnKind};

    fn dataset(values: &[f32]) -> Dataset {
        Dataset {
            schema: Schema::Table {
                columns: vec![Column {
                    name: "a".into(),
                    kind: ColumnKind::Numeric,
                }],
            },
            values: values.to_vec(),
            labels: (0..values.len() as u32).map(|index| index % 2).collect(),
            classes: vec!["no".into(), "yes".into()],
        }
    }

    #[test]
    fn equal_data_has_equal_digests() {
        assert_eq!(dataset(&[1.0, 2.0]).digest(), dataset(&[1.0, 2.0]).digest());
        assert_eq!(
            dataset(&[1.5, f32::NAN, 0.0]).digest(),
            dataset(&[1.5, -f32::NAN, -0.0]).digest()
        );
    }

    #[test]
    fn any_difference_changes_the_digest() {
        let base = dataset(&[1.0, 2.0]);
        let mut others = vec![
            dataset(&[1.0, 3.0]),
            dataset(&[1.0, 2.5]),
            dataset(&[1.0, f32::NAN]),
            dataset(&[1.0, 258.0]),
            dataset(&[1.0]),
        ];
        for change in [
            |data: &mut Dataset| data.labels[0] = 1,
            |data: &mut Dataset| data.classes[0] = "nein".into(),
            |data: &mut Dataset| {
                data.schema = Schema::Image {
                    height: 1,
                    width: 1,
                    channels: 1,
                }
            },
        ] {
            let mut other = base.clone();
            change(&mut other);
            others.push(other);
        }
        let mut digests: Vec<String> = others.iter().map(Dataset::digest).collect();
        digests.push(base.digest());
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 9);
    }

    #[test]
    fn the_digest_is_the_documented_bytes() {
        let data = dataset(&[1.0, 255.0]);
        let head = r#"{"classes":["no","yes"],"samples":2,"schema":{"columns":[{"kind":"numeric","name":"a"}],"kind":"table"}}"#;
        let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
        bytes.extend(head.as_bytes());
        bytes.extend([1, 1, 255, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(data.digest(), files::sha256(&bytes));
    }

    #[test]
    fn selecting_keeps_rows_with_their_labels() {
        let chosen = dataset(&[5.0, 6.0, 7.0]).select(&[2, 1]);
        assert_eq!((chosen.values, chosen.labels), (vec![7.0, 6.0], vec![0, 1]));
    }
}
