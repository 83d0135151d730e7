//! The forms that inputs and answers take in each protocol, over the real server: whatever the form, the golden answers.

mod fixture;

use std::path::Path;
use std::time::{Duration, Instant};

use fixture::http::{Connection, Response, post};
use fixture::process::start;
use serde_json::{Value, json};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The golden cases of a bundle: raw inputs and probabilities.
fn golden(bundle: &Path) -> Vec<(Value, Vec<f64>)> {
    let text = std::fs::read(bundle.join("golden.json")).expect("golden.json");
    let golden: Value = serde_json::from_slice(&text).expect("JSON");
    let cases = golden["cases"].as_array().expect("cases");
    cases
        .iter()
        .map(|case| (case["input"].clone(), numbers(&case["probabilities"])))
        .collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().expect("an array");
    values.iter().map(|value| value.as_f64().expect("a number")).collect()
}

fn assert_close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-4, "{got} is not {expected}");
    }
}

/// Probabilities in the answer of `/predict`, in the order of ten digits.
fn named(answer: &Value, index: usize) -> Vec<f64> {
    let probabilities = &answer["predictions"][index]["probabilities"];
    (0..10)
        .map(|class| probabilities[class.to_string()].as_f64().expect("a number"))
        .collect()
}

/// The pixels of a golden input, which are whole numbers.
fn bytes(input: &Value) -> Vec<u8> {
    numbers(input).iter().map(|pixel| *pixel as u8).collect()
}

#[test]
fn tensorflow_serving_by_column_and_by_example() {
    let folder = folder();
    let server = start(&fixture::table_bundle(folder.path()), &[]);
    let ask = |method: &str, body: Value| post(server.address, &format!("/v1/models/table:{method}"), &body);
    let rows = ask(
        "predict",
        json!({"instances": [{"age": 31, "city": "rome"}, {"age": 60}]}),
    )
    .json();
    let expected = &rows["predictions"];

    let columns = json!({"inputs": {"age": [31, 60], "city": ["rome", null]}});
    assert_eq!(&ask("predict", columns).json()["outputs"], expected);
    let nested = json!({"inputs": {"city": [["rome"], [null]], "age": [[31], [60]]}});
    assert_eq!(&ask("predict", nested).json()["outputs"], expected);

    let examples = json!({"context": {"age": 31}, "examples": [{"city": ["rome"]}, {"age": 60}]});
    let result = ask("classify", examples).json();
    for (row, probabilities) in expected.as_array().expect("rows").iter().enumerate() {
        let scores = &result["result"][row];
        assert_eq!(scores[0], json!(["no", probabilities[0]]));
        assert_eq!(scores[1], json!(["yes", probabilities[1]]));
    }

    let error = |method, body| ask(method, body).error(400);
    let ragged = error("predict", json!({"inputs": {"age": [31, 60], "city": ["rome"]}}));
    assert!(ragged.contains("column `city` has 1 values"), "{ragged}");
    assert!(error("predict", json!({"inputs": {"agee": [31]}})).contains("`agee`"));
    assert!(error("predict", json!({"inputs": [[31, "rome"]]})).contains("array for each column"));
    assert!(error("predict", json!({"inputs": {"age": [1]}, "instances": []})).contains("once"));
    assert!(error("classify", json!({"examples": []})).contains("no input"));
    assert!(error("classify", json!({"examples": [{"age": "old"}]})).starts_with("example 0: "));
}

#[test]
fn images_by_column() {
    let folder = folder();
    let bundle = fixture::digits_bundle(folder.path());
    let server = start(&bundle, &[]);
    let cases = golden(&bundle);
    let images: Vec<&Value> = cases.iter().map(|(input, _)| input).collect();
    let expected: Vec<f64> = cases.iter().flat_map(|(_, answer)| answer.clone()).collect();
    for inputs in [json!(images), json!({"image": images})] {
        let answer = post(server.address, "/v1/models/digits:predict", &json!({"inputs": inputs})).json();
        let rows = answer["outputs"].as_array().expect("rows");
        assert_close(&rows.iter().flat_map(numbers).collect::<Vec<_>>(), &expected);
    }
    let examples = json!({"examples": [{"image": images[0]}]});
    let answer = post(server.address, "/v1/models/digits:classify", &examples).json();
    let scores = answer["result"][0].as_array().expect("scores");
    let scores: Vec<f64> = scores.iter().map(|pair| pair[1].as_f64().expect("a number")).collect();
    assert_close(&scores, &cases[0].1);
}

/// Sends an infer request of JSON and the bytes after it.
fn infer(connection: &mut Connection, text: &Value, binary: &[u8]) -> Response {
    let text = text.to_string();
    let headers = format!("inference-header-content-length: {}\r\n", text.len());
    let body = [text.as_bytes(), binary].concat();
    connection
        .request("POST", "/v2/models/digits/infer", &headers, &body)
        .expect("answered")
}

#[test]
fn tensors_as_bytes_in_and_out() {
    let folder = folder();
    let bundle = fixture::digits_bundle(folder.path());
    let server = start(&bundle, &[]);
    let cases = golden(&bundle);
    let mut connection = Connection::open(server.address).expect("connected");
    let pixels: Vec<u8> = cases.iter().flat_map(|(input, _)| bytes(input)).collect();
    let expected: Vec<f64> = cases.iter().flat_map(|(_, answer)| answer.clone()).collect();
    let floats: Vec<u8> = pixels
        .iter()
        .flat_map(|pixel| f32::from(*pixel).to_le_bytes())
        .collect();
    let wide: Vec<u8> = pixels
        .iter()
        .flat_map(|pixel| i64::from(*pixel).to_le_bytes())
        .collect();
    for (datatype, binary) in [("UINT8", pixels), ("FP32", floats), ("INT64", wide)] {
        let request = json!({
            "inputs": [{
                "name": "image", "shape": [cases.len(), 28, 28, 1], "datatype": datatype,
                "parameters": {"binary_data_size": binary.len()},
            }],
            "parameters": {"binary_data_output": true},
        });
        let response = infer(&mut connection, &request, &binary);
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.header("content-type"), Some("application/octet-stream"));
        let length = response.header("inference-header-content-length").expect("a length");
        let (text, binary) = response.body.split_at(length.parse().expect("a number"));
        let answer: Value = serde_json::from_slice(text).expect("JSON");
        let probabilities = &answer["outputs"][0];
        assert_eq!(probabilities["shape"], json!([cases.len(), 10]));
        assert_eq!(probabilities["data"], Value::Null);
        let size = probabilities["parameters"]["binary_data_size"]
            .as_u64()
            .expect("a size") as usize;
        let (numbers, labels) = binary.split_at(size);
        let numbers: Vec<f64> = numbers
            .chunks_exact(4)
            .map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().expect("four"))))
            .collect();
        assert_close(&numbers, &expected);
        let sizes = &answer["outputs"][1]["parameters"]["binary_data_size"];
        assert_eq!(sizes, &json!(labels.len()));
        assert_eq!(labels[..4], 1_u32.to_le_bytes(), "a label of one letter");
    }

    // One output as bytes, the other as JSON.
    let tensor = json!({"name": "image", "shape": [1, 784], "datatype": "FP32", "data": cases[0].0});
    let request = json!({"inputs": [tensor], "outputs": [
        {"name": "label"},
        {"name": "probabilities", "parameters": {"binary_data": true}},
    ]});
    let response = infer(&mut connection, &request, b"");
    let length: usize = response
        .header("inference-header-content-length")
        .expect("a length")
        .parse()
        .expect("a number");
    assert_eq!(response.body.len() - length, 40);
    let answer: Value = serde_json::from_slice(&response.body[..length]).expect("JSON");
    assert!(answer["outputs"][0]["data"][0].is_string(), "{answer}");

    let wrong = connection
        .request(
            "POST",
            "/v2/models/digits/infer",
            "inference-header-content-length: 9\r\n",
            b"{}",
        )
        .expect("answered");
    assert!(wrong.error(400).contains("up to the 2 of the body"));
}

#[test]
fn pixels_as_raw_bytes_and_as_a_form() {
    let folder = folder();
    let bundle = fixture::digits_bundle(folder.path());
    let server = start(&bundle, &[]);
    let cases = golden(&bundle);
    let mut connection = Connection::open(server.address).expect("connected");
    let mut send = |kind: &str, body: &[u8]| {
        let kind = format!("content-type: {kind}\r\n");
        connection.request("POST", "/predict", &kind, body).expect("answered")
    };
    let raw = [bytes(&cases[0].0), bytes(&cases[1].0)].concat();
    let answer = send("application/octet-stream", &raw).json();
    assert_close(&named(&answer, 0), &cases[0].1);
    assert_close(&named(&answer, 1), &cases[1].1);
    let error = send("application/octet-stream", &raw[1..]).error(400);
    assert!(error.contains("784 bytes") && error.contains("1567"), "{error}");

    let mut form = b"--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n".to_vec();
    form.extend(cases[2].0.to_string().into_bytes());
    form.extend(b"\r\n--x\r\ncontent-disposition: form-data; name=\"b\"; filename=\"b.raw\"\r\n");
    form.extend(b"content-type: application/octet-stream\r\n\r\n");
    form.extend(bytes(&cases[3].0));
    form.extend(b"\r\n--x--\r\n");
    let answer = send("multipart/form-data; boundary=x", &form).json();
    assert_close(&named(&answer, 0), &cases[2].1);
    assert_close(&named(&answer, 1), &cases[3].1);
    let error = send("multipart/form-data; boundary=x", &form[..form.len() - 20]).error(400);
    assert!(error.contains("multipart"), "{error}");
    assert!(send("multipart/form-data", &form).error(400).contains("boundary"));
    let form = b"--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n[1]\r\n--x--\r\n";
    let error = send("multipart/form-data; boundary=x", form).error(400);
    assert!(error.starts_with("part `a`: an input has 1 values"), "{error}");

    let table = TempDir::new().expect("a folder");
    let server = start(&fixture::table_bundle(table.path()), &[]);
    let mut connection = Connection::open(server.address).expect("connected");
    let kind = "content-type: application/octet-stream\r\n";
    let refused = connection.request("POST", "/predict", kind, b"12").expect("answered");
    assert!(refused.error(400).contains("send them as JSON"));
}

#[test]
fn what_a_client_does_not_wait_for_is_not_computed() {
    let folder = folder();
    let server = start(&fixture::slow_bundle(folder.path()), &["--max-batch", "1"]);
    // Keeps the model busy for many times the patience of the next request.
    let many: Vec<Vec<f32>> = (0..60).map(fixture::image).collect();
    let busy = std::thread::spawn({
        let address = server.address;
        move || post(address, "/predict", &json!(many)).status
    });
    let body = json!({"instances": [fixture::image(1)]}).to_string();
    let mut connection = Connection::open(server.address).expect("connected");
    let began = Instant::now();
    let mut late = 0;
    while late == 0 && began.elapsed() < Duration::from_secs(30) {
        let headers = "x-request-timeout-ms: 20\r\n";
        let answer = connection
            .request("POST", "/v1/models/slow:predict", headers, body.as_bytes())
            .expect("answered");
        match answer.status {
            200 => {}
            504 => {
                assert!(answer.error(504).contains("deadline"));
                late += 1;
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert_eq!(late, 1, "the model was never busy for 20 ms");
    assert_eq!(busy.join().expect("joined"), 200);
    let tensor = json!({"name": "image", "shape": [1, 784], "datatype": "FP32", "data": fixture::image(1)});
    let patient = json!({"inputs": [tensor], "parameters": {"timeout": 60_000_000}});
    assert_eq!(post(server.address, "/v2/models/slow/infer", &patient).status, 200);
    let hurried = json!({"inputs": [tensor], "parameters": {"timeout": 1}});
    assert_eq!(post(server.address, "/v2/models/slow/infer", &hurried).status, 504);
    let headers = "x-request-timeout-ms: soon\r\n";
    let wrong = connection
        .request("POST", "/predict", headers, b"[]")
        .expect("answered");
    assert!(wrong.error(400).contains("x-request-timeout-ms"));
}
