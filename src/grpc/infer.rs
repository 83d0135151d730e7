//! `ModelInfer`: a request's tensors into the model's inputs, and its answers into tensors.
//!
//! Elements come one by one, in the field of their kind, or as bytes; the answer's go as the request's came.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use prost::bytes::Bytes;

use super::messages::{
    InferRequest, InferResponse, InputTensor, OutputTensor, Parameter, ParameterChoice, RequestedOutput, TensorContents,
};
use crate::serve::second_port::{Answers, Refusal, Service, Worker};
use crate::serve::signature::Output;
use crate::serve::tensor::{self, Content, Elements, Tensor};

/// Answers a request that began at `started`.
///
/// # Errors
///
/// What is wrong with the request, or why the model does not answer by `deadline`.
pub async fn infer(
    worker: &Worker,
    request: InferRequest,
    started: Instant,
    deadline: Option<Instant>,
) -> Result<InferResponse, Refusal> {
    let service = worker.service();
    check_model(service, &request.model_name, &request.model_version)?;
    let wanted = wanted(&request.outputs)?;
    let patience = patience(&request.parameters)?.and_then(|patience| started.checked_add(patience));
    let deadline = [deadline, patience].into_iter().flatten().min();
    let raw = request.raw_input_contents;
    let tensors = tensors(request.inputs, &raw).map_err(Refusal::bad)?;
    let inputs = tensor::inputs(&service.manifest().inputs, tensors).map_err(Refusal::bad)?;
    let answers = worker.answer(&inputs, deadline).await?;
    let digest = Parameter {
        choice: Some(ParameterChoice::Text(service.digest().to_owned())),
    };
    let mut response = InferResponse {
        model_name: service.manifest().name.clone(),
        model_version: service.version().to_owned(),
        id: request.id,
        parameters: HashMap::from([("digest".to_owned(), digest)]),
        ..InferResponse::default()
    };
    for output in wanted {
        let contents = if raw.is_empty() {
            Some(contents(output, &answers))
        } else {
            let mut bytes = Vec::new();
            output.encode(&answers, &mut bytes);
            response.raw_output_contents.push(bytes);
            None
        };
        response.outputs.push(OutputTensor {
            name: output.name().to_owned(),
            datatype: output.datatype().to_owned(),
            shape: output
                .shape(&answers)
                .into_iter()
                .map(|size| (size as u64).cast_signed())
                .collect(),
            contents,
        });
    }
    Ok(response)
}

/// Checks that a request means the model that is here.
///
/// # Errors
///
/// 404 that names the model and the version that are.
pub fn check_model(service: &Service, name: &str, version: &str) -> Result<(), Refusal> {
    service.check_model(name, (!version.is_empty()).then_some(version))
}

/// The outputs that a request asks for: all of them when it does not say.
fn wanted(outputs: &[RequestedOutput]) -> Result<Vec<Output>, Refusal> {
    if outputs.is_empty() {
        return Ok(Output::ALL.to_vec());
    }
    outputs.iter().map(|output| Output::named(&output.name)).collect()
}

/// The client's patience, as Triton's clients tell it, in microseconds; 0 is none. Other parameters are hints to other
/// servers.
fn patience(parameters: &HashMap<String, Parameter>) -> Result<Option<Duration>, Refusal> {
    let Some(timeout) = parameters.get("timeout") else {
        return Ok(None);
    };
    let micros = match timeout.choice {
        Some(ParameterChoice::Int64(micros)) => u64::try_from(micros).ok(),
        Some(ParameterChoice::Uint64(micros)) => Some(micros),
        _ => None,
    };
    match micros {
        Some(0) => Ok(None),
        Some(micros) => Ok(Some(Duration::from_micros(micros))),
        None => Err(Refusal::bad(
            "the parameter `timeout` is no whole number of microseconds",
        )),
    }
}

/// The tensors of a request; `raw` are their elements as bytes, if they come so.
fn tensors(inputs: Vec<InputTensor>, raw: &[Bytes]) -> Result<Vec<Tensor>, String> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(format!(
            "the request has {} inputs, and {} in `raw_input_contents`",
            inputs.len(),
            raw.len()
        ));
    }
    let mut raw = raw.iter();
    inputs.into_iter().map(|input| read(input, raw.next())).collect()
}

fn read(input: InputTensor, raw: Option<&Bytes>) -> Result<Tensor, String> {
    let InputTensor {
        name,
        datatype,
        shape,
        contents,
    } = input;
    let sizes = shape.into_iter().map(usize::try_from).collect::<Result<_, _>>();
    let sizes = sizes.map_err(|_| format!("input `{name}` has a shape with a size below 0"))?;
    let content = match (raw, contents) {
        (Some(bytes), None) => Content::Bytes(bytes),
        (Some(_), Some(_)) => return Err(format!("input `{name}` has both `contents` and `raw_input_contents`")),
        (None, contents) => {
            let elements = elements(contents.unwrap_or_default());
            Content::Elements(elements.map_err(|reason| format!("input `{name}`: {reason}"))?)
        }
    };
    Tensor::new(name, sizes, &datatype, content)
}

/// The elements of whichever kind there are.
fn elements(contents: TensorContents) -> Result<Elements, String> {
    let TensorContents {
        bools,
        ints,
        int64s,
        uints,
        uint64s,
        floats,
        doubles,
        texts,
    } = contents;
    let lengths = [
        bools.len(),
        ints.len(),
        int64s.len(),
        uints.len(),
        uint64s.len(),
        floats.len(),
        doubles.len(),
        texts.len(),
    ];
    if lengths.into_iter().filter(|length| *length > 0).count() > 1 {
        return Err("`contents` holds elements of more than one kind".into());
    }
    if !texts.is_empty() {
        let text = |(index, text)| String::from_utf8(text).map_err(|_| format!("text {index} is no UTF-8"));
        return texts
            .into_iter()
            .enumerate()
            .map(text)
            .collect::<Result<_, _>>()
            .map(Elements::Texts);
    }
    if !floats.is_empty() {
        return Ok(Elements::Numbers(floats));
    }
    let numbers = bools.into_iter().map(f32::from);
    let numbers = numbers.chain(ints.into_iter().map(|number| number as f32));
    let numbers = numbers.chain(int64s.into_iter().map(|number| number as f32));
    let numbers = numbers.chain(uints.into_iter().map(|number| number as f32));
    let numbers = numbers.chain(uint64s.into_iter().map(|number| number as f32));
    let numbers = numbers.chain(doubles.into_iter().map(|number| number as f32));
    Ok(Elements::Numbers(numbers.collect()))
}

/// An output's elements one by one.
fn contents(output: Output, answers: &Answers<'_>) -> TensorContents {
    let mut contents = TensorContents::default();
    match output {
        Output::Probabilities => contents.floats.clone_from(&answers.probabilities),
        Output::Label => {
            let texts = answers.labels().map(|label| label.as_bytes().to_vec());
            contents.texts.extend(texts);
        }
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Schema;

    #[allow(clippy::unnecessary_wraps)] // as a message holds them
    fn contents(fill: impl FnOnce(&mut TensorContents)) -> Option<TensorContents> {
        let mut contents = TensorContents::default();
        fill(&mut contents);
        Some(contents)
    }

    /// The raw values of an image of two pixels.
    fn pixels(datatype: &str, contents: Option<TensorContents>, raw: &[Bytes]) -> Result<Vec<f32>, String> {
        let schema = Schema::Image {
            height: 1,
            width: 2,
            channels: 1,
        };
        let input = InputTensor {
            name: "image".into(),
            datatype: datatype.into(),
            shape: vec![1, 2],
            contents,
        };
        Ok(tensor::inputs(&schema, tensors(vec![input], raw)?)?.raw)
    }

    #[test]
    fn elements_come_in_the_field_of_their_kind() {
        let two = Ok(vec![1.0, 0.0]);
        assert_eq!(pixels("BOOL", contents(|all| all.bools = vec![true, false]), &[]), two);
        assert_eq!(pixels("INT8", contents(|all| all.ints = vec![1, 0]), &[]), two);
        assert_eq!(pixels("INT64", contents(|all| all.int64s = vec![1, 0]), &[]), two);
        assert_eq!(pixels("UINT16", contents(|all| all.uints = vec![1, 0]), &[]), two);
        assert_eq!(pixels("UINT64", contents(|all| all.uint64s = vec![1, 0]), &[]), two);
        assert_eq!(pixels("FP32", contents(|all| all.floats = vec![1.0, 0.0]), &[]), two);
        assert_eq!(pixels("FP64", contents(|all| all.doubles = vec![1.0, 0.0]), &[]), two);
    }

    #[test]
    fn elements_come_as_bytes() {
        let raw = [Bytes::from_static(&[7, 255])];
        assert_eq!(pixels("UINT8", None, &raw), Ok(vec![7.0, 255.0]));
        let error = |contents, raw: &[Bytes]| pixels("UINT8", contents, raw).expect_err("refused");
        assert!(error(contents(|_| {}), &raw).contains("both `contents` and `raw_input_contents`"));
        let twice = [raw[0].clone(), raw[0].clone()];
        assert!(error(None, &twice).contains("has 1 inputs, and 2 in"));
        assert!(error(None, &[Bytes::from_static(&[7])]).contains("2 elements of UINT8 are 2 bytes, and these are 1"));
    }

    #[test]
    fn what_is_wrong_with_contents_is_named() {
        let error = |datatype, contents| pixels(datatype, contents, &[]).expect_err("refused");
        assert!(error("FP32", None).contains("0 elements, and its shape [1, 2] takes 2"));
        assert!(error("UINT8", contents(|all| all.uints = vec![1, 256])).contains("element 1 is `256`"));
        assert!(error("FP32", contents(|all| all.texts = vec![b"1".to_vec()])).contains("no FP32"));
        assert!(error("BYTES", contents(|all| all.texts = vec![vec![255]])).contains("text 0 is no"));
        let mixed = contents(|all| (all.ints, all.floats) = (vec![1], vec![1.0]));
        assert!(error("FP32", mixed).contains("more than one kind"));
        let input = InputTensor {
            shape: vec![-1, 2],
            ..InputTensor::default()
        };
        let refused = tensors(vec![input], &[]).expect_err("refused");
        assert!(refused.contains("a shape with a size below 0"), "{refused}");
    }

    #[test]
    fn patience_is_told_in_microseconds() {
        let read = |choice| {
            let parameter = Parameter { choice: Some(choice) };
            patience(&HashMap::from([("timeout".to_owned(), parameter)]))
        };
        assert_eq!(patience(&HashMap::new()), Ok(None));
        assert_eq!(read(ParameterChoice::Int64(7)), Ok(Some(Duration::from_micros(7))));
        assert_eq!(read(ParameterChoice::Uint64(7)), Ok(Some(Duration::from_micros(7))));
        assert_eq!(read(ParameterChoice::Int64(0)), Ok(None));
        assert!(read(ParameterChoice::Int64(-1)).is_err());
        assert!(read(ParameterChoice::Text("7".into())).is_err());
    }
}
