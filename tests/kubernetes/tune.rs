//! `emberline tune` on a cluster: an Indexed Job whose bundles come home as they would have been trained here.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::running::wait;
use crate::service::{Service, with_runtime};
use crate::setup::{cluster, registry, succeeded};
use crate::tool::background::Background;
use crate::tool::trained::{bundles, names, project, text};
use crate::tool::{ran, run};

/// A sweep for the namespace of `service`, its images in a repository that the tests share: a layer is pushed once.
fn configure(service: &Service, registry: &str, more: &str) -> String {
    let namespace = service.namespace.name();
    let config = format!(
        "name: quick\ntrain: {{epochs: 1}}\npackage: {{repository: '{registry}/emberline-test/tune'}}\n\
         deploy: {{target: kubernetes, namespace: {namespace}}}\n{more}\n"
    );
    service.configure(&config);
    config
}

/// Three trials of some hundred digits.
const DIGITS: &str = "data: {source: synthetic-digits, count: 600, test_count: 200}\n\
                      tune: {seed: [1, 2, 3], cpu: 100m, memory: 256Mi}";

/// The Jobs of the namespace.
fn jobs(service: &Service) -> Vec<Value> {
    let jobs = service.namespace.json(&["get", "jobs"]);
    jobs["items"].as_array().expect("Jobs").clone()
}

/// Waits until neither Jobs nor pods are left.
fn nothing_is_left(service: &Service) {
    assert_eq!(jobs(service), Vec::<Value>::new());
    wait("the end of the pods", || service.pods().is_empty());
}

fn versions(report: &Value) -> Vec<&str> {
    let trials = report["trials"].as_array().expect("trials");
    trials.iter().map(|trial| text(trial, "version")).collect()
}

#[test]
fn trials_in_pods_give_the_bundles_that_trials_here_give() {
    let (Some(cluster), Some(registry)) = (cluster(), registry()) else {
        return;
    };
    let service = Service::new(&cluster);
    // Data in a file, which goes with the image.
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tabular/penguins.csv");
    let sweep = "data: {source: csv, file: penguins.csv, label: species}\npreprocess: {missing: mean}\n\
                 evaluate: {gate: {loss: 9}}\ntune: {hidden: [[8], [16], [4, 4]], cpu: 100m, memory: 256Mi}";
    fs::copy(&table, service.path().join("penguins.csv")).expect("a table");
    let config = configure(&service, &registry, sweep);
    let report = service.ok(&["tune"]);
    assert_eq!(
        (&report["target"], &report["metric"]),
        (&json!("kubernetes"), &json!("loss"))
    );
    assert_eq!((&report["trained"], &report["failed"]), (&json!(3), &json!(0)));
    for (index, trial) in report["trials"].as_array().expect("trials").iter().enumerate() {
        let pod = text(trial, "place");
        let sweep = &text(&report, "sweep")[..8];
        assert!(pod.starts_with(&format!("quick-tune-{sweep}-{index}-")), "{pod}");
    }
    nothing_is_left(&service);

    // The same here, digest for digest; `open` has checked every byte of those that came home.
    let here = project(&config);
    fs::copy(&table, here.path().join("penguins.csv")).expect("a table");
    let local = run(here.path(), &["tune", "--target", "local", "-o", "json"])
        .success()
        .json();
    assert_eq!(versions(&local), versions(&report));
    assert_eq!(names(&bundles(service.path())), names(&bundles(here.path())));
    assert_eq!(local["best"]["version"], report["best"]["version"]);
    let latest = fs::read_to_string(bundles(service.path()).join("latest")).expect("latest");
    assert_eq!(latest, text(&report["best"], "version"));

    // Another sweep of the same data finds the image there.
    configure(&service, &registry, &sweep.replace("[4, 4]", "[5]"));
    let ran = service.run(&["tune", "-o", "json"]).success();
    assert!(ran.stderr.contains(": is there already"), "{}", ran.stderr);
    assert_eq!(ran.json()["trained"], 1);
    nothing_is_left(&service);
}

#[test]
fn trials_that_fail_say_why_and_the_others_come_home() {
    let (Some(cluster), Some(registry)) = (cluster(), registry()) else {
        return;
    };
    let service = Service::new(&cluster);
    // One that cannot be built, one whose bundle is too large for a log, one that is good.
    let data = "data: {source: synthetic-digits, count: 600, test_count: 200}\n";
    let sweep = format!("{data}tune: {{hidden: [[20000, 6000], [1500, 1500], [8]], cpu: 100m, memory: 256Mi}}");
    configure(&service, &registry, &sweep);
    let ran = service.run(&["tune", "-o", "json"]).code(1);
    assert!(ran.stderr.contains("2 of 3 trials failed"), "{}", ran.stderr);
    let report = ran.json();
    let trials = &report["trials"];
    assert!(text(&trials[0], "reason").contains("cannot be built"), "{trials}");
    assert!(
        text(&trials[1], "reason").contains("by which it comes home"),
        "{trials}"
    );
    assert_eq!((&trials[2]["outcome"], &report["best"]), (&json!("done"), &Value::Null));
    nothing_is_left(&service);

    // More memory than it may have. What was done is not done again.
    let sweep = format!("{data}tune: {{hidden: [[8], [1000, 700]], cpu: 100m, memory: 16Mi}}");
    configure(&service, &registry, &sweep);
    let report = service.run(&["tune", "-o", "json"]).code(1).json();
    assert_eq!(report["trials"][0]["reused"], true);
    let reason = text(&report["trials"][1], "reason");
    assert!(
        reason.contains("took more memory than it may; `tune.memory`"),
        "{reason}"
    );
    nothing_is_left(&service);
}

#[test]
fn what_keeps_all_trials_away_ends_the_sweep_at_once() {
    let (Some(cluster), Some(registry)) = (cluster(), registry()) else {
        return;
    };
    let service = Service::new(&cluster);
    configure(&service, &registry, DIGITS);
    let nowhere = format!("{registry}/emberline-test/nowhere:1");
    service.run(&["tune", "--worker-image", &nowhere]).code(1).says(&[
        "error: no trial can run in the cluster",
        &format!("cannot get the image `{nowhere}`"),
        "hint: the nodes must reach the registry",
    ]);
    nothing_is_left(&service);

    // Said before there is a Job.
    let quota = ["create", "quota", "small", "--hard=requests.memory=100Mi"];
    succeeded(service.namespace.kubectl(&quota));
    service
        .run(&["tune", "--worker-image", &nowhere])
        .code(1)
        .says(&["exceeded quota: small", "`tune.memory`"]);
    nothing_is_left(&service);
}

/// A sweep in the background, one trial at a time.
fn start(service: &Service) -> Background {
    Background::start(&mut service.command(&["tune", "--progress", "json", "--parallel", "1"]))
}

#[test]
fn a_client_that_was_killed_or_has_gone_comes_back_to_its_job() {
    let (Some(cluster), Some(registry)) = (cluster(), registry()) else {
        return;
    };
    let service = Service::new(&cluster);
    configure(&service, &registry, DIGITS);
    let mut sweep = start(&service);
    sweep.tells("trial_started");
    assert_eq!(sweep.end_with(Signal::KILL).0, None, "killed");
    let job = jobs(&service)[0]["metadata"]["uid"].clone();

    // Back, and gone again by Ctrl-C when it has the first bundle.
    let mut sweep = start(&service);
    sweep.tells("trial_done");
    let (code, said) = sweep.end_with(Signal::INT);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("the sweep goes on in the cluster"), "{said}");
    assert_eq!(jobs(&service)[0]["metadata"]["uid"], job, "it is the same Job");

    let ran = service.run(&["tune", "-o", "json"]).success();
    assert!(
        ran.stderr.contains("going on with the Job `quick-tune-"),
        "{}",
        ran.stderr
    );
    let report = ran.json();
    let trained = report["trained"].as_u64().expect("a number");
    assert!((1..=2).contains(&trained), "{report}");
    assert_eq!(versions(&report).len(), 3);
    nothing_is_left(&service);
}

#[test]
fn a_sweep_that_nobody_wants_any_more_is_cancelled() {
    let (Some(cluster), Some(registry)) = (cluster(), registry()) else {
        return;
    };
    let service = Service::new(&cluster);
    assert_eq!(service.ok(&["tune", "--cancel"])["cancelled"], json!([]));
    configure(
        &service,
        &registry,
        &DIGITS
            .replace("[1, 2, 3]", "[1]")
            .replace("tune: {", "tune: {epochs: [1000000], "),
    );
    let mut sweep = start(&service);
    sweep.tells("trial_started");
    let cancelled = service.ok(&["tune", "--cancel"]);
    let cancelled = cancelled["cancelled"].as_array().expect("Jobs");
    assert!(
        cancelled[0].as_str().is_some_and(|job| job.starts_with("quick-tune-")),
        "{cancelled:?}"
    );
    // Whoever waits for it is told.
    let (code, said) = sweep.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("somebody has deleted the Job"), "{said}");
    nothing_is_left(&service);
}

/// The part of the guide about clusters, with an account that has the rights that it names and no others.
#[test]
fn every_command_of_the_guide_does_what_it_says_with_the_rights_that_it_names() {
    let (Some(cluster), Some(registry)) = (cluster(), registry()) else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/guide/tuning.md")).expect("the guide");
    let (_, part) = guide.split_once("\n## In a cluster\n").expect("the part");
    let service = Service::new(&cluster);
    let namespace = service.namespace.name();
    let here = |text: &str| {
        text.replace(
            "registry.example.com/team/digits",
            &format!("{registry}/emberline-test/tune"),
        )
        .replace("namespace: models", &format!("namespace: {namespace}"))
    };
    let sections: Vec<String> = part
        .split("```yaml\n")
        .skip(1)
        .map(|block| here(block.split("```").next().expect("its end")))
        .collect();
    let role = service.path().join("role.yaml");
    fs::write(&role, &sections[1]).expect("written");
    let kubectl = |arguments: &[&str]| succeeded(service.namespace.kubectl(arguments)).stdout;
    kubectl(&["create", "-f", role.to_str().expect("a path")]);
    kubectl(&["create", "serviceaccount", "tuner"]);
    let account = format!("--serviceaccount={namespace}:tuner");
    kubectl(&["create", "rolebinding", "tuner", "--role=emberline-tune", &account]);
    let token = String::from_utf8(kubectl(&["create", "token", "tuner"])).expect("a token");
    let kubeconfig = service.account("tuner", token.trim());

    service.configure(&format!(
        "name: digits\ndata: {{source: synthetic-digits, count: 600, test_count: 200}}\ntrain: {{epochs: 1}}\n\
         evaluate: {{gate: {{accuracy: 0.01}}}}\ntune: {{seed: [1, 2], cpu: 100m, memory: 256Mi}}\n{}",
        sections[0]
    ));
    let script: Vec<&str> = part.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert!(
        script.contains(&"emberline tune") && script.contains(&"emberline doctor"),
        "{script:?}"
    );
    let bin = Path::new(env!("CARGO_BIN_EXE_emberline")).parent().expect("a folder");
    let shell = |script: &str, kubeconfig: &Path| {
        let mut bash = Command::new("bash");
        bash.args(["-euxo", "pipefail", "-c", script])
            .current_dir(service.path())
            .env_clear()
            .env(
                "PATH",
                format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default()),
            )
            .env("KUBECONFIG", kubeconfig);
        with_runtime(&mut bash);
        ran(&mut bash)
    };
    // `doctor` asks for the rights of a deployment as well, which this account has not; and names no other.
    let doctor = shell("emberline doctor -o json", &kubeconfig).code(1).json();
    let rights = doctor["checks"].as_array().expect("checks").iter();
    let rights = rights.clone().find(|check| check["name"] == "rights").expect("rights");
    assert_eq!(rights["verdict"], "failed");
    assert!(!rights["message"].to_string().contains("jobs"), "{rights}");
    assert!(text(rights, "hint").contains("docs/guide/tuning.md"), "{rights}");
    shell("emberline doctor", cluster.kubeconfig()).success();

    let rest: Vec<&str> = script.into_iter().filter(|line| *line != "emberline doctor").collect();
    let ran = shell(&rest.join("\n"), &kubeconfig).success();
    assert!(
        ran.stdout.contains("best by validation accuracy: trial"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("\ndigits-tune-"),
        "no pod is named:\n{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("no sweep goes on in the cluster"), "{}", ran.stdout);
    nothing_is_left(&service);
}
