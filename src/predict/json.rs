//! JSON as raw samples: an image as an array of pixels (flat or nested), a row of a table as an array in column order or
//! as an object by column name.
//!
//! Images are read straight from the text into the floats, because that is most of the work of a prediction; rows of a
//! table are small and go through a value.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
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
    let outcome = match schema {
        Schema::Image { .. } => Pixels { raw, items: None }
            .deserialize(value)
            .map_err(|error| JsonInputError(error.to_string()))
            .and_then(|found| found.image(schema)),
        Schema::Table { columns } => row(columns, value, raw),
    };
    if outcome.is_err() {
        raw.truncate(start);
    }
    outcome
}

/// Reads an array of samples and appends their raw values; gives their number. After an error, what it leaves in `raw`
/// is of no use.
#[derive(Debug)]
pub struct Samples<'a> {
    /// What a sample looks like.
    pub schema: &'a Schema,
    /// Takes `schema.width()` values for each sample.
    pub raw: &'a mut Vec<f32>,
}

impl<'de> DeserializeSeed<'de> for Samples<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Samples<'_> {
    type Value = usize;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an array of inputs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<usize, A::Error> {
        let Self { schema, raw } = self;
        let mut count = 0;
        let wrong = |count: usize, error| A::Error::custom(format_args!("input {count}: {error}"));
        match schema {
            Schema::Image { .. } => {
                while let Some(found) = items.next_element_seed(Pixels { raw, items: None })? {
                    found.image(schema).map_err(|error| wrong(count, error))?;
                    count += 1;
                }
            }
            Schema::Table { columns } => {
                while let Some(value) = items.next_element::<Value>()? {
                    row(columns, &value, raw).map_err(|error| wrong(count, error))?;
                    count += 1;
                }
            }
        }
        Ok(count)
    }
}

/// As [`Samples`], and takes one sample without an array around it, too.
#[derive(Debug)]
pub struct OneOrMore<'a> {
    /// What a sample looks like.
    pub schema: &'a Schema,
    /// Takes `schema.width()` values for each sample.
    pub raw: &'a mut Vec<f32>,
}

impl<'de> DeserializeSeed<'de> for OneOrMore<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        let Self { schema, raw } = self;
        let within = |index: usize| move |error| D::Error::custom(format_args!("input {index}: {error}"));
        match schema {
            // An image may be nested itself: it is one when it has no arrays, or when all of them are one image.
            Schema::Image { .. } => {
                let mut items = Vec::new();
                let all = Pixels {
                    raw,
                    items: Some(&mut items),
                }
                .deserialize(from)?;
                match all {
                    Found::Pixels(_) if items.is_empty() => Ok(0),
                    Found::Pixels(count)
                        if count != schema.width() && items.iter().any(|item| matches!(item, Found::Pixels(_))) =>
                    {
                        for (index, item) in items.iter().enumerate() {
                            item.image(schema).map_err(within(index))?;
                        }
                        Ok(items.len())
                    }
                    alone => alone.image(schema).map(|()| 1).map_err(D::Error::custom),
                }
            }
            Schema::Table { columns } => match Value::deserialize(from)? {
                Value::Array(items)
                    if items.is_empty() || items.iter().any(|item| item.is_array() || item.is_object()) =>
                {
                    for (index, item) in items.iter().enumerate() {
                        row(columns, item, raw).map_err(within(index))?;
                    }
                    Ok(items.len())
                }
                alone => row(columns, &alone, raw).map(|()| 1).map_err(D::Error::custom),
            },
        }
    }
}

/// Reads numbers, however they are nested, and appends them.
struct Pixels<'a> {
    raw: &'a mut Vec<f32>,
    /// Takes what the outermost array holds, one by one.
    items: Option<&'a mut Vec<Found>>,
}

/// What a JSON value was.
#[derive(Clone, Copy, Debug)]
enum Found {
    /// A number.
    Pixel,
    /// An array with so many numbers in all.
    Pixels(usize),
}

impl Found {
    fn image(self, schema: &Schema) -> Result<(), JsonInputError> {
        match self {
            Self::Pixels(got) if got == schema.width() => Ok(()),
            Self::Pixels(got) => Err(width(got, schema.width())),
            Self::Pixel => Err(JsonInputError(
                "an image is an array of pixels from 0 to 255, and this is a number".into(),
            )),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Pixels<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Found, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pixels<'_> {
    type Value = Found;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a number from 0 to 255 or an array of pixels")
    }

    fn visit_f64<E>(self, value: f64) -> Result<Found, E> {
        self.raw.push(value as f32);
        Ok(Found::Pixel)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Found, E> {
        self.raw.push(value as f32);
        Ok(Found::Pixel)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Found, E> {
        self.raw.push(value as f32);
        Ok(Found::Pixel)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Found, E> {
        no_pixel("a string")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Found, E> {
        no_pixel("a boolean")
    }

    fn visit_unit<E: Error>(self) -> Result<Found, E> {
        no_pixel("null")
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Found, A::Error> {
        no_pixel("an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Found, A::Error> {
        let Self { raw, mut items } = self;
        let start = raw.len();
        while let Some(found) = array.next_element_seed(Pixels { raw, items: None })? {
            if let Some(items) = &mut items {
                items.push(found);
            }
        }
        Ok(Found::Pixels(raw.len() - start))
    }
}

fn no_pixel<E: Error>(found: &str) -> Result<Found, E> {
    Err(E::custom(format_args!(
        "an image is an array of pixels from 0 to 255, and this is {found}"
    )))
}

fn width(got: usize, expected: usize) -> JsonInputError {
    JsonInputError(format!("an input has {got} values, the model takes {expected}"))
}

/// Appends one row of a table.
fn row(columns: &[Column], value: &Value, raw: &mut Vec<f32>) -> Result<(), JsonInputError> {
    match value {
        Value::Array(cells) => {
            if cells.len() != columns.len() {
                return Err(width(cells.len(), columns.len()));
            }
            for (column, cell) in columns.iter().zip(cells) {
                raw.push(cell_value(column, cell)?);
            }
            Ok(())
        }
        Value::Object(cells) => {
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
        other => Err(JsonInputError(format!(
            "a row is an array in column order or an object by column name, and this is {}",
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
        assert!(error(&image(), json!([0, 1, 2, "x"])).contains("array of pixels from 0 to 255, and this is a string"));
        assert!(error(&image(), json!("x")).contains("array of pixels"));
        assert!(error(&image(), json!(7)).contains("array of pixels"));
        assert!(error(&table(), json!(["old", "rome"])).contains("`old`"));
        assert!(error(&table(), json!({"agee": 1})).contains("`agee`"));
    }

    fn count(schema: &Schema, text: &str) -> Result<usize, String> {
        let mut raw = Vec::new();
        let mut reader = serde_json::Deserializer::from_str(text);
        let count = OneOrMore { schema, raw: &mut raw }
            .deserialize(&mut reader)
            .map_err(|error| error.to_string())?;
        assert_eq!(raw.len(), count * schema.width());
        Ok(count)
    }

    #[test]
    fn one_image_is_told_from_several() {
        let count = |text| count(&image(), text);
        assert_eq!(count("[1, 2, 3, 4]"), Ok(1));
        assert_eq!(count("[[1, 2], [3, 4]]"), Ok(1));
        assert_eq!(count("[[[1], [2]], [[3], [4]]]"), Ok(1));
        assert_eq!(count("[[1, 2, 3, 4], [1, 2, 3, 4]]"), Ok(2));
        assert_eq!(count("[[[1, 2], [3, 4]], [[1, 2], [3, 4]]]"), Ok(2));
        assert_eq!(count("[]"), Ok(0));
        let error = |text| count(text).expect_err("refused");
        assert!(error("[[1, 2, 3, 4], [1]]").starts_with("input 1: an input has 1 values"));
        assert!(error("[[1, 2, 3, 4], 1]").starts_with("input 1: an image is an array"));
        assert!(error("[1, 2]").starts_with("an input has 2 values"));
        assert!(error("\"x\"").contains("array of pixels"));
        assert!(error("{\"a\": 1}").contains("array of pixels"));
    }

    #[test]
    fn one_row_is_told_from_several() {
        let count = |text| count(&table(), text);
        assert_eq!(count(r#"{"age": 1}"#), Ok(1));
        assert_eq!(count(r#"[1, "rome"]"#), Ok(1));
        assert_eq!(count(r#"[[1, "rome"], [2, null]]"#), Ok(2));
        assert_eq!(count(r#"[{"age": 1}, [2, "bonn"]]"#), Ok(2));
        let error = count(r#"[{"age": 1}, 2]"#).expect_err("refused");
        assert!(error.starts_with("input 1: a row is an array"), "{error}");
    }

    #[test]
    fn an_array_of_samples_is_read_as_each_of_them_alone() {
        let text = "[[0, 1.5, 2e1, 255], [[1, 2], [3, 4]]]";
        let mut raw = Vec::new();
        let mut reader = serde_json::Deserializer::from_str(text);
        let schema = image();
        let count = Samples {
            schema: &schema,
            raw: &mut raw,
        }
        .deserialize(&mut reader)
        .expect("samples");
        assert_eq!((count, &raw[..]), (2, &[0.0, 1.5, 20.0, 255.0, 1.0, 2.0, 3.0, 4.0][..]));
    }
}
