//! Fitting the preprocessing on the training split, and moving data from one schema to another. Applying it is
//! `preprocess`'s.

use anyhow::Result;
use rayon::prelude::*;

use super::Dataset;
use crate::preprocess::{Column, ColumnKind, Missing, Normalise, Preprocessing, Scaling, Schema};
use crate::problem::Problem;
use crate::project::PreprocessConfig;

/// Fits scale and fill on the training split, which must be all that `training` holds.
///
/// The schema that comes back is the one that the model reads: of each categorical column it keeps the categories that
/// the training rows hold. An image has one mean and deviation (or range) over all its pixels. A column whose training
/// values are all the same is multiplied by 0: the model has learnt nothing about other values.
///
/// # Errors
///
/// A way of scaling or of filling that the kind of data has no use for, or a column without a single number.
pub fn fit(training: &Dataset, config: &PreprocessConfig) -> Result<(Schema, Preprocessing)> {
    let &PreprocessConfig { normalise, missing } = config;
    if training.is_empty() {
        return Err(Problem::new("there are no training samples to fit the preprocessing on").into());
    }
    let (schema, scaling) = match &training.schema {
        Schema::Image { .. } => {
            if missing != Missing::Error {
                return Err(
                    Problem::new("`preprocess.missing` is for tables, and an image has no missing pixels")
                        .hint("leave `preprocess.missing` out")
                        .into(),
                );
            }
            let scaling = scaling(&training.values, normalise, missing);
            (training.schema.clone(), scaling.into_iter().collect())
        }
        Schema::Table { columns } => {
            if normalise == Normalise::Unit {
                return Err(Problem::new(
                    "`preprocess.normalise` is `unit`, which divides pixels by 255, and a table has no pixels",
                )
                .hint("use `standard`, `minmax` or `none`")
                .into());
            }
            let mut fitted = Vec::with_capacity(columns.len());
            let mut scales = Vec::new();
            for (index, column) in columns.iter().enumerate() {
                let values: Vec<f32> = training
                    .values
                    .iter()
                    .skip(index)
                    .step_by(columns.len())
                    .copied()
                    .filter(|value| !value.is_nan())
                    .collect();
                let kind = match &column.kind {
                    ColumnKind::Numeric => {
                        let scaling = scaling(&values, normalise, missing).ok_or_else(|| {
                            Problem::new(format!("column `{}` has no number in the training split", column.name))
                                .hint(format!("leave it out with `data.ignore: [{}]`", column.name))
                        })?;
                        scales.push(scaling);
                        ColumnKind::Numeric
                    }
                    ColumnKind::Categorical { categories } => ColumnKind::Categorical {
                        categories: present(categories, &values),
                    },
                };
                fitted.push(Column {
                    name: column.name.clone(),
                    kind,
                });
            }
            (Schema::Table { columns: fitted }, scales)
        }
    };
    let preprocessing = Preprocessing {
        normalise,
        missing,
        scaling,
    };
    Ok((schema, preprocessing))
}

/// The same data in another schema of the same columns: categories get the numbers that they have there, and one that is
/// not there becomes missing (NaN). An image stays as it is.
pub fn in_schema(mut dataset: Dataset, schema: &Schema) -> Dataset {
    if let (Schema::Table { columns: old }, Schema::Table { columns: new }) = (&dataset.schema, schema) {
        debug_assert!(
            old.iter()
                .map(|column| &column.name)
                .eq(new.iter().map(|column| &column.name))
        );
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            let ColumnKind::Categorical { categories } = &old.kind else {
                continue;
            };
            let numbers: Vec<f32> = categories
                .iter()
                .map(|category| new.parse(category).unwrap_or(f32::NAN))
                .collect();
            for value in dataset.values.iter_mut().skip(index).step_by(schema.width()) {
                *value = category(*value)
                    .and_then(|at| numbers.get(at).copied())
                    .unwrap_or(f32::NAN);
            }
        }
    }
    dataset.schema = schema.clone();
    dataset
}

/// The rows in which no number is missing. A missing category is no obstacle: it is a row of zeros to the network.
pub fn complete_rows(dataset: &Dataset) -> Vec<usize> {
    let numeric: Vec<bool> = match &dataset.schema {
        Schema::Image { .. } => vec![true; dataset.schema.width()],
        Schema::Table { columns } => columns
            .iter()
            .map(|column| column.kind == ColumnKind::Numeric)
            .collect(),
    };
    (0..dataset.len())
        .filter(|&row| {
            let mut cells = dataset.row(row).iter().zip(&numeric);
            cells.all(|(value, numeric)| !(*numeric && value.is_nan()))
        })
        .collect()
}

/// The categories that some value stands for, in order.
fn present(categories: &[String], values: &[f32]) -> Vec<String> {
    let mut seen = vec![false; categories.len()];
    for at in values.iter().filter_map(|value| category(*value)) {
        seen[at] = true;
    }
    let kept = categories.iter().zip(seen).filter(|(_, seen)| *seen);
    kept.map(|(category, _)| category.clone()).collect()
}

fn category(value: f32) -> Option<usize> {
    (!value.is_nan()).then_some(value as usize)
}

/// The map for these numbers, none of which is missing; `None` when there are none.
fn scaling(values: &[f32], normalise: Normalise, missing: Missing) -> Option<Scaling> {
    let summary = Summary::of(values)?;
    let fill = match missing {
        Missing::Mean => Some(summary.mean as f32),
        Missing::Median => Some(median(values)),
        Missing::Drop | Missing::Error => None,
    };
    let (shift, spread) = match normalise {
        Normalise::Standard => (summary.mean, summary.deviation),
        Normalise::Minmax => (summary.min, summary.max - summary.min),
        Normalise::Unit => (0.0, 255.0),
        Normalise::None => (0.0, 1.0),
    };
    let constant = summary.min >= summary.max && matches!(normalise, Normalise::Standard | Normalise::Minmax);
    let scale = (1.0 / spread) as f32;
    Some(Scaling {
        shift: shift as f32,
        // A spread too small for a 32-bit reciprocal is none.
        scale: if constant || !scale.is_finite() { 0.0 } else { scale },
        fill,
    })
}

/// What the scale of a column is made from; computed in double precision.
struct Summary {
    mean: f64,
    /// Of the population: divided by the count.
    deviation: f64,
    min: f64,
    max: f64,
}

/// Values that are summed in one go. The sums of the runs are added in order, so that the result does not depend on the
/// number of threads.
const RUN: usize = 1 << 16;

impl Summary {
    /// `None` when there are no values.
    fn of(values: &[f32]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let runs: Vec<(f64, f32, f32)> = values
            .par_chunks(RUN)
            .map(|run| {
                run.iter()
                    .fold((0.0, f32::INFINITY, f32::NEG_INFINITY), |(sum, min, max), &value| {
                        (sum + f64::from(value), min.min(value), max.max(value))
                    })
            })
            .collect();
        let count = values.len() as f64;
        let mean = runs.iter().map(|run| run.0).sum::<f64>() / count;
        // A second pass: the difference of two large sums would lose what a small spread around a large mean is.
        let squares: Vec<f64> = values
            .par_chunks(RUN)
            .map(|run| run.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum())
            .collect();
        Some(Self {
            mean,
            deviation: (squares.iter().sum::<f64>() / count).sqrt(),
            min: f64::from(runs.iter().map(|run| run.1).fold(f32::INFINITY, f32::min)),
            max: f64::from(runs.iter().map(|run| run.2).fold(f32::NEG_INFINITY, f32::max)),
        })
    }
}

/// The middle value, or the mean of the two in the middle. There must be one.
fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f32::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSING: f32 = f32::NAN;

    fn column(name: &str, kind: ColumnKind) -> Column {
        Column {
            name: name.into(),
            kind,
        }
    }

    fn names(names: &[&str]) -> ColumnKind {
        ColumnKind::Categorical {
            categories: names.iter().map(ToString::to_string).collect(),
        }
    }

    fn table(values: &[f32]) -> Dataset {
        Dataset {
            schema: Schema::Table {
                columns: vec![
                    column("age", ColumnKind::Numeric),
                    column("city", names(&["bonn", "oslo", "rome"])),
                ],
            },
            values: values.to_vec(),
            labels: vec![0; values.len() / 2],
            classes: vec!["a".into(), "b".into()],
        }
    }

    fn image(values: &[f32]) -> Dataset {
        Dataset {
            schema: Schema::Image {
                height: 1,
                width: 2,
                channels: 1,
            },
            ..table(values)
        }
    }

    fn config(normalise: Normalise, missing: Missing) -> PreprocessConfig {
        PreprocessConfig { normalise, missing }
    }

    fn fitted(data: &Dataset, normalise: Normalise, missing: Missing) -> Vec<Scaling> {
        fit(data, &config(normalise, missing)).expect("fits").1.scaling
    }

    #[test]
    fn each_way_of_scaling_is_what_it_says() {
        let data = image(&[0.0, 100.0, 100.0, 200.0]);
        for (normalise, shift, spread) in [
            (Normalise::Standard, 100.0, 5000_f64.sqrt()),
            (Normalise::Minmax, 0.0, 200.0),
            (Normalise::Unit, 0.0, 255.0),
            (Normalise::None, 0.0, 1.0),
        ] {
            let expected = Scaling {
                shift,
                scale: (1.0 / spread) as f32,
                fill: None,
            };
            assert_eq!(fitted(&data, normalise, Missing::Error), [expected], "{normalise:?}");
        }
    }

    #[test]
    fn missing_numbers_take_the_mean_or_the_median_of_those_that_are_there() {
        let data = table(&[1.0, 0.0, MISSING, 0.0, 2.0, 0.0, 9.0, 0.0]);
        let fill = |missing| fitted(&data, Normalise::None, missing)[0].fill;
        assert_eq!(fill(Missing::Mean), Some(4.0));
        assert_eq!(fill(Missing::Median), Some(2.0));
        assert_eq!(fill(Missing::Drop), None);
        assert_eq!(fill(Missing::Error), None);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn a_constant_column_becomes_zero_whatever_comes_later() {
        for normalise in [Normalise::Standard, Normalise::Minmax] {
            // A value whose mean is not exact in binary.
            let data = table(&[0.1, 0.0, 0.1, 0.0, 0.1, 0.0]);
            let scaling = fitted(&data, normalise, Missing::Error)[0];
            assert_eq!(scaling.scale, 0.0, "{normalise:?}");
        }
    }

    #[test]
    fn a_small_spread_around_a_large_mean_is_not_lost() {
        let data = table(&[1e7, 0.0, 1e7 + 2.0, 0.0]);
        let scaling = fitted(&data, Normalise::Standard, Missing::Error)[0];
        assert_eq!((scaling.shift, scaling.scale), (1e7 + 1.0, 1.0));
    }

    #[test]
    fn only_the_categories_of_the_training_rows_are_kept() {
        let training = table(&[1.0, 2.0, 2.0, 0.0, 3.0, MISSING]);
        let (schema, _) = fit(&training, &config(Normalise::Standard, Missing::Error)).expect("fits");
        let Schema::Table { columns } = &schema else {
            panic!("a table")
        };
        assert_eq!(columns[1].kind, names(&["bonn", "rome"]));
        let test = in_schema(table(&[1.0, 0.0, 1.0, 1.0, 1.0, 2.0, MISSING, MISSING]), &schema);
        let cities: Vec<f32> = test.values.iter().skip(1).step_by(2).copied().collect();
        assert_eq!((cities[0], cities[2]), (0.0, 1.0));
        assert!(cities[1].is_nan() && cities[3].is_nan());
        assert_eq!(test.schema, schema);
    }

    #[test]
    fn a_row_is_complete_without_a_category_but_not_without_a_number() {
        assert_eq!(complete_rows(&table(&[1.0, MISSING, MISSING, 0.0, 2.0, 1.0])), [0, 2]);
    }

    #[test]
    fn what_has_no_use_is_refused() {
        let table_data = table(&[1.0, 0.0]);
        let refused = |data: &Dataset, normalise, missing| {
            let error = fit(data, &config(normalise, missing)).expect_err("refused");
            error.to_string()
        };
        assert!(refused(&table_data, Normalise::Unit, Missing::Error).contains("a table has no pixels"));
        for missing in [Missing::Mean, Missing::Median, Missing::Drop] {
            let error = refused(&image(&[1.0, 2.0]), Normalise::Standard, missing);
            assert!(error.contains("no missing pixels"), "{error}");
        }
        let error = refused(&table(&[MISSING, 0.0]), Normalise::None, Missing::Mean);
        assert!(error.contains("column `age`"), "{error}");
        assert!(refused(&table(&[]), Normalise::None, Missing::Mean).contains("no training samples"));
    }

    #[test]
    fn many_values_are_summed_as_few_are() {
        let values: Vec<f32> = (0..4 * RUN).map(|index| (index % 256) as f32).collect();
        let scaling = fitted(&image(&values), Normalise::Standard, Missing::Error)[0];
        assert_eq!(scaling.shift, 127.5);
        let deviation = ((256.0_f64.powi(2) - 1.0) / 12.0).sqrt();
        assert_eq!(scaling.scale, (1.0 / deviation) as f32);
    }
}
