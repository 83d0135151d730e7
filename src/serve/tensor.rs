//! Tensors of the Open Inference Protocol, made into the model's inputs, however they came.
//!
//! An image model takes one tensor, `image`: `[n, height, width, channels]`, without the channels when there is one, or
//! flattened to `[n, pixels]`. A table takes one tensor of shape `[n]` or `[n, 1]` for each column, under its name, a
//! column that is left out being missing; or one tensor `rows` of shape `[n, columns]`.

use super::datatype::Datatype;
use super::signature::{IMAGE, ROWS};
use super::worker::Inputs;
use crate::preprocess::{Column, ColumnKind, Schema};

/// A tensor whose elements are as many as its shape says, and of its datatype.
#[derive(Debug)]
pub struct Tensor {
    name: String,
    shape: Vec<usize>,
    elements: Elements,
}

/// The elements of a tensor in row-major order.
#[derive(Debug, PartialEq)]
pub enum Elements {
    /// Numbers, a missing one as NaN.
    Numbers(Vec<f32>),
    /// Texts.
    Texts(Vec<String>),
}

/// The elements of a tensor, as they came.
#[derive(Debug)]
pub enum Content<'a> {
    /// As bytes of the tensor's datatype.
    Bytes(&'a [u8]),
    /// One by one, to be checked against the datatype.
    Elements(Elements),
}

/// The inputs that the tensors of a request hold.
///
/// # Errors
///
/// Which tensor does not fit the model, and how.
pub fn inputs(schema: &Schema, tensors: Vec<Tensor>) -> Result<Inputs, String> {
    match schema {
        Schema::Image {
            height,
            width,
            channels,
        } => {
            let tensor = one(tensors, IMAGE)?;
            let pixels = height * width * channels;
            let shape = tensor.shape.get(1..).unwrap_or_default();
            let fits = shape == [*height, *width, *channels]
                || (*channels == 1 && shape == [*height, *width])
                || shape == [pixels];
            if !fits {
                return Err(tensor.misshapen(&format!("[n, {height}, {width}, {channels}] or [n, {pixels}]")));
            }
            let Elements::Numbers(raw) = tensor.elements else {
                return Err(format!("input `{IMAGE}` holds texts, and a pixel is a number"));
            };
            let count = tensor.shape[0];
            Ok(Inputs { raw, count })
        }
        Schema::Table { columns } => match &tensors[..] {
            [tensor] if tensor.name == ROWS && !columns.iter().any(|column| column.name == ROWS) => {
                let [count, width] = tensor.shape[..] else {
                    return Err(tensor.misshapen(&format!("[n, {}]", columns.len())));
                };
                if width != columns.len() {
                    return Err(tensor.misshapen(&format!("[n, {}]", columns.len())));
                }
                let mut raw = Vec::with_capacity(count * width);
                for (index, column) in (0..count * width).zip(columns.iter().cycle()) {
                    raw.push(tensor.elements.cell(index, column)?);
                }
                Ok(Inputs { raw, count })
            }
            _ => by_column(columns, &tensors),
        },
    }
}

fn by_column(columns: &[Column], tensors: &[Tensor]) -> Result<Inputs, String> {
    let mut inputs = Inputs::default();
    let mut seen = vec![false; columns.len()];
    for (position, tensor) in tensors.iter().enumerate() {
        let Some(place) = columns.iter().position(|column| column.name == tensor.name) else {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            return Err(format!(
                "there is no input `{}`, there are {} (or `{ROWS}` for whole rows)",
                tensor.name,
                names.join(", ")
            ));
        };
        if std::mem::replace(&mut seen[place], true) {
            return Err(format!("input `{}` comes twice", tensor.name));
        }
        let ([count] | [count, 1]) = tensor.shape[..] else {
            return Err(tensor.misshapen("[n] or [n, 1]"));
        };
        if position == 0 {
            inputs.count = count;
            inputs.raw = vec![f32::NAN; count * columns.len()];
        } else if inputs.count != count {
            return Err(format!(
                "input `{}` has {count} rows, and the ones before it have {}",
                tensor.name, inputs.count
            ));
        }
        for (index, row) in inputs.raw.chunks_exact_mut(columns.len()).enumerate() {
            row[place] = tensor.elements.cell(index, &columns[place])?;
        }
    }
    Ok(inputs)
}

/// The one tensor that there has to be.
fn one(mut tensors: Vec<Tensor>, name: &str) -> Result<Tensor, String> {
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

impl Tensor {
    /// Checks a tensor of a request against itself; `datatype` is a name of the protocol.
    ///
    /// # Errors
    ///
    /// That there is no such datatype, or that the content is none of it, or more or less than the shape takes.
    pub fn new(name: String, shape: Vec<usize>, datatype: &str, content: Content<'_>) -> Result<Self, String> {
        let count = shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
        let count = count.ok_or_else(|| format!("input `{name}` has shape {shape:?}, which is too large"))?;
        let datatype = Datatype::parse(datatype).ok_or_else(|| {
            format!(
                "input `{name}` has datatype `{datatype}`, and this server reads {}",
                Datatype::NAMES
            )
        })?;
        let elements = match content {
            Content::Bytes(bytes) => datatype.decode(bytes, count),
            Content::Elements(elements) => datatype.check(&elements).map(|()| elements),
        };
        let elements = elements.map_err(|reason| format!("input `{name}`: {reason}"))?;
        if elements.len() != count {
            return Err(format!(
                "input `{name}` has {} elements, and its shape {shape:?} takes {count}",
                elements.len()
            ));
        }
        Ok(Self { name, shape, elements })
    }

    fn misshapen(&self, expected: &str) -> String {
        format!(
            "input `{}` has shape {:?}, and the model takes {expected}",
            self.name, self.shape
        )
    }
}

impl Elements {
    fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// An element as a column's raw value.
    fn cell(&self, index: usize, column: &Column) -> Result<f32, String> {
        match (self, &column.kind) {
            (Self::Numbers(numbers), ColumnKind::Numeric) => Ok(numbers[index]),
            // Category names that look like numbers come as numbers from many clients.
            (Self::Numbers(numbers), ColumnKind::Categorical { .. }) => {
                Ok(column.parse(&numbers[index].to_string()).unwrap_or(f32::NAN))
            }
            (Self::Texts(texts), _) => column.parse(&texts[index]).ok_or_else(|| {
                format!(
                    "column `{}` takes a number, and this is `{}`",
                    column.name, texts[index]
                )
            }),
        }
    }
}
