//! Samples as the network reads them, and the order in which they are dealt out.

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

use crate::data::Dataset;
use crate::preprocess::{Preprocessing, Schema};

/// Encoded samples with their labels, all in memory: preprocessing is paid once, not once a pass.
#[derive(Debug)]
pub struct Encoded {
    values: Vec<f32>,
    labels: Vec<u32>,
    width: usize,
}

impl Encoded {
    /// Encodes every sample of `data`, which must be in `schema`.
    ///
    /// # Errors
    ///
    /// The number of the sample (from 0, in this split) that cannot be read.
    pub fn new(data: &Dataset, schema: &Schema, preprocessing: &Preprocessing) -> Result<Self> {
        let width = schema.encoded_width();
        let mut values = vec![0.0; data.len() * width];
        for (index, out) in values.chunks_exact_mut(width).enumerate() {
            preprocessing
                .apply(schema, data.row(index), out)
                .with_context(|| format!("sample {index}"))?;
        }
        Ok(Self {
            values,
            labels: data.labels.clone(),
            width,
        })
    }

    /// Samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Values of one sample.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The class of a sample.
    pub fn label(&self, row: usize) -> u32 {
        self.labels[row]
    }

    /// The values of the named rows, one after another.
    pub fn gather(&self, rows: &[usize]) -> Vec<f32> {
        let mut values = Vec::with_capacity(rows.len() * self.width);
        for row in rows {
            values.extend_from_slice(&self.values[row * self.width..(row + 1) * self.width]);
        }
        values
    }

    /// The classes of the named rows.
    pub fn gather_labels(&self, rows: &[usize]) -> Vec<i32> {
        rows.iter().map(|row| self.labels[*row].cast_signed()).collect()
    }
}

/// A seeded order of rows, shuffled anew for each pass.
#[derive(Debug)]
pub struct Order {
    rows: Vec<usize>,
    random: Pcg64Mcg,
}

impl Order {
    /// An order of `count` rows.
    pub fn new(count: usize, seed: u64) -> Self {
        Self {
            rows: (0..count).collect(),
            random: Pcg64Mcg::seed_from_u64(seed),
        }
    }

    /// Shuffles, and gives the rows of each batch of the next pass; the last batch may be smaller.
    pub fn batches(&mut self, size: usize) -> impl ExactSizeIterator<Item = &[usize]> {
        self.rows.shuffle(&mut self.random);
        self.rows.chunks(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pass_deals_every_row_once_in_another_order() {
        let mut order = Order::new(10, 7);
        let first: Vec<usize> = order.batches(4).flatten().copied().collect();
        let second: Vec<usize> = order.batches(4).flatten().copied().collect();
        assert_ne!(first, second);
        for mut pass in [first.clone(), second] {
            pass.sort_unstable();
            assert_eq!(pass, (0..10).collect::<Vec<_>>());
        }
        let again: Vec<usize> = Order::new(10, 7).batches(4).flatten().copied().collect();
        assert_eq!(first, again);
        assert_eq!(order.batches(4).len(), 3);
    }
}
