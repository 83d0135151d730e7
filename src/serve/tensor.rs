//! Tensors of the Open Inference Protocol, read into the model's inputs.
//!
//! An image model takes one tensor, `image`: `[n, height, width, channels]`, without the channels when there is one, or
//! flattened to `[n, pixels]`. A table takes one tensor of shape `[n]` or `[n, 1]` for each column, under its name, a
//! column that is left out being missing; or one tensor `rows` of shape `[n, columns]`.

use serde::Deserialize;
use serde_json::Value;

use crate::preprocess::Schema;

/// Name of an image model's input.
pub const IMAGE: &str = "image";
/// Name of the input that holds whole rows of a table.
const ROWS: &str = "rows";

/// A tensor of a request.
#[derive(Deserialize)]
pub struct InputTensor {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    data: Value,
}

/// The samples that a request's tensors hold.
///
/// # Errors
///
/// Which tensor does not fit the model or itself, and how.
pub fn samples(schema: &Schema, mut tensors: Vec<InputTensor>) -> Result<Vec<Value>, String> {
    match schema {
        Schema::Image {
            height,
            width,
            channels,
        } => {
            let tensor = one(tensors, IMAGE)?;
            let shape = tensor.shape.get(1..).unwrap_or_default();
            let fits = shape == [*height, *width, *channels]
                || (*channels == 1 && shape == [*height, *width])
                || shape == [height * width * channels];
            if !fits {
                return Err(tensor.misshapen(&format!(
                    "[n, {height}, {width}, {channels}] or [n, {}]",
                    height * width * channels
                )));
            }
            tensor.rows(schema.width())
        }
        Schema::Table { columns } => {
            if tensors.len() == 1 && tensors[0].name == ROWS && !columns.iter().any(|column| column.name == ROWS) {
                let tensor = one(tensors, ROWS)?;
                return match tensor.shape[..] {
                    [_, width] if width == columns.len() => tensor.rows(width),
                    _ => Err(tensor.misshapen(&format!("[n, {}]", columns.len()))),
                };
            }
            if let Some(tensor) = tensors
                .iter()
                .find(|tensor| !columns.iter().any(|column| column.name == tensor.name))
            {
                let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                return Err(format!(
                    "there is no input `{}`, there are {} (or `{ROWS}` for whole rows)",
                    tensor.name,
                    names.join(", ")
                ));
            }
            let mut rows: Vec<Vec<Value>> = Vec::new();
            for (index, column) in columns.iter().enumerate() {
                let Some(place) = tensors.iter().position(|tensor| tensor.name == column.name) else {
                    continue;
                };
                let tensor = tensors.swap_remove(place);
                let ([count] | [count, 1]) = tensor.shape[..] else {
                    return Err(tensor.misshapen("[n] or [n, 1]"));
                };
                let cells = tensor.elements()?;
                if rows.is_empty() {
                    rows = vec![vec![Value::Null; columns.len()]; count];
                } else if rows.len() != count {
                    return Err(format!(
                        "input `{}` has {count} rows, and the ones before it have {}",
                        column.name,
                        rows.len()
                    ));
                }
                for (row, cell) in rows.iter_mut().zip(cells) {
                    row[index] = cell;
                }
            }
            if let Some(tensor) = tensors.first() {
                return Err(format!("input `{}` comes twice", tensor.name));
            }
            Ok(rows.into_iter().map(Value::Array).collect())
        }
    }
}

/// The one tensor that there has to be.
fn one(mut tensors: Vec<InputTensor>, name: &str) -> Result<InputTensor, String> {
    if let Some(other) = tensors.iter().find(|tensor| tensor.name != name) {
        return Err(format!("there is no input `{}`, there is `{name}`", other.name));
    }
    match (tensors.pop(), tensors.len()) {
        (Some(tensor), 0) => Ok(tensor),
        (_, others) => Err(format!(
            "the model takes one input `{name}`, and the request has {}",
            if others == 0 { 0 } else { others + 1 }
        )),
    }
}

impl InputTensor {
    fn misshapen(&self, expected: &str) -> String {
        format!(
            "input `{}` has shape {:?}, and the model takes {expected}",
            self.name, self.shape
        )
    }

    /// The elements, `width` to a row.
    fn rows(self, width: usize) -> Result<Vec<Value>, String> {
        let mut elements = self.elements()?.into_iter();
        let mut rows = Vec::with_capacity(elements.len() / width);
        while elements.len() > 0 {
            rows.push(Value::Array(elements.by_ref().take(width).collect()));
        }
        Ok(rows)
    }

    /// The elements in row-major order, each of the datatype, as many as the shape says. Nested data has to be nested
    /// as the shape is.
    fn elements(self) -> Result<Vec<Value>, String> {
        let Self {
            name,
            shape,
            datatype,
            data,
        } = self;
        let Value::Array(items) = data else {
            return Err(format!("input `{name}`: `data` is no array"));
        };
        let count = shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
        let count = count.ok_or_else(|| format!("input `{name}` has shape {shape:?}, which is too large"))?;
        let elements = if items.iter().any(Value::is_array) {
            let mut elements = Vec::new();
            unnest(items, &shape, &mut elements)
                .map_err(|()| format!("input `{name}`: `data` is not nested as its shape {shape:?} is"))?;
            elements
        } else {
            items
        };
        if elements.len() != count {
            return Err(format!(
                "input `{name}` has {} elements, and its shape {shape:?} takes {count}",
                elements.len()
            ));
        }
        let datatype = Datatype::parse(&datatype)
            .ok_or_else(|| format!("input `{name}` has datatype `{datatype}`, and this server reads {DATATYPES}"))?;
        if let Some(index) = elements.iter().position(|element| !datatype.holds(element)) {
            return Err(format!(
                "input `{name}`: element {index} is `{}`, which is no {}",
                elements[index],
                datatype.name()
            ));
        }
        Ok(elements)
    }
}

fn unnest(items: Vec<Value>, shape: &[usize], elements: &mut Vec<Value>) -> Result<(), ()> {
    let (size, inner) = shape.split_first().ok_or(())?;
    if items.len() != *size {
        return Err(());
    }
    if inner.is_empty() {
        if items.iter().any(Value::is_array) {
            return Err(());
        }
        elements.extend(items);
        return Ok(());
    }
    items.into_iter().try_for_each(|item| match item {
        Value::Array(items) => unnest(items, inner, elements),
        _ => Err(()),
    })
}

/// What a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Datatype {
    /// Whole numbers between two bounds.
    Integer(&'static str, f64, f64),
    /// Numbers; a missing one is `null`.
    Float(&'static str),
    /// Texts.
    Bytes,
}

const DATATYPES: &str = "UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64 and BYTES";

impl Datatype {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "UINT8" => Self::Integer("UINT8", 0.0, u8::MAX.into()),
            "UINT16" => Self::Integer("UINT16", 0.0, u16::MAX.into()),
            "UINT32" => Self::Integer("UINT32", 0.0, u32::MAX.into()),
            "UINT64" => Self::Integer("UINT64", 0.0, u64::MAX as f64),
            "INT8" => Self::Integer("INT8", i8::MIN.into(), i8::MAX.into()),
            "INT16" => Self::Integer("INT16", i16::MIN.into(), i16::MAX.into()),
            "INT32" => Self::Integer("INT32", i32::MIN.into(), i32::MAX.into()),
            "INT64" => Self::Integer("INT64", i64::MIN as f64, i64::MAX as f64),
            "FP16" => Self::Float("FP16"),
            "FP32" => Self::Float("FP32"),
            "FP64" => Self::Float("FP64"),
            "BYTES" => Self::Bytes,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Integer(name, ..) | Self::Float(name) => name,
            Self::Bytes => "BYTES",
        }
    }

    fn holds(self, element: &Value) -> bool {
        match self {
            Self::Integer(_, least, greatest) => element
                .as_f64()
                .is_some_and(|number| number.fract() == 0.0 && (least..=greatest).contains(&number)),
            Self::Float(_) => element.is_number() || element.is_null(),
            Self::Bytes => element.is_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Column, ColumnKind};
    use serde_json::json;

    fn image() -> Schema {
        Schema::Image {
            height: 1,
            width: 2,
            channels: 1,
        }
    }

    fn table() -> Schema {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        let categories = vec!["bonn".into(), "rome".into()];
        Schema::Table {
            columns: vec![
                column("age", ColumnKind::Numeric),
                column("city", ColumnKind::Categorical { categories }),
            ],
        }
    }

    fn read(schema: &Schema, inputs: Value) -> Result<Vec<Value>, String> {
        samples(schema, serde_json::from_value(inputs).expect("tensors"))
    }

    #[allow(clippy::needless_pass_by_value)] // as `json!` makes them
    fn pixels(shape: Value, datatype: &str, data: Value) -> Result<Vec<Value>, String> {
        let tensor = json!([{"name": "image", "shape": shape, "datatype": datatype, "data": data}]);
        read(&image(), tensor)
    }

    #[test]
    fn images_come_flat_or_nested() {
        let expected = vec![json!([1, 2]), json!([3, 4])];
        assert_eq!(
            pixels(json!([2, 2]), "UINT8", json!([1, 2, 3, 4])),
            Ok(expected.clone())
        );
        assert_eq!(
            pixels(json!([2, 1, 2]), "INT64", json!([[[1, 2]], [[3, 4]]])),
            Ok(expected.clone())
        );
        assert_eq!(
            pixels(json!([2, 1, 2, 1]), "FP32", json!([[[[1], [2]]], [[[3], [4]]]])),
            Ok(expected)
        );
        assert_eq!(pixels(json!([0, 2]), "FP32", json!([])), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_with_a_tensor_is_named() {
        let error = |shape, datatype, data| pixels(shape, datatype, data).expect_err("refused");
        assert!(error(json!([1, 3]), "FP32", json!([1, 2, 3])).contains("takes [n, 1, 2, 1] or [n, 2]"));
        assert!(error(json!([]), "FP32", json!([])).contains("has shape []"));
        assert!(error(json!([2, 2]), "FP32", json!([1, 2])).contains("2 elements, and its shape [2, 2] takes 4"));
        assert!(error(json!([1, 2]), "FP32", json!([[1], [2]])).contains("not nested"));
        assert!(error(json!([1, 2]), "FP32", json!([[1, 2], 3])).contains("not nested"));
        assert!(error(json!([1, 2]), "FP32", json!("x")).contains("no array"));
        assert!(error(json!([1, 2]), "UINT8", json!([1, 256])).contains("element 1 is `256`, which is no UINT8"));
        assert!(error(json!([1, 2]), "INT8", json!([0.5, 1])).contains("element 0"));
        assert!(error(json!([1, 2]), "BYTES", json!([1, 2])).contains("no BYTES"));
        assert!(error(json!([1, 2]), "COMPLEX", json!([1, 2])).contains("reads UINT8"));
        assert!(error(json!([usize::MAX, 2]), "FP32", json!([1, 2])).contains("too large"));
        let named = json!([{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]);
        assert!(read(&image(), named).expect_err("refused").contains("there is `image`"));
        assert!(read(&image(), json!([])).expect_err("refused").contains("has 0"));
    }

    #[test]
    fn a_table_comes_by_column_or_by_row() {
        let expected = vec![json!([31, "rome"]), json!([7, "bonn"])];
        let ages = json!({"name": "age", "shape": [2, 1], "datatype": "INT64", "data": [[31], [7]]});
        let cities = json!({"name": "city", "shape": [2], "datatype": "BYTES", "data": ["rome", "bonn"]});
        assert_eq!(read(&table(), json!([cities, ages])), Ok(expected));
        let rows = json!([{"name": "rows", "shape": [1, 2], "datatype": "BYTES", "data": ["31", "rome"]}]);
        assert_eq!(read(&table(), rows), Ok(vec![json!(["31", "rome"])]));
        assert_eq!(
            read(&table(), json!([ages])),
            Ok(vec![json!([31, null]), json!([7, null])])
        );
    }

    #[test]
    fn columns_that_do_not_go_together_are_named() {
        let ages = json!({"name": "age", "shape": [2], "datatype": "FP32", "data": [31, null]});
        let city = json!({"name": "city", "shape": [1], "datatype": "BYTES", "data": ["rome"]});
        let error = |inputs| read(&table(), inputs).expect_err("refused");
        assert!(error(json!([ages, city])).contains("`city` has 1 rows"));
        assert!(error(json!([ages, ages])).contains("`age` comes twice"));
        let other = json!({"name": "agee", "shape": [1], "datatype": "FP32", "data": [1]});
        assert!(error(json!([other])).contains("there are age, city"));
        let flat = json!({"name": "rows", "shape": [2], "datatype": "BYTES", "data": ["31", "rome"]});
        assert!(error(json!([flat])).contains("takes [n, 2]"));
    }
}
