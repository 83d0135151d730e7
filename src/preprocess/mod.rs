//! What an input looks like, and the fitted way from raw values to what the network reads.
//!
//! There is one such way: training, evaluation, prediction and the server all go through
//! [`Preprocessing::apply`], and its parameters travel in the bundle. Fitting them (`data/fit.rs`) needs the training
//! data and stays out of here, as does anything that reads files.

mod schema;

pub use schema::{Column, ColumnKind, Schema, is_missing};

use serde::{Deserialize, Serialize};

/// How numbers are brought to a common scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Subtract the mean, divide by the standard deviation, both of the training split.
    #[default]
    Standard,
    /// Map the training split's smallest value to 0 and its largest to 1.
    Minmax,
    /// Divide pixels by 255; for images only.
    Unit,
    /// Leave the numbers as they are.
    None,
}

/// What becomes of a missing number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Replace it by the training split's mean of the column.
    Mean,
    /// Replace it by the training split's median of the column.
    Median,
    /// Leave the row out of training; an input to predict must be complete.
    Drop,
    /// Refuse it, in training and in prediction.
    #[default]
    Error,
}

/// The affine map of one numeric column, or of all pixels of an image: `(x - shift) * scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// Subtracted first, in raw units.
    pub shift: f32,
    /// Multiplied second.
    pub scale: f32,
    /// What a missing value is replaced by, in raw units; none when a missing value is refused.
    pub fill: Option<f32>,
}

/// The fitted way from one raw sample to one row of the network's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// How `scaling` was chosen; kept for the reader of a bundle.
    pub normalise: Normalise,
    /// How `fill` was chosen; kept for the reader of a bundle.
    pub missing: Missing,
    /// One for each numeric column in schema order, or exactly one for an image.
    pub scaling: Vec<Scaling>,
}

/// An input that the model cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The sample has another number of values than the schema.
    #[error("an input has {got} values, the model takes {expected}")]
    Width {
        /// Values that the schema asks for.
        expected: usize,
        /// Values that came.
        got: usize,
    },
    /// A value is missing and the model was trained without a rule for that.
    #[error("column `{column}` has no value, and the model was trained to refuse that")]
    Missing {
        /// The column's name, or `pixel N`.
        column: String,
    },
    /// A pixel is none.
    #[error("pixel {index} is {value}, and a pixel lies between 0 and 255")]
    Pixel {
        /// Counted from 0.
        index: usize,
        /// What came.
        value: String,
    },
    /// A value is infinite.
    #[error("column `{column}` is not a finite number")]
    NotFinite {
        /// The column's name, or `pixel N`.
        column: String,
    },
}

impl Preprocessing {
    /// Writes the network's input for one raw sample.
    ///
    /// `raw` holds `schema.width()` values, a missing one as NaN, a category as its index; `out` takes
    /// `schema.encoded_width()` values. A category that training did not see becomes a row of zeros.
    ///
    /// # Errors
    ///
    /// [`InputError`] when the width is wrong, or a value is missing (without a fill) or infinite.
    pub fn apply(&self, schema: &Schema, raw: &[f32], out: &mut [f32]) -> Result<(), InputError> {
        if raw.len() != schema.width() {
            return Err(InputError::Width {
                expected: schema.width(),
                got: raw.len(),
            });
        }
        match schema {
            Schema::Image { .. } => {
                let Scaling { shift, scale, fill } = self.scaling[0];
                // Almost every image is whole: without a way out for each pixel, several are looked at at once.
                if raw
                    .iter()
                    .fold(true, |whole, value| whole & (0.0..=255.0).contains(value))
                {
                    for (value, out) in raw.iter().zip(out.iter_mut()) {
                        *out = (value - shift) * scale;
                    }
                    return Ok(());
                }
                for (index, (value, out)) in raw.iter().zip(out.iter_mut()).enumerate() {
                    let value = finite(*value, fill, || format!("pixel {index}"))?;
                    if !(0.0..=255.0).contains(&value) {
                        let value = value.to_string();
                        return Err(InputError::Pixel { index, value });
                    }
                    *out = (value - shift) * scale;
                }
            }
            Schema::Table { columns } => {
                let mut scaling = self.scaling.iter();
                let mut at = 0;
                for (column, value) in columns.iter().zip(raw) {
                    match &column.kind {
                        ColumnKind::Numeric => {
                            let scaling = scaling.next().copied().unwrap_or(Scaling::IDENTITY);
                            let value = finite(*value, scaling.fill, || column.name.clone())?;
                            out[at] = (value - scaling.shift) * scaling.scale;
                            at += 1;
                        }
                        ColumnKind::Categorical { categories } => {
                            let slot = &mut out[at..at + categories.len()];
                            slot.fill(0.0);
                            if value.is_finite()
                                && *value >= 0.0
                                && let Some(cell) = slot.get_mut(*value as usize)
                            {
                                *cell = 1.0;
                            }
                            at += categories.len();
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Scaling {
    /// Leaves a number as it is and refuses a missing one.
    pub const IDENTITY: Self = Self {
        shift: 0.0,
        scale: 1.0,
        fill: None,
    };
}

fn finite(value: f32, fill: Option<f32>, column: impl Fn() -> String) -> Result<f32, InputError> {
    if value.is_nan() {
        fill.ok_or_else(|| InputError::Missing { column: column() })
    } else if value.is_infinite() {
        Err(InputError::NotFinite { column: column() })
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (Schema, Preprocessing) {
        let schema = Schema::Table {
            columns: vec![
                Column {
                    name: "age".into(),
                    kind: ColumnKind::Numeric,
                },
                Column {
                    name: "city".into(),
                    kind: ColumnKind::Categorical {
                        categories: vec!["bonn".into(), "rome".into()],
                    },
                },
            ],
        };
        let preprocessing = Preprocessing {
            normalise: Normalise::Standard,
            missing: Missing::Mean,
            scaling: vec![Scaling {
                shift: 10.0,
                scale: 0.5,
                fill: Some(12.0),
            }],
        };
        (schema, preprocessing)
    }

    #[test]
    fn numbers_are_scaled_and_categories_one_hot() {
        let (schema, preprocessing) = table();
        let mut out = [9.0; 3];
        preprocessing.apply(&schema, &[14.0, 1.0], &mut out).expect("valid");
        assert_eq!(out, [2.0, 0.0, 1.0]);
    }

    #[test]
    fn a_missing_number_takes_the_fill_and_an_unseen_category_is_zero() {
        let (schema, preprocessing) = table();
        let mut out = [9.0; 3];
        preprocessing
            .apply(&schema, &[f32::NAN, f32::NAN], &mut out)
            .expect("valid");
        assert_eq!(out, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn what_cannot_be_read_names_its_column() {
        let (schema, mut preprocessing) = table();
        preprocessing.scaling[0].fill = None;
        let mut out = [0.0; 3];
        let error = preprocessing
            .apply(&schema, &[f32::NAN, 0.0], &mut out)
            .expect_err("missing");
        assert!(error.to_string().contains("`age`"), "{error}");
        let error = preprocessing
            .apply(&schema, &[f32::INFINITY, 0.0], &mut out)
            .expect_err("infinite");
        assert!(error.to_string().contains("`age`"), "{error}");
        assert_eq!(
            preprocessing.apply(&schema, &[1.0], &mut out),
            Err(InputError::Width { expected: 2, got: 1 })
        );
    }

    #[test]
    fn a_pixel_lies_between_0_and_255() {
        let schema = Schema::Image {
            height: 1,
            width: 2,
            channels: 1,
        };
        let preprocessing = Preprocessing {
            normalise: Normalise::None,
            missing: Missing::Error,
            scaling: vec![Scaling::IDENTITY],
        };
        let mut out = [0.0; 2];
        preprocessing.apply(&schema, &[0.0, 255.0], &mut out).expect("pixels");
        for wrong in [-1.0, 255.5, 1e30] {
            let error = preprocessing
                .apply(&schema, &[0.0, wrong], &mut out)
                .expect_err("no pixel");
            assert!(error.to_string().starts_with("pixel 1 is "), "{error}");
        }
    }
}
