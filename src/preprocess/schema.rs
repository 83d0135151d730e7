//! The shape and meaning of one raw sample.

use serde::{Deserialize, Serialize};

/// What one raw sample holds. A raw sample is a row of `width()` floats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schema {
    /// Pixels 0 to 255, row by row, channels last.
    Image {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// 1 for grey, 3 for colour.
        channels: usize,
    },
    /// Named columns: a number is itself, NaN when missing; a category is its index in the list, NaN when missing or
    /// not in the list.
    Table {
        /// In the order of a raw sample.
        columns: Vec<Column>,
    },
}

/// One named column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// As in the header of the data.
    pub name: String,
    /// Number or category.
    pub kind: ColumnKind,
}

/// Whether a column holds numbers or names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ColumnKind {
    /// A number.
    Numeric,
    /// One of a few names.
    Categorical {
        /// Sorted; the index is the raw value.
        categories: Vec<String>,
    },
}

impl Schema {
    /// Values in a raw sample.
    pub fn width(&self) -> usize {
        match self {
            Self::Image {
                height,
                width,
                channels,
            } => height * width * channels,
            Self::Table { columns } => columns.len(),
        }
    }

    /// Values that the network reads: as `width`, with each category taking one place of its own.
    pub fn encoded_width(&self) -> usize {
        match self {
            Self::Image { .. } => self.width(),
            Self::Table { columns } => columns
                .iter()
                .map(|column| match &column.kind {
                    ColumnKind::Numeric => 1,
                    ColumnKind::Categorical { categories } => categories.len(),
                })
                .sum(),
        }
    }
}

impl Column {
    /// The raw value of a cell's text: `None` when a numeric column gets something that is no finite number. Text that
    /// [`is_missing`] is NaN, and so is a name that the category list does not hold.
    pub fn parse(&self, text: &str) -> Option<f32> {
        let text = text.trim();
        if is_missing(text) {
            return Some(f32::NAN);
        }
        match &self.kind {
            ColumnKind::Numeric => text.parse().ok().filter(|value: &f32| value.is_finite()),
            ColumnKind::Categorical { categories } => Some(
                categories
                    .binary_search_by(|category| category.as_str().cmp(text))
                    .map_or(f32::NAN, |index| index as f32),
            ),
        }
    }
}

/// Whether a cell's text stands for a missing value, in training as in prediction: blank, `NA`, `N/A`, `?`, `null` or
/// `NaN`, in capitals or not.
pub fn is_missing(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || MISSING.iter().any(|spelling| spelling.eq_ignore_ascii_case(text))
}

const MISSING: [&str; 5] = ["NA", "N/A", "?", "null", "NaN"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_missing_is_nan_in_every_kind_of_column() {
        let kinds = [
            ColumnKind::Numeric,
            ColumnKind::Categorical {
                categories: vec!["NA".into(), "rome".into()],
            },
        ];
        for kind in kinds {
            let column = Column { name: "a".into(), kind };
            for text in ["", "  ", "NA", "na", "N/A", "?", "null", "NULL", "NaN", " nan "] {
                let value = column.parse(text).expect("missing is no mistake");
                assert!(value.is_nan(), "{text:?}");
            }
        }
    }

    #[test]
    fn a_number_is_finite_or_refused() {
        let column = Column {
            name: "a".into(),
            kind: ColumnKind::Numeric,
        };
        assert_eq!(column.parse(" -1.5e2 "), Some(-150.0));
        for text in ["inf", "-infinity", "1e99", "1,5", "x"] {
            assert_eq!(column.parse(text), None, "{text}");
        }
    }
}
