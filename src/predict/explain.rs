//! What an answer rests on, by occlusion (Zeiler and Fergus 2014): parts of an input are taken away, one after another,
//! and the class loses or gains probability.
//!
//! Of an image a patch is covered with the image's own background; of a table a column is replaced by what stands for a
//! missing value. It needs the model's answers alone: [`Occlusion`] makes the inputs, whoever holds it asks the model
//! for their answers in portions of any size, and [`Occlusion::explain`] reads them. It knows no queue.

use anyhow::Result;

use super::{Predictor, argmax};
use crate::preprocess::{ColumnKind, InputError, Preprocessing, Scaling, Schema};

/// Patches that lie side by side along each side of an image; they overlap by half.
const PATCHES: usize = 7;

/// An input, and the same with parts of it taken away.
#[derive(Clone, Debug)]
pub struct Occlusion<'a> {
    predictor: &'a Predictor,
    raw: Vec<f32>,
    parts: Parts,
}

#[derive(Clone, Debug)]
enum Parts {
    /// The patch with its upper left corner at each of `rows` x `columns`.
    Patches {
        patch: Patch,
        rows: Vec<usize>,
        columns: Vec<usize>,
    },
    /// What each column is replaced by.
    Columns { fill: Vec<f32> },
}

/// What an answer rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The class that is explained.
    pub class: usize,
    /// Its probability for the whole input.
    pub probability: f32,
    /// How much of that each part gives: positive where the input speaks for the class, negative where against it. Of a
    /// table one value for each column; of an image one for each pixel, row by row: the mean over its patches.
    pub saliency: Vec<f32>,
    /// What parts of an image were covered with; none for a table.
    pub patch: Option<Patch>,
}

/// What covers a part of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Height and width, in pixels.
    pub size: [usize; 2],
    /// Its colour, for each channel, 0 to 255.
    pub fill: Vec<f32>,
}

impl<'a> Occlusion<'a> {
    /// Prepares to explain the answer to a raw input.
    ///
    /// # Errors
    ///
    /// [`InputError`] when the model cannot read the input.
    pub fn new(predictor: &'a Predictor, raw: &[f32]) -> Result<Self, InputError> {
        let manifest = predictor.manifest();
        predictor.encode(raw, &mut Vec::with_capacity(predictor.encoded_width()))?;
        let parts = match manifest.inputs {
            Schema::Image {
                height,
                width,
                channels,
            } => {
                let size = [height, width].map(|side| side.div_ceil(PATCHES));
                Parts::Patches {
                    rows: corners(height, size[0]),
                    columns: corners(width, size[1]),
                    patch: Patch {
                        size,
                        fill: background(raw, [height, width, channels]),
                    },
                }
            }
            Schema::Table { .. } => Parts::Columns {
                fill: absent(&manifest.inputs, &manifest.preprocessing),
            },
        };
        Ok(Self {
            predictor,
            raw: raw.to_vec(),
            parts,
        })
    }

    /// Inputs whose answers are needed: the whole one, and one for each part.
    pub fn inputs(&self) -> usize {
        1 + match &self.parts {
            Parts::Patches { rows, columns, .. } => rows.len() * columns.len(),
            Parts::Columns { fill } => fill.len(),
        }
    }

    /// Appends the network's input `index`, below [`Occlusion::inputs`], to `encoded`; the first is the whole one.
    ///
    /// # Errors
    ///
    /// [`InputError`], which a whole input that could be read does not cause.
    pub fn encode(&self, index: usize, encoded: &mut Vec<f32>) -> Result<(), InputError> {
        let Some(part) = index.checked_sub(1) else {
            return self.predictor.encode(&self.raw, encoded);
        };
        let mut raw = self.raw.clone();
        match &self.parts {
            Parts::Patches { patch, rows, columns } => {
                let (top, left) = (rows[part / columns.len()], columns[part % columns.len()]);
                let (width, channels) = (self.width(), patch.fill.len());
                for y in top..top + patch.size[0] {
                    let start = (y * width + left) * channels;
                    for pixel in raw[start..start + patch.size[1] * channels].chunks_exact_mut(channels) {
                        pixel.copy_from_slice(&patch.fill);
                    }
                }
            }
            Parts::Columns { fill } => raw[part] = fill[part],
        }
        self.predictor.encode(&raw, encoded)
    }

    /// The explanation, from the probabilities of all inputs in their order; of the most likely class when none is
    /// chosen.
    pub fn explain(&self, probabilities: &[f32], class: Option<usize>) -> Explanation {
        let classes = self.predictor.manifest().classes.len();
        let class = class.unwrap_or_else(|| argmax(&probabilities[..classes]));
        let mut of_class = probabilities.chunks_exact(classes).map(|row| row[class]);
        let probability = of_class.next().unwrap_or(f32::NAN);
        let lost = of_class.map(|without| probability - without);
        let (saliency, patch) = match &self.parts {
            Parts::Columns { .. } => (lost.collect(), None),
            Parts::Patches { patch, rows, columns } => {
                let width = self.width();
                let mut map = vec![0.0; self.raw.len() / patch.fill.len()];
                let mut over = vec![0.0; map.len()];
                let corners = rows.iter().flat_map(|top| columns.iter().map(move |left| (top, left)));
                for ((top, left), lost) in corners.zip(lost) {
                    for y in *top..top + patch.size[0] {
                        for at in y * width + left..y * width + left + patch.size[1] {
                            map[at] += lost;
                            over[at] += 1.0;
                        }
                    }
                }
                for (value, over) in map.iter_mut().zip(over) {
                    *value /= over;
                }
                (map, Some(patch.clone()))
            }
        };
        Explanation {
            class,
            probability,
            saliency,
            patch,
        }
    }

    fn width(&self) -> usize {
        match self.predictor.manifest().inputs {
            Schema::Image { width, .. } => width,
            Schema::Table { .. } => self.raw.len(),
        }
    }
}

impl Predictor {
    /// What the answer to a raw input rests on; of the most likely class when none is chosen.
    ///
    /// # Errors
    ///
    /// An input that the model cannot read, or a device that fails.
    pub fn explain(&self, raw: &[f32], class: Option<usize>) -> Result<Explanation> {
        let occlusion = Occlusion::new(self, raw)?;
        let mut encoded = Vec::with_capacity(occlusion.inputs() * self.encoded_width());
        for index in 0..occlusion.inputs() {
            occlusion.encode(index, &mut encoded)?;
        }
        Ok(occlusion.explain(&self.forward(encoded)?, class))
    }
}

/// Where patches begin along a side: every half patch (rounded up), and the last one at the end.
fn corners(side: usize, patch: usize) -> Vec<usize> {
    let last = side - patch;
    let mut corners: Vec<usize> = (0..last).step_by(patch.div_ceil(2)).collect();
    corners.push(last);
    corners
}

/// The background of an image: the median of the pixels along its border, channel by channel.
fn background(raw: &[f32], [height, width, channels]: [usize; 3]) -> Vec<f32> {
    let on_border = |at: &usize| {
        let (y, x) = (at / width, at % width);
        y == 0 || y == height - 1 || x == 0 || x == width - 1
    };
    (0..channels)
        .map(|channel| {
            let border = (0..height * width).filter(on_border);
            let mut values: Vec<f32> = border.map(|at| raw[at * channels + channel]).collect();
            values.sort_by(f32::total_cmp);
            values[values.len() / 2]
        })
        .collect()
}

/// What stands for a missing value in each column: a number's fill or, where the model refuses a missing number, the one
/// that the network reads as 0; of names none.
fn absent(schema: &Schema, preprocessing: &Preprocessing) -> Vec<f32> {
    let Schema::Table { columns } = schema else {
        return Vec::new();
    };
    let mut scaling = preprocessing.scaling.iter();
    columns
        .iter()
        .map(|column| match column.kind {
            ColumnKind::Numeric => {
                let Scaling { shift, fill, .. } = scaling.next().copied().unwrap_or(Scaling::IDENTITY);
                fill.unwrap_or(shift)
            }
            ColumnKind::Categorical { .. } => f32::NAN,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Column, Missing, Normalise};

    #[test]
    fn patches_reach_both_ends_of_a_side() {
        assert_eq!(corners(28, 4), (0..=24).step_by(2).collect::<Vec<_>>());
        assert_eq!(corners(5, 1), [0, 1, 2, 3, 4]);
        assert_eq!(corners(1, 1), [0]);
        for side in 1..300_usize {
            let patch = side.div_ceil(PATCHES);
            let corners = corners(side, patch);
            assert!(corners.len() <= 2 * PATCHES, "{side}: {corners:?}");
            assert!(
                corners
                    .windows(2)
                    .all(|pair| pair[1] > pair[0] && pair[1] - pair[0] <= patch)
            );
            assert_eq!(corners.last(), Some(&(side - patch)));
        }
    }

    #[test]
    fn the_background_is_what_lies_along_the_border() {
        let mut image = vec![9.0; 25];
        image[12] = 255.0;
        image[2] = 200.0;
        assert_eq!(background(&image, [5, 5, 1]), [9.0]);
        let colour: Vec<f32> = (0..9).flat_map(|_| [1.0, 2.0, 3.0]).collect();
        assert_eq!(background(&colour, [3, 3, 3]), [1.0, 2.0, 3.0]);
        assert_eq!(background(&[7.0], [1, 1, 1]), [7.0]);
    }

    #[test]
    fn a_column_is_replaced_by_what_stands_for_a_missing_value() {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        let names = ColumnKind::Categorical {
            categories: vec!["a".into()],
        };
        let schema = Schema::Table {
            columns: vec![
                column("x", ColumnKind::Numeric),
                column("c", names),
                column("y", ColumnKind::Numeric),
            ],
        };
        let scaling = |shift, fill| Scaling {
            shift,
            scale: 2.0,
            fill,
        };
        let preprocessing = Preprocessing {
            normalise: Normalise::Standard,
            missing: Missing::Median,
            scaling: vec![scaling(5.0, Some(4.0)), scaling(6.0, None)],
        };
        let fill = absent(&schema, &preprocessing);
        assert_eq!((fill[0], fill[2]), (4.0, 6.0));
        assert!(fill[1].is_nan());
    }
}
