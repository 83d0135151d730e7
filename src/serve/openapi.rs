//! `GET /openapi.json`: the API in the terms of `OpenAPI` 3.1, for the model that is served.
//!
//! What is the same for all models stands beside this file: `paths.json` has an operation for each of the index's
//! endpoints, `components.json` what they share. Here the model's inputs and classes are described, and what every
//! operation has in common is added: its headers, and how it may be refused.

use serde_json::{Map, Number, Value, json};

use super::index::{ENDPOINTS, Endpoint, fill};
use super::refusal::{self, Response};
use super::service::Service;
use super::signature::{IMAGE, ROWS};
use crate::bundle::Manifest;
use crate::preprocess::{Column, ColumnKind, Scaling, Schema};

const PATHS: &str = include_str!("openapi/paths.json");
const COMPONENTS: &str = include_str!("openapi/components.json");

/// How every request may be refused, what only predictions may be refused for, and what is said of an API key's absence.
const ALWAYS: [&str; 2] = ["404", "405"];
const PREDICTIONS: [&str; 8] = ["400", "408", "413", "415", "429", "500", "503", "504"];
const KEYLESS: &str = "401";

/// `GET /openapi.json`. `keys` tells whether the server asks for keys.
pub fn openapi(service: &Service, keys: bool) -> Response {
    refusal::json(&describe(service.manifest(), service.version(), keys))
}

fn describe(manifest: &Manifest, version: &str, keys: bool) -> Value {
    let read = |text| serde_json::from_str::<Value>(text).expect("a file that the tests have read");
    let (paths, mut components) = (read(PATHS), read(COMPONENTS));
    refuse_in_words(&mut components["responses"]);
    for (name, schema) in model(manifest) {
        components["schemas"][name] = schema;
    }
    let pictures = matches!(manifest.inputs, Schema::Image { .. });
    let mut described = Map::new();
    for endpoint in ENDPOINTS {
        let method = endpoint.method.to_lowercase();
        let mut operation = paths[endpoint.path][&method].clone();
        complete(&mut operation, endpoint, keys);
        operation["summary"] = fill(endpoint.purpose, manifest, version).into();
        if !pictures {
            leave_pictures_out(&mut operation);
        }
        if let Some(path) = endpoint.of_version() {
            let mut operation = operation.clone();
            let name = operation["operationId"].as_str().unwrap_or_default();
            operation["operationId"] = format!("{name}OfVersion").into();
            described.insert(fill(&path, manifest, version), json!({&method: operation}));
        }
        described.insert(fill(endpoint.path, manifest, version), json!({method: operation}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": manifest.name,
            "version": version,
            "description": format!("A model served by emberline {}.", env!("CARGO_PKG_VERSION")),
        },
        "security": if keys { json!([{"bearer": []}, {"apiKey": []}]) } else { json!([]) },
        "paths": described,
        "components": components,
    })
}

/// Adds what is not written with each operation.
fn complete(operation: &mut Value, endpoint: Endpoint, keys: bool) {
    let predicts = endpoint.method == "POST";
    let asks = keys && operation.get("security").is_none();
    let refusals = ALWAYS
        .iter()
        .chain(PREDICTIONS.iter().filter(|_| predicts))
        .chain(Some(&KEYLESS).filter(|_| asks));
    for status in refusals {
        operation["responses"][status] = json!({"$ref": format!("#/components/responses/{status}")});
    }
    operation["responses"]["200"]["headers"]["x-request-id"] = json!({"$ref": "#/components/headers/RequestId"});
    let parameters = ["RequestId", "Timeout"].into_iter().take(if predicts { 2 } else { 1 });
    let parameters = parameters.map(|name| json!({"$ref": format!("#/components/parameters/{name}")}));
    match operation["parameters"].as_array_mut() {
        Some(own) => own.extend(parameters),
        None => operation["parameters"] = parameters.collect(),
    }
}

/// Gives every refusal its body and its name.
fn refuse_in_words(responses: &mut Value) {
    for (_, response) in responses.as_object_mut().into_iter().flatten() {
        response["content"] = json!({"application/json": {"schema": reference("Refusal")}});
        response["headers"]["x-request-id"] = json!({"$ref": "#/components/headers/RequestId"});
    }
}

/// Rows of a table come as JSON, and so do their explanations.
fn leave_pictures_out(operation: &mut Value) {
    if let Some(file) = operation.pointer_mut("/requestBody/content/multipart~1form-data/encoding/file") {
        file["contentType"] = "application/json".into();
    }
    for place in ["/requestBody/content", "/responses/200/content"] {
        if let Some(kinds) = operation.pointer_mut(place).and_then(Value::as_object_mut) {
            kinds.retain(|_, kind| kind["schema"] != reference("Picture") && kind["schema"] != reference("Bytes"));
        }
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// The schemas that are the model's own.
fn model(manifest: &Manifest) -> Map<String, Value> {
    let mut schemas = match &manifest.inputs {
        Schema::Image {
            height,
            width,
            channels,
        } => image([*height, *width, *channels]),
        Schema::Table { columns } => table(columns, &manifest.preprocessing.scaling),
    };
    schemas.append(&mut answers(&manifest.classes));
    schemas
}

fn answers(classes: &[String]) -> Map<String, Value> {
    let probability = reference("Probability");
    let by_class: Map<String, Value> = classes
        .iter()
        .map(|class| (class.clone(), probability.clone()))
        .collect();
    // A name that is a number may come as one.
    let numbers = classes.iter().filter_map(|class| {
        let number: Number = class.parse().ok()?;
        (number.to_string() == *class).then_some(Value::Number(number))
    });
    let asked: Vec<Value> = classes.iter().cloned().map(Value::from).chain(numbers).collect();
    named([
        ("Label", json!({"enum": classes})),
        ("AskedClass", json!({"enum": asked})),
        (
            "ByClass",
            json!({"type": "object", "required": classes, "properties": by_class, "additionalProperties": false}),
        ),
        ("Probabilities", array(&probability, classes.len())),
    ])
}

/// A form with a file. It may have more, under other names, but each is an input, which cannot be said of its encoding.
fn form(file: &Value) -> Value {
    json!({"type": "object", "required": ["file"], "properties": {"file": file}, "additionalProperties": false})
}

/// An array of so many items.
fn array(items: &Value, count: usize) -> Value {
    json!({"type": "array", "items": items, "minItems": count, "maxItems": count})
}

fn image([height, width, channels]: [usize; 3]) -> Map<String, Value> {
    let pixels = height * width * channels;
    let pixel = json!({"type": "number", "minimum": 0, "maximum": 255});
    let nested = |point: &Value| array(&array(point, width), height);
    let mut forms = vec![array(&pixel, pixels), nested(&array(&pixel, channels))];
    if channels == 1 {
        forms.push(nested(&pixel));
    }
    let by_name = json!({"type": "object", "required": [IMAGE], "properties": {IMAGE: reference("Input")}});
    let mut columns = by_name.clone();
    columns["properties"][IMAGE] = reference("Inputs");
    columns["additionalProperties"] = false.into();
    named([
        (
            "Input",
            json!({
                "description": format!(
                    "An image of {height} rows, {width} columns and {channels} channels: its pixels, in one array or nested."
                ),
                "anyOf": forms,
            }),
        ),
        (
            "Bytes",
            json!({
                "type": "string",
                "format": "binary",
                "description": format!("Images one after another, each of {pixels} bytes: row by row, channels last."),
            }),
        ),
        ("Form", form(&json!({"type": "string", "format": "binary"}))),
        ("Columns", json!({"anyOf": [reference("Inputs"), columns]})),
        ("Example", by_name),
        ("Context", json!({"type": "object"})),
        ("V2InputName", json!({"const": IMAGE})),
        ("Saliency", nested(&json!({"type": "number"}))),
    ])
}

fn table(columns: &[Column], scaling: &[Scaling]) -> Map<String, Value> {
    let mut scaling = scaling.iter();
    let (mut cells, mut required) = (Vec::new(), Vec::new());
    for column in columns {
        cells.push(match &column.kind {
            ColumnKind::Numeric if scaling.next().is_some_and(|scaling| scaling.fill.is_some()) => number_or_none(),
            ColumnKind::Numeric => {
                required.push(&column.name);
                number()
            }
            ColumnKind::Categorical { categories } => category(categories),
        });
    }
    // An object with something for each column.
    let object = |of: &dyn Fn(&Value) -> Value| {
        let properties: Map<String, Value> = columns
            .iter()
            .zip(&cells)
            .map(|(column, cell)| (column.name.clone(), of(cell)))
            .collect();
        json!({"type": "object", "properties": properties, "additionalProperties": false})
    };
    let mut row = object(&Value::clone);
    row["required"] = json!(required);
    let in_order = json!({
        "type": "array",
        "prefixItems": cells,
        "minItems": columns.len(),
        "maxItems": columns.len(),
    });
    let alone = |cell: &Value| json!({"anyOf": [cell, array(cell, 1)]});
    let mut by_column =
        object(&|cell| json!({"type": "array", "items": alone(cell), "minItems": 1, "maxItems": 10000}));
    by_column["required"] = json!(required);
    by_column["minProperties"] = 1.into();
    by_column["description"] = "Columns of the same length.".into();
    let names = columns.iter().map(|column| column.name.as_str());
    let inputs: Vec<&str> = names.chain([ROWS]).collect();
    named([
        (
            "Input",
            json!({"description": "A row by column, or in the order of the columns.", "anyOf": [row.clone(), in_order]}),
        ),
        ("Form", form(&row)),
        ("Columns", by_column),
        ("Example", object(&alone)),
        ("Context", object(&alone)),
        ("V2InputName", json!({"enum": inputs})),
        (
            "Saliency",
            json!({"type": "object", "additionalProperties": {"type": "number"}}),
        ),
    ])
}

/// Digits that a number may be written with in a text; it may be written with more.
const DIGITS: &str = r"[+-]?[0-9]{1,9}(\.[0-9]{1,9})?";
/// Texts that stand for a missing number.
const MISSING: &str = r"[Nn][Aa]|[Nn]/[Aa]|\?|[Nn][Uu][Ll][Ll]|[Nn][Aa][Nn]";

fn number() -> Value {
    json!({"anyOf": [
        {"type": "number", "minimum": f32::MIN, "maximum": f32::MAX},
        {"type": "string", "pattern": format!("^ *{DIGITS} *$")},
    ]})
}

fn number_or_none() -> Value {
    json!({"anyOf": [
        {"type": "number", "minimum": f32::MIN, "maximum": f32::MAX},
        {"type": "string", "pattern": format!("^ *({DIGITS}|{MISSING})? *$")},
        {"type": "null", "description": "Missing."},
    ]})
}

fn category(categories: &[String]) -> Value {
    json!({"anyOf": [
        {"enum": categories},
        {"type": ["string", "number", "null"], "description": "Not known to the model: as if it were missing."},
    ]})
}

fn named<const N: usize>(schemas: [(&str, Value); N]) -> Map<String, Value> {
    schemas
        .map(|(name, schema)| (name.to_owned(), schema))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_endpoint_is_described_and_no_other() {
        let paths: Map<String, Value> = serde_json::from_str(PATHS).expect("JSON");
        let written: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods");
                methods.keys().map(|method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let listed = ENDPOINTS
            .iter()
            .map(|endpoint| (endpoint.method.to_owned(), endpoint.path.to_owned()));
        assert_eq!(written, listed.collect());
    }

    /// Every `$ref` in a value.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref") {
                    found.insert(to.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn what_is_referred_to_is_there() {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        let columns = [
            column("age", ColumnKind::Numeric),
            column("height", ColumnKind::Numeric),
            column(
                "city",
                ColumnKind::Categorical {
                    categories: vec!["bonn".into()],
                },
            ),
        ];
        let filled = Scaling {
            fill: Some(1.0),
            ..Scaling::IDENTITY
        };
        for schemas in [image([2, 3, 1]), table(&columns, &[filled, Scaling::IDENTITY])] {
            let mut document = json!({"components": serde_json::from_str::<Value>(COMPONENTS).expect("JSON")});
            document["paths"] = serde_json::from_str(PATHS).expect("JSON");
            for (name, schema) in schemas.into_iter().chain(answers(&["a".into(), "7".into()])) {
                document["components"]["schemas"][name] = schema;
            }
            for endpoint in ENDPOINTS {
                let method = endpoint.method.to_lowercase();
                complete(&mut document["paths"][endpoint.path][method], endpoint, true);
            }
            refuse_in_words(&mut document["components"]["responses"]);
            let mut found = BTreeSet::new();
            references(&document, &mut found);
            assert!(found.len() > 50, "{found:?}");
            for reference in found {
                let place = reference.strip_prefix('#').expect("a place in the document");
                // Rows of a table are no pictures: `leave_pictures_out` takes what refers to them away.
                let left_out = place.ends_with("/Bytes") && document["components"]["schemas"]["Bytes"].is_null();
                assert!(left_out || document.pointer(place).is_some(), "{reference}");
            }
        }
    }

    #[test]
    fn a_column_without_a_rule_for_missing_numbers_has_to_come() {
        let columns = ["age", "height"].map(|name| Column {
            name: name.into(),
            kind: ColumnKind::Numeric,
        });
        let filled = Scaling {
            fill: Some(1.0),
            ..Scaling::IDENTITY
        };
        let schemas = table(&columns, &[filled, Scaling::IDENTITY]);
        assert_eq!(schemas["Input"]["anyOf"][0]["required"], json!(["height"]));
        assert_eq!(schemas["Columns"]["required"], json!(["height"]));
        assert_eq!(schemas["V2InputName"]["enum"], json!(["age", "height", "rows"]));
    }

    #[test]
    fn a_class_whose_name_is_a_number_may_be_asked_for_as_one() {
        let schemas = answers(&["a".into(), "7".into(), "07".into()]);
        assert_eq!(schemas["AskedClass"]["enum"], json!(["a", "7", "07", 7]));
        assert_eq!(schemas["Probabilities"]["maxItems"], 3);
    }
}
