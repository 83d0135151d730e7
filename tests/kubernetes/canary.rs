//! A canary on the cluster: divided by the real gateway, compared by what the real servers count, and promoted, aborted or
//! left undecided.
#![allow(clippy::print_stderr)] // what was counted is told

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::disruption::process_of;
use crate::divided::{Divided, Traffic, ask};
use crate::fixture::region;
use crate::gateway::{IMAGE, nginx_image};
use crate::running::{signal, wait};
use crate::service::Service;
use crate::setup::cluster;
use crate::tool::{Ran, ran, skipped};

#[test]
fn one_that_is_as_good_is_promoted_and_no_request_is_lost() {
    let Some((divided, first)) = Divided::new(region::bundle) else {
        return;
    };
    let second = divided.load(|project| region::another(project, 2));
    let traffic = Traffic::on(divided.address);
    let start = Instant::now();
    let canary = || divided.canary(&second, &["40%", "--canary-for", "10s"]);
    let mut ran = canary();
    // Where other work takes the processors from one side and not from the other, it is slower indeed.
    for _ in 0..2 {
        if !ran.stderr.contains("failed: latency: ") {
            break;
        }
        eprintln!("once more: {}", ran.stderr);
        ran = canary();
    }
    let ran = ran.success();
    eprintln!(
        "canaries of 10 s until one is promoted: {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let answered = traffic.end();
    assert!(
        answered.contains_key(&first) && answered.contains_key(&second),
        "{answered:?}"
    );

    let report = ran.json();
    let canary = &report["canary"];
    assert_eq!(
        (&report["version"], &report["phase"]),
        (&json!(second), &json!("ready"))
    );
    assert_eq!(
        (&canary["verdict"], &canary["state"], &canary["percent"]),
        (&json!("pass"), &json!("promoted"), &json!(40))
    );
    assert_eq!(
        (&canary["version"], &canary["baseline"]),
        (&json!(second), &json!(first))
    );
    let tests: Vec<&Value> = canary["tests"].as_array().expect("tests").iter().collect();
    let names: Vec<&Value> = tests.iter().map(|test| &test["name"]).collect();
    assert_eq!(names, ["answers", "errors", "rejections", "latency", "predictions"]);
    for test in tests {
        assert_eq!(test["outcome"], "pass", "{test}");
        assert!(test["p_value"].is_f64() && test["threshold"].is_f64(), "{test}");
    }
    // Both are drawn by the same lot: as many for either, give or take what chance allows.
    let [one, other] = ["baseline", "canary"].map(|side| canary["requests"][side].as_f64().expect("a number"));
    assert!((one - other).abs() < 6.0 * (one + other).sqrt(), "{canary}");
    assert!(canary["seconds"].as_f64().expect("seconds") >= 10.0, "{canary}");
    assert_eq!(report["proof"]["failed"], 0, "{report}");

    assert_eq!(divided.newest()["canary"], *canary);
    assert_eq!(divided.left(), Vec::<String>::new());
    assert_eq!(divided.service.ok(&["status"])["canary"], Value::Null);
    assert_eq!(ask(divided.address, 0), Ok(second));
}

#[test]
fn one_that_predicts_otherwise_is_taken_away_before_its_time_and_no_request_is_lost() {
    let Some((divided, first)) = Divided::new(region::bundle) else {
        return;
    };
    let second = divided.load(region::lighter);
    let traffic = Traffic::on(divided.address);
    let ran = divided.canary(&second, &["40%", "--canary-for", "2m"]).code(4);
    let answered = traffic.end();
    assert!(answered.contains_key(&second), "{answered:?}");
    for told in [
        &format!("deploy failed and was rolled back: canary {second} failed: "),
        // Of two classes, either.
        "predictions: share of class `",
        "baseline",
        "chi-square test of homogeneity",
        &format!("version {first} serves, as before"),
        "hint: `emberline history -o json`",
    ] {
        assert!(ran.stderr.contains(told), "no `{told}` in:\n{}", ran.stderr);
    }
    let report = ran.json();
    let canary = &report["canary"];
    assert_eq!((&report["version"], &report["phase"]), (&json!(first), &json!("ready")));
    assert_eq!(
        (&canary["verdict"], &canary["state"]),
        (&json!("fail"), &json!("aborted"))
    );
    assert!(canary["seconds"].as_f64().expect("seconds") < 110.0, "{canary}");
    let tests = canary["tests"].as_array().expect("tests");
    let test = tests.iter().find(|test| test["name"] == "predictions").expect("a test");
    assert_eq!(test["outcome"], "fail", "{canary}");
    let [one, other] = ["baseline", "canary"].map(|side| test[side].as_f64().expect("a number"));
    assert!((one - other).abs() > 0.3, "{test}");

    let newest = divided.newest();
    assert_eq!(
        (&newest["version"], &newest["outcome"]),
        (&json!(second), &json!("aborted"))
    );
    assert_eq!(newest["canary"], *canary);
    assert_eq!(divided.left(), Vec::<String>::new());
    for seed in 0..20 {
        assert_eq!(ask(divided.address, seed).as_ref(), Ok(&first));
    }
}

#[test]
fn one_that_nobody_asked_anything_is_undecided_and_stays_until_somebody_decides() {
    let Some((divided, first)) = Divided::new(region::bundle) else {
        return;
    };
    let service = &divided.service;
    let second = divided.load(|project| region::another(project, 2));
    let ran = divided.canary(&second, &["30%", "--canary-for", "1s"]).code(3);
    for told in [
        &format!("canary {second} is undecided: it answered 0 requests and its baseline 0"),
        "each has to answer 100",
        "hint: `emberline deploy --promote` has it serve",
    ] {
        assert!(ran.stderr.contains(told), "no `{told}` in:\n{}", ran.stderr);
    }
    assert_eq!(ran.json()["canary"]["verdict"], "undecided");

    // It is told, and it is in the way of what would change the ground that it stands on.
    let status = service.ok(&["status"]);
    assert_eq!(
        (
            &status["version"],
            &status["canary"]["version"],
            &status["canary"]["state"]
        ),
        (&json!(first), &json!(second), &json!("running"))
    );
    let text = service.run(&["status"]).success().stdout;
    assert!(text.contains(&format!("version {second} running, undecided")), "{text}");
    assert!(text.contains("TEST") && text.contains("predictions"), "{text}");
    for arguments in [&["deploy", "--allow-ungated", "--bundle", &second][..], &["rollback"]] {
        service.run(arguments).code(1).says(&[
            &format!("version {second} is tried as a canary beside version {first}"),
            "hint: `emberline deploy --promote` has it serve",
        ]);
    }
    service.ok(&["scale", "--replicas", "2", "--no-probe"]);

    // The gateway keeps its division when it is put there anew, and gives the canary its share.
    let before = divided.gateway_pods();
    service.ok(&["gateway", "up", "--allow-public"]);
    assert_eq!(divided.gateway_pods(), before);
    let answers = (0..400).map(|seed| ask(divided.address, seed).expect("an answer"));
    let its = answers.filter(|version| *version == second).count();
    // 120, give or take five standard deviations.
    assert!((75..=165).contains(&its), "{its} of 400");

    let aborted = service.ok(&["deploy", "--abort"]);
    assert_eq!(aborted["canary"]["state"], "aborted");
    assert_eq!(divided.newest()["reason"], "aborted by hand");
    assert_eq!(divided.left(), Vec::<String>::new());
    for verb in ["abort", "promote"] {
        service.run(&["deploy", &format!("--{verb}")]).code(1).says(&[
            &format!(
                "there is no canary of `digits` in namespace `{}` to {verb}",
                service.namespace.name()
            ),
            "hint: `emberline deploy --canary 10%`",
        ]);
    }

    // A client that is killed leaves one that another client goes on with.
    let mut command = service.command(&["deploy", "--allow-ungated", "--bundle", &second, "--canary", "10%"]);
    let mut client = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    wait("the canary is there", || divided.left().len() > 4);
    signal(client.id(), Signal::KILL);
    client.wait().expect("it ended");
    wait("the lock of the dead client ends", || {
        let next = divided.canary(&second, &["10%", "--canary-for", "1s"]);
        assert!(matches!(next.code, Some(3 | 6)), "{}", next.stderr);
        next.code == Some(3)
    });
    assert_eq!(divided.newest()["reason"], "another canary took its place");
    // The same where it is killed while it promotes.
    let mut command = service.command(&["deploy", "--promote"]);
    let mut client = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    wait("the service rolls", || {
        let deployment = service.namespace.json(&["get", "deployment", "digits-deployment"]);
        deployment["metadata"]["labels"]["app.kubernetes.io/version"] == *second
    });
    signal(client.id(), Signal::KILL);
    client.wait().expect("it ended");
    let mut promoted = Value::Null;
    wait("the lock of the dead client ends", || {
        let next = service.run(&["deploy", "--promote", "-o", "json"]);
        assert!(matches!(next.code, Some(0 | 6)), "{}", next.stderr);
        if next.code == Some(0) {
            promoted = next.json();
        }
        next.code == Some(0)
    });
    assert_eq!(
        (
            &promoted["version"],
            &promoted["canary"]["state"],
            &promoted["replicas"]["ready"]
        ),
        (&json!(second), &json!("promoted"), &json!(2))
    );
    assert_eq!(promoted["proof"]["failed"], 0, "{promoted}");
    assert_eq!(divided.newest()["canary"]["verdict"], "undecided");
    assert_eq!(divided.left(), Vec::<String>::new());
    assert_eq!(ask(divided.address, 0).as_ref(), Ok(&second));
    divided
        .canary(&second, &["10%"])
        .code(1)
        .says(&[&format!("version {second} serves already"), "hint: `--bundle VERSION`"]);

    // What is deleted is deleted with its canary.
    divided.canary(&first, &["10%", "--canary-for", "1s"]).code(3);
    service.ok(&["delete", "--yes"]);
    assert_eq!(divided.left(), Vec::<String>::new());
    service.ok(&["gateway", "down"]);
    wait("the pods of the gateway go", || service.left().is_empty());
}

#[test]
fn one_whose_container_ends_is_taken_away() {
    let Some((divided, first)) = Divided::new(region::bundle) else {
        return;
    };
    let service = &divided.service;
    let second = divided.load(|project| region::another(project, 2));
    let arguments = [
        "deploy",
        "--allow-ungated",
        "--bundle",
        &second,
        "--canary",
        "10%",
        "--canary-for",
        "40s",
    ];
    let client = service
        .command(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    wait("a look at it", || {
        service.ok(&["status"])["canary"]["seconds"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0)
    });
    let pods = service
        .namespace
        .json(&["get", "pods", "--selector=app.kubernetes.io/component=canary"]);
    let Some(process) = process_of(&pods["items"][0]) else {
        drop(client.wait_with_output());
        skipped::for_want_of("the processes of the node", "sudo tests/cluster/up");
        return;
    };
    signal(process, Signal::KILL);
    let ran = Ran::from(client.wait_with_output().expect("its end")).code(4);
    for told in [
        "restarts: containers started again 1, baseline 0",
        &format!("version {first} serves, as before"),
    ] {
        assert!(ran.stderr.contains(told), "no `{told}` in:\n{}", ran.stderr);
    }
    assert_eq!(divided.left(), Vec::<String>::new());
}

#[test]
fn one_of_a_service_with_keys_is_read_with_one() {
    let Some((divided, first)) = Divided::new(region::bundle) else {
        return;
    };
    let service = &divided.service;
    let second = divided.load(|project| region::another(project, 2));
    let key = service.run(&["keys", "add", "pipeline"]).success().stdout;
    let canary = |key: Option<&str>, more: &[&str]| {
        let arguments = [
            "deploy",
            "--allow-ungated",
            "--bundle",
            &second,
            "--canary",
            "10%",
            "--canary-for",
            "1s",
        ];
        let mut command = service.command(&[&arguments[..], more].concat());
        ran(command.envs(key.map(|key| ("EMBERLINE_KEY", key))))
    };
    let with = ["--keys", "emberline.keys"];
    canary(None, &with).code(1).says(&[
        "the service answers without keys, and its canary",
        "hint: `emberline deploy --keys FILE`",
    ]);
    service.deploy(&first, &with);
    canary(None, &[]).code(1).says(&[
        "the service answers with keys, and its canary",
        "hint: `--keys FILE` or `deploy.keys`",
    ]);
    canary(None, &with).code(1).says(&["hint: EMBERLINE_KEY holds the key"]);
    canary(Some("wrong"), &with).code(1).says(&[
        "shows its metrics to those with a key only",
        "hint: EMBERLINE_KEY holds the key",
    ]);
    assert_eq!(divided.left(), Vec::<String>::new());
    let undecided = canary(Some(key.trim()), &with).code(3);
    assert!(undecided.stderr.contains("is undecided"), "{}", undecided.stderr);
    service.ok(&["deploy", "--abort"]);
    assert_eq!(divided.left(), Vec::<String>::new());
}

#[test]
fn one_that_never_gets_ready_is_taken_away_at_once_with_its_cause() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    service.deploy(&version, &[]);
    let broken = service.broken_bundle();
    let canary = |more: &[&str]| {
        let arguments = ["deploy", "--allow-ungated", "--bundle", &broken, "--canary", "10%"];
        service.run(&[&arguments[..], more].concat())
    };
    canary(&[]).code(1).says(&[
        "there is no gateway in front of `digits`",
        "hint: `emberline gateway up --target kubernetes -n ",
    ]);
    canary(&["--target", "local", "--image", "a:1"])
        .code(2)
        .says(&["`--canary` is about a cluster, and the target is `local`"]);
    canary(&["--replicas", "2"])
        .code(2)
        .says(&["`--canary` cannot be used with `--replicas`", "stays as it is"]);
    service
        .run(&["deploy", "--promote", "--bundle", &version])
        .code(2)
        .says(&["`--promote` cannot be used with `--bundle`"]);
    if !nginx_image(&cluster) {
        return;
    }
    service.configure(&format!(
        "name: digits\ndata: {{source: synthetic-digits}}\ndeploy: {{target: kubernetes, namespace: {}}}\n\
         gateway: {{image: '{IMAGE}', replicas: 1}}\n",
        service.namespace.name()
    ));
    service.ok(&["gateway", "up"]);
    let before = service.pods();
    canary(&["--port", "8000"])
        .code(1)
        .says(&["a canary does not move the service to port 8000"]);
    canary(&[]).code(4).says(&[
        "deploy failed and was rolled back: pod `digits-canary-",
        "failed its golden check: golden case 0",
        "log ends with:",
        "golden",
    ]);
    let start = Instant::now();
    canary(&["--image", "emberline.test/absent:1", "--timeout", "5m"])
        .code(4)
        .says(&["cannot get the image `emberline.test/absent:1`"]);
    assert!(start.elapsed() < Duration::from_mins(2), "{:?}", start.elapsed());
    assert_eq!(
        service.pods(),
        before,
        "neither the service nor its gateway was touched"
    );
    let history = service.ok(&["history"]);
    let outcomes: Vec<&Value> = history["revisions"]
        .as_array()
        .expect("revisions")
        .iter()
        .map(|revision| &revision["outcome"])
        .collect();
    assert_eq!(outcomes, ["deployed", "aborted", "aborted"]);
    let status = service.ok(&["status"]);
    assert_eq!(
        (&status["version"], &status["phase"], &status["canary"]),
        (&json!(version), &json!("ready"), &Value::Null)
    );
    let left = service.left();
    assert!(
        !left
            .iter()
            .any(|name| name.contains("canary") || name.contains("baseline")),
        "{left:?}"
    );
}
