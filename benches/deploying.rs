//! How long a person waits for a deploy to Kubernetes: for a version of three replicas that arrives, and for one that never will.
//!
//! `cargo bench --bench deploying` does each five times, and fails when a deploy of an image that is there takes 15 s each time,
//! or the diagnosis of one that is not 10 s. `EMBERLINE_BENCH=short` ends as soon as each has been in time once, and so fails
//! for the same. It needs the cluster of tests/cluster.
#![allow(clippy::print_stdout)] // a bench is for its numbers

#[path = "../tests/fixture/mod.rs"]
mod fixture;
#[path = "../tests/running/mod.rs"]
mod running;
#[path = "../tests/kubernetes/service.rs"]
mod service;
#[path = "../tests/kubernetes/setup.rs"]
mod setup;
#[path = "../tests/tool/mod.rs"]
mod tool;

use std::process::ExitCode;
use std::time::Instant;

use service::Service;
use setup::cluster;

const ROUNDS: usize = 5;
/// The longest that a deploy of three replicas may take, in seconds.
const DEPLOY: f64 = 15.0;
/// The longest that it may take until a bad image is told, and the former version is there again, in seconds.
const DIAGNOSIS: f64 = 10.0;

/// What is done, how long it may take, and how long it took.
type Done<'a> = (&'a str, f64, Box<dyn Fn() -> f64 + 'a>);

fn main() -> ExitCode {
    let short = std::env::var("EMBERLINE_BENCH").is_ok_and(|form| form == "short");
    let Some(cluster) = cluster() else {
        return ExitCode::SUCCESS;
    };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    let deploy = ["deploy", "--allow-ungated", "--replicas", "3", "--bundle"];
    let deploy_for = |arguments: &[&str], code: i32| {
        let start = Instant::now();
        service.run(&[&deploy[..], arguments].concat()).code(code);
        start.elapsed().as_secs_f64()
    };
    let absent = ["--image", "emberline.test/absent:1"];
    // The same pods whatever the round: the first deployment is deleted each time.
    let changes: [Done; 4] = [
        (
            "three replicas, the first deployment",
            DEPLOY,
            Box::new(|| deploy_for(&[&first], 0)),
        ),
        (
            "three replicas, another version",
            DEPLOY,
            Box::new(|| deploy_for(&[&second], 0)),
        ),
        (
            "a bad image, over a version that serves",
            DIAGNOSIS,
            Box::new(|| deploy_for(&[&[&*first], &absent[..]].concat(), 4)),
        ),
        (
            "a bad image, the first deployment",
            DIAGNOSIS,
            Box::new(|| {
                service.ok(&["delete", "--yes"]);
                deploy_for(&[&[&*first], &absent[..]].concat(), 5)
            }),
        ),
    ];
    let mut times: [Vec<f64>; 4] = Default::default();
    let shortest = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    // What is late for once may be the machine's fault, and is asked again.
    let is_late =
        |times: &[Vec<f64>; 4]| (changes.iter().zip(times)).any(|((_, most, _), times)| shortest(times) >= *most);
    for _ in 0..ROUNDS {
        if short && !is_late(&times) {
            break;
        }
        for ((_, _, change), times) in changes.iter().zip(&mut times) {
            times.push(change());
        }
        service.ok(&["delete", "--yes"]);
    }
    println!("change                                    shortest   longest   may take");
    for ((name, most, _), times) in changes.iter().zip(&times) {
        let longest = times.iter().copied().fold(0.0, f64::max);
        println!("{name:<40} {:>7.1} s {longest:>7.1} s {most:>8.0} s", shortest(times));
    }
    if is_late(&times) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
