//! How long a person waits for a deploy to Kubernetes: for a version of three replicas that arrives, and for one that never will.
//!
//! `cargo bench --bench deploying` does each five times; `EMBERLINE_BENCH=short` makes it once. It needs the cluster of
//! tests/cluster, and fails when a deploy of an image that is there takes 15 s, or the diagnosis of one that is not takes 10 s.
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
const SHORT: usize = 1;
/// The longest that a deploy of three replicas may take, in seconds.
const DEPLOY: f64 = 15.0;
/// The longest that it may take until a bad image is told, and the former version is there again, in seconds.
const DIAGNOSIS: f64 = 10.0;

fn main() -> ExitCode {
    let short = std::env::var("EMBERLINE_BENCH").is_ok_and(|form| form == "short");
    let Some(cluster) = cluster() else {
        return ExitCode::SUCCESS;
    };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    let deploy = ["deploy", "--allow-ungated", "--replicas", "3", "--bundle"];
    let timed = |arguments: &[&str], code: i32| {
        let start = Instant::now();
        service.run(&[&deploy[..], arguments].concat()).code(code);
        start.elapsed().as_secs_f64()
    };
    let absent = ["--image", "emberline.test/absent:1"];
    // The same pods whatever the round: the first deployment is deleted each time.
    type Done<'a> = (&'a str, f64, Box<dyn Fn() -> f64 + 'a>);
    let changes: [Done; 4] = [
        (
            "three replicas, the first deployment",
            DEPLOY,
            Box::new(|| timed(&[&first], 0)),
        ),
        (
            "three replicas, another version",
            DEPLOY,
            Box::new(|| timed(&[&second], 0)),
        ),
        (
            "a bad image, over a version that serves",
            DIAGNOSIS,
            Box::new(|| timed(&[&[&*first], &absent[..]].concat(), 4)),
        ),
        (
            "a bad image, the first deployment",
            DIAGNOSIS,
            Box::new(|| {
                service.ok(&["delete", "--yes"]);
                timed(&[&[&*first], &absent[..]].concat(), 5)
            }),
        ),
    ];
    let mut late = false;
    let mut worst = [0.0_f64; 4];
    for _ in 0..if short { SHORT } else { ROUNDS } {
        for ((_, most, change), worst) in changes.iter().zip(&mut worst) {
            let seconds = change();
            *worst = worst.max(seconds);
            late |= seconds >= *most;
        }
        service.ok(&["delete", "--yes"]);
    }
    println!("change                                    longest   may take");
    for ((name, most, _), worst) in changes.iter().zip(worst) {
        println!("{name:<40} {worst:>6.1} s {most:>8.0} s");
    }
    if late { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
