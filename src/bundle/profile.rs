//! `profile.json`: histograms of the training data and of the model's answers to it, the baseline that drift is measured
//! against.

use serde::{Deserialize, Serialize};

use crate::preprocess::{ColumnKind, Schema};

/// Bins of a histogram of numbers.
const BINS: usize = 10;

/// Histograms of inputs and answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Samples that were counted.
    pub samples: usize,
    /// For a table one for each column; for images `brightness` (mean pixel) and `contrast` (its standard deviation).
    pub features: Vec<FeatureProfile>,
    /// How often each class was the answer.
    pub predictions: Vec<usize>,
}

/// One histogram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureProfile {
    /// The column, or the statistic of an image.
    pub name: String,
    /// The inner edges between bins, ascending: bin `i` holds values below `edges[i]` and not below the edge before it.
    /// For categories the indices 1, 2, ...
    pub edges: Vec<f32>,
    /// One more than `edges`.
    pub counts: Vec<usize>,
    /// Missing values.
    pub missing: usize,
}

impl Profile {
    /// Counts raw samples, one after another in `values`, and the class that was the answer to each.
    pub fn new(schema: &Schema, values: &[f32], answers: &[usize], classes: usize) -> Self {
        let rows = || values.chunks_exact(schema.width());
        let features = match schema {
            Schema::Image { .. } => {
                let (brightness, contrast): (Vec<f32>, Vec<f32>) = rows().map(brightness_and_contrast).unzip();
                vec![
                    FeatureProfile::of_numbers("brightness", &brightness),
                    FeatureProfile::of_numbers("contrast", &contrast),
                ]
            }
            Schema::Table { columns } => columns
                .iter()
                .enumerate()
                .map(|(index, column)| {
                    let values: Vec<f32> = rows().map(|row| row[index]).collect();
                    match &column.kind {
                        ColumnKind::Numeric => FeatureProfile::of_numbers(&column.name, &values),
                        ColumnKind::Categorical { categories } => {
                            let edges = (1..categories.len()).map(|edge| edge as f32).collect();
                            FeatureProfile::count(&column.name, edges, &values)
                        }
                    }
                })
                .collect(),
        };
        let mut predictions = vec![0; classes];
        for answer in answers {
            predictions[*answer] += 1;
        }
        Self {
            samples: answers.len(),
            features,
            predictions,
        }
    }
}

impl FeatureProfile {
    /// Bins of equal count, so that a shift anywhere moves them.
    fn of_numbers(name: &str, values: &[f32]) -> Self {
        let mut sorted: Vec<f32> = values.iter().copied().filter(|v| !v.is_nan()).collect();
        sorted.sort_by(f32::total_cmp);
        let mut edges: Vec<f32> = (1..BINS)
            .filter_map(|bin| sorted.get(bin * sorted.len() / BINS).copied())
            .collect();
        edges.dedup();
        Self::count(name, edges, values)
    }

    fn count(name: &str, edges: Vec<f32>, values: &[f32]) -> Self {
        let mut counts = vec![0; edges.len() + 1];
        let mut missing = 0;
        for value in values {
            if value.is_nan() {
                missing += 1;
            } else {
                counts[edges.partition_point(|edge| edge <= value)] += 1;
            }
        }
        Self {
            name: name.into(),
            edges,
            counts,
            missing,
        }
    }
}

fn brightness_and_contrast(pixels: &[f32]) -> (f32, f32) {
    let count = pixels.len() as f32;
    let mean = pixels.iter().sum::<f32>() / count;
    let variance = pixels.iter().map(|pixel| (pixel - mean).powi(2)).sum::<f32>() / count;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Column;

    #[test]
    fn columns_are_counted_into_bins_of_equal_size() {
        let schema = Schema::Table {
            columns: vec![
                Column {
                    name: "x".into(),
                    kind: ColumnKind::Numeric,
                },
                Column {
                    name: "c".into(),
                    kind: ColumnKind::Categorical {
                        categories: vec!["a".into(), "b".into()],
                    },
                },
            ],
        };
        let mut values: Vec<f32> = (0..100).flat_map(|v| [v as f32, (v % 4 / 3) as f32]).collect();
        values.extend([f32::NAN, f32::NAN]);
        let profile = Profile::new(&schema, &values, &[0; 101], 2);
        assert_eq!(profile.features[0].counts, [10; 10]);
        assert_eq!(profile.features[0].missing, 1);
        assert_eq!(profile.features[1].counts, [75, 25]);
        assert_eq!(profile.predictions, [101, 0]);
    }
}
