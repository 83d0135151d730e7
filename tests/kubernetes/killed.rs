//! A client that is killed, at many moments of every kind of change: nothing that it leaves blocks the next one, and the next
//! one finds all as it should be.
#![allow(clippy::print_stderr)] // what was done is told

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::disruption::settled;
use crate::running::{signal, wait};
use crate::service::Service;
use crate::setup::cluster;

/// Moments of a deploy, spread over how long one takes.
const DEPLOYS: u32 = 10;
/// The same of the other kinds of change.
const OTHERS: u32 = 3;

/// Starts a command and kills it after a while, if it has not ended by then.
fn killed_after(service: &Service, arguments: &[&str], while_: Duration) {
    let mut client = service
        .command(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    std::thread::sleep(while_);
    signal(client.id(), Signal::KILL);
    client.wait().expect("it ended");
}

fn deploy(version: &str) -> [&str; 4] {
    ["deploy", "--allow-ungated", "--bundle", version]
}

/// What of ours there is, but for the pods.
fn objects(service: &Service) -> Vec<String> {
    let mut left = service.left();
    left.retain(|object| !object.starts_with("\"Pod\""));
    left.sort();
    left
}

#[test]
fn a_client_that_is_killed_at_any_moment_leaves_nothing_that_blocks_the_next_deploy() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let (first, second, broken) = (service.bundle(), service.bundle(), service.broken_bundle());
    service.deploy(&first, &[]);
    let expected = objects(&service);

    // The next deploy is not told to wait, and what it wants is there, and nothing else.
    let next = |what: &str, version: &str| {
        let start = Instant::now();
        let report = service.deploy(version, &["--no-probe"]);
        assert_eq!(
            (&report["version"], &report["phase"], &report["replicas"]),
            (&json!(version), &json!("ready"), &json!({ "desired": 1, "ready": 1 })),
            "{what}: {report}"
        );
        wait("only what is wanted is left", || {
            settled(&service, 1) && service.pods().len() == 1
        });
        assert_eq!(objects(&service), expected, "{what}");
        let history = service.ok(&["history"]);
        let revisions = history["revisions"].as_array().expect("revisions");
        let newest = revisions.last().expect("a revision");
        // A version that was rolled back before its client died is a revision of its own; what serves has arrived all the same.
        let serves = revisions
            .iter()
            .rfind(|revision| revision["outcome"] == "deployed")
            .expect("one that serves");
        assert_eq!(serves["version"], *version, "{what}: {history:#}");
        assert_ne!(newest["outcome"], "progressing", "{what}: {history:#}");
        eprintln!(
            "killed {what}: the next deploy took {:.1} s",
            start.elapsed().as_secs_f64()
        );
    };
    let timed = |arguments: &[&str], code: i32| {
        let start = Instant::now();
        service.run(arguments).code(code);
        start.elapsed()
    };
    let moments = |length: Duration, count: u32| {
        (0..count).map(move |at| length.mul_f64((f64::from(at) + 0.5) / f64::from(count)))
    };

    let length = timed(&deploy(&second), 0);
    for (turn, moment) in moments(length, DEPLOYS).enumerate() {
        let (from, to) = if turn % 2 == 0 {
            (&second, &first)
        } else {
            (&first, &second)
        };
        next("nobody", from);
        killed_after(&service, &deploy(to), moment);
        // Once the same command goes on, once it goes back to what there was.
        let after = if turn % 3 == 2 { from } else { to };
        next(
            &format!(
                "a deploy after {:.1} s of {:.1} s",
                moment.as_secs_f64(),
                length.as_secs_f64()
            ),
            after,
        );
    }

    next("nobody", &first);
    let length = timed(&deploy(&broken), 4);
    for moment in moments(length, OTHERS) {
        killed_after(&service, &deploy(&broken), moment);
        next(
            &format!("a deploy that fails after {:.1} s", moment.as_secs_f64()),
            &first,
        );
    }

    next("nobody", &second);
    let length = timed(&["rollback"], 0);
    for moment in moments(length, OTHERS) {
        next("nobody", &second);
        killed_after(&service, &["rollback"], moment);
        next(&format!("a rollback after {:.1} s", moment.as_secs_f64()), &second);
    }

    let length = timed(&["scale", "--replicas", "2"], 0);
    for moment in moments(length, OTHERS) {
        next("nobody", &second);
        killed_after(&service, &["scale", "--replicas", "2"], moment);
        next(&format!("a scale after {:.1} s", moment.as_secs_f64()), &second);
    }
}

#[test]
fn the_history_says_who_changed_the_number_of_replicas() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    service.deploy(&version, &[]);
    service.ok(&["scale", "--replicas", "2"]);
    // The same number again is no change.
    service.ok(&["scale", "--replicas", "2"]);
    service.deploy(&version, &["--replicas", "1", "--no-probe"]);
    service.ok(&["scale", "--autoscale", "1..2", "--timeout", "120s"]);
    let revision = service.ok(&["history"])["revisions"][0].clone();
    assert_eq!(revision["outcome"], "deployed");
    assert_eq!(revision["source_revision"], "5ca1ab1e");
    let scaled: Vec<(&Value, &Value, &Value, &Value)> = revision["scaled"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|scaled| {
            assert_eq!(scaled["by"], revision["deployed_by"], "{scaled}");
            assert!(scaled["at"].as_u64() >= revision["deployed_at"].as_u64(), "{scaled}");
            (&scaled["from"], &scaled["to"], &scaled["autoscale"], &scaled["outcome"])
        })
        .collect();
    let (one, two, none, deployed) = (json!(1), json!(2), Value::Null, json!("deployed"));
    let by_load = json!({ "min": 1, "max": 2, "cpu": 70 });
    assert_eq!(
        scaled,
        [
            (&one, &two, &none, &deployed),
            (&two, &one, &none, &deployed),
            (&one, &none, &by_load, &deployed)
        ]
    );
    assert_eq!(revision["scaled"][0]["proof"]["failed"], 0);
    let text = service.run(&["history"]).success().stdout;
    for words in ["5ca1ab1e", "  scaled", "1 to 2 replicas", "by load, 1 to 2, 70 %"] {
        assert!(text.contains(words), "{text}");
    }
}
