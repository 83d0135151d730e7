//! `data` and `preprocess`: where labelled data comes from, and what is done to it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::preprocess::{Missing, Normalise};

/// `data`, and `data` of an evaluation slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Kind of source.
    pub source: Option<Source>,
    /// `synthetic-digits`: digits to draw for training. 60,000 by default.
    pub count: Option<usize>,
    /// `synthetic-digits`: digits to draw for the test set. 10,000 by default.
    pub test_count: Option<usize>,
    /// `mnist`: folder of the four files; downloaded when absent.
    pub dir: Option<PathBuf>,
    /// `idx`: images.
    pub images: Option<PathBuf>,
    /// `idx`: labels.
    pub labels: Option<PathBuf>,
    /// `idx`: images of the test set. A share of `images` is held out when there are none.
    pub test_images: Option<PathBuf>,
    /// `idx`: labels of the test set.
    pub test_labels: Option<PathBuf>,
    /// `csv`: the table, with a header.
    pub file: Option<PathBuf>,
    /// `csv`: the test set's table. A share of `file` is held out when there is none.
    pub test_file: Option<PathBuf>,
    /// `csv`: the column that holds the class.
    pub label: Option<String>,
    /// `csv`: columns that hold names even where they look like numbers.
    pub categorical: Option<Vec<String>>,
    /// `csv`: columns that are not used.
    pub ignore: Option<Vec<String>>,
    /// `idx`, `csv`: share of the data that is held out as the test set when there is none. 0.2 by default.
    pub test_split: Option<f64>,
}

/// Kinds of data source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Digits that the tool draws itself.
    SyntheticDigits,
    /// The MNIST handwritten digits.
    Mnist,
    /// Files in the MNIST format.
    Idx,
    /// A table.
    Csv,
}

impl Source {
    /// As written in `emberline.yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SyntheticDigits => "synthetic-digits",
            Self::Mnist => "mnist",
            Self::Idx => "idx",
            Self::Csv => "csv",
        }
    }
}

/// `preprocess`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreprocessConfig {
    /// Scale of the numbers.
    pub normalise: Normalise,
    /// What becomes of missing numbers.
    pub missing: Missing,
}
