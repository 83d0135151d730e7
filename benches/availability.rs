//! What tests/kubernetes/availability.rs asks for once, again and again: a service of three replicas is changed, and things are
//! done to its pods, under a steady stream of requests, and what became of them is counted. Of a container that is killed,
//! they are those of its neighbours.
//!
//! `cargo bench --bench availability` does so 100 times, four services at a time; `-- ROUNDS` says another number, and
//! `EMBERLINE_BENCH=short` makes it two. It needs the cluster of tests/cluster, and fails when a request did.
#![allow(clippy::print_stdout)] // a bench is for its numbers

#[path = "../tests/kubernetes/disruption.rs"]
mod disruption;
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
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use serde_json::Value;

use disruption::{delete, drain, evict, kill_one, settled};
use requests::Requests;
use running::wait;
use service::Service;
use setup::{Cluster, cluster};

const ROUNDS: usize = 100;
const SHORT: usize = 2;
/// Services that are changed at the same time: a change is waited for more than it is worked at.
const SERVICES: usize = 4;
const REPLICAS: usize = 3;
const CHANGES: [&str; 8] = [
    "rolling update",
    "rollback",
    "scale down",
    "scale up",
    "pod deleted",
    "pod evicted",
    "neighbour killed",
    "node drained",
];

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
    fn add(&mut self, streams: &[Value], seconds: f64) {
        self.times += 1;
        self.seconds += seconds;
        for told in streams {
            let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no proof: {told}"));
            self.sent += number(&told["sent"]);
            self.failed += number(&told["failed"]);
            self.p99 = self.p99.max(told["p99_seconds"].as_f64().unwrap_or_default());
            for (reason, count) in told["reasons"].as_object().into_iter().flatten() {
                *self.reasons.entry(reason.clone()).or_default() += number(count);
            }
        }
    }
}

/// Changes a service of its own, as long as there are rounds left, and adds to the counts.
fn change(cluster: &Cluster, rounds: &AtomicUsize, counts: &[Mutex<Count>; CHANGES.len()]) {
    let service = Service::new(cluster);
    let (first, second) = (service.bundle(), service.bundle());
    let bundle = service.path().join(".emberline/bundles").join(&first);
    let replicas = REPLICAS.to_string();
    service.deploy(&first, &["--replicas", &replicas]);
    let address = format!("127.0.0.1:{}", service.node_port());
    let proven = |told: Value| {
        assert!(told["proof"].is_object(), "no proof: {told}");
        vec![told["proof"].clone()]
    };
    let under_requests = |done: &dyn Fn()| {
        let requests = Requests::to(&bundle, &address);
        done();
        wait("other pods", || settled(&service, REPLICAS));
        vec![requests.end()]
    };
    let a_pod = || service.pods().remove(0);
    let changes: [&dyn Fn() -> Vec<Value>; CHANGES.len()] = [
        &|| proven(service.deploy(&second, &["--replicas", &replicas])),
        &|| proven(service.ok(&["rollback"])),
        &|| proven(service.ok(&["scale", "--replicas", "1"])),
        &|| proven(service.ok(&["scale", "--replicas", &replicas])),
        &|| under_requests(&|| delete(&service, &a_pod())),
        &|| under_requests(&|| evict(&service, &a_pod())),
        &|| {
            let killed = kill_one(&service, &bundle, &address);
            killed.expect("the processes of the node are this machine's").neighbours
        },
        &|| under_requests(&|| drain(&service)),
    ];
    let left = |rounds: usize| rounds.checked_sub(1);
    while rounds.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok() {
        for (count, change) in counts.iter().zip(changes) {
            let start = Instant::now();
            let told = change();
            let seconds = start.elapsed().as_secs_f64();
            count.lock().expect("no panic").add(&told, seconds);
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
    let services = SERVICES.min(rounds);
    let rounds = AtomicUsize::new(rounds);
    let counts: [Mutex<Count>; CHANGES.len()] = Default::default();
    let all_went_on = std::thread::scope(|scope| {
        let services: Vec<_> = (0..services)
            .map(|_| scope.spawn(|| change(&cluster, &rounds, &counts)))
            .collect();
        let ends: Vec<_> = services.into_iter().map(ScopedJoinHandle::join).collect();
        ends.iter().all(Result::is_ok)
    });
    // What was counted is told, also when something went wrong meanwhile.
    let counts = counts.map(|count| count.into_inner().expect("no panic"));

    println!("change            times  seconds each  requests  failed  longest p99");
    for (count, name) in counts.iter().zip(CHANGES) {
        println!(
            "{name:<16} {:>6} {:>13.1} {:>9} {:>7} {:>9.1} ms",
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
    let failed: u64 = counts.iter().map(|count| count.failed).sum();
    if failed == 0 && all_went_on {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
