//! Predictions in the manner of TensorFlow Serving's REST API.
//!
//! - `:predict` in row form: `{"instances": [...]}` gives `{"predictions": [[probability, ...], ...]}`; an instance of an
//!   image is its pixels, one of a table an array or an object by column.
//! - `:predict` in column form: `{"inputs": ...}` gives `{"outputs": [[probability, ...], ...]}`; the inputs of an image
//!   model are its images, those of a table an object with an array for each column.
//! - `:classify`: `{"examples": [{...}, ...]}` gives `{"result": [[[class, probability], ...], ...]}`.

use std::fmt;
use std::time::Instant;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::payload;
use super::refusal::{self, Refusal, Response};
use super::service::{Phase, Service};
use super::signature::{IMAGE, Output};
use super::worker::{Inputs, Worker};
use crate::predict::{Samples, decimals, raw_from_json};
use crate::preprocess::{ColumnKind, Schema};

/// The only signature of a model.
const SIGNATURE: &str = "serving_default";

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer<'a> {
    /// To the row form.
    Predictions(Vec<&'a [f32]>),
    /// To the column form.
    Outputs(Vec<&'a [f32]>),
    /// To `:classify`.
    Result(Vec<Vec<(&'a str, f32)>>),
}

/// The inputs of a prediction, and the form that they came in.
enum Form {
    Rows(Inputs),
    Columns(Inputs),
}

/// Reads the body of a prediction, instances straight into the inputs.
struct Request<'a> {
    schema: &'a Schema,
}

impl<'de> DeserializeSeed<'de> for Request<'_> {
    type Value = Form;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Form, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Request<'_> {
    type Value = Form;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object with `instances`: an array of inputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Form, A::Error> {
        let mut form = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "instances" | "inputs" if form.is_some() => {
                    return Err(A::Error::custom("the body takes `instances` or `inputs`, once"));
                }
                "instances" => {
                    let mut inputs = Inputs::default();
                    let samples = Samples {
                        schema: self.schema,
                        raw: &mut inputs.raw,
                    };
                    inputs.count = map.next_value_seed(samples)?;
                    form = Some(Form::Rows(inputs));
                }
                "inputs" => {
                    let value = map.next_value()?;
                    form = Some(Form::Columns(columns(self.schema, value).map_err(A::Error::custom)?));
                }
                "signature_name" => check_signature(map.next_value()?).map_err(A::Error::custom)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        form.ok_or_else(|| A::Error::custom("the body has no `instances`: an array of inputs"))
    }
}

fn check_signature(name: Option<String>) -> Result<(), String> {
    match name.filter(|name| name != SIGNATURE) {
        Some(other) => Err(format!("there is no signature `{other}`, there is `{SIGNATURE}`")),
        None => Ok(()),
    }
}

/// The inputs of a request in column form.
fn columns(schema: &Schema, value: Value) -> Result<Inputs, String> {
    match (schema, value) {
        (Schema::Image { .. }, Value::Object(mut named)) => match (named.remove(IMAGE), named.keys().next()) {
            (_, Some(other)) => Err(format!("there is no input `{other}`, there is `{IMAGE}`")),
            (Some(images), None) => rows(schema, &images),
            (None, None) => Err(format!("`inputs` has no `{IMAGE}`")),
        },
        (Schema::Image { .. }, images) => rows(schema, &images),
        (Schema::Table { .. }, Value::Object(named)) => table(schema, &named),
        (Schema::Table { .. }, _) => Err("`inputs` of a table is an object with an array for each column".into()),
    }
}

fn rows(schema: &Schema, values: &Value) -> Result<Inputs, String> {
    let mut inputs = Inputs::default();
    let samples = Samples {
        schema,
        raw: &mut inputs.raw,
    };
    inputs.count = samples.deserialize(values).map_err(|error| error.to_string())?;
    Ok(inputs)
}

fn table(schema: &Schema, named: &Map<String, Value>) -> Result<Inputs, String> {
    let mut given = Vec::with_capacity(named.len());
    for (name, cells) in named {
        let Value::Array(cells) = cells else {
            return Err(format!("`{name}` of `inputs` is no array"));
        };
        given.push((name, cells));
    }
    let count = given.first().map_or(0, |(_, cells)| cells.len());
    if let Some((name, cells)) = given.iter().find(|(_, cells)| cells.len() != count) {
        return Err(format!(
            "column `{name}` has {} values, and column `{}` has {count}",
            cells.len(),
            given[0].0
        ));
    }
    let mut inputs = Inputs::default();
    for index in 0..count {
        // TensorFlow's clients send a column as `[n, 1]`, too.
        let cell = |cells: &[Value]| match &cells[index] {
            Value::Array(one) if one.len() == 1 => one[0].clone(),
            cell => cell.clone(),
        };
        let row = given
            .iter()
            .map(|(name, cells)| ((*name).clone(), cell(cells)))
            .collect();
        raw_from_json(schema, &Value::Object(row), &mut inputs.raw)
            .map_err(|error| format!("input {index}: {error}"))?;
        inputs.count += 1;
    }
    Ok(inputs)
}

/// `POST /v1/models/NAME:predict`.
pub async fn predict(worker: &Worker, body: &[u8], deadline: Option<Instant>) -> Result<Response, Refusal> {
    let schema = &worker.service().manifest().inputs;
    let mut plain = Inputs::default();
    let form = match decimals::images_under("instances", body, schema, &mut plain.raw) {
        Some(count) => Form::Rows(Inputs { count, ..plain }),
        None => payload::json_with(Request { schema }, body, "predict request")?,
    };
    Ok(match form {
        Form::Rows(inputs) => {
            let answers = worker.answer(&inputs, deadline).await?;
            refusal::json(&Answer::Predictions(answers.rows().collect()))
        }
        Form::Columns(inputs) => {
            let answers = worker.answer(&inputs, deadline).await?;
            refusal::json(&Answer::Outputs(answers.rows().collect()))
        }
    })
}

#[derive(Deserialize)]
struct ClassifyRequest {
    signature_name: Option<String>,
    /// Features that the examples share.
    #[serde(default)]
    context: Map<String, Value>,
    examples: Vec<Map<String, Value>>,
}

/// `POST /v1/models/NAME:classify`.
pub async fn classify(worker: &Worker, body: &[u8], deadline: Option<Instant>) -> Result<Response, Refusal> {
    let request: ClassifyRequest = payload::json(body, "classify request")?;
    check_signature(request.signature_name).map_err(Refusal::bad)?;
    let schema = &worker.service().manifest().inputs;
    let mut inputs = Inputs::default();
    for example in request.examples {
        let mut features = request.context.clone();
        features.extend(example);
        example_of(schema, features, &mut inputs).map_err(Refusal::bad)?;
    }
    let answers = worker.answer(&inputs, deadline).await?;
    let scores = |row: &[f32]| {
        let classes = answers.classes.iter().map(String::as_str);
        classes.zip(row.iter().copied()).collect()
    };
    Ok(refusal::json(&Answer::Result(answers.rows().map(scores).collect())))
}

/// Reads one example: a feature is its value or, as TensorFlow's clients send it, a list of one.
fn example_of(schema: &Schema, features: Map<String, Value>, inputs: &mut Inputs) -> Result<(), String> {
    let value = match schema {
        Schema::Image { .. } => features.get(IMAGE).cloned().unwrap_or(Value::Null),
        Schema::Table { .. } => Value::Object(
            features
                .into_iter()
                .map(|(name, value)| match value {
                    Value::Array(mut one) if one.len() == 1 => (name, one.remove(0)),
                    value => (name, value),
                })
                .collect(),
        ),
    };
    raw_from_json(schema, &value, &mut inputs.raw).map_err(|error| format!("example {}: {error}", inputs.count))?;
    inputs.count += 1;
    Ok(())
}

/// `GET /v1/models/NAME`: whether the model is available.
pub fn status(service: &Service) -> Response {
    let state = match service.phase() {
        Phase::Ready => "AVAILABLE",
        Phase::Draining => "UNLOADING",
    };
    refusal::json(&json!({
        // The first two are what KServe's clients ask for.
        "name": service.manifest().name,
        "ready": service.ready().is_ok(),
        "model_version_status": [{
            "version": service.version(),
            "state": state,
            "status": {"error_code": "OK", "error_message": ""},
        }]
    }))
}

/// `GET /v1/models/NAME/metadata`: the signature.
pub fn metadata(service: &Service) -> Response {
    let manifest = service.manifest();
    let inputs: Map<String, Value> = match &manifest.inputs {
        Schema::Image {
            height,
            width,
            channels,
        } => [(IMAGE.to_owned(), tensor("DT_FLOAT", &[*height, *width, *channels]))]
            .into_iter()
            .collect(),
        Schema::Table { columns } => columns
            .iter()
            .map(|column| {
                let dtype = match column.kind {
                    ColumnKind::Numeric => "DT_FLOAT",
                    ColumnKind::Categorical { .. } => "DT_STRING",
                };
                (column.name.clone(), tensor(dtype, &[]))
            })
            .collect(),
    };
    refusal::json(&json!({
        "model_spec": {"name": manifest.name, "signature_name": "", "version": service.version()},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: {
            "inputs": inputs,
            "outputs": {Output::Probabilities.name(): tensor("DT_FLOAT", &[manifest.classes.len()])},
            "method_name": "tensorflow/serving/predict",
        }}}},
    }))
}

/// A tensor as the metadata describes it; the first dimension is the batch.
fn tensor(dtype: &str, shape: &[usize]) -> Value {
    let sizes = std::iter::once("-1".to_owned()).chain(shape.iter().map(ToString::to_string));
    let sizes: Vec<Value> = sizes.map(|size| json!({"size": size, "name": ""})).collect();
    json!({"dtype": dtype, "tensor_shape": {"dim": sizes, "unknown_rank": false}})
}
