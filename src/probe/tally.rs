//! What became of the requests of a probe, as numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

/// The shortest time that is told from a shorter one.
const SHORTEST: f64 = 1e-5;
/// Buckets for each doubling: a time is known to 4.4 %.
const STEPS: f64 = 16.0;
/// Up to 10 µs times 2^23, 84 s: above what a request may take.
const BUCKETS: usize = 23 * STEPS as usize;
/// Kinds of failures, and versions, that are told apart; a service that makes up more has its further ones not named.
const KINDS: usize = 32;

/// The numbers so far.
#[derive(Debug)]
pub struct Tally {
    /// Requests that were sent.
    pub sent: u64,
    /// Those that were answered as they should be.
    pub answered: u64,
    /// Those that were not.
    pub failed: u64,
    /// Why not, with the number of each.
    pub reasons: BTreeMap<String, u64>,
    versions: BTreeMap<String, u64>,
    /// Times of those that were answered, in buckets whose upper ends grow by the same factor.
    times: Vec<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sent: 0,
            answered: 0,
            failed: 0,
            reasons: BTreeMap::new(),
            versions: BTreeMap::new(),
            times: vec![0; BUCKETS],
        }
    }
}

impl Tally {
    /// Counts a request that the named version has answered, or why it failed.
    pub fn count(&mut self, outcome: Result<String, String>, took: Duration) {
        let (kinds, name) = match outcome {
            Ok(version) => {
                self.answered += 1;
                self.times[bucket(took)] += 1;
                (&mut self.versions, version)
            }
            Err(reason) => {
                self.failed += 1;
                (&mut self.reasons, reason)
            }
        };
        if kinds.len() < KINDS || kinds.contains_key(&name) {
            *kinds.entry(name).or_default() += 1;
        }
    }

    /// Takes back what has failed so far, as if it had not been sent.
    pub fn forget_failures(&mut self) {
        self.sent -= self.failed;
        self.failed = 0;
        self.reasons.clear();
    }

    /// The time, in seconds, that the share of the answers took at most, to 4.4 % above; none before the first.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = ((self.answered as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.times.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map(|bucket| SHORTEST * (bucket as f64 / STEPS).exp2())
    }

    /// The numbers as a line of JSON.
    pub fn line(&self, elapsed: Duration, last: bool) -> String {
        json!({
            "seconds": (elapsed.as_secs_f64() * 1e3).round() / 1e3,
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.failed,
            "reasons": self.reasons,
            "p50_seconds": self.quantile(0.5),
            "p99_seconds": self.quantile(0.99),
            "versions": self.versions,
            "final": last,
        })
        .to_string()
    }
}

/// The first bucket whose upper end is not below the time.
fn bucket(took: Duration) -> usize {
    let doublings = (took.as_secs_f64() / SHORTEST).max(1.0).log2();
    ((doublings * STEPS).ceil() as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_numbers_are_those_of_what_was_counted() {
        let mut tally = Tally::default();
        let read = |tally: &Tally| serde_json::from_str::<Value>(&tally.line(Duration::from_millis(2500), false));
        let none = read(&tally).expect("JSON");
        assert_eq!((&none["p99_seconds"], &none["seconds"]), (&Value::Null, &json!(2.5)));
        tally.sent = 101;
        for millis in 1..=100 {
            let version = if millis <= 60 { "a" } else { "b" };
            tally.count(Ok(version.into()), Duration::from_millis(millis));
        }
        tally.count(Err("timeout".into()), Duration::from_secs(5));
        let told = read(&tally).expect("JSON");
        assert_eq!((&told["sent"], &told["answered"]), (&json!(101), &json!(100)));
        assert_eq!(
            (&told["failed"], &told["reasons"]),
            (&json!(1), &json!({ "timeout": 1 }))
        );
        assert_eq!(told["versions"], json!({ "a": 60, "b": 40 }));
        // A time is never told shorter than it was.
        let within = |key: &str, true_seconds: f64| {
            let told = told[key].as_f64().expect("a number");
            assert!((true_seconds..true_seconds * 1.045).contains(&told), "{key} {told}");
        };
        within("p50_seconds", 0.050);
        within("p99_seconds", 0.099);
        assert_eq!(told["final"], false);
    }

    #[test]
    fn any_time_and_any_number_of_reasons_fit() {
        let mut tally = Tally::default();
        tally.count(Ok("a".into()), Duration::ZERO);
        assert_eq!(tally.quantile(0.99), Some(SHORTEST));
        tally.count(Ok("a".into()), Duration::from_secs(1_000_000));
        assert!(tally.quantile(0.99).is_some_and(|seconds| seconds > 80.0));
        for number in 0..1000 {
            tally.count(Err(number.to_string()), Duration::ZERO);
        }
        assert_eq!((tally.failed, tally.reasons.len()), (1000, KINDS));
    }
}
