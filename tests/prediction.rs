//! `emberline predict`, the real binary: the same digit by every way in, and what is no input.

mod tool;

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tool::{Ran, emberline, fed, run};

const SIDE: usize = 28;

/// A trained project, with one digit as a file of every kind.
fn trained() -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let here = folder.path();
    fs::write(
        here.join("emberline.yaml"),
        "name: quick\ndata: {source: synthetic-digits, count: 600, test_count: 100}\ntrain: {epochs: 3}\n",
    )
    .expect("project");
    run(here, &["train"]).success();
    let pixels = one();
    fs::write(here.join("one.png"), png(&pixels)).expect("png");
    let dark: Vec<u8> = pixels.iter().map(|pixel| 255 - pixel).collect();
    fs::write(here.join("dark.png"), png(&dark)).expect("png");
    fs::write(here.join("flat.json"), format!("{pixels:?}")).expect("json");
    let rows: Vec<&[u8]> = pixels.chunks(SIDE).collect();
    fs::write(here.join("rows.json"), format!("{{\"instances\": [{rows:?}]}}")).expect("json");
    fs::write(here.join("one.idx"), idx(&[&pixels])).expect("idx");
    fs::write(here.join("three.idx"), idx(&[&pixels, &dark, &pixels])).expect("idx");
    folder
}

/// An upright stroke, white on black.
fn one() -> Vec<u8> {
    (0..SIDE * SIDE)
        .map(|at| {
            if (4..24).contains(&(at / SIDE)) && (13..16).contains(&(at % SIDE)) {
                250
            } else {
                0
            }
        })
        .collect()
}

fn png(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(pixels))
        .expect("a picture");
    bytes
}

fn idx(images: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3];
    for size in [images.len(), SIDE, SIDE] {
        bytes.extend((size as u32).to_be_bytes());
    }
    bytes.extend(images.concat());
    bytes
}

fn predictions(ran: Ran) -> Vec<Value> {
    ran.success().json()["predictions"].as_array().expect("a list").clone()
}

/// The same probabilities, but for the order of sums: alone, an input goes through another kernel than among others.
#[track_caller]
fn same(one: &Value, other: &Value) {
    let shares = |answer: &Value| -> Vec<f64> {
        let shares = answer["probabilities"].as_object().expect("an object").values();
        shares.map(|share| share.as_f64().expect("a number")).collect()
    };
    let far = shares(one).iter().zip(shares(other)).any(|(a, b)| (a - b).abs() > 1e-5);
    assert!(!far, "{one}\n{other}");
}

#[test]
fn a_digit_gets_the_same_answer_by_every_way_in() {
    let folder = trained();
    let here = folder.path();
    let files = ["one.png", "flat.json", "rows.json", "one.idx"];
    let answers = predictions(run(here, &[&["predict", "-o", "json"], &files[..]].concat()));
    assert_eq!(answers.len(), files.len());
    for (answer, file) in answers.iter().zip(files) {
        assert_eq!(answer["input"], file);
        assert_eq!(answer["probabilities"], answers[0]["probabilities"], "{file}");
    }
    let probabilities: Vec<(&String, f64)> = answers[0]["probabilities"]
        .as_object()
        .expect("an object")
        .iter()
        .map(|(class, share)| (class, share.as_f64().expect("a number")))
        .collect();
    assert_eq!(probabilities.len(), 10);
    assert!((probabilities.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-4);
    let best = probabilities.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("ten");
    assert_eq!(answers[0]["label"], best.0.as_str());

    for file in ["one.png", "flat.json", "one.idx"] {
        let bytes = fs::read(here.join(file)).expect("file");
        let piped = fed(&mut emberline(here, &["predict", "-", "-o", "json"]), &bytes);
        let [answer] = &predictions(piped)[..] else {
            panic!("one answer")
        };
        assert_eq!(answer["input"], "stdin");
        same(answer, &answers[0]);
    }

    // Black on white is another picture, until it is turned.
    let plain = predictions(run(here, &["predict", "dark.png", "-o", "json"]));
    assert_ne!(plain[0]["probabilities"], answers[0]["probabilities"]);
    let turned = predictions(run(here, &["predict", "dark.png", "--invert", "-o", "json"]));
    same(&turned[0], &answers[0]);
}

#[test]
fn text_is_a_line_for_each_input() {
    let folder = trained();
    let here = folder.path();
    let lines = run(here, &["predict", "three.idx", "one.png"]).success().stdout;
    let rows: Vec<Vec<&str>> = lines.lines().map(|line| line.split('\t').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 3), "{lines}");
    let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names, ["three.idx[0]", "three.idx[1]", "three.idx[2]", "one.png"]);
    assert_eq!(rows[0][1..], rows[2][1..]);
    assert_eq!(
        run(here, &["predict", "three.idx", "--limit", "2"])
            .success()
            .stdout
            .lines()
            .count(),
        2
    );
}

#[test]
fn a_bundle_answers_without_its_project() {
    let folder = trained();
    let elsewhere = tempfile::tempdir().expect("folder");
    let picture = folder.path().join("one.png");
    let picture = picture.to_str().expect("path");
    let path = folder.path().to_str().expect("path");
    let there = run(elsewhere.path(), &["predict", picture, "--project", path, "-o", "json"])
        .success()
        .json();
    let version = there["version"].as_str().expect("version");
    let bundle = format!("{path}/.emberline/bundles/{version}");
    let alone = run(
        elsewhere.path(),
        &["predict", picture, "--bundle", &bundle, "-o", "json"],
    )
    .success()
    .json();
    assert_eq!(there, alone);
    run(elsewhere.path(), &["predict", picture])
        .code(1)
        .says(&["no bundle in `", "hint: `emberline train` makes one"]);
}

#[test]
fn what_is_no_input_is_told_by_name() {
    let folder = trained();
    let here = folder.path();
    let refused = |name: &str, bytes: &[u8], texts: &[&str]| {
        fs::write(here.join(name), bytes).expect("file");
        let ran = run(here, &["predict", "one.png", name]).code(1);
        ran.says(&[&["error: ", name][..], texts].concat());
    };
    refused("cut.png", &png(&one())[..60], &[]);
    refused("rubbish", b"\x01\x02\x03 rubbish", &["the model reads images"]);
    refused(
        "table.csv",
        b"a,b\n1,2\n",
        &["looks like CSV, and the model reads images", "hint: give a PNG"],
    );
    refused("empty", b"", &["is empty"]);
    refused(
        "short.json",
        b"[1, 2, 3]",
        &["an input has 3 values, the model takes 784"],
    );
    refused("object.json", b"{\"a\": 1}", &["an image is an array of pixels"]);
    refused("broken.json", b"[1, 2", &["cannot read `broken.json`"]);
    refused("cut.idx", &idx(&[&one()])[..100], &["truncated"]);
    let mut small = vec![0, 0, 8, 3];
    small.extend([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4]);
    refused("small.idx", &small, &["2 x 2 pixels"]);
    run(here, &["predict", "nothing.png"])
        .code(1)
        .says(&["cannot read `nothing.png`", "No such file"]);
    run(here, &["predict", "."]).code(1).says(&["cannot read `.`"]);
    fed(&mut emberline(Path::new(here), &["predict", "-"]), b"")
        .code(1)
        .says(&["`stdin` is empty"]);
}
