//! `golden.json`: held-out inputs with the answers that the trained model gave.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::preprocess::{ColumnKind, Schema};

/// Inputs and the answers that the trained model gave to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// How far a probability may be off, absolutely: processors differ in the order of their sums.
    pub tolerance: f32,
    /// The cases.
    pub cases: Vec<GoldenCase>,
}

/// One input with its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCase {
    /// A raw sample; a missing value is `null`.
    pub input: Vec<Option<f32>>,
    /// The probability of each class.
    pub probabilities: Vec<f32>,
}

impl GoldenCase {
    /// A case from a raw sample, in which a missing value is NaN.
    pub fn new(raw: &[f32], probabilities: Vec<f32>) -> Self {
        Self {
            input: raw.iter().map(|value| (!value.is_nan()).then_some(*value)).collect(),
            probabilities,
        }
    }

    /// The raw sample as a server is asked with it, in JSON: categories by their names.
    pub fn told(&self, schema: &Schema) -> Value {
        let Schema::Table { columns } = schema else {
            return json!(self.input);
        };
        let cells = columns.iter().zip(&self.input);
        let cells = cells.map(|(column, value)| match &column.kind {
            ColumnKind::Numeric => json!(value),
            ColumnKind::Categorical { categories } => json!(value.and_then(|index| categories.get(index as usize))),
        });
        cells.collect()
    }

    /// The raw sample, a missing value as NaN.
    pub fn raw(&self) -> Vec<f32> {
        self.input.iter().map(|value| value.unwrap_or(f32::NAN)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Column;

    #[test]
    fn a_category_is_told_by_its_name() {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        let categories = vec!["bonn".into(), "rome".into()];
        let columns = vec![
            column("age", ColumnKind::Numeric),
            column("city", ColumnKind::Categorical { categories }),
        ];
        let schema = Schema::Table { columns };
        let told = |raw: &[f32]| GoldenCase::new(raw, Vec::new()).told(&schema);
        assert_eq!(told(&[31.5, 1.0]), json!([31.5, "rome"]));
        assert_eq!(told(&[f32::NAN, f32::NAN]), json!([null, null]));
        let image = Schema::Image {
            height: 1,
            width: 2,
            channels: 1,
        };
        assert_eq!(
            GoldenCase::new(&[0.0, 255.0], Vec::new()).told(&image),
            json!([0.0, 255.0])
        );
    }
}
