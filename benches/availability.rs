//! What tests/kubernetes/availability.rs asks for once, again and again: a service of three replicas is changed in every way
//! that is done to one on purpose, under a steady stream of requests, and what became of them is counted.
//!
//! `cargo bench --bench availability` does so 100 times, in about 75 minutes; `-- ROUNDS` says another number, and
//! `EMBERLINE_BENCH=short` makes it two. It needs the cluster of tests/cluster, and fails when a request did.
#![allow(clippy::print_stdout)] // a bench is for its numbers

#[path = "../tests/fixture/mod.rs"]
mod fixture;
#[path = "../tests/kubernetes/requests.rs"]
mod requests;
#[path = "../tests/running/mod.rs"]
mod running;
#[path = "../tests/kubernetes/service.rs"]
mod service;
#[path = "../tests/kubernetes/setup.rs"]
mod setup;
#[path = "../tests/tool/mod.rs"]
mod tool;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value;

use requests::{Requests, evict, settled};
use running::wait;
use service::Service;
use setup::{cluster, succeeded};

const ROUNDS: usize = 100;
const SHORT: usize = 2;
const REPLICAS: usize = 3;

/// What became of the requests during one kind of change.
#[derive(Default)]
struct Count {
    times: u64,
    sent: u64,
    failed: u64,
    /// The longest 99th percentile of them all, in seconds.
    p99: f64,
    /// How long each took, in seconds.
    seconds: f64,
    reasons: BTreeMap<String, u64>,
}

impl Count {
    fn add(&mut self, told: &Value, seconds: f64) {
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no proof: {told}"));
        self.times += 1;
        self.sent += number(&told["sent"]);
        self.failed += number(&told["failed"]);
        self.p99 = self.p99.max(told["p99_seconds"].as_f64().unwrap_or_default());
        self.seconds += seconds;
        for (reason, count) in told["reasons"].as_object().into_iter().flatten() {
            *self.reasons.entry(reason.clone()).or_default() += number(count);
        }
    }
}

fn main() -> ExitCode {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let short = std::env::var("EMBERLINE_BENCH").is_ok_and(|form| form == "short");
    let rounds = asked.unwrap_or(if short { SHORT } else { ROUNDS });
    let Some(cluster) = cluster() else {
        return ExitCode::SUCCESS;
    };
    let service = Service::new(&cluster);
    let (first, second) = (service.bundle(), service.bundle());
    let bundles = service.path().join(".emberline/bundles");
    let replicas = REPLICAS.to_string();
    service.deploy(&first, &["--replicas", &replicas]);
    let address = format!("127.0.0.1:{}", service.node_port());
    wait("the node port leads to the pods", || {
        std::net::TcpStream::connect(&*address).is_ok()
    });

    let mut counts: [(&str, Count); 6] = [
        "rolling update",
        "rollback",
        "scale down",
        "scale up",
        "pod deleted",
        "pod evicted",
    ]
    .map(|name| (name, Count::default()));
    for _ in 0..rounds {
        let pod = |done: &dyn Fn(&str)| {
            let requests = Requests::to(&bundles.join(&first), &address);
            done(&service.pods()[0]);
            wait("another pod", || settled(&service, REPLICAS));
            requests.end()
        };
        let changes: [&dyn Fn() -> Value; 6] = [
            &|| service.deploy(&second, &["--replicas", &replicas])["proof"].clone(),
            &|| service.ok(&["rollback"])["proof"].clone(),
            &|| service.ok(&["scale", "--replicas", "1"])["proof"].clone(),
            &|| service.ok(&["scale", "--replicas", &replicas])["proof"].clone(),
            &|| pod(&|name| drop(succeeded(service.namespace.kubectl(&["delete", "pod", name])))),
            &|| pod(&|name| evict(&service, name)),
        ];
        for ((_, count), change) in counts.iter_mut().zip(changes) {
            let start = Instant::now();
            let told = change();
            count.add(&told, start.elapsed().as_secs_f64());
        }
    }

    println!("change          times  seconds each  requests  failed  longest p99");
    for (name, count) in &counts {
        println!(
            "{name:<14} {:>6} {:>13.1} {:>9} {:>7} {:>9.1} ms",
            count.times,
            count.seconds / count.times as f64,
            count.sent,
            count.failed,
            count.p99 * 1e3
        );
        for (reason, failed) in &count.reasons {
            println!("  {reason}: {failed}");
        }
    }
    let failed: u64 = counts.iter().map(|(_, count)| count.failed).sum();
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
