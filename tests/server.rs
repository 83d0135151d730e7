//! The runtime over HTTP: every endpoint, every refusal, and what keeps a server from starting.

mod fixture;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fixture::http::{Connection, get, head, post};
use fixture::process::{Server, clean, run, start};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The golden cases of a bundle: raw inputs and probabilities.
fn golden(bundle: &Path) -> Vec<(Value, Vec<f64>)> {
    let text = fs::read(bundle.join("golden.json")).expect("golden.json");
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

fn version(bundle: &Path) -> String {
    bundle.file_name().expect("a name").to_string_lossy().into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_protocol_gives_the_golden_answers() {
    let folder = folder();
    let bundle = fixture::digits_bundle(folder.path());
    let version = version(&bundle);
    let server = start(&bundle, &[]);
    let cases = golden(&bundle);
    let inputs: Vec<&Value> = cases.iter().map(|(input, _)| input).collect();
    let flat: Vec<&Value> = inputs
        .iter()
        .flat_map(|input| input.as_array().expect("pixels"))
        .collect();
    let expected: Vec<f64> = cases.iter().flat_map(|(_, answer)| answer.clone()).collect();

    for path in [
        "/v1/models/digits:predict",
        &format!("/v1/models/digits/versions/{version}:predict"),
    ] {
        let answer = post(server.address, path, &json!({"instances": inputs})).json();
        let rows = answer["predictions"].as_array().expect("rows");
        assert_eq!(rows.len(), cases.len());
        let got: Vec<f64> = rows.iter().flat_map(numbers).collect();
        assert_close(&got, &expected);
    }

    for path in [
        "/v2/models/digits/infer",
        &format!("/v2/models/digits/versions/{version}/infer"),
    ] {
        let tensor = json!({"name": "image", "shape": [cases.len(), 784], "datatype": "FP32", "data": flat});
        let answer = post(server.address, path, &json!({"id": "a", "inputs": [tensor]})).json();
        assert_eq!(answer["model_name"], "digits");
        assert_eq!(answer["model_version"], json!(version));
        assert_eq!(answer["id"], "a");
        let probabilities = &answer["outputs"][0];
        assert_eq!(probabilities["name"], "probabilities");
        assert_eq!(probabilities["datatype"], "FP32");
        assert_eq!(probabilities["shape"], json!([cases.len(), 10]));
        assert_close(&numbers(&probabilities["data"]), &expected);
        let label = &answer["outputs"][1];
        assert_eq!((&label["name"], &label["datatype"]), (&json!("label"), &json!("BYTES")));
        assert_eq!(label["shape"], json!([cases.len()]));
    }

    let answer = post(server.address, "/predict", inputs[0]).json();
    assert_eq!(answer["version"], json!(version));
    assert!(answer["digest"].as_str().expect("digest").starts_with(&version));
    let prediction = &answer["predictions"][0];
    let label = prediction["label"].as_str().expect("label");
    assert_eq!(prediction["confidence"], prediction["probabilities"][label]);
    let got: Vec<f64> = (0..10)
        .map(|class| {
            prediction["probabilities"][class.to_string()]
                .as_f64()
                .expect("a number")
        })
        .collect();
    assert_close(&got, &cases[0].1);
    let several = post(server.address, "/predict", &json!(inputs)).json();
    assert_eq!(several["predictions"].as_array().expect("an array").len(), cases.len());
}

#[test]
fn a_table_is_served_by_name_and_by_position() {
    let folder = folder();
    let bundle = fixture::table_bundle(folder.path());
    let server = start(&bundle, &[]);
    let (_, expected) = &golden(&bundle)[0];
    let rows = json!({"instances": [[31, "rome"], {"city": "rome", "age": 31}]});
    let answer = post(server.address, "/v1/models/table:predict", &rows).json();
    for row in answer["predictions"].as_array().expect("rows") {
        assert_close(&numbers(row), expected);
    }
    let inputs = json!({
        "inputs": [
            {"name": "age", "shape": [1], "datatype": "INT64", "data": [31]},
            {"name": "city", "shape": [1, 1], "datatype": "BYTES", "data": ["rome"]},
        ],
        "outputs": [{"name": "probabilities"}],
    });
    let answer = post(server.address, "/v2/models/table/infer", &inputs).json();
    assert_eq!(answer["outputs"].as_array().expect("outputs").len(), 1);
    assert_close(&numbers(&answer["outputs"][0]["data"]), expected);
    let answer = post(server.address, "/predict", &json!({"city": "rome", "age": 31})).json();
    assert_close(
        &[
            answer["predictions"][0]["probabilities"]["no"].as_f64().expect("no"),
            answer["predictions"][0]["probabilities"]["yes"].as_f64().expect("yes"),
        ],
        expected,
    );
    let metadata = get(server.address, "/v2/models/table").json();
    assert_eq!(
        metadata["inputs"],
        json!([
            {"name": "age", "datatype": "FP32", "shape": [-1]},
            {"name": "city", "datatype": "BYTES", "shape": [-1]},
        ])
    );
}

#[test]
fn health_and_metadata_are_told() {
    let folder = folder();
    let bundle = fixture::digits_bundle(folder.path());
    let version = version(&bundle);
    let server = start(&bundle, &[]);
    for path in [
        "/livez",
        "/readyz",
        "/healthz",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/digits/ready",
        &format!("/v2/models/digits/versions/{version}/ready"),
    ] {
        assert_eq!(get(server.address, path).status, 200, "{path}");
    }
    assert_eq!(get(server.address, "/v2").json()["name"], "emberline");
    for path in ["/v2/models/digits", &format!("/v2/models/digits/versions/{version}")] {
        let metadata = get(server.address, path).json();
        assert_eq!(metadata["versions"], json!([version]));
        assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 28, 28, 1]));
        assert_eq!(metadata["outputs"][0]["shape"], json!([-1, 10]));
    }
    for path in ["/v1/models/digits", &format!("/v1/models/digits/versions/{version}")] {
        let status = get(server.address, path).json();
        assert_eq!(status["model_version_status"][0]["state"], "AVAILABLE");
        assert_eq!(status["model_version_status"][0]["version"], json!(version));
    }
    let metadata = get(server.address, "/v1/models/digits/metadata").json();
    assert_eq!(metadata["model_spec"]["name"], "digits");
    // What the index lists is there.
    let index = get(server.address, "/").json();
    for endpoint in index["endpoints"].as_array().expect("endpoints") {
        let (method, path) = (endpoint["method"].as_str(), endpoint["path"].as_str().expect("a path"));
        let mut connection = Connection::open(server.address).expect("connected");
        let response = connection
            .request(method.expect("a method"), path, "", b"")
            .expect("answered");
        assert!(!matches!(response.status, 404 | 405), "{path}: {}", response.text());
    }
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    let folder = folder();
    let server = start(&fixture::digits_bundle(folder.path()), &["--max-body", "20000"]);
    let pixels = vec![0; 784];
    let predict = |body: Value| post(server.address, "/v1/models/digits:predict", &body);
    let infer = |body: Value| post(server.address, "/v2/models/digits/infer", &body);
    let tensor = |shape: Value, data: Value| json!({"name": "image", "shape": shape, "datatype": "FP32", "data": data});

    let short = predict(json!({"instances": [pixels, [1, 2]]})).error(400);
    assert!(
        short.starts_with("input 1: an input has 2 values, the model takes 784 at line 1 column "),
        "{short}"
    );
    assert!(predict(json!({})).error(400).contains("`instances`"));
    assert!(predict(json!({"instances": []})).error(400).contains("no input"));
    let other = json!({"signature_name": "x", "instances": [pixels]});
    assert!(predict(other).error(400).contains("serving_default"));
    assert!(
        predict(json!({"instances": [7]}))
            .error(400)
            .contains("array of pixels")
    );

    assert!(infer(json!({})).error(400).contains("`inputs`"));
    let shape = infer(json!({"inputs": [tensor(json!([1, 28, 27]), json!(vec![0; 756]))]})).error(400);
    assert!(
        shape.contains("[1, 28, 27]") && shape.contains("[n, 28, 28, 1]"),
        "{shape}"
    );
    let count = infer(json!({"inputs": [tensor(json!([2, 784]), json!(pixels))]})).error(400);
    assert!(count.contains("784 elements"), "{count}");
    let output = json!({"inputs": [tensor(json!([1, 784]), json!(pixels))], "outputs": [{"name": "x"}]});
    assert!(infer(output).error(400).contains("`probabilities`"));

    let mut connection = Connection::open(server.address).expect("connected");
    let mut send =
        |method, path, headers, body: &[u8]| connection.request(method, path, headers, body).expect("answered");
    assert!(
        send("POST", "/predict", "", b"{")
            .error(400)
            .contains("line 1 column 1")
    );
    assert!(send("POST", "/predict", "", b"").error(400).contains("JSON"));
    assert!(send("GET", "/v2/models/%ff", "", b"").error(404).contains("`%ff`"));

    let unknown = post(
        server.address,
        "/v1/models/cats:predict",
        &json!({"instances": [pixels]}),
    )
    .error(404);
    assert!(unknown.contains("`cats`") && unknown.contains("`digits`"), "{unknown}");
    let unknown = post(server.address, "/v2/models/digits/versions/7/infer", &json!({})).error(404);
    assert!(unknown.contains("version `7`"), "{unknown}");
    assert!(
        send("GET", "/v2/models/cats/ready", "", b"")
            .error(404)
            .contains("`digits`")
    );
    assert!(
        send("POST", "/v1/models/digits:regress", "", b"")
            .error(404)
            .contains(":regress")
    );
    assert!(
        send("POST", "/v1/models/digits", "", b"")
            .error(405)
            .contains(":predict")
    );
    assert!(send("GET", "/nowhere", "", b"").error(404).contains("GET /"));
    let wrong = send("GET", "/predict", "", b"");
    assert_eq!(wrong.header("allow"), Some("POST"));
    assert!(wrong.error(405).contains("`GET`"));

    let large = send("POST", "/predict", "", &vec![b' '; 8 << 20]);
    assert!(large.error(413).contains("20000 bytes"));
    // All of it was sent before the answer was read; the connection is of use still. A body without a length is counted
    // as it comes.
    let mut body = b"5000\r\n".to_vec();
    body.extend(vec![b' '; 0x5000]);
    body.extend(b"\r\n0\r\n\r\n");
    let chunked = b"POST /predict HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    connection.send(chunked).expect("sent");
    connection.send(&body).expect("sent");
    assert!(
        connection
            .receive()
            .expect("answered")
            .error(413)
            .contains("20000 bytes")
    );
}

#[test]
fn a_request_with_too_many_inputs_is_refused() {
    let folder = folder();
    let server = start(&fixture::table_bundle(folder.path()), &[]);
    let rows = vec![json!([1, "rome"]); 10_001];
    let error = post(server.address, "/predict", &json!(rows)).error(413);
    assert!(error.contains("10001") && error.contains("10000"), "{error}");
    let answer = post(server.address, "/predict", &json!(rows[1..])).json();
    assert_eq!(answer["predictions"].as_array().expect("an array").len(), 10_000);
}

#[test]
fn metrics_count_what_was_done() {
    let folder = folder();
    let bundle = fixture::digits_bundle(folder.path());
    let server = start(&bundle, &["--queue", "7"]);
    let pixels = vec![0; 784];
    for _ in 0..3 {
        post(server.address, "/predict", &json!(pixels));
    }
    post(server.address, "/predict", &json!([1]));
    post(
        server.address,
        "/v1/models/digits:predict",
        &json!({"instances": [pixels, pixels]}),
    );
    let response = get(server.address, "/metrics");
    assert!(
        response
            .header("content-type")
            .expect("a type")
            .starts_with("text/plain; version=0.0.4")
    );
    let page = response.text();
    let value = |sample: &str| -> f64 {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{sample}\n{page}"))
            .parse()
            .expect("a number")
    };
    assert_eq!(
        value("emberline_requests_total{protocol=\"plain\",status=\"2xx\"}"),
        3.0
    );
    assert_eq!(
        value("emberline_requests_total{protocol=\"plain\",status=\"4xx\"}"),
        1.0
    );
    assert_eq!(value("emberline_request_duration_seconds_count{protocol=\"v1\"}"), 1.0);
    assert_eq!(value("emberline_requests_in_flight"), 0.0);
    assert_eq!(value("emberline_queue_depth"), 0.0);
    assert_eq!(value("emberline_queue_capacity"), 7.0);
    assert_eq!(value("emberline_batch_size_count"), 4.0);
    assert_eq!(value("emberline_batch_size_sum"), 5.0);
    assert_eq!(value("emberline_ready"), 1.0);
    let predictions: f64 = (0..10)
        .map(|class| value(&format!("emberline_predictions_total{{class=\"{class}\"}}")))
        .sum();
    assert_eq!(predictions, 5.0);
    let info = page.lines().find(|line| line.starts_with("emberline_build_info{"));
    let info = info.expect("build info");
    let expected = format!("model=\"digits\",version=\"{}\"", version(&bundle));
    assert!(info.contains(&expected), "{info}");
}

#[test]
fn a_full_queue_answers_429_and_when_to_come_back() {
    let folder = folder();
    let server = start(
        &fixture::slow_bundle(folder.path()),
        &["--queue", "1", "--max-batch", "1"],
    );
    let body = json!([fixture::image(1), fixture::image(2), fixture::image(3)]);
    let refused = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connection = Connection::open(server.address).expect("connected");
                for _ in 0..100 {
                    let response = connection.post("/predict", &body).expect("answered");
                    match response.status {
                        200 => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        429 => {
                            assert_eq!(response.header("retry-after"), Some("1"));
                            assert!(response.error(429).contains("busy"));
                            refused.store(true, Ordering::Relaxed);
                        }
                        other => panic!("{other}: {}", response.text()),
                    }
                    if refused.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
    });
    assert!(refused.load(Ordering::Relaxed), "8 clients never filled a queue of 1");
    // Whoever comes back later is answered.
    assert_eq!(post(server.address, "/predict", &body).status, 200);
}

#[test]
fn a_head_that_does_not_end_is_cut_off_and_an_idle_connection_is_not() {
    let folder = folder();
    let server = start(&fixture::digits_bundle(folder.path()), &[]);
    let mut idle = Connection::open(server.address).expect("connected");
    assert_eq!(idle.get("/livez").expect("answered").status, 200);
    let mut slow = Connection::open(server.address).expect("connected");
    assert_eq!(slow.get("/livez").expect("answered").status, 200);
    let begun = Instant::now();
    slow.send(b"GET /livez HTTP/1.1\r\nhost").expect("sent");
    assert!(slow.receive().is_err(), "cut off");
    let waited = begun.elapsed();
    assert!((9..20).contains(&waited.as_secs()), "{waited:?}");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(idle.get("/livez").expect("answered").status, 200);
}

#[test]
fn a_bundle_that_gives_other_answers_is_not_served() {
    let folder = folder();
    let bundle = fixture::digits_bundle_with_wrong_golden(folder.path());
    let output = run(&[bundle.as_os_str(), "--port".as_ref(), "0".as_ref()]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("golden case 0 is off by") && !said.contains("listening"),
        "{said}"
    );
}

#[test]
fn a_bundle_that_was_changed_is_not_served() {
    let folder = folder();
    let bundle = fixture::digits_bundle(folder.path());
    let weights = bundle.join("model.safetensors");
    let mut bytes = fs::read(&weights).expect("weights");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(&weights, bytes).expect("written");
    let output = run(&[bundle.as_os_str(), "--port".as_ref(), "0".as_ref()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("`model.safetensors` has SHA-256"),
        "{}",
        stderr(&output)
    );
    let output = run(&[folder.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no bundle"), "{}", stderr(&output));
}

#[test]
fn an_address_that_cannot_be_had_is_told() {
    let folder = folder();
    let bundle = fixture::digits_bundle(folder.path());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = run(&[bundle.as_os_str(), "--port".as_ref(), port.as_ref()]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains(&format!("port {port}")) && said.contains("--port N"),
        "{said}"
    );

    let output = run(&[bundle.as_os_str(), "--host".as_ref(), "0.0.0.0".as_ref()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--allow-public"), "{}", stderr(&output));
}

#[test]
fn mistakes_on_the_command_line_end_with_2_and_help_with_0() {
    let output = run(&["bundle", "--prot", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean `--port`"), "{}", stderr(&output));
    assert_eq!(run(&["--drain", "1", "--inherit", "bundle"]).status.code(), Some(2));
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("--idle-grace"));
    let output = run(&["--version"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_tool_serves_the_newest_bundle_of_a_project() {
    let folder = folder();
    fixture::table_bundle(folder.path());
    let newest = fixture::digits_bundle(folder.path());
    let mut command = clean(env!("CARGO_BIN_EXE_emberline"));
    command.arg("serve").arg(folder.path()).env("EMBERLINE_PORT", "0");
    let mut server = Server::start(command);
    let index = get(server.address, "/").json();
    assert_eq!(index["version"], json!(version(&newest)));
    let body = head("GET", "/readyz", "connection: close\r\n", 0);
    let mut connection = Connection::open(server.address).expect("connected");
    connection.send(&body).expect("sent");
    assert!(connection.receive().expect("answered").closes());
    server.signal(Signal::INT);
    assert_eq!(server.exit_code(), Some(0));
}
