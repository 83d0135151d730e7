//! Tensors of the Open Inference Protocol as JSON, or as bytes after it (the binary tensor extension).

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::tensor::{Content, Elements, Tensor};

/// A tensor of a request.
#[derive(Deserialize)]
pub struct InputTensor {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    #[serde(default)]
    parameters: Parameters,
    data: Option<Data>,
}

/// What a request says of a tensor that it sends. Other parameters are hints to other servers.
#[derive(Default, Deserialize)]
struct Parameters {
    binary_data_size: Option<usize>,
}

/// The tensors of a request; `binary` is what comes after the JSON, tensor by tensor.
///
/// # Errors
///
/// Which tensor does not fit itself or what comes after the JSON, and how.
pub fn read(tensors: Vec<InputTensor>, binary: &[u8]) -> Result<Vec<Tensor>, String> {
    let mut left = binary;
    let tensors = tensors
        .into_iter()
        .map(|tensor| tensor.read(&mut left))
        .collect::<Result<_, _>>()?;
    if left.is_empty() {
        return Ok(tensors);
    }
    Err(format!(
        "{} bytes after the JSON belong to no tensor: `binary_data_size` tells how many each has",
        left.len()
    ))
}

impl InputTensor {
    /// Takes the tensor's bytes from the beginning of `binary`, if it has some.
    fn read(self, binary: &mut &[u8]) -> Result<Tensor, String> {
        let Self {
            name,
            shape,
            datatype,
            parameters,
            data,
        } = self;
        let content = match (data, parameters.binary_data_size) {
            (Some(Data { elements, nesting }), None) => {
                if !nesting.fits(&shape) {
                    return Err(format!(
                        "input `{name}`: `data` is not nested as its shape {shape:?} is"
                    ));
                }
                Content::Elements(elements)
            }
            (None, Some(size)) => Content::Bytes(binary.split_off(..size).ok_or_else(|| {
                format!(
                    "input `{name}` has {size} bytes after the JSON, and there are {}",
                    binary.len()
                )
            })?),
            (Some(_), Some(_)) => return Err(format!("input `{name}` has both `data` and `binary_data_size`")),
            (None, None) => {
                return Err(format!(
                    "input `{name}` has no `data`, and no `binary_data_size` among its parameters"
                ));
            }
        };
        Tensor::new(name, shape, &datatype, content)
    }
}

/// The `data` of a tensor.
struct Data {
    elements: Elements,
    nesting: Nesting,
}

/// How the elements of a tensor are nested in arrays.
enum Nesting {
    /// In one array.
    Flat,
    /// In arrays of these lengths, from the outermost.
    Deep(Vec<usize>),
    /// In arrays of different lengths.
    Ragged,
}

impl Nesting {
    fn fits(&self, shape: &[usize]) -> bool {
        match self {
            Self::Flat => true,
            Self::Deep(lengths) => lengths == shape,
            Self::Ragged => false,
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut read = Read::default();
        from.deserialize_seq(Level {
            depth: 0,
            read: &mut read,
        })?;
        let nesting = match read.lengths.len() {
            _ if read.ragged => Nesting::Ragged,
            0 | 1 => Nesting::Flat,
            _ => Nesting::Deep(read.lengths.into_iter().flatten().collect()),
        };
        let elements = match (read.numbers, read.texts) {
            (numbers, texts) if texts.is_empty() => Elements::Numbers(numbers),
            (numbers, texts) if numbers.is_empty() => Elements::Texts(texts),
            _ => return Err(D::Error::custom("`data` mixes texts with other elements")),
        };
        Ok(Self { elements, nesting })
    }
}

/// What has been read of `data`.
#[derive(Default)]
struct Read {
    numbers: Vec<f32>,
    texts: Vec<String>,
    /// The length of the arrays of each depth.
    lengths: Vec<Option<usize>>,
    ragged: bool,
}

/// An array of `data`, or an element.
struct Level<'a> {
    depth: usize,
    read: &'a mut Read,
}

impl Level<'_> {
    /// An element is no array.
    fn number(self, number: f32) -> bool {
        self.read.numbers.push(number);
        false
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

/// Tells whether it was an array.
impl<'de> Visitor<'de> for Level<'_> {
    type Value = bool;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("`data` to be an array of numbers or texts")
    }

    fn visit_f64<E>(self, value: f64) -> Result<bool, E> {
        Ok(self.number(value as f32))
    }

    fn visit_u64<E>(self, value: u64) -> Result<bool, E> {
        Ok(self.number(value as f32))
    }

    fn visit_i64<E>(self, value: i64) -> Result<bool, E> {
        Ok(self.number(value as f32))
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        Ok(self.number(value.into()))
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(self.number(f32::NAN))
    }

    fn visit_str<E>(self, value: &str) -> Result<bool, E> {
        self.read.texts.push(value.to_owned());
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<bool, A::Error> {
        let Self { depth, read } = self;
        if read.lengths.len() <= depth {
            read.lengths.push(None);
        }
        let (mut items, mut arrays) = (0, 0);
        while let Some(is_array) = array.next_element_seed(Level {
            depth: depth + 1,
            read: &mut *read,
        })? {
            items += 1;
            arrays += usize::from(is_array);
        }
        let same = *read.lengths[depth].get_or_insert(items) == items;
        read.ragged |= !same || (arrays != 0 && arrays != items) || (arrays == 0 && read.lengths.len() > depth + 1);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tensor::inputs;
    use crate::preprocess::{Column, ColumnKind, Schema};

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

    /// The raw values of each input; -1 for a missing one.
    fn read(schema: &Schema, tensors: Value, binary: &[u8]) -> Result<Vec<Vec<f32>>, String> {
        let tensors = serde_json::from_value(tensors).map_err(|error| error.to_string())?;
        let inputs = inputs(schema, super::read(tensors, binary)?)?;
        let known = |value: &f32| if value.is_nan() { -1.0 } else { *value };
        let rows = inputs.raw.chunks_exact(schema.width());
        assert_eq!(rows.len(), inputs.count);
        Ok(rows.map(|row| row.iter().map(known).collect()).collect())
    }

    #[allow(clippy::needless_pass_by_value)] // as `json!` makes them
    fn pixels(shape: Value, datatype: &str, data: Value) -> Result<Vec<Vec<f32>>, String> {
        let tensor = json!([{"name": "image", "shape": shape, "datatype": datatype, "data": data}]);
        read(&image(), tensor, b"")
    }

    #[test]
    fn images_come_flat_or_nested() {
        let expected = Ok(vec![vec![1.0, 2.0], vec![3.0, 4.0]]);
        assert_eq!(pixels(json!([2, 2]), "UINT8", json!([1, 2, 3, 4])), expected);
        assert_eq!(pixels(json!([2, 1, 2]), "INT64", json!([[[1, 2]], [[3, 4]]])), expected);
        assert_eq!(
            pixels(json!([2, 1, 2, 1]), "FP32", json!([[[[1], [2]]], [[[3], [4]]]])),
            expected
        );
        assert_eq!(pixels(json!([0, 2]), "FP32", json!([])), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_with_a_tensor_is_named() {
        let error = |shape, datatype, data| pixels(shape, datatype, data).expect_err("refused");
        assert!(error(json!([1, 3]), "FP32", json!([1, 2, 3])).contains("takes [n, 1, 2, 1] or [n, 2]"));
        assert!(error(json!([]), "FP32", json!([1])).contains("has shape []"));
        assert!(error(json!([2, 2]), "FP32", json!([1, 2])).contains("2 elements, and its shape [2, 2] takes 4"));
        assert!(error(json!([1, 2]), "FP32", json!([[1], [2]])).contains("not nested"));
        assert!(error(json!([1, 2]), "FP32", json!([[1, 2], 3])).contains("not nested"));
        assert!(error(json!([2, 2]), "FP32", json!([[1, 2], [[3], [4]]])).contains("not nested"));
        assert!(error(json!([2, 2]), "FP32", json!([[[1], [2]], [3, 4]])).contains("not nested"));
        assert!(error(json!([2, 2]), "FP32", json!([[1, 2, 3], [4]])).contains("not nested"));
        assert!(error(json!([1, 2]), "FP32", json!("x")).contains("array of numbers"));
        assert!(error(json!([1, 2]), "UINT8", json!([1, 256])).contains("element 1 is `256`, which is no UINT8"));
        assert!(error(json!([1, 2]), "INT8", json!([0.5, 1])).contains("element 0"));
        assert!(error(json!([1, 2]), "BYTES", json!([1, 2])).contains("no BYTES"));
        assert!(error(json!([1, 2]), "FP32", json!(["1", "2"])).contains("element 0 is `1`, which is no FP32"));
        assert!(error(json!([1, 2]), "BYTES", json!(["1", "2"])).contains("a pixel is a number"));
        assert!(error(json!([1, 2]), "FP32", json!(["1", 2])).contains("mixes"));
        assert!(error(json!([1, 2]), "COMPLEX", json!([1, 2])).contains("reads BOOL"));
        assert!(error(json!([usize::MAX, 2]), "FP32", json!([1, 2])).contains("too large"));
        let named = json!([{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]);
        assert!(
            read(&image(), named, b"")
                .expect_err("refused")
                .contains("there is `image`")
        );
        assert!(read(&image(), json!([]), b"").expect_err("refused").contains("has 0"));
        let none = json!([{"name": "image", "shape": [1, 2], "datatype": "FP32"}]);
        assert!(read(&image(), none, b"").expect_err("refused").contains("no `data`"));
    }

    #[test]
    fn elements_come_as_bytes_too() {
        let tensor = |size: usize| json!([{"name": "image", "shape": [1, 2], "datatype": "INT16", "parameters": {"binary_data_size": size}}]);
        assert_eq!(read(&image(), tensor(4), &[1, 1, 2, 0]), Ok(vec![vec![257.0, 2.0]]));
        let error = |size, bytes: &[u8]| read(&image(), tensor(size), bytes).expect_err("refused");
        assert!(error(4, &[1, 1]).contains("has 4 bytes after the JSON, and there are 2"));
        assert!(error(4, &[0; 7]).contains("3 bytes after the JSON belong to no tensor"));
        assert!(error(3, &[0; 3]).contains("2 elements of INT16 are 4 bytes, and these are 3"));
        let both = json!([{"name": "image", "shape": [1, 2], "datatype": "INT8", "data": [1, 2],
                           "parameters": {"binary_data_size": 2}}]);
        assert!(read(&image(), both, &[0; 2]).expect_err("refused").contains("both"));

        let ages = json!({"name": "age", "shape": [2], "datatype": "FP64", "parameters": {"binary_data_size": 16}});
        let cities = json!({"name": "city", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 16}});
        let mut bytes = [31.0_f64.to_le_bytes(), f64::NAN.to_le_bytes()].concat();
        bytes.extend(b"\x04\0\0\0rome\x04\0\0\0bonn");
        assert_eq!(
            read(&table(), json!([ages, cities]), &bytes),
            Ok(vec![vec![31.0, 1.0], vec![-1.0, 0.0]])
        );
    }

    #[test]
    fn a_table_comes_by_column_or_by_row() {
        let expected = Ok(vec![vec![31.0, 1.0], vec![7.0, 0.0]]);
        let ages = json!({"name": "age", "shape": [2, 1], "datatype": "INT64", "data": [[31], [7]]});
        let cities = json!({"name": "city", "shape": [2], "datatype": "BYTES", "data": ["rome", "bonn"]});
        assert_eq!(read(&table(), json!([cities, ages]), b""), expected);
        let rows = json!([{"name": "rows", "shape": [1, 2], "datatype": "BYTES", "data": ["31", "rome"]}]);
        assert_eq!(read(&table(), rows, b""), Ok(vec![vec![31.0, 1.0]]));
        assert_eq!(
            read(&table(), json!([ages]), b""),
            Ok(vec![vec![31.0, -1.0], vec![7.0, -1.0]])
        );
    }

    #[test]
    fn columns_that_do_not_go_together_are_named() {
        let ages = json!({"name": "age", "shape": [2], "datatype": "FP32", "data": [31, null]});
        let city = json!({"name": "city", "shape": [1], "datatype": "BYTES", "data": ["rome"]});
        let error = |inputs| read(&table(), inputs, b"").expect_err("refused");
        assert!(error(json!([ages, city])).contains("`city` has 1 rows"));
        assert!(error(json!([ages, ages])).contains("`age` comes twice"));
        let other = json!({"name": "agee", "shape": [1], "datatype": "FP32", "data": [1]});
        assert!(error(json!([other])).contains("there are age, city"));
        let flat = json!({"name": "rows", "shape": [2], "datatype": "BYTES", "data": ["31", "rome"]});
        assert!(error(json!([flat])).contains("takes [n, 2]"));
        let text = json!({"name": "age", "shape": [1], "datatype": "BYTES", "data": ["old"]});
        assert!(error(json!([text])).contains("`age` takes a number, and this is `old`"));
    }
}
