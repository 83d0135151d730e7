//! The server and the clients that others wrote: Triton's and `KServe`'s for Python, over HTTP and (`grpc`) over gRPC,
//! curl, and schemathesis, which asks whatever the server's own description allows and forbids.

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../tool/mod.rs"]
mod tool;

mod grpc;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::http::get;
use fixture::process::{Server, start, start_with_grpc};
use serde_json::{Value, json};
use tempfile::TempDir;
use tool::{PIP_INSTALL, Ran, found, ran, skipped};

/// A server with the bundle that it serves.
struct Served {
    folder: TempDir,
    bundle: PathBuf,
    server: Server,
}

impl Served {
    fn new(bundle: impl FnOnce(&Path) -> PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bundle = bundle(folder.path());
        let server = start(&bundle, &[]);
        Self { folder, bundle, server }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }
}

/// A file beside this one.
fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// A program of the virtual environment; none, and the test is skipped, where that is not there.
#[track_caller]
fn python(program: &str, package: &str) -> Option<Command> {
    if !found("python3", "apt-get install python3-venv") {
        return None;
    }
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python");
    let packages = fs::read_dir(environment.join("lib")).into_iter().flatten().flatten();
    let mut packages = packages.map(|python| python.path().join("site-packages").join(package));
    if !packages.any(|package| package.is_dir()) {
        skipped::for_want_of(package, PIP_INSTALL);
        return None;
    }
    let mut command = Command::new(environment.join("bin").join(program));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// Runs a script against servers of images and of a table.
#[track_caller]
fn passes(script: &str, package: &str) {
    for bundle in [fixture::digits_bundle, fixture::table_bundle] {
        let Some(mut python) = python("python", package) else {
            return;
        };
        let served = Served::new(bundle);
        python.arg(beside(script)).arg(served.url("")).arg(&served.bundle);
        ran(&mut python).success();
    }
}

#[test]
fn tritons_client_gets_the_golden_answers() {
    passes("triton.py", "tritonclient");
}

#[test]
fn kserves_client_gets_the_golden_answers() {
    passes("kserve_client.py", "kserve");
}

#[test]
fn the_programs_of_the_guide_run() {
    let guide =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/clients.md")).expect("the guide");
    let programs = guide
        .split("```python\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let programs: Vec<&str> = programs.collect();
    assert_eq!(programs.len(), 3);
    let folder = tempfile::tempdir().expect("a folder");
    let (server, grpc) = start_with_grpc(&fixture::digits_bundle(folder.path()), &[]);
    let project = folder.path().join("digits");
    fs::create_dir_all(&project).expect("a folder");
    let request = json!({"instances": [fixture::image(3)]});
    fs::write(project.join("request.json"), request.to_string()).expect("written");
    for (program, package) in programs.into_iter().zip(["tritonclient", "tritonclient", "kserve"]) {
        let Some(mut python) = python("python", package) else {
            return;
        };
        let program = program.replace("localhost:5000", &server.address.to_string());
        let program = program.replace("localhost:5001", &grpc.to_string());
        python.arg("-c").arg(program).current_dir(folder.path());
        assert_ne!(ran(&mut python).success().stdout, "");
    }
}

/// Runs schemathesis against a server, with one more header.
fn examined(served: &Served, header: Option<&str>) -> Option<Ran> {
    let mut schemathesis = python("schemathesis", "schemathesis")?;
    schemathesis.current_dir(served.folder.path());
    schemathesis
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", beside(""));
    schemathesis.arg("--config-file").arg(beside("schemathesis.toml"));
    schemathesis.args(["run", &served.url("/openapi.json")]);
    schemathesis.args(header.iter().flat_map(|header| ["--header", header]));
    Some(ran(&mut schemathesis))
}

#[test]
fn the_description_holds_for_images() {
    let served = Served::new(fixture::tiny_bundle);
    if let Some(examined) = examined(&served, None) {
        examined.success();
    }
}

#[test]
fn the_description_holds_for_a_table_and_with_keys() {
    let mut served = Served::new(fixture::table_bundle);
    let key = tool::run(served.folder.path(), &["keys", "add", "tests"]).success();
    let key = key.stdout.trim_end();
    let keys = served.folder.path().join("emberline.keys");
    served.server = start(&served.bundle, &["--keys", keys.to_str().expect("a path")]);
    if let Some(examined) = examined(&served, Some(&format!("Authorization: Bearer {key}"))) {
        examined.success();
    }
}

#[test]
fn the_description_is_of_the_model_that_is_served() {
    let served = Served::new(fixture::digits_bundle);
    let document = get(served.server.address, "/openapi.json").json();
    let version = served
        .bundle
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert_eq!(document["info"]["version"], *version);
    let infer = &document["paths"][format!("/v2/models/digits/versions/{version}/infer")]["post"];
    assert_eq!(infer["operationId"], "v2InferOfVersion");
    let input = &document["components"]["schemas"]["Input"]["anyOf"];
    assert_eq!(input[0]["maxItems"], 784);
    assert_eq!(document["components"]["schemas"]["Label"]["enum"][9], "9");
    let refused = document["paths"]["/predict"]["post"]["responses"]["429"]["$ref"]
        .as_str()
        .expect("a place");
    let refused = document.pointer(&refused[1..]).expect("what it refers to");
    assert!(refused["headers"]["retry-after"].is_object(), "{refused}");
    assert!(!document.to_string().contains("NAME"), "{document}");
}

/// Runs curl in the folder of a server, and gives the answer and its status.
fn curl(served: &Served, arguments: &[&str], path: &str) -> (Value, String) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-w", "\n%{http_code}"]).args(arguments);
    curl.arg(served.url(path)).current_dir(served.folder.path());
    let said = ran(&mut curl).success().stdout;
    let (body, status) = said.rsplit_once('\n').expect("a status");
    (serde_json::from_str(body).expect("JSON"), status.to_owned())
}

#[test]
fn curl_sends_json_bytes_and_forms() {
    if !found("curl", "apt-get install curl") {
        return;
    }
    let served = Served::new(fixture::digits_bundle);
    let image = fixture::image(3);
    let bytes: Vec<u8> = image.iter().map(|pixel| *pixel as u8).collect();
    let write = |name: &str, content: &[u8]| fs::write(served.folder.path().join(name), content).expect("written");
    let text = serde_json::to_string(&image).expect("JSON");
    write("image.json", text.as_bytes());
    write("image.raw", &bytes);
    write("request.json", format!("{{\"instances\": [{text}]}}").as_bytes());

    let (first, status) = curl(&served, &["-d", "@image.json"], "/predict");
    assert_eq!(status, "200", "{first}");
    let expected = &first["predictions"][0];
    let json = "content-type: application/json";
    let octets = "content-type: application/octet-stream";
    let ways: [&[&str]; 5] = [
        &["--json", "@image.json"],
        &["-H", json, "--data-binary", "@image.json"],
        &["-H", octets, "--data-binary", "@image.raw"],
        &["-F", "file=@image.json"],
        &["-F", "file=@image.raw;type=application/octet-stream"],
    ];
    for way in ways {
        let (answer, status) = curl(&served, way, "/predict");
        assert_eq!((&answer["predictions"][0], &*status), (expected, "200"), "{way:?}");
    }
    let (answer, _) = curl(&served, &["-d", "@request.json"], "/v1/models/digits:predict");
    let class: usize = expected["label"].as_str().expect("a label").parse().expect("a digit");
    assert_eq!(answer["predictions"][0][class], expected["confidence"]);

    let (answer, status) = curl(&served, &["-H", "content-type: image/jpeg", "-d", "x"], "/predict");
    assert_eq!(status, "415", "{answer}");
    let (answer, status) = curl(
        &served,
        &["-H", "content-encoding: gzip", "-d", "@image.json"],
        "/predict",
    );
    assert_eq!(status, "415", "{answer}");
    let (answer, status) = curl(
        &served,
        &["-H", octets, "-d", "@request.json"],
        "/v1/models/digits:predict",
    );
    assert_eq!(status, "415", "{answer}");
}

#[test]
fn ci_installs_the_clients() {
    let ci = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run")).expect(".ci/run");
    assert!(ci.contains(PIP_INSTALL), ".ci/run does not say `{PIP_INSTALL}`");
}
