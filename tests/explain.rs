//! Explanations and pictures over HTTP.

mod fixture;
mod tool;

use std::fs;
use std::io::Cursor;
use std::net::SocketAddr;

use fixture::http::{Connection, Response, get, post};
use fixture::process::start;
use fixture::region::{self, COLUMNS, ROWS};
use serde_json::{Value, json};

const EXPLAIN: &str = "/v1/models/region:explain";

/// An image with the region lit, and as much light elsewhere.
fn lit() -> Vec<u8> {
    (0..784)
        .map(|at| {
            let elsewhere = (18..26).contains(&(at / 28)) && (2..10).contains(&(at % 28));
            if region::is_inside(at) || elsewhere { 255 } else { 0 }
        })
        .collect()
}

fn encode((width, height): (u32, u32), colour: png::ColorType, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colour);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(pixels))
        .expect("a picture");
    bytes
}

fn send(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(address).expect("connected");
    connection.request("POST", path, headers, body).expect("answered")
}

/// The values of a map, row by row.
fn map(explanation: &Value) -> Vec<f64> {
    let rows = explanation["saliency"].as_array().expect("rows");
    assert_eq!(rows.len(), 28);
    let row = |row: &Value| row.as_array().expect("a row").iter().map(number).collect::<Vec<_>>();
    rows.iter().flat_map(row).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn the_map_shows_the_region_that_the_class_depends_on_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&region::bundle(folder.path()), &[]);
    let answer = post(server.address, EXPLAIN, &json!({"instances": [lit()]})).json();
    assert_eq!(answer["model"], "region");
    let one = &answer["explanations"][0];
    assert_eq!((&one["label"], &one["class"]), (&json!("lit"), &json!(1)));
    assert_eq!((&one["method"], &one["patch"]), (&json!("occlusion"), &json!([4, 4])));
    assert_eq!(one["fill"], json!([0.0]));
    let predicted = post(server.address, "/predict", &json!(lit())).json();
    let probability = number(&predicted["predictions"][0]["confidence"]);
    assert!((number(&one["probability"]) - probability).abs() < 1e-6);
    let saliency = map(one);
    // A patch that covers a pixel reaches three pixels further.
    let near = |at: usize| (1..15).contains(&(at / 28)) && (13..27).contains(&(at % 28));
    for (at, value) in saliency.iter().enumerate() {
        if region::is_inside(at) {
            assert!(*value > 0.05, "inside, {at}: {value}");
        } else if !near(at) {
            assert!(value.abs() < 1e-6, "outside, {at}: {value}");
        }
    }

    let version = answer["version"].as_str().expect("a version");
    let path = format!("/v1/models/region/versions/{version}:explain");
    let other = post(server.address, &path, &json!({"instances": [lit()], "class": "dark"})).json();
    let other = &other["explanations"][0];
    assert_eq!(other["label"], "dark");
    for (lit, dark) in saliency.iter().zip(map(other)) {
        assert!((lit + dark).abs() < 1e-5, "what one class loses the other gains");
    }
}

#[test]
fn a_picture_of_the_map_is_the_image_with_the_region_in_red() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&region::bundle(folder.path()), &[]);
    let picture = encode((28, 28), png::ColorType::Grayscale, &lit());
    let drawn = send(server.address, EXPLAIN, "accept: image/png\r\n", &picture);
    assert_eq!(drawn.status, 200, "{}", drawn.text());
    assert_eq!(drawn.header("content-type"), Some("image/png"));
    let mut reader = png::Decoder::new(Cursor::new(&drawn.body)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("pixels");
    assert_eq!((info.width, info.height), (280, 280));
    assert_eq!(info.color_type, png::ColorType::Rgb);
    let at = |row: usize, column: usize| &pixels[((row * 10 + 5) * 280 + column * 10 + 5) * 3..][..3];
    let inside = at(ROWS.start + 4, COLUMNS.start + 4);
    assert!(inside[0] > 200 && inside[1] < 100 && inside[2] < 100, "{inside:?}");
    assert_eq!(at(22, 6), [255; 3], "light that nothing depends on");
    assert_eq!(at(0, 0), [0; 3]);
    let from_json = json!({"instances": [lit()]}).to_string();
    let same = send(server.address, EXPLAIN, "accept: image/png\r\n", from_json.as_bytes());
    assert_eq!(same.body, drawn.body);
}

#[test]
fn a_row_is_explained_by_its_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&fixture::table_bundle(folder.path()), &[]);
    let rows = json!({"instances": [{"age": 70, "city": "rome"}, {"city": "rome"}]});
    let answer = post(server.address, "/v1/models/table:explain", &rows).json();
    let [whole, without] = &answer["explanations"].as_array().expect("two")[..] else {
        panic!("{answer}");
    };
    assert_eq!(whole.get("patch"), None);
    let probability = |row: Value, class: usize| {
        let answer = post(server.address, "/v1/models/table:predict", &json!({"instances": [row]})).json();
        number(&answer["predictions"][0][class])
    };
    let class = usize::try_from(whole["class"].as_u64().expect("a class")).expect("small");
    let all = probability(json!([70, "rome"]), class);
    for (column, row) in [("age", json!([null, "rome"])), ("city", json!([70, null]))] {
        let expected = all - probability(row, class);
        let got = number(&whole["saliency"][column]);
        assert!((got - expected).abs() < 1e-5, "{column}: {got} is not {expected}");
    }
    assert_ne!(number(&whole["saliency"]["age"]), 0.0);
    assert_eq!(
        number(&without["saliency"]["age"]),
        0.0,
        "what is missing gives nothing"
    );
}

#[test]
fn explanations_are_no_predictions_and_their_requests_are_counted_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&region::bundle(folder.path()), &[]);
    post(server.address, EXPLAIN, &json!({"instances": [lit()]})).json();
    let page = get(server.address, "/metrics").text();
    for line in [
        "emberline_requests_total{protocol=\"explain\",status=\"2xx\"} 1\n",
        "emberline_predictions_total{class=\"lit\"} 0\n",
        "emberline_drift_window_samples 0\n",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
}

#[test]
fn what_cannot_be_explained_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&region::bundle(folder.path()), &[]);
    let refused = |body: Value| post(server.address, EXPLAIN, &body).error(400);
    assert!(refused(json!({"instances": []})).contains("holds 0 inputs"));
    assert!(refused(json!({"instances": vec![lit(); 9]})).contains("may hold 1 to 8"));
    assert!(refused(json!({"instances": [lit()], "class": "bright"})).contains("no class `bright`"));
    assert!(refused(json!({"instances": [lit()], "method": "gradient"})).contains("`method`"));
    assert!(refused(json!({"instances": [[1, 2]]})).starts_with("input 0: "));
    assert!(refused(json!({"inputs": []})).contains("inputs"));
    let two = json!({"instances": [lit(), lit()]}).to_string();
    let picture = send(server.address, EXPLAIN, "accept: image/png\r\n", two.as_bytes());
    assert!(picture.error(406).contains("one image"));
    let late = send(server.address, EXPLAIN, "x-request-timeout-ms: 0\r\n", two.as_bytes());
    assert_eq!(late.status, 504, "{}", late.text());
    let got = get(server.address, EXPLAIN);
    assert_eq!((got.status, got.header("allow")), (405, Some("POST")));
    let nothing = post(
        server.address,
        "/v1/models/other:explain",
        &json!({"instances": [lit()]}),
    );
    assert!(nothing.error(404).contains("`other`"));
}

/// The same picture, in colour and of another size, by the tool, and by the server as PNG and as JSON.
#[test]
fn a_png_is_the_same_to_the_tool_and_to_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = region::bundle(folder.path());
    let server = start(&bundle, &[]);
    for (width, height) in [(43, 31), (200, 150)] {
        let pixels: Vec<u8> = (0..width * height * 4).map(|at| (at * 31 % 251) as u8).collect();
        let picture = encode((width, height), png::ColorType::Rgba, &pixels);
        fs::write(folder.path().join("x.png"), &picture).expect("a file");
        let bundle = bundle.to_str().expect("UTF-8");
        let by_tool = tool::run(folder.path(), &["predict", "x.png", "--bundle", bundle, "-o", "json"])
            .success()
            .json();
        let by_server = send(server.address, "/predict", "content-type: image/png\r\n", &picture).json();
        assert_eq!(by_tool["predictions"][0]["label"], by_server["predictions"][0]["label"]);
        for class in ["dark", "lit"] {
            let [tool, server] =
                [&by_tool, &by_server].map(|answer| number(&answer["predictions"][0]["probabilities"][class]));
            assert!(server > 0.0 && (tool - server).abs() < 1e-6, "{class}: {tool} {server}");
        }
    }
    let same_size = encode((28, 28), png::ColorType::Grayscale, &lit());
    // As `curl --data-binary` sends it.
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let by_png = send(server.address, "/predict", form, &same_size).json();
    assert_eq!(by_png, post(server.address, "/predict", &json!(lit())).json());
}

#[test]
fn a_picture_that_is_none_or_too_large_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&region::bundle(folder.path()), &[]);
    let good = encode((28, 28), png::ColorType::Grayscale, &lit());
    let refused = |body: &[u8]| send(server.address, "/predict", "", body).error(400);
    assert!(refused(&good[..60]).contains("PNG"));
    // A long side, with black all over, so that a few bytes are 17 million pixels.
    let bomb = encode((1024, 16_400), png::ColorType::Grayscale, &vec![0; 1024 * 16_400]);
    assert!(bomb.len() < 100_000);
    assert!(refused(&bomb).contains("the PNG has 1024x16400 pixels"));
    let large = encode((1024, 8200), png::ColorType::Grayscale, &vec![0; 1024 * 8200]);
    let form = |pictures: &[&[u8]]| {
        let parts = pictures.iter().map(|picture| {
            let head = b"--b\r\ncontent-disposition: form-data; name=\"x\"; filename=\"x.png\"\r\ncontent-type: image/png\r\n\r\n";
            [&head[..], picture, b"\r\n"].concat()
        });
        let body = [parts.collect::<Vec<_>>().concat(), b"--b--\r\n".to_vec()].concat();
        send(
            server.address,
            "/predict",
            "content-type: multipart/form-data; boundary=b\r\n",
            &body,
        )
    };
    let answer = form(&[&large, &good]).json();
    assert_eq!(answer["predictions"][0]["label"], "dark");
    assert_eq!(answer["predictions"][1]["label"], "lit");
    assert!(form(&[&large, &large]).error(400).contains("16777216 pixels in all"));
    let table = start(&fixture::table_bundle(folder.path()), &[]);
    let answer = send(table.address, "/predict", "", &good);
    assert!(answer.error(400).contains("the model reads a table"));
}
