//! The way to the highest rate at which an objective is met: up in great steps until it is missed, then by halves between
//! the last that met it and the first that did not. It sends nothing.

use crate::bundle::capacity::{Limit, Verdict};

/// Between two rates on the way up.
const STRIDE: f64 = 4.0;
/// The rate is known when the next one that misses is no more than this above the last one that meets.
const CLOSE: f64 = 1.15;

/// How far it is.
#[derive(Clone, Debug)]
pub struct Search {
    from: f64,
    most: f64,
    met: Option<f64>,
    missed: Option<f64>,
    limit: Limit,
    /// Whether the rate at hand has missed once.
    again: bool,
}

impl Search {
    /// From a rate up to another one.
    pub fn new(from: f64, most: f64) -> Self {
        Self {
            from,
            most,
            met: None,
            missed: None,
            limit: Limit::Rate,
            again: false,
        }
    }

    /// The next rate to try; none when the end is known.
    pub fn next(&self) -> Option<f64> {
        match (self.met, self.missed) {
            (None, None) => Some(self.from),
            (None, Some(_)) => None,
            (Some(met), None) if met >= self.most => None,
            (Some(met), None) => Some((met * STRIDE).min(self.most)),
            (Some(met), Some(missed)) if missed <= met * CLOSE => None,
            (Some(met), Some(missed)) => Some((met * missed).sqrt().round()),
        }
    }

    /// Takes what became of the rate that [`Search::next`] gave. A miss counts when it happens again: one may be a hiccup of
    /// the machine.
    pub fn take(&mut self, verdict: Verdict) {
        let Some(rate) = self.next() else { return };
        match verdict {
            Verdict::Met => {
                self.met = Some(rate);
                self.again = false;
            }
            Verdict::Missed | Verdict::Behind if self.again => {
                self.missed = Some(rate);
                self.again = false;
                self.limit = if verdict == Verdict::Missed {
                    Limit::Slo
                } else {
                    Limit::Sender
                };
            }
            Verdict::Missed | Verdict::Behind => self.again = true,
        }
    }

    /// What has kept it from higher rates.
    pub fn limit(&self) -> Limit {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates that are tried where `verdict` decides by the rate and by how often it was tried.
    fn tried(most: f64, verdict: impl Fn(f64, usize) -> Verdict) -> (Vec<f64>, Search) {
        let mut search = Search::new(20.0, most);
        let mut rates = Vec::new();
        while let Some(rate) = search.next() {
            let before = rates.iter().filter(|tried| **tried == rate).count();
            rates.push(rate);
            search.take(verdict(rate, before));
            assert!(rates.len() < 40, "{rates:?}");
        }
        (rates, search)
    }

    fn below(end: f64) -> impl Fn(f64, usize) -> Verdict {
        move |rate, _| if rate <= end { Verdict::Met } else { Verdict::Missed }
    }

    #[test]
    fn the_end_is_found_from_below_to_15_percent() {
        for end in [20.0, 33.0, 500.0, 1283.0, 19_999.0] {
            let (rates, search) = tried(50_000.0, below(end));
            let met = search.met.expect("a rate");
            assert!(met <= end && met * CLOSE * 1.01 >= end, "{end}: {rates:?}");
            assert_eq!(search.limit(), Limit::Slo);
            assert!(rates.len() <= 18, "{end}: {rates:?}");
        }
    }

    #[test]
    fn a_hiccup_ends_nothing() {
        let (rates, search) = tried(400.0, |rate, before| match (rate as u32, before) {
            (80, 0) => Verdict::Missed,
            (320, 0) => Verdict::Behind,
            _ => Verdict::Met,
        });
        assert_eq!(rates, [20.0, 80.0, 80.0, 320.0, 320.0, 400.0]);
        assert_eq!((search.met, search.limit()), (Some(400.0), Limit::Rate));
    }

    #[test]
    fn what_is_missed_at_the_beginning_is_tried_twice_and_no_more() {
        let (rates, search) = tried(50_000.0, below(1.0));
        assert_eq!(rates, [20.0, 20.0]);
        assert_eq!((search.met, search.limit()), (None, Limit::Slo));
    }

    #[test]
    fn a_sender_that_falls_behind_is_an_end_of_another_kind() {
        let (_, search) = tried(
            50_000.0,
            |rate, _| {
                if rate < 1000.0 { Verdict::Met } else { Verdict::Behind }
            },
        );
        assert!(search.met.is_some_and(|met| met > 850.0));
        assert_eq!(search.limit(), Limit::Sender);
    }

    #[test]
    fn one_rate_is_one_step() {
        let mut search = Search::new(100.0, 100.0);
        assert_eq!(search.next(), Some(100.0));
        search.take(Verdict::Met);
        assert_eq!(search.next(), None);
    }
}
