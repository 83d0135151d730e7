//! `emberline trace`: from what runs, or an image, to the weights, the evaluation, the data, the source revision, and who has
//! deployed it.

use std::process::Command;

use serde_json::{Value, json};

use crate::service::{Service, with_runtime};
use crate::setup::{cluster, registry, succeeded};
use crate::tool::{emberline, ran};

/// A fact of a report: its value, and who says so.
#[track_caller]
fn fact<'a>(report: &'a Value, name: &str) -> (&'a str, &'a str) {
    let mut facts = report["facts"].as_array().expect("facts").iter();
    let fact = facts.find(|fact| fact["name"] == name);
    let fact = fact.unwrap_or_else(|| panic!("nobody knows {name}: {report:#}"));
    (
        fact["value"].as_str().expect("a value"),
        fact["from"].as_str().expect("a source"),
    )
}

#[test]
fn a_pod_an_image_and_an_address_lead_to_weights_data_and_source() {
    let (Some(cluster), Some(registry)) = (cluster(), registry()) else {
        return;
    };
    let service = Service::new(&cluster);
    let namespace = service.namespace.name();
    let repository = format!("{registry}/{namespace}/digits");
    service.configure(&format!(
        "name: digits\ndata: {{source: synthetic-digits, count: 1000, test_count: 300}}\ntrain: {{epochs: 1, seed: 5}}\n\
         evaluate: {{gate: {{accuracy: 0.1}}}}\npackage: {{repository: '{repository}', builder: oci}}\n\
         deploy: {{target: kubernetes, namespace: {namespace}}}\n"
    ));
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
            .args(arguments);
        String::from_utf8(succeeded(git.current_dir(service.path()).output().expect("git runs")).stdout).expect("text")
    };
    git(&["init", "--quiet"]);
    git(&["add", "emberline.yaml"]);
    git(&["commit", "--quiet", "-m", "one"]);
    let source = git(&["rev-parse", "HEAD"]);
    let trained = service.ok(&["train"]);
    let evaluated = service.ok(&["evaluate"]);
    let mut package = service.command(&["package", "--push", "-o", "json"]);
    with_runtime(&mut package);
    let packaged = ran(&mut package).success().json();
    let deployed = service.ok(&["deploy"]);
    let image = deployed["image"].as_str().expect("an image").to_owned();
    let version = trained["version"].as_str().expect("a version");
    let pod = service.pods().remove(0);

    let whole = |report: &Value| {
        for (name, value) in [
            ("version", version),
            ("image_digest", packaged["digest"].as_str().expect("a digest")),
            ("weights_digest", trained["weights_digest"].as_str().expect("a digest")),
            ("data_digest", trained["data_digest"].as_str().expect("a digest")),
            ("evaluation", "pass"),
            ("accuracy", &evaluated["accuracy"].to_string()),
            ("samples", "300"),
            ("source_revision", source.trim()),
            ("seed", "5"),
        ] {
            assert_eq!(fact(report, name).0, value, "{name}: {report:#}");
        }
        assert_eq!(report["contradictions"], json!([]), "{report:#}");
    };
    // From the image in the registry, for whoever has nothing else: no project, and no cluster.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let report = ran(&mut emberline(elsewhere.path(), &["trace", &image, "-o", "json"]))
        .success()
        .json();
    whole(&report);
    assert_eq!(report["kind"], "image");
    assert!(
        fact(&report, "weights_digest")
            .1
            .starts_with("the weights in the image in its registry"),
        "{report:#}"
    );
    let unknown = report["unknown"].as_array().expect("names");
    assert!(unknown.contains(&json!("deployed_by")), "{report:#}");
    assert!(
        report["silent"]
            .as_array()
            .expect("who")
            .iter()
            .any(|silent| silent["who"] == "the history")
    );

    // From a pod: what runs is asked first, and the rest says the same.
    let report = service.ok(&["trace", &pod]);
    whole(&report);
    assert_eq!(report["kind"], "pod");
    assert_eq!(fact(&report, "bundle_digest").1, format!("the server in pod `{pod}`"));
    assert_eq!(
        fact(&report, "revision"),
        ("1", "the history, ConfigMap `digits-history`")
    );
    assert_eq!(report["unknown"], json!([]), "{report:#}");
    let by = &service.ok(&["history"])["revisions"][0]["deployed_by"];
    assert_eq!(fact(&report, "deployed_by").0, by.as_str().expect("who"));
    let text = service.run(&["trace", &format!("pod/{pod}")]).success().stdout;
    assert!(
        text.starts_with("FACT") && text.contains("weights digest") && text.contains(", and "),
        "{text}"
    );

    // From an address, which leads to the history, and that to the image.
    let address = format!("http://127.0.0.1:{}", service.node_port());
    let report = service.ok(&["trace", &address]);
    whole(&report);
    assert_eq!(fact(&report, "version").1, format!("the server at {address}"));
    assert_eq!(fact(&report, "image").0, image);
    // From the image, with what the cluster knows of it.
    let report = service.ok(&["trace", &image]);
    whole(&report);
    assert_eq!(fact(&report, "runs_in").0, pod);
    assert_eq!(fact(&report, "revision").0, "1");

    // A pod whose annotations were changed says otherwise than what runs in it.
    let changed = format!("emberline/bundle-digest={}", "0".repeat(64));
    succeeded(
        service
            .namespace
            .kubectl(&["annotate", "--overwrite", "pod", &pod, &changed]),
    );
    let told = service.run(&["trace", &pod]).code(1);
    assert!(
        told.stdout.contains("contradiction: bundle digest is `"),
        "{}",
        told.stdout
    );
    for words in ["error: 1 contradiction", "hint: what runs is right"] {
        assert!(told.stderr.contains(words), "{}", told.stderr);
    }

    for (what, words) in [
        ("absent", "there is no pod `absent` in namespace"),
        ("absent:1", "nothing is known of `absent:1`"),
        ("http://127.0.0.1:1", "no server answers at `http://127.0.0.1:1`"),
    ] {
        service.run(&["trace", what]).code(1).says(&[words]);
    }
}
