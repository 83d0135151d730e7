//! Unlabelled inputs for a model: a PNG, an IDX file, JSON or CSV, told apart by their content.
//!
//! It reads against the schema of a bundle. What is said of an input afterwards is the caller's business.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::idx;
use crate::predict::{raw_from_json, raw_from_png};
use crate::preprocess::Schema;
use crate::problem::Problem;

/// One raw sample with the name that a person knows it by.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The file, with `[N]` when it holds several.
    pub name: String,
    /// `schema.width()` values, a missing one as NaN.
    pub raw: Vec<f32>,
}

/// Reads all inputs in the `bytes` of a file called `name`.
///
/// # Errors
///
/// What is wrong, with the file and the place in it.
pub fn read(name: &str, bytes: &[u8], schema: &Schema) -> Result<Vec<Input>> {
    let rows = match Kind::of(bytes) {
        Kind::Empty => return Err(Problem::new(format!("`{name}` is empty")).into()),
        Kind::Png => vec![raw_from_png(bytes, schema).with_context(|| format!("cannot read `{name}`"))?],
        Kind::Idx => idx_images(name, bytes, schema)?,
        Kind::Json => json(bytes, schema).with_context(|| format!("cannot read `{name}`"))?,
        Kind::Csv => csv(bytes, schema).with_context(|| format!("cannot read `{name}`"))?,
    };
    let single = rows.len() == 1;
    Ok(rows
        .into_iter()
        .enumerate()
        .map(|(index, raw)| Input {
            name: if single {
                name.to_owned()
            } else {
                format!("{name}[{index}]")
            },
            raw,
        })
        .collect())
}

enum Kind {
    Empty,
    Png,
    Idx,
    Json,
    Csv,
}

impl Kind {
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => Self::Png,
            // IDX begins with two zeros, and is often compressed.
            [0, 0, ..] | [0x1f, 0x8b, ..] => Self::Idx,
            _ => match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                None => Self::Empty,
                Some(b'[' | b'{') => Self::Json,
                Some(_) => Self::Csv,
            },
        }
    }
}

fn json(bytes: &[u8], schema: &Schema) -> Result<Vec<Vec<f32>>> {
    let value: Value = serde_json::from_slice(bytes)?;
    let value = match value {
        Value::Object(mut object) if object.contains_key("instances") => {
            object.remove("instances").unwrap_or(Value::Null)
        }
        other => other,
    };
    let mut raw = Vec::new();
    let alone = match raw_from_json(schema, &value, &mut raw) {
        Ok(()) => return Ok(vec![raw]),
        Err(error) => error,
    };
    // Not one input: then it is a list of them, and the mistake is in one of those.
    let Value::Array(values) = &value else {
        return Err(alone.into());
    };
    if !values.iter().all(|value| value.is_array() || value.is_object()) || values.is_empty() {
        return Err(alone.into());
    }
    values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let mut raw = Vec::with_capacity(schema.width());
            raw_from_json(schema, value, &mut raw).with_context(|| format!("input {index}"))?;
            Ok(raw)
        })
        .collect()
}

fn csv(bytes: &[u8], schema: &Schema) -> Result<Vec<Vec<f32>>> {
    let Schema::Table { columns } = schema else {
        return Err(Problem::new("this looks like CSV, and the model reads images")
            .hint("give a PNG, an IDX file, or JSON with the pixels")
            .into());
    };
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers()?.clone();
    let places = columns
        .iter()
        .map(|column| {
            header
                .iter()
                .position(|name| name.trim() == column.name)
                .ok_or_else(|| Problem::new(format!("the header has no column `{}`", column.name)))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = columns
            .iter()
            .zip(&places)
            .map(|(column, place)| {
                let text = record.get(*place).unwrap_or_default();
                column.parse(text).ok_or_else(|| {
                    Problem::new(format!("line {line}, column `{}`: `{text}` is no number", column.name))
                })
            })
            .collect::<Result<Vec<f32>, _>>()?;
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(Problem::new("there is a header and no row").into());
    }
    Ok(rows)
}

fn idx_images(name: &str, bytes: &[u8], schema: &Schema) -> Result<Vec<Vec<f32>>> {
    let (found, pixels) = idx::unlabelled(Path::new(name), bytes.to_vec())?;
    if found != *schema {
        return Err(Problem::new(format!(
            "`{name}` holds images of {}, and the model reads {}",
            idx::describe(&found),
            idx::describe(schema)
        ))
        .into());
    }
    Ok(pixels
        .chunks_exact(schema.width())
        .map(|image| image.iter().map(|pixel| f32::from(*pixel)).collect())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Column, ColumnKind};

    const SMALL: Schema = Schema::Image {
        height: 2,
        width: 2,
        channels: 1,
    };

    fn table() -> Schema {
        Schema::Table {
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
        }
    }

    #[test]
    fn json_holds_one_input_or_several() {
        let one = read("a", b"[0, 1, 2, 3]", &SMALL).expect("one");
        assert_eq!(one[0].name, "a");
        let nested = read("a", b" [[0, 1], [2, 3]]", &SMALL).expect("one, nested");
        assert_eq!(nested, one);
        let several = read("a", b"{\"instances\": [[0, 1, 2, 3], [[4, 5], [6, 7]]]}", &SMALL).expect("two");
        assert_eq!(several[1].name, "a[1]");
        assert_eq!(several[1].raw, [4.0, 5.0, 6.0, 7.0]);
        let error = read("a", b"[[0, 1, 2, 3], [4]]", &SMALL).expect_err("short");
        assert!(format!("{error:#}").contains("input 1"), "{error:#}");
    }

    #[test]
    fn csv_is_read_by_its_header() {
        let rows = read("a", b"label,city,age\nx,rome,3\ny,oslo,\n", &table()).expect("rows");
        assert_eq!(rows[0].raw, [3.0, 1.0]);
        assert!(rows[1].raw.iter().all(|value| value.is_nan()));
        let error = |text: &[u8]| format!("{:#}", read("a", text, &table()).expect_err("refused"));
        assert!(error(b"city\nrome\n").contains("`age`"));
        assert!(error(b"city,age\nrome,old\n").contains("line 2, column `age`: `old`"));
        assert!(error(b"city,age\n").contains("no row"));
        assert!(error(b" \n").contains("empty"));
    }
}
