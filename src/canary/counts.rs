//! What a server has counted, read from its page of metrics. The names are those of the server's own table.

use std::collections::{BTreeMap, BTreeSet};

use crate::serve::metrics::Protocol;
use crate::serve::metrics::table::{DURATION, PREDICTIONS, REFUSED, REQUESTS};

/// Parts of a second, so that a bound can be a key of a map.
const NANOS: f64 = 1e9;

/// What one side has counted of predictions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were answered.
    pub requests: u64,
    /// Of those, with 5xx.
    pub server_errors: u64,
    /// Of those, with 4xx, 429 among them.
    pub client_errors: u64,
    /// Of those, with 429, because the queue was full.
    pub refused: u64,
    /// Requests by the upper bound of the time that they took, in nanoseconds; all of them each time, as the page has it.
    below: BTreeMap<u64, u64>,
    classes: BTreeMap<String, u64>,
}

impl Counts {
    /// Reads a page. What is not about predictions is left out.
    pub fn read(page: &str) -> Self {
        let mut counts = Self::default();
        let bucket = format!("{}_bucket", DURATION.name);
        for (name, labels, value) in page.lines().filter_map(sample) {
            let label = |name: &str| labels.get(name).map_or("", String::as_str);
            // Counts are whole.
            let number = value as u64;
            let predicts = label("protocol") != Protocol::Other.name();
            if name == REQUESTS.name && predicts {
                counts.requests += number;
                match label("status") {
                    "5xx" => counts.server_errors += number,
                    "4xx" => counts.client_errors += number,
                    _ => {}
                }
            } else if name == bucket && predicts {
                *counts.below.entry(nanos(label("le"))).or_default() += number;
            } else if name == REFUSED.name {
                counts.refused += number;
            } else if name == PREDICTIONS.name {
                *counts.classes.entry(label("class").to_owned()).or_default() += number;
            }
        }
        counts
    }

    /// What was counted since `before`. A server that was started anew counts from 0.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        if self.requests < before.requests {
            return self.clone();
        }
        self.with(before, u64::saturating_sub)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    fn with(&self, other: &Self, number: fn(u64, u64) -> u64) -> Self {
        Self {
            requests: number(self.requests, other.requests),
            server_errors: number(self.server_errors, other.server_errors),
            client_errors: number(self.client_errors, other.client_errors),
            refused: number(self.refused, other.refused),
            // Below a bound that a server has not are those below its next lower one.
            below: merged(&self.below, &other.below, |one, two, bound| {
                number(up_to(one, *bound), up_to(two, *bound))
            }),
            classes: merged(&self.classes, &other.classes, |one, two, class| {
                let of = |map: &BTreeMap<String, u64>| map.get(class).copied().unwrap_or_default();
                number(of(one), of(two))
            }),
        }
    }

    /// Answers that are the server's failure.
    pub fn errors(&self) -> u64 {
        self.server_errors + self.refused
    }

    /// Answers that tell the client that it is wrong.
    pub fn rejections(&self) -> u64 {
        self.client_errors.saturating_sub(self.refused)
    }

    /// The times to answer.
    pub(super) fn timed(&self) -> Timed<'_> {
        Timed(&self.below)
    }

    /// How often each class was predicted by `self` and by `other`.
    pub(super) fn classes(&self, other: &Self) -> Vec<(String, [u64; 2])> {
        let names: BTreeSet<&String> = self.classes.keys().chain(other.classes.keys()).collect();
        let number = |counts: &Self, name| counts.classes.get(name).copied().unwrap_or_default();
        names
            .into_iter()
            .map(|name| (name.clone(), [number(self, name), number(other, name)]))
            .collect()
    }
}

/// Times to answer, as counts below bounds.
#[derive(Clone, Copy)]
pub(super) struct Timed<'a>(&'a BTreeMap<u64, u64>);

impl Timed<'_> {
    /// All of them.
    pub fn total(self) -> u64 {
        self.0.values().next_back().copied().unwrap_or_default()
    }

    /// Those above a bound.
    pub fn above(self, bound: u64) -> u64 {
        self.total().saturating_sub(up_to(self.0, bound))
    }

    /// The bounds of the bucket that this share lies below the end of: what of it is finite.
    pub fn around(self, share: f64) -> Vec<u64> {
        let wanted = self.total() as f64 * share;
        let mut lower = None;
        for (&bound, &below) in self.0 {
            if below > 0 && below as f64 >= wanted {
                let upper = (bound < u64::MAX).then_some(bound);
                return lower.into_iter().chain(upper).collect();
            }
            lower = Some(bound);
        }
        Vec::new()
    }

    /// The time that this share lies below, in seconds, as far as bounds tell it.
    pub fn quantile(self, share: f64) -> f64 {
        let wanted = self.total() as f64 * share;
        let (mut lower, mut counted) = (0, 0);
        for (&bound, &below) in self.0 {
            if below > 0 && below as f64 >= wanted {
                // Within a bucket as if evenly spread; above the last bound nobody knows how far.
                let part = if bound == u64::MAX || below == counted {
                    0.0
                } else {
                    (wanted - counted as f64) / (below - counted) as f64
                };
                let width = if bound == u64::MAX { 0 } else { bound - lower };
                return (lower as f64 + part * width as f64) / NANOS;
            }
            (lower, counted) = (bound, below);
        }
        0.0
    }
}

/// The keys of both, each with what `number` makes of it.
fn merged<K: Ord + Clone>(
    one: &BTreeMap<K, u64>,
    other: &BTreeMap<K, u64>,
    number: impl Fn(&BTreeMap<K, u64>, &BTreeMap<K, u64>, &K) -> u64,
) -> BTreeMap<K, u64> {
    let keys: BTreeSet<&K> = one.keys().chain(other.keys()).collect();
    keys.into_iter()
        .map(|key| (key.clone(), number(one, other, key)))
        .collect()
}

/// The number below a bound, or below the highest one under it.
fn up_to(below: &BTreeMap<u64, u64>, bound: u64) -> u64 {
    below.range(..=bound).next_back().map_or(0, |(_, below)| *below)
}

/// A bound in nanoseconds; the highest number for `+Inf`.
fn nanos(bound: &str) -> u64 {
    bound
        .parse::<f64>()
        .ok()
        .filter(|bound| bound.is_finite())
        .map_or(u64::MAX, |bound| (bound * NANOS).round() as u64)
}

/// A line of the text format: its name, its labels and its value; none when it is no sample.
fn sample(line: &str) -> Option<(&str, BTreeMap<String, String>, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = head.split_once('{') else {
        return Some((head, BTreeMap::new(), value));
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}')?;
    while let Some((label, quoted)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut letters = quoted.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => text.push(match letters.next()?.1 {
                    'n' => '\n',
                    letter => letter,
                }),
                (_, letter) => text.push(letter),
            }
        };
        labels.insert(label.trim_start_matches(',').to_owned(), text);
        rest = &quoted[end + 1..];
    }
    Some((name, labels, value))
}

#[cfg(test)]
impl Counts {
    /// Answered requests, of which nothing else is known.
    pub fn of(requests: u64) -> Self {
        Self {
            requests,
            ..Self::default()
        }
    }

    /// Adds requests that took up to `bound` seconds.
    pub fn add_duration(&mut self, bound: f64, requests: u64) {
        let bound = (bound * NANOS).round() as u64;
        let before = self.below.range(..bound).next_back().map_or(0, |(_, below)| *below);
        self.below.entry(bound).or_insert(before);
        self.below.entry(u64::MAX).or_insert(before);
        for (_, below) in self.below.range_mut(bound..) {
            *below += requests;
        }
    }

    /// Adds predictions of a class.
    pub fn add_class(&mut self, class: &str, number: u64) {
        *self.classes.entry(class.to_owned()).or_default() += number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# TYPE emberline_requests_total counter
emberline_requests_total{protocol="v1",status="2xx"} 90
emberline_requests_total{protocol="v1",status="4xx"} 6
emberline_requests_total{protocol="v2",status="5xx"} 4
emberline_requests_total{protocol="other",status="2xx"} 1000
emberline_request_duration_seconds_bucket{protocol="v1",le="0.0001"} 50
emberline_request_duration_seconds_bucket{protocol="v1",le="0.00025"} 90
emberline_request_duration_seconds_bucket{protocol="v1",le="+Inf"} 96
emberline_request_duration_seconds_bucket{protocol="v2",le="0.0001"} 0
emberline_request_duration_seconds_bucket{protocol="v2",le="0.00025"} 3
emberline_request_duration_seconds_bucket{protocol="v2",le="+Inf"} 4
emberline_request_duration_seconds_bucket{protocol="other",le="+Inf"} 1000
emberline_requests_refused_total 2
emberline_predictions_total{class="a\"b\\,{c}"} 30
emberline_predictions_total{class="d e"} 60
emberline_ready 1
"#;

    #[test]
    fn a_page_is_read_for_what_is_about_predictions() {
        let counts = Counts::read(PAGE);
        assert_eq!((counts.requests, counts.errors(), counts.rejections()), (100, 6, 4));
        assert_eq!(counts.timed().total(), 100);
        assert_eq!(counts.timed().around(0.5), [100_000]);
        assert_eq!(counts.timed().around(0.9), [100_000, 250_000]);
        assert_eq!(counts.timed().around(0.95), [250_000], "above it is infinity");
        assert_eq!(Counts::default().timed().around(0.95), [0; 0]);
        assert_eq!(counts.timed().above(250_000), 7);
        assert_eq!(
            counts.classes(&Counts::default()),
            [("a\"b\\,{c}".to_owned(), [30, 0]), ("d e".to_owned(), [60, 0])]
        );
    }

    #[test]
    fn what_was_counted_before_is_taken_off_unless_the_server_is_another() {
        let page = Counts::read(PAGE);
        assert_eq!(page.since(&page).requests, 0);
        assert_eq!(page.since(&Counts::default()), page);
        let twice = page.plus(&page);
        assert_eq!(twice.since(&page), page);
        assert_eq!(page.since(&twice), page, "it counts from 0 again");
    }

    #[test]
    fn servers_that_count_by_other_bounds_add_up() {
        let (mut one, mut other) = (Counts::default(), Counts::default());
        one.add_duration(0.001, 10);
        other.add_duration(0.002, 5);
        other.add_duration(0.004, 5);
        let both = one.plus(&other);
        let below = |seconds: f64| 20 - both.timed().above((seconds * NANOS) as u64);
        assert_eq!([0.001, 0.002, 0.004].map(below), [10, 15, 20]);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let mut counts = Counts::default();
        assert!(counts.timed().quantile(0.95).abs() < f64::EPSILON);
        counts.add_duration(0.001, 90);
        counts.add_duration(0.0025, 10);
        let near = |share, expected: f64| {
            let found = counts.timed().quantile(share);
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        };
        near(0.45, 0.0005);
        near(0.9, 0.001);
        near(0.95, 0.001_75);
        near(1.0, 0.0025);
    }
}
