//! The playground in a real Chromium without a window: each test is a script beside this file, run by node against a real
//! server with a model that was really trained.

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../tool/mod.rs"]
mod tool;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use fixture::http::{self, Connection};
use fixture::process::{self, Server};
use tempfile::TempDir;
use tool::trained::{bundles, project, train};
use tool::{NPM_INSTALL, found, ran, skipped};

/// A model of digits, good enough to read a steady hand; trained once for all tests.
static DIGITS: LazyLock<TempDir> = LazyLock::new(|| {
    let config = "name: digits\ndata: {source: synthetic-digits, count: 12000, test_count: 500}\ntrain: {epochs: 6}\n";
    let folder = project(config);
    train(folder.path(), &[]);
    folder
});

fn digits() -> Server {
    let store = bundles(DIGITS.path());
    let version = std::fs::read_to_string(store.join("latest")).expect("the newest bundle");
    process::start(&store.join(version.trim()), &[])
}

/// Where Chromium is; none, and the test is skipped, where it or what drives it is not installed.
#[track_caller]
fn chromium() -> Option<PathBuf> {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/npm/node_modules/puppeteer-core");
    if !(found("chromium", "apt-get install chromium") && found("node", "apt-get install nodejs npm")) {
        return None;
    }
    if !driver.is_dir() {
        skipped::for_want_of("puppeteer-core", NPM_INSTALL);
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("chromium"))
        .find(|file| file.is_file())
}

/// Runs the script `name` against a server.
#[track_caller]
fn passes(name: &str, start: impl FnOnce() -> Server) {
    let Some(chromium) = chromium() else { return };
    let server = start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/playground")
        .join(name);
    let mut node = Command::new("node");
    node.arg(script)
        .arg(format!("http://{}", server.address))
        .env("CHROMIUM", chromium);
    ran(&mut node).success();
}

#[test]
fn a_drawn_digit_is_predicted_as_it_is_drawn() {
    passes("drawn.mjs", digits);
}

#[test]
fn a_finger_draws_on_a_phone() {
    passes("touched.mjs", digits);
}

#[test]
fn the_keyboard_is_enough() {
    passes("typed.mjs", digits);
}

#[test]
fn it_is_readable_in_the_light_and_in_the_dark() {
    passes("looks.mjs", digits);
}

#[test]
fn a_server_that_does_not_answer_is_told_and_waited_for() {
    passes("refused.mjs", digits);
}

#[test]
fn what_speaks_for_a_prediction_is_laid_over_the_drawing() {
    passes("explained.mjs", digits);
}

#[test]
fn an_image_is_given_to_a_model_of_coloured_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::colour_bundle(folder.path());
    passes("coloured.mjs", || process::start(&bundle, &[]));
}

#[test]
fn a_table_is_a_form() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::table_bundle(folder.path());
    passes("table.mjs", || process::start(&bundle, &[]));
}

#[test]
fn a_browser_gets_the_page_with_its_walls_and_a_program_gets_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = process::start(&fixture::table_bundle(folder.path()), &[]);
    let mut connection = Connection::open(server.address).expect("connected");
    let page = connection
        .request("GET", "/", "accept: text/html,*/*;q=0.8\r\n", b"")
        .expect("answered");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").expect("a policy");
    for wall in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(wall), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));

    let script = connection.get("/playground/page.js").expect("answered");
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    let absent = http::get(server.address, "/playground/../../Cargo.toml");
    assert!(absent.error(404).contains("/playground/../../Cargo.toml"));

    let facts = connection.get("/").expect("answered").json();
    let columns = serde_json::json!([
        {"name": "age", "kind": "numeric"},
        {"name": "city", "kind": {"categorical": {"categories": ["bonn", "rome"]}}},
    ]);
    assert_eq!(
        facts["inputs"],
        serde_json::json!({"kind": "table", "columns": columns})
    );
}
