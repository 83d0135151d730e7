//! What the model takes and gives, in the terms of the Open Inference Protocol: tensors with a name, a datatype and a
//! shape. How the elements of an input are read is in `tensor`.

use serde::Serialize;

use super::datatype;
use super::refusal::Refusal;
use super::worker::Answers;
use crate::preprocess::{ColumnKind, Schema};

/// Name of an image model's input.
pub const IMAGE: &str = "image";
/// Name of the input that holds whole rows of a table.
pub const ROWS: &str = "rows";

/// A tensor that the model takes or gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorMetadata {
    /// What it is called in a request and in an answer.
    pub name: String,
    /// The protocol's name for what its elements are.
    pub datatype: &'static str,
    /// Its sizes, -1 for the number of inputs.
    pub shape: Vec<i64>,
}

/// The tensors that a model takes.
pub fn inputs(schema: &Schema) -> Vec<TensorMetadata> {
    let metadata = |name: &str, datatype, shape| TensorMetadata {
        name: name.to_owned(),
        datatype,
        shape,
    };
    match schema {
        Schema::Image {
            height,
            width,
            channels,
        } => {
            let [height, width, channels] = [height, width, channels].map(|size| (*size as u64).cast_signed());
            vec![metadata(IMAGE, "FP32", vec![-1, height, width, channels])]
        }
        Schema::Table { columns } => columns
            .iter()
            .map(|column| match column.kind {
                ColumnKind::Numeric => metadata(&column.name, "FP32", vec![-1]),
                ColumnKind::Categorical { .. } => metadata(&column.name, "BYTES", vec![-1]),
            })
            .collect(),
    }
}

/// The tensors that a model with so many classes gives.
pub fn outputs(classes: usize) -> Vec<TensorMetadata> {
    let metadata = |output: Output| TensorMetadata {
        name: output.name().to_owned(),
        datatype: output.datatype(),
        shape: match output {
            Output::Probabilities => vec![-1, (classes as u64).cast_signed()],
            Output::Label => vec![-1],
        },
    };
    Output::ALL.map(metadata).to_vec()
}

/// A tensor of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The probability of each class, `[n, classes]`.
    Probabilities,
    /// The most likely class, `[n]`.
    Label,
}

impl Output {
    /// All of them, which a request gets that asks for none.
    pub const ALL: [Self; 2] = [Self::Probabilities, Self::Label];

    /// The output of a name.
    ///
    /// # Errors
    ///
    /// 400 when there is none.
    pub fn named(name: &str) -> Result<Self, Refusal> {
        let found = Self::ALL.into_iter().find(|output| output.name() == name);
        found.ok_or_else(|| {
            let [first, second] = Self::ALL.map(Self::name);
            Refusal::bad(format!(
                "there is no output `{name}`, there are `{first}` and `{second}`"
            ))
        })
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probabilities => "probabilities",
            Self::Label => "label",
        }
    }

    /// What its elements are.
    pub fn datatype(self) -> &'static str {
        match self {
            Self::Probabilities => "FP32",
            Self::Label => "BYTES",
        }
    }

    /// Its sizes in an answer.
    pub fn shape(self, answers: &Answers<'_>) -> Vec<usize> {
        let classes = answers.classes.len();
        let rows = answers.probabilities.len() / classes;
        match self {
            Self::Probabilities => vec![rows, classes],
            Self::Label => vec![rows],
        }
    }

    /// Writes its elements to the end of `bytes`.
    pub fn encode(self, answers: &Answers<'_>, bytes: &mut Vec<u8>) {
        match self {
            Self::Probabilities => datatype::encode_numbers(&answers.probabilities, bytes),
            Self::Label => datatype::encode_texts(answers.labels(), bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_found_by_its_name() {
        for output in Output::ALL {
            assert_eq!(Output::named(output.name()), Ok(output));
        }
        let refused = format!("{:?}", Output::named("labels").expect_err("refused"));
        assert!(refused.contains("no output `labels`, there are `probabilities` and `label`"));
    }

    #[test]
    fn outputs_are_as_large_as_what_is_written_of_them() {
        let classes = ["no".to_owned(), "yes".to_owned()];
        let answers = Answers {
            probabilities: vec![0.25, 0.75, 1.0, 0.0, 0.5, 0.5],
            classes: &classes,
        };
        let written = |output: Output| {
            let mut bytes = vec![7];
            output.encode(&answers, &mut bytes);
            bytes.len() - 1
        };
        assert_eq!(Output::Probabilities.shape(&answers), [3, 2]);
        assert_eq!(written(Output::Probabilities), 3 * 2 * 4);
        assert_eq!(Output::Label.shape(&answers), [3]);
        assert_eq!(written(Output::Label), 3 * 4 + "yesnono".len());
    }
}
