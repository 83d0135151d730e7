//! Bad data, through the real binary: one clear error before any training, and nothing written.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use std::process::Command;
use tempfile::TempDir;

const TABLE: &str = "name: bad\ndata: {source: csv, file: t.csv, label: kind}\n";
const IMAGES: &str = "name: bad\ndata: {source: idx, images: images, labels: labels}\n";
const IMAGES_WITH_TEST: &str = "name: bad\ndata: {source: idx, images: images, labels: labels, test_images: images, \
                                test_labels: test-labels}\n";
const MNIST: &str = "name: bad\ndata: {source: mnist, dir: .}\n";

const ROWS: &str = "age,city,kind\n1,rome,a\n2,bonn,b\n3,rome,a\n4,bonn,b\n5,rome,a\n6,bonn,b\n";

fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn images() -> Vec<u8> {
    idx(&[6, 2, 2], &[9; 24])
}

fn labels() -> Vec<u8> {
    idx(&[6], &[0, 1, 0, 1, 0, 1])
}

fn project(config: &str, files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("emberline.yaml"), config).expect("config");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("data");
    }
    folder
}

fn train(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emberline"));
    command.arg("train").arg(folder);
    command
}

/// Runs `train` with code 1, sees that it said one error and wrote no bundle, and gives what it said.
fn refused(mut command: Command, folder: &Path) -> String {
    let bundles = folder.join(".emberline/bundles");
    let before = names(&bundles);
    let output = command.output().expect("runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("error:").count(), 1, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(output.stdout.is_empty(), "stdout is for results");
    assert_eq!(names(&bundles), before, "no bundle is written");
    said
}

/// What is in a folder; `None` when there is no such folder.
fn names(folder: &Path) -> Option<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .ok()?
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Some(names)
}

#[track_caller]
fn assert_refused(config: &str, files: &[(&str, &[u8])], parts: &[&str]) {
    let folder = project(config, files);
    let said = refused(train(folder.path()), folder.path());
    for part in parts {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
}

#[test]
fn a_truncated_idx_file() {
    let images = images();
    let files: [(&str, &[u8]); 2] = [("images", &images[..images.len() - 6]), ("labels", &labels())];
    assert_refused(IMAGES, &files, &["images` is truncated", "row 4", "column 2"]);
}

#[test]
fn a_wrong_magic_number() {
    let files: [(&str, &[u8]); 2] = [("images", b"\x89PNG\r\n\x1a\n"), ("labels", &labels())];
    assert_refused(IMAGES, &files, &["images` has a wrong magic number", "89 50 4e 47"]);
}

#[test]
fn a_count_that_lies() {
    let lying = idx(&[4_000_000_000, 2, 2], &[9; 24]);
    let files: [(&str, &[u8]); 2] = [("images", &lying), ("labels", &labels())];
    assert_refused(
        IMAGES,
        &files,
        &["images` is truncated", "claims 4000000000 items", "row 6"],
    );
    let short = idx(&[5], &[0, 1, 0, 1, 0]);
    let files: [(&str, &[u8]); 2] = [("images", &images()), ("labels", &short)];
    assert_refused(IMAGES, &files, &["images` holds 6 images", "labels` holds 5 labels"]);
}

#[test]
fn an_empty_file() {
    let files: [(&str, &[u8]); 2] = [("images", b""), ("labels", &labels())];
    assert_refused(IMAGES, &files, &["images` is empty"]);
    assert_refused(TABLE, &[("t.csv", b"")], &["t.csv` is empty"]);
}

#[test]
fn a_number_that_is_none() {
    for cell in ["NaN", "", "inf", "old"] {
        let text = ROWS.replace("3,rome", &format!("{cell},rome"));
        assert_refused(
            TABLE,
            &[("t.csv", text.as_bytes())],
            &["t.csv`, row 4, column `age`", "hint:"],
        );
    }
}

#[test]
fn a_label_out_of_range() {
    let files: [(&str, &[u8]); 3] = [
        ("images", &images()),
        ("labels", &labels()),
        ("test-labels", &idx(&[6], &[0, 1, 0, 7, 0, 1])),
    ];
    let parts = ["test-labels`, row 3", "column `label`", "`7` is out of range"];
    assert_refused(IMAGES_WITH_TEST, &files, &parts);
    let files: [(&str, &[u8]); 4] = [
        ("train-images-idx3-ubyte", &images()),
        ("train-labels-idx1-ubyte", &idx(&[6], &[0, 1, 200, 1, 0, 1])),
        ("t10k-images-idx3-ubyte", &images()),
        ("t10k-labels-idx1-ubyte", &labels()),
    ];
    let parts = [
        "train-labels-idx1-ubyte`, row 2",
        "column `label`",
        "`200` is out of range",
    ];
    assert_refused(MNIST, &files, &parts);
}

#[test]
fn a_ragged_row() {
    let short = ROWS.replace("3,rome,a", "3,rome");
    assert_refused(
        TABLE,
        &[("t.csv", short.as_bytes())],
        &["t.csv`, row 4, column `kind`", "2 cells"],
    );
    let long = ROWS.replace("3,rome,a", "3,rome,a,b");
    assert_refused(
        TABLE,
        &[("t.csv", long.as_bytes())],
        &["t.csv`, row 4, column 4", "4 cells"],
    );
}

#[test]
fn earlier_bundles_are_left_alone() {
    let folder = project(TABLE, &[("t.csv", b"")]);
    let bundles = folder.path().join(".emberline/bundles");
    fs::create_dir_all(bundles.join("0123456789ab")).expect("an earlier bundle");
    refused(train(folder.path()), folder.path());
    assert_eq!(names(&bundles), Some(vec!["0123456789ab".into()]));
}

#[test]
fn mnist_without_a_network_says_what_to_do() {
    // A port that was free a moment ago: whoever connects is refused, as behind a proxy that is down.
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("port")
        .port();
    let proxy = format!("http://127.0.0.1:{port}");
    let folder = project("name: bad\ndata: {source: mnist}\n", &[]);
    let cache = folder.path().join("cache");
    let mut command = train(folder.path());
    command.env("XDG_CACHE_HOME", &cache).env_remove("EMBERLINE_DATA_DIR");
    for variable in ["ALL_PROXY", "HTTPS_PROXY", "https_proxy", "all_proxy"] {
        command.env(variable, &proxy);
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    let said = refused(command, folder.path());
    let parts = [
        "cannot download `train-images-idx3-ubyte.gz`",
        "storage.googleapis.com",
        "ossci-datasets",
        "t10k-labels-idx1-ubyte.gz",
        "EMBERLINE_DATA_DIR",
        "synthetic-digits",
    ];
    for part in parts {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    assert!(said.contains(&cache.display().to_string()), "{said}");
    assert_eq!(
        names(&cache.join("emberline/mnist")).unwrap_or_default(),
        Vec::<String>::new()
    );
}
