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
    /// The raw value of a cell's text: `None` when a numeric column gets something that is no number. Blank text is
    /// missing (NaN), and so is a name that the category list does not hold.
    pub fn parse(&self, text: &str) -> Option<f32> {
        let text = text.trim();
        if text.is_empty() {
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
