//! Labelled data: sources that give a [`Dataset`], its splits, and the fitting of the preprocessing.
//!
//! A source checks everything that can be wrong with a file before training begins, and names the file, row and column.
//! This room knows no network: `train` and `evaluate` turn a dataset into batches.

use crate::preprocess::Schema;

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
}

/// What a project trains on and what it is measured on.
#[derive(Clone, Debug)]
pub struct ProjectData {
    /// To be split into training and validation.
    pub training: Dataset,
    /// Never trained on.
    pub test: Dataset,
}
