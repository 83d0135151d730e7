//! `profile.json`: histograms of the training data and of the model's answers to it, the baseline that drift is measured
//! against. What is counted of a sample, and into which bin it falls, is decided here for training and serving alike.

use serde::{Deserialize, Serialize};

use crate::preprocess::{Column, ColumnKind, Schema};

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
        let mut numbers = vec![Vec::with_capacity(answers.len()); feature_names(schema).count()];
        for row in values.chunks_exact(schema.width()) {
            each_feature(schema, row, |index, value| numbers[index].push(value));
        }
        let features = feature_names(schema)
            .zip(&numbers)
            .enumerate()
            .map(|(index, (name, values))| {
                let edges = match schema {
                    Schema::Table { columns } => match &columns[index].kind {
                        ColumnKind::Categorical { categories } => {
                            (1..categories.len()).map(|edge| edge as f32).collect()
                        }
                        ColumnKind::Numeric => edges_of_equal_count(values),
                    },
                    Schema::Image { .. } => edges_of_equal_count(values),
                };
                FeatureProfile::count(name, edges, values)
            })
            .collect();
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
    /// The bin that a value falls into, from 0 to `edges.len()`; none for a missing value.
    pub fn bin(&self, value: f32) -> Option<usize> {
        (!value.is_nan()).then(|| self.edges.partition_point(|edge| *edge <= value))
    }

    fn count(name: &str, edges: Vec<f32>, values: &[f32]) -> Self {
        let mut profile = Self {
            name: name.into(),
            counts: vec![0; edges.len() + 1],
            edges,
            missing: 0,
        };
        for value in values {
            match profile.bin(*value) {
                Some(bin) => profile.counts[bin] += 1,
                None => profile.missing += 1,
            }
        }
        profile
    }
}

/// The names of what a profile watches in a sample, in the order of [`Profile::features`].
pub fn feature_names(schema: &Schema) -> impl Iterator<Item = &str> {
    let (statistics, columns): (&[&str], &[Column]) = match schema {
        Schema::Image { .. } => (&["brightness", "contrast"], &[]),
        Schema::Table { columns } => (&[], columns),
    };
    let columns = columns.iter().map(|column| column.name.as_str());
    statistics.iter().copied().chain(columns)
}

/// Gives the number and the value of each feature of a raw sample, in the order of [`Profile::features`]; a missing
/// value is NaN.
pub fn each_feature(schema: &Schema, raw: &[f32], mut take: impl FnMut(usize, f32)) {
    match schema {
        Schema::Image { .. } => {
            let (brightness, contrast) = brightness_and_contrast(raw);
            take(0, brightness);
            take(1, contrast);
        }
        Schema::Table { .. } => {
            for (index, value) in raw.iter().enumerate() {
                take(index, *value);
            }
        }
    }
}

/// Edges between bins of equal count, so that a shift anywhere moves them.
fn edges_of_equal_count(values: &[f32]) -> Vec<f32> {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_by(f32::total_cmp);
    let mut edges: Vec<f32> = (1..BINS)
        .filter_map(|bin| sorted.get(bin * sorted.len() / BINS).copied())
        .collect();
    edges.dedup();
    edges
}

/// Mean and standard deviation of the pixels, in one pass over them.
fn brightness_and_contrast(pixels: &[f32]) -> (f32, f32) {
    /// Sums that run side by side, so that the processor adds several pixels at once.
    const LANES: usize = 32;
    /// Pixels after which the sums go over into 64 bits: 256 squares of whole pixels add up exactly in 32.
    const BLOCK: usize = LANES * 256;
    let (mut sum, mut squares) = (0.0, 0.0);
    for block in pixels.chunks(BLOCK) {
        let (mut sums_here, mut squares_here) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let (rows, rest) = block.as_chunks::<LANES>();
        for row in rows {
            for lane in 0..LANES {
                sums_here[lane] += row[lane];
                squares_here[lane] += row[lane] * row[lane];
            }
        }
        let all = |lanes: [f32; LANES]| lanes.into_iter().map(f64::from).sum::<f64>();
        sum += all(sums_here) + rest.iter().copied().map(f64::from).sum::<f64>();
        squares += all(squares_here) + rest.iter().map(|pixel| f64::from(pixel * pixel)).sum::<f64>();
    }
    let count = pixels.len() as f64;
    let mean = sum / count;
    // Rounding can leave an even image just below 0.
    let variance = (squares / count - mean * mean).max(0.0);
    (mean as f32, variance.sqrt() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    #[test]
    fn brightness_and_contrast_are_mean_and_deviation_at_any_size() {
        for count in [1, 7, 784, 2048, 70_001] {
            let pixels: Vec<f32> = (0..count).map(|pixel| ((pixel * 37) % 256) as f32).collect();
            let (brightness, contrast) = brightness_and_contrast(&pixels);
            let mean = pixels.iter().copied().map(f64::from).sum::<f64>() / count as f64;
            let variance = pixels.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count as f64;
            assert!(
                (f64::from(brightness) - mean).abs() < 1e-4,
                "{count}: {brightness} {mean}"
            );
            assert!(
                (f64::from(contrast) - variance.sqrt()).abs() < 1e-3,
                "{count}: {contrast}"
            );
        }
        assert_eq!(brightness_and_contrast(&[255.0; 784]), (255.0, 0.0));
    }
}
