//! `emberline package`, the real binary, without a container engine: what it writes, and what it refuses.

mod fixture;
mod tool;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use emberline::bundle::{Bundle, Evaluation, Footprint, Usage, Verdict, WEIGHTS, evaluation_path};
use emberline::files;
use emberline::project::GateConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tool::{Ran, emberline, ran};

/// A project with one bundle and a runtime that could run in an empty image.
struct Fixture {
    folder: TempDir,
    bundle: Bundle,
}

impl Fixture {
    fn new(verdict: Option<Verdict>) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let config = "name: digits\ndata: {source: synthetic-digits}\n";
        fs::write(folder.path().join("emberline.yaml"), config).expect("project");
        fs::write(
            folder.path().join("runtime"),
            fixture::static_executable(fixture::X86_64),
        )
        .expect("runtime");
        let bundle = digits_bundle(folder.path());
        if let Some(verdict) = verdict {
            evaluate(&bundle, verdict);
        }
        Self { folder, bundle }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn layout(&self) -> PathBuf {
        let name = format!("digits-{}", self.bundle.version());
        self.path().join(".emberline/images").join(name)
    }

    fn package(&self, arguments: &[&str]) -> Ran {
        ran(emberline(self.path(), &["package"])
            .arg(self.path())
            .args(arguments)
            .env("EMBERLINE_BUILDER", "oci")
            .env("EMBERLINE_RUNTIME", self.path().join("runtime")))
    }

    /// The result of `-o json`.
    fn package_json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["-o", "json"];
        all.extend(arguments);
        self.package(&all).success().json()
    }

    /// Asserts that packaging ends with `code` and an error that holds `text`, and writes nothing.
    fn refused(&self, arguments: &[&str], code: i32, text: &str) {
        self.package(arguments).code(code).says(&[text]);
        assert!(!self.layout().exists());
    }
}

/// A bundle with random weights, different each time, which is then the newest of the project.
fn digits_bundle(project: &Path) -> Bundle {
    Bundle::open(&fixture::digits_bundle(project)).expect("bundle")
}

fn evaluate(bundle: &Bundle, verdict: Verdict) {
    let report = json!({ "accuracy": 0.97, "gate": { "thresholds": GateConfig::default() } });
    Evaluation::new(bundle, verdict, report)
        .write(bundle)
        .expect("evaluation");
}

/// A blob of a layout, by its digest; its name must be true.
fn blob(layout: &Path, digest: &Value) -> Vec<u8> {
    let digest = digest
        .as_str()
        .and_then(|text| text.strip_prefix("sha256:"))
        .expect("digest");
    let bytes = fs::read(layout.join("blobs/sha256").join(digest)).expect("blob");
    assert_eq!(files::sha256(&bytes), digest);
    bytes
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// The regular files of an archive, by path, with their modes.
fn unpack(archive: impl Read) -> BTreeMap<String, (u32, Vec<u8>)> {
    tar::Archive::new(archive)
        .entries()
        .expect("archive")
        .map(|entry| entry.expect("entry"))
        .filter(|entry| entry.header().entry_type().is_file())
        .map(|mut entry| {
            let path = entry.path().expect("path").to_string_lossy().into_owned();
            let mode = entry.header().mode().expect("mode");
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("content");
            (path, (mode, bytes))
        })
        .collect()
}

#[test]
fn a_runtime_that_cannot_run_here_is_not_measured_and_has_an_image_all_the_same() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    let bundles = fixture.path().join(".emberline/bundles");
    let footprint = bundles.join(format!("{}.footprint.json", fixture.bundle.version()));
    // That of another runtime, which says nothing about this one.
    let other = Footprint::new(
        &fixture.bundle,
        "0".repeat(64),
        Usage {
            memory_bytes: 1,
            memory_largest_request_bytes: 2,
            cpu_seconds_per_prediction: 1.0,
            predictions: 3,
        },
    );
    other.write(&fixture.bundle).expect("written");
    assert!(footprint.exists());
    let ran = fixture.package(&["-o", "json"]).success();
    assert_eq!(ran.json()["footprint"], Value::Null);
    assert!(
        ran.stderr
            .contains("what a server of it takes is not known, and `deploy` will go by fixed numbers"),
        "{}",
        ran.stderr
    );
    assert!(!footprint.exists());
    assert!(fixture.layout().exists());
}

#[test]
fn stdout_is_the_reference_alone() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    let expected = format!("digits:{}\n", fixture.bundle.version());
    assert_eq!(fixture.package(&[]).success().stdout, expected);
    let expected = format!("registry.example.com/team/digits:{}\n", fixture.bundle.version());
    let arguments = ["--repository", "registry.example.com/team/digits", "--quiet"];
    let ran = fixture.package(&arguments).success();
    assert_eq!((ran.stdout, ran.stderr), (expected, String::new()));
}

#[test]
fn the_layout_leads_from_the_index_to_the_bundle() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    let report = fixture.package_json(&[]);
    let layout = fixture.layout();
    assert_eq!(report["path"], layout.to_str().expect("path"));
    let index = parse(&fs::read(layout.join("index.json")).expect("index"));
    let manifest = parse(&blob(&layout, &index["manifests"][0]["digest"]));
    let config = parse(&blob(&layout, &manifest["config"]["digest"]));
    let labels = &config["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], fixture.bundle.version());
    assert_eq!(labels["org.opencontainers.image.revision"], "5ca1ab1e");
    assert_eq!(labels["emberline.bundle.digest"], fixture.bundle.digest());
    assert_eq!(labels["emberline.evaluation.verdict"], "pass");
    assert_eq!(manifest["annotations"], *labels);

    let layers: Vec<_> = [0, 1]
        .map(|index| {
            let blob = blob(&layout, &manifest["layers"][index]["digest"]);
            unpack(flate2::read::GzDecoder::new(&blob[..]))
        })
        .into();
    let runtime = fs::read(fixture.path().join("runtime")).expect("runtime");
    assert_eq!(
        layers[0],
        BTreeMap::from([("emberline-server".into(), (0o755, runtime))])
    );
    let mut expected = BTreeMap::new();
    for entry in fs::read_dir(fixture.bundle.path()).expect("bundle") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("name").to_string_lossy();
        expected.insert(format!("model/{name}"), (0o644, fs::read(&path).expect("file")));
    }
    let evaluation = fs::read(evaluation_path(fixture.bundle.path())).expect("evaluation");
    expected.insert("model.evaluation.json".into(), (0o644, evaluation));
    assert_eq!(layers[1], expected);
}

#[test]
fn the_report_has_the_documented_keys() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    let report = fixture.package_json(&[]);
    assert_eq!(report["image"], format!("digits:{}", fixture.bundle.version()));
    assert_eq!(report["version"], fixture.bundle.version());
    assert_eq!(report["builder"], "oci");
    assert_eq!(report["architecture"], "amd64");
    assert_eq!(report["output"], "oci");
    assert_eq!(report["pushed"], false);
    assert!(report["seconds"].is_f64());
    let blobs = fs::read_dir(fixture.layout().join("blobs/sha256")).expect("blobs");
    let size: u64 = blobs
        .map(|blob| blob.expect("blob").metadata().expect("size").len())
        .sum();
    assert_eq!(report["size_bytes"], size);
    assert_eq!(report["layers"][0]["content"], "runtime");
    assert_eq!(report["layers"][1]["content"], "model");
    blob(&fixture.layout(), &report["digest"]);
}

#[test]
fn the_same_bundle_is_the_same_image() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    let first = fixture.package_json(&[]);
    let second = fixture.package(&[]).success();
    assert!(second.stderr.contains("holds this image already"), "{}", second.stderr);
    let elsewhere = fixture.path().join("elsewhere");
    let third = fixture.package_json(&["--to", elsewhere.to_str().expect("path")]);
    assert_eq!(first["digest"], third["digest"]);
    assert_eq!(first["layers"], third["layers"]);

    let other = digits_bundle(fixture.path());
    evaluate(&other, Verdict::Pass);
    let other = fixture.package_json(&[]);
    assert_ne!(first["image"], other["image"]);
    assert_eq!(first["layers"][0], other["layers"][0]);
    assert_ne!(first["layers"][1], other["layers"][1]);
    let chosen = fixture.package_json(&["--bundle", fixture.bundle.version()]);
    assert_eq!(first["digest"], chosen["digest"]);
}

#[test]
fn the_times_are_what_source_date_epoch_says() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    let package = |epoch: &str| {
        ran(
            emberline(fixture.path(), &["package", "-o", "json", "--runtime", "runtime"])
                .env("EMBERLINE_BUILDER", "oci")
                .env("SOURCE_DATE_EPOCH", epoch),
        )
    };
    let default = fixture.package_json(&[]);
    assert_eq!(package("0").json()["digest"], default["digest"]);
    let later = package("86400").json();
    assert_ne!(later["digest"], default["digest"]);
    // The image of another time took the place of the first.
    let index = parse(&fs::read(fixture.layout().join("index.json")).expect("index"));
    let manifest = parse(&blob(&fixture.layout(), &index["manifests"][0]["digest"]));
    let created = &manifest["annotations"]["org.opencontainers.image.created"];
    assert_eq!(created, "1970-01-02T00:00:00Z");
    assert_eq!(
        fs::read_dir(fixture.layout().join("blobs/sha256"))
            .expect("blobs")
            .count(),
        4
    );
    let refused = package("yesterday").code(2);
    assert!(refused.stderr.contains("SOURCE_DATE_EPOCH is `yesterday`"));
}

#[test]
fn a_tar_is_the_same_image_for_docker_load() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    let layout = fixture.package_json(&[]);
    let report = fixture.package_json(&["--output", "tar"]);
    assert_eq!(report["digest"], layout["digest"]);
    let path = fixture.layout().with_extension("tar");
    assert_eq!(report["path"], path.to_str().expect("path"));
    let files = unpack(fs::File::open(path).expect("tar"));
    let (_, manifest) = &files["manifest.json"];
    let manifest = &parse(manifest)[0];
    assert_eq!(manifest["RepoTags"], json!([layout["image"]]));
    let blobs = manifest["Layers"]
        .as_array()
        .expect("layers")
        .iter()
        .chain([&manifest["Config"]]);
    for blob in blobs {
        assert!(files.contains_key(blob.as_str().expect("path")), "{blob}");
    }
    // But for manifest.json it is the layout, file for file.
    for (name, (_, bytes)) in files.iter().filter(|(name, _)| *name != "manifest.json") {
        assert_eq!(fs::read(fixture.layout().join(name)).expect("file"), *bytes, "{name}");
    }
}

#[test]
fn only_a_passed_gate_is_packaged() {
    for (verdict, hint) in [
        (None, "run `emberline evaluate` first"),
        (Some(Verdict::Fail), "shows which one"),
        (Some(Verdict::Undecided), "more data"),
        (Some(Verdict::None), "add one to emberline.yaml"),
    ] {
        let fixture = Fixture::new(verdict);
        fixture.refused(&[], 3, hint);
        let assert = fixture.package(&["--allow-ungated"]).success();
        assert!(assert.stderr.contains("warning:"), "{}", assert.stderr);
        let label = fixture.package_json(&["--allow-ungated"])["digest"].clone();
        let manifest = parse(&blob(&fixture.layout(), &label));
        let expected = verdict.map_or("unevaluated", Verdict::name);
        assert_eq!(manifest["annotations"]["emberline.evaluation.verdict"], expected);
    }
}

#[test]
fn the_evaluation_of_another_bundle_does_not_count() {
    let fixture = Fixture::new(None);
    let other = digits_bundle(fixture.path());
    evaluate(&other, Verdict::Pass);
    let stolen = evaluation_path(fixture.bundle.path());
    fs::copy(evaluation_path(other.path()), stolen).expect("copy");
    let arguments = ["--bundle", fixture.bundle.version()];
    fixture.refused(&arguments, 1, "is an evaluation of bundle");
}

#[test]
fn a_changed_bundle_is_refused() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    let weights = fixture.bundle.path().join(WEIGHTS);
    let mut bytes = fs::read(&weights).expect("weights");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(&weights, bytes).expect("weights");
    fixture.refused(&["--allow-ungated"], 1, "was changed");
}

#[test]
fn a_runtime_that_cannot_run_in_the_image_is_refused() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    // This test's own binary is linked with the machine's libc.
    let dynamic = std::env::current_exe().expect("test binary");
    let dynamic = dynamic.to_str().expect("path");
    fixture.refused(&["--runtime", dynamic], 1, "dynamically linked");
    let text = fixture.path().join("emberline.yaml");
    fixture.refused(
        &["--runtime", text.to_str().expect("path")],
        1,
        "no 64-bit Linux executable",
    );
    fixture.refused(&["--runtime", "/nowhere"], 1, "cannot read `/nowhere`");
}

#[test]
fn the_architecture_is_the_runtimes() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    fixture.refused(
        &["--architecture", "arm64"],
        1,
        "the runtime is for amd64, and the image is to be for arm64",
    );
    fs::write(
        fixture.path().join("runtime"),
        fixture::static_executable(fixture::AARCH64),
    )
    .expect("runtime");
    let report = fixture.package_json(&["--architecture", "arm64"]);
    assert_eq!(report["architecture"], "arm64");
    let index = parse(&fs::read(fixture.layout().join("index.json")).expect("index"));
    assert_eq!(index["manifests"][0]["platform"]["architecture"], "arm64");
}

#[test]
fn the_engine_writes_no_file() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    let engine = ["--builder", "docker"];
    fixture.refused(
        &[&engine[..], &["--output", "tar"]].concat(),
        2,
        "`--output` asks for a file",
    );
    fixture.refused(&[&engine[..], &["--to", "here"]].concat(), 2, "`--to` asks for a file");
    let project = |package: &str| {
        let text = format!("name: digits\ndata: {{source: synthetic-digits}}\npackage: {package}\n");
        fs::write(fixture.path().join("emberline.yaml"), text).expect("project");
    };
    project("{output: oci}");
    fixture.refused(&engine, 2, "`package.output` in emberline.yaml asks for a file");
    project("{output: oci, builder: docker}");
    fixture.refused(
        &[],
        1,
        "`package.builder: docker` leaves the image in the container engine",
    );
}

#[test]
fn nothing_but_one_image_is_replaced() {
    let fixture = Fixture::new(Some(Verdict::Pass));
    let project = fixture.path().to_str().expect("path");
    fixture.refused(&["--to", project], 1, "something else than one image");
    let file = fixture.path().join("emberline.yaml");
    fixture.refused(
        &["--to", file.to_str().expect("path")],
        1,
        "something else than one image",
    );
    assert!(file.is_file());
    let several = fixture.path().join("several");
    fs::create_dir(&several).expect("folder");
    fs::write(several.join("index.json"), r#"{"manifests": [{}, {}]}"#).expect("index");
    fixture.refused(
        &["--to", several.to_str().expect("path")],
        1,
        "something else than one image",
    );
    fixture.refused(&["--repository", "Digits"], 1, "no name of an image repository");
}
