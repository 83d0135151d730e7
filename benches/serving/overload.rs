//! Ten times what the server can do: what it answers must stay near what it answers at its best, and in bounded time.
//!
//! The generator shares the machine, and each refusal costs it as much as the server. So the network is one that takes
//! milliseconds: nine refusals for each answer are then a small part of the whole, as they are where clients are elsewhere.

use std::time::Duration;

use emberline::model::ModelConfig;

use crate::load::{Pace, Target, offer};
use crate::report::{Goal, Spread};
use crate::{Bench, PREDICT, fixture, request, serve};

/// Enough for a full queue and as many more to refuse.
const CONNECTIONS: usize = 512;
/// Requests are sent in bunches, so that the generator does not wake for each and take the model's cores.
const NAP: Duration = Duration::from_millis(2);
/// The server's default, of which the bound on the latency follows.
const QUEUE: f64 = 256.0;

pub fn overload(bench: &mut Bench) {
    let model = ModelConfig::Cnn {
        filters: [192, 384],
        hidden: 256,
        dropout: 0.0,
    };
    let folder = bench.folder.path().join("overload");
    std::fs::create_dir(&folder).expect("a folder");
    let bundle = fixture::bundle_of(&folder, "digits", model);
    let server = serve(&bench.runtime, &bundle, &[]);
    let target = Target {
        address: server.address,
        request: request("POST", PREDICT, "application/json", &bench.body),
    };
    let time = Duration::from_secs(3);
    let pairs = if bench.short { 1 } else { 5 };
    offer(&target, 128, Pace::Closed, time / 4).expect("the server listens");
    let (mut ratios, mut bounds, mut latencies, mut lines) = (vec![], vec![], vec![], String::new());
    for _ in 0..pairs {
        let peak = offer(&target, 128, Pace::Closed, time).expect("the server listens");
        let pace = Pace::Open {
            rate: peak.rate() * 10.0,
            nap: NAP,
        };
        let flood = offer(&target, CONNECTIONS, pace, time).expect("the server listens");
        assert_eq!(flood.retry_after, flood.refused, "a 429 does not say when to try again");
        ratios.push(flood.rate() / peak.rate());
        bounds.push((QUEUE / peak.rate() * 2.0 + 0.05) * 1e3);
        latencies.push(flood.quantile(0.99) * 1e3);
        lines = format!(
            "{:.0}/s at peak; of {} offered {} answered, {} refused, {} failed, {} lost; the generator took {:.0} % of a core",
            peak.rate(),
            flood.sent,
            flood.latencies.len(),
            flood.refused,
            flood.failed,
            flood.lost,
            flood.processor / flood.seconds * 100.0
        );
    }
    bench.report.figure(
        "overload: answers at ten times capacity by those at peak",
        ratios,
        Goal::Ratio(0.9),
        &lines,
    );
    let bound = Spread::new(bounds).median();
    bench.report.figure(
        "overload: p99 of what is answered",
        latencies,
        Goal::Milliseconds(bound.round()),
        "the bound: a full queue of 256, twice over, and 50 ms",
    );
}
