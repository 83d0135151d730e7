//! One JSON value as one raw sample: an image as an array of pixels (flat or nested), a row of a table as an array in
//! column order or as an object by column name.

use serde_json::Value;

use crate::preprocess::{Column, ColumnKind, Schema};

/// A JSON value that is no input of the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonInputError(String);

/// Appends the raw values of one sample to `raw`.
///
/// # Errors
///
/// What was expected, and what was found; `raw` is then as it was.
pub fn raw_from_json(schema: &Schema, value: &Value, raw: &mut Vec<f32>) -> Result<(), JsonInputError> {
    let start = raw.len();
    let outcome = append(schema, value, raw).and_then(|()| {
        let got = raw.len() - start;
        if got == schema.width() {
            Ok(())
        } else {
            Err(JsonInputError(format!(
                "an input has {got} values, the model takes {}",
                schema.width()
            )))
        }
    });
    if outcome.is_err() {
        raw.truncate(start);
    }
    outcome
}

fn append(schema: &Schema, value: &Value, raw: &mut Vec<f32>) -> Result<(), JsonInputError> {
    match (schema, value) {
        (Schema::Image { .. }, Value::Array(_)) => flatten(value, raw),
        (Schema::Image { .. }, other) => Err(JsonInputError(format!(
            "an image is an array of pixels from 0 to 255, and this is {}",
            kind(other)
        ))),
        (Schema::Table { columns }, Value::Array(cells)) => {
            if cells.len() != columns.len() {
                return Err(JsonInputError(format!(
                    "an input has {} values, the model takes {}",
                    cells.len(),
                    columns.len()
                )));
            }
            for (column, cell) in columns.iter().zip(cells) {
                raw.push(cell_value(column, cell)?);
            }
            Ok(())
        }
        (Schema::Table { columns }, Value::Object(cells)) => {
            if let Some(unknown) = cells
                .keys()
                .find(|key| !columns.iter().any(|column| column.name == **key))
            {
                return Err(JsonInputError(format!("the model has no column `{unknown}`")));
            }
            for column in columns {
                raw.push(match cells.get(&column.name) {
                    Some(cell) => cell_value(column, cell)?,
                    None => f32::NAN,
                });
            }
            Ok(())
        }
        (Schema::Table { .. }, other) => Err(JsonInputError(format!(
            "a row is an array in column order or an object by column name, and this is {}",
            kind(other)
        ))),
    }
}

fn flatten(value: &Value, raw: &mut Vec<f32>) -> Result<(), JsonInputError> {
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| flatten(value, raw)),
        Value::Number(number) => {
            raw.push(number.as_f64().unwrap_or(f64::NAN) as f32);
            Ok(())
        }
        other => Err(JsonInputError(format!(
            "a pixel is a number, and this is {}",
            kind(other)
        ))),
    }
}

fn cell_value(column: &Column, cell: &Value) -> Result<f32, JsonInputError> {
    match (&column.kind, cell) {
        (_, Value::Null) => Ok(f32::NAN),
        (ColumnKind::Numeric, Value::Number(number)) => Ok(number.as_f64().unwrap_or(f64::NAN) as f32),
        (_, Value::String(text)) => column
            .parse(text)
            .ok_or_else(|| JsonInputError(format!("column `{}` takes a number, and this is `{text}`", column.name))),
        // Category names that look like numbers come as numbers from many clients.
        (ColumnKind::Categorical { .. }, Value::Number(number)) => {
            Ok(column.parse(&number.to_string()).unwrap_or(f32::NAN))
        }
        (_, other) => Err(JsonInputError(format!(
            "column `{}` takes {}, and this is {}",
            column.name,
            match column.kind {
                ColumnKind::Numeric => "a number",
                ColumnKind::Categorical { .. } => "a name",
            },
            kind(other)
        ))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image() -> Schema {
        Schema::Image {
            height: 2,
            width: 2,
            channels: 1,
        }
    }

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

    fn read(schema: &Schema, value: &Value) -> Result<Vec<f32>, String> {
        let mut raw = Vec::new();
        raw_from_json(schema, value, &mut raw)
            .map(|()| raw)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_image_is_flat_or_nested() {
        let pixels = vec![0.0, 1.0, 2.0, 255.0];
        assert_eq!(read(&image(), &json!([0, 1, 2, 255])), Ok(pixels.clone()));
        assert_eq!(read(&image(), &json!([[0, 1], [2, 255]])), Ok(pixels.clone()));
        assert_eq!(read(&image(), &json!([[[0], [1]], [[2], [255]]])), Ok(pixels));
    }

    #[test]
    fn a_row_is_an_array_or_an_object() {
        assert_eq!(read(&table(), &json!([31, "rome"])), Ok(vec![31.0, 1.0]));
        assert_eq!(
            read(&table(), &json!({"city": "bonn", "age": "31"})),
            Ok(vec![31.0, 0.0])
        );
        let raw = read(&table(), &json!({"city": "oslo"})).expect("unknown and missing are NaN");
        assert!(raw.iter().all(|value| value.is_nan()));
    }

    #[test]
    fn what_is_no_input_is_told() {
        let error = |schema: &Schema, value| read(schema, &value).expect_err("refused");
        assert_eq!(
            error(&image(), json!([0, 1])),
            "an input has 2 values, the model takes 4"
        );
        assert!(error(&image(), json!([0, 1, 2, "x"])).contains("a string"));
        assert!(error(&image(), json!("x")).contains("array of pixels"));
        assert!(error(&table(), json!(["old", "rome"])).contains("`old`"));
        assert!(error(&table(), json!({"agee": 1})).contains("`agee`"));
    }
}
