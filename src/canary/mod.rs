//! A canary and its baseline held against each other: what their pages of metrics count, and what statistics make of it.
//!
//! Pure, and of no place: who runs the two sides and who divides requests between them is `deploy`'s and `gateway`'s. Each
//! request is drawn by lot, so that the two sides have the same clients, and whatever differs between them more than
//! chance would have it is the new version's doing.
//!
//! A look is five tests, each with its stated method. One fails when chance alone would give what was seen less often than
//! [`LEVEL`] allows it, *and* the difference is larger than a tolerance: with a million requests chance explains nothing
//! any more, and a difference that is certain may still be one that nobody minds. All looks and tests share the 5 % that a
//! canary which is as good may fail by mistake (Bonferroni). A look before the last may fail a canary; only the last one
//! passes it.

mod counts;
mod statistics;

pub use counts::Counts;

use serde::{Deserialize, Serialize};

/// Looks at the two sides, evenly spread over the time that is given to them.
pub const LOOKS: u32 = 5;
/// How often a canary that is as good as its baseline may fail all the same.
const MISTAKES: f64 = 0.05;
/// Tests of one look.
const TESTS: u32 = 5;
/// What chance must give less often for one test of one look to fail.
pub const LEVEL: f64 = MISTAKES / (TESTS * LOOKS) as f64;
/// Requests that each side must have answered for the canary to pass.
pub const LEAST: u64 = 100;
/// The share of both sides' answers that a canary has to give at least: it is sent half of what the two are sent.
const ANSWERED: f64 = 0.45;
/// The quantile of the time to answer that is compared.
const QUANTILE: f64 = 0.95;
/// By how much of the baseline's it may be longer.
const SLOWER: f64 = 0.25;
/// By how many seconds it may be longer, however short the baseline's is.
const SECONDS: f64 = 0.001;
/// Least difference between two distributions of predictions, as Cramér's V: where one class of ten is lost it is 0.23,
/// where a class of 5 % becomes one of 10 % it is 0.10.
const ASSOCIATION: f64 = 0.1;

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No test has failed, and there were requests enough.
    Pass,
    /// A test has failed.
    Fail,
    /// No test has failed, and there were too few requests, or the time is not over.
    Undecided,
}

impl Verdict {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Undecided => "undecided",
        }
    }
}

/// A number of each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides<T> {
    /// The version that serves, started anew.
    pub baseline: T,
    /// The version that is tried.
    pub canary: T,
}

/// The two sides as they compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What it came to.
    pub verdict: Verdict,
    /// For how long requests were counted, in seconds.
    pub seconds: f64,
    /// Predictions that were asked for and answered, by whatever status.
    pub requests: Sides<u64>,
    /// Each test.
    pub tests: Vec<Test>,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// `answers`, `errors`, `rejections`, `latency`, `predictions`, `restarts`.
    pub name: String,
    /// Its method.
    pub test: String,
    /// What the two numbers are.
    pub of: String,
    /// The baseline's.
    pub baseline: f64,
    /// The canary's.
    pub canary: f64,
    /// How often chance alone gives such a difference or a larger one; none where chance has no part.
    pub p_value: Option<f64>,
    /// What `p_value` must be below to fail.
    pub threshold: Option<f64>,
    /// How large the difference is.
    pub effect: f64,
    /// What `effect` must be above to fail.
    pub tolerance: f64,
    /// `pass` or `fail`.
    pub outcome: Verdict,
}

impl Test {
    /// What is said of it to a person, with both sides' numbers.
    pub fn told(&self) -> String {
        let Self { baseline, canary, .. } = self;
        let numbers = match self.name.as_str() {
            "latency" => format!("{:.2} ms, baseline {:.2} ms", canary * 1e3, baseline * 1e3),
            "answers" | "restarts" => format!("{canary}, baseline {baseline}"),
            _ => format!("{:.2} %, baseline {:.2} %", canary * 100.0, baseline * 100.0),
        };
        let chance = self.p_value.map_or_else(String::new, |p| {
            let p = if p < 1e-4 {
                "p < 0.0001".to_owned()
            } else {
                format!("p = {p:.4}")
            };
            format!(" ({p}, {})", self.test)
        });
        let of = self.of.trim_end_matches(" in seconds");
        format!("{}: {of} {numbers}{chance}", self.name)
    }
}

impl Comparison {
    /// Compares what each side has counted in `seconds`, and how often its containers were started again. `last` says that
    /// the time is over.
    pub fn new(baseline: &Counts, canary: &Counts, restarts: Sides<u32>, seconds: f64, last: bool) -> Self {
        let mut tests = vec![
            answers(baseline, canary),
            shares("errors", "share of 5xx and 429", baseline, canary, Counts::errors),
            shares("rejections", "share of other 4xx", baseline, canary, Counts::rejections),
            latency(baseline, canary),
            predictions(baseline, canary),
        ];
        tests.extend(restarted(restarts));
        let requests = Sides {
            baseline: baseline.requests,
            canary: canary.requests,
        };
        let failed = tests.iter().any(|test| test.outcome == Verdict::Fail);
        let enough = requests.baseline >= LEAST && requests.canary >= LEAST;
        let verdict = match (failed, last && enough) {
            (true, _) => Verdict::Fail,
            (false, true) => Verdict::Pass,
            (false, false) => Verdict::Undecided,
        };
        Self {
            verdict,
            seconds,
            requests,
            tests,
        }
    }

    /// The tests that have failed.
    pub fn failures(&self) -> impl Iterator<Item = &Test> {
        self.tests.iter().filter(|test| test.outcome == Verdict::Fail)
    }
}

/// A test's end: chance does not explain the difference, and it is one that matters.
fn test(name: &str, method: &str, of: String, numbers: [f64; 2], p: f64, [effect, tolerance]: [f64; 2]) -> Test {
    let failed = p < LEVEL && effect > tolerance;
    Test {
        name: name.to_owned(),
        test: method.to_owned(),
        of,
        baseline: numbers[0],
        canary: numbers[1],
        p_value: Some(p),
        threshold: Some(LEVEL),
        effect,
        tolerance,
        outcome: if failed { Verdict::Fail } else { Verdict::Pass },
    }
}

/// Whether the canary answers as much as it is sent: one that hangs counts nothing, no error either.
fn answers(baseline: &Counts, canary: &Counts) -> Test {
    let (all, its) = (baseline.requests + canary.requests, canary.requests);
    let p = statistics::at_most(its, all);
    let missing = if all == 0 { 0.0 } else { 0.5 - its as f64 / all as f64 };
    test(
        "answers",
        "binomial test, one-sided",
        "requests answered".to_owned(),
        [baseline.requests as f64, its as f64],
        p,
        [missing, 0.5 - ANSWERED],
    )
}

/// Whether the canary has a larger share of something.
fn shares(name: &str, of: &str, baseline: &Counts, canary: &Counts, number: fn(&Counts) -> u64) -> Test {
    let p = statistics::fisher([number(baseline), baseline.requests], [number(canary), canary.requests]);
    let [one, other] = [baseline, canary].map(|side| share(number(side), side.requests));
    test(
        name,
        "Fisher's exact test, one-sided",
        of.to_owned(),
        [one, other],
        p,
        [other - one, 0.0],
    )
}

/// Whether more of the canary's requests take longer than 19 of 20 of all do, and its own slow ones longer than what one
/// would tolerate.
fn latency(baseline: &Counts, canary: &Counts) -> Test {
    let [one, other] = [baseline, canary].map(Counts::timed);
    // The bounds come from both sides together: so they favour neither.
    let all = baseline.plus(canary);
    let bounds = all.timed().around(QUANTILE);
    let above =
        |bound: &u64| statistics::fisher([one.above(*bound), one.total()], [other.above(*bound), other.total()]);
    let least = bounds.iter().map(above).fold(1.0, f64::min);
    let p = (least * bounds.len().max(1) as f64).min(1.0);
    let numbers = [one, other].map(|side| side.quantile(QUANTILE));
    let tolerance = (numbers[0] * SLOWER).max(SECONDS);
    test(
        "latency",
        "Fisher's exact test, one-sided, of the shares above the bounds around the 95th percentile of both (Bonferroni)",
        "95th percentile in seconds".to_owned(),
        numbers,
        p,
        [numbers[1] - numbers[0], tolerance],
    )
}

/// Whether the two predict the same classes as often.
fn predictions(baseline: &Counts, canary: &Counts) -> Test {
    let rows = baseline.classes(canary);
    let counts: Vec<[u64; 2]> = rows.iter().map(|(_, counts)| *counts).collect();
    let found = statistics::homogeneity(&counts);
    let totals = [0, 1].map(|side| counts.iter().map(|row| row[side]).sum::<u64>());
    let both = |row: &[u64; 2]| [share(row[0], totals[0]), share(row[1], totals[1])];
    let gap = |row: &[u64; 2]| (both(row)[0] - both(row)[1]).abs();
    let widest = rows.iter().max_by(|one, other| gap(&one.1).total_cmp(&gap(&other.1)));
    let (of, numbers) = match widest {
        Some((class, row)) => (format!("share of class `{class}`"), both(row)),
        None => ("share of a class".to_owned(), [0.0, 0.0]),
    };
    test(
        "predictions",
        "chi-square test of homogeneity, with Cramér's V",
        of,
        numbers,
        found.p_value,
        [found.association, ASSOCIATION],
    )
}

/// That containers of the canary have ended, and none of the baseline. That is no matter of chance.
fn restarted(restarts: Sides<u32>) -> Option<Test> {
    let Sides { baseline, canary } = restarts;
    (canary > baseline).then(|| Test {
        name: "restarts".to_owned(),
        test: "none more than the baseline's".to_owned(),
        of: "containers started again".to_owned(),
        baseline: baseline.into(),
        canary: canary.into(),
        p_value: None,
        threshold: None,
        effect: f64::from(canary) - f64::from(baseline),
        tolerance: 0.0,
        outcome: Verdict::Fail,
    })
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A side that has answered `requests` within 0.4 ms, all of them well.
    fn side(requests: u64, classes: &[(&str, u64)]) -> Counts {
        let mut counts = Counts::of(requests);
        counts.add_duration(0.0005, requests);
        for (class, number) in classes {
            counts.add_class(class, *number);
        }
        counts
    }

    fn compared(baseline: &Counts, canary: &Counts) -> Comparison {
        Comparison::new(baseline, canary, Sides::default(), 10.0, true)
    }

    fn failed(comparison: &Comparison) -> Vec<&str> {
        comparison.failures().map(|test| test.name.as_str()).collect()
    }

    #[test]
    fn two_sides_that_do_the_same_pass_when_there_is_enough_of_them() {
        let good = side(1000, &[("0", 500), ("1", 480), ("2", 20)]);
        let same = compared(&good, &side(990, &[("0", 480), ("1", 492), ("2", 18)]));
        assert_eq!((same.verdict, failed(&same)), (Verdict::Pass, vec![]));
        assert_eq!(same.tests.len(), TESTS as usize);
        let early = Comparison::new(&good, &good, Sides::default(), 2.0, false);
        assert_eq!(early.verdict, Verdict::Undecided);
        let few = compared(&side(99, &[("0", 99)]), &side(100, &[("0", 100)]));
        assert_eq!(few.verdict, Verdict::Undecided);
        let nothing = compared(&Counts::default(), &Counts::default());
        assert_eq!(nothing.verdict, Verdict::Undecided);
        assert!(
            nothing.tests.iter().all(|test| test.p_value == Some(1.0)),
            "{nothing:?}"
        );
    }

    #[test]
    fn a_canary_fails_by_what_is_wrong_with_it_and_before_the_end() {
        let good = side(500, &[("0", 250), ("1", 250)]);
        let fails = |canary: &Counts, name: &str| {
            let early = Comparison::new(&good, canary, Sides::default(), 2.0, false);
            assert_eq!(
                (early.verdict, failed(&early)),
                (Verdict::Fail, vec![name]),
                "{early:?}"
            );
        };
        let mut errors = good.clone();
        errors.server_errors = 10;
        fails(&errors, "errors");
        let mut refusing = good.clone();
        (refusing.client_errors, refusing.refused) = (12, 12);
        fails(&refusing, "errors");
        let mut rejecting = good.clone();
        rejecting.client_errors = 500;
        fails(&rejecting, "rejections");
        fails(&side(300, &[("0", 150), ("1", 150)]), "answers");
        fails(&side(500, &[("0", 400), ("1", 100)]), "predictions");
        fails(&side(500, &[("0", 250), ("1", 200), ("2", 50)]), "predictions");
        let mut slow = side(0, &[("0", 250), ("1", 250)]);
        slow.requests = 500;
        slow.add_duration(0.0005, 300);
        slow.add_duration(0.01, 200);
        fails(&slow, "latency");
        let mut tail = side(0, &[("0", 250), ("1", 250)]);
        tail.requests = 500;
        tail.add_duration(0.0005, 460);
        tail.add_duration(0.01, 40);
        fails(&tail, "latency");
        let restarts = Sides { baseline: 0, canary: 1 };
        let restarted = Comparison::new(&good, &good, restarts, 2.0, false);
        assert_eq!(failed(&restarted), ["restarts"]);
    }

    /// Requests as a lot deals them: 2 % errors, 8 % slow ones, three classes.
    fn dealt(requests: u64, random: &mut impl FnMut() -> f64) -> Counts {
        let mut counts = Counts::of(requests);
        let (mut slow, mut classes) = (0, [0; 3]);
        for _ in 0..requests {
            counts.server_errors += u64::from(random() < 0.02);
            slow += u64::from(random() < 0.08);
            let class = random();
            classes[usize::from(class < 0.5) + usize::from(class < 0.1)] += 1;
        }
        counts.add_duration(0.001, requests - slow);
        counts.add_duration(0.01, slow);
        for (class, number) in ["a", "b", "c"].into_iter().zip(classes) {
            counts.add_class(class, number);
        }
        counts
    }

    #[test]
    fn a_canary_that_is_as_good_seldom_fails_though_it_is_looked_at_often() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = || {
            // xorshift64*
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let (mut failed, trials) = (0, 1000);
        for _ in 0..trials {
            let (mut baseline, mut canary) = (Counts::default(), Counts::default());
            let mut look = |look| {
                // Each request of the two goes to either by lot.
                let its = (0..100).filter(|_| random() < 0.5).count() as u64;
                canary = canary.plus(&dealt(its, &mut random));
                baseline = baseline.plus(&dealt(100 - its, &mut random));
                let restarts = Sides::default();
                Comparison::new(&baseline, &canary, restarts, f64::from(look), look == LOOKS).verdict
            };
            let verdicts: Vec<Verdict> = (1..=LOOKS).map(&mut look).collect();
            failed += u32::from(verdicts.contains(&Verdict::Fail));
            assert!(!verdicts[..4].contains(&Verdict::Pass));
        }
        // What is promised is 5 %, and the tests are cautious.
        assert!((1..=trials / 20).contains(&failed), "{failed} of {trials}");
    }

    #[test]
    fn nine_errors_are_too_many_where_the_baseline_has_none() {
        for requests in [100, 10_000] {
            let good = side(requests, &[("0", requests)]);
            let with = |errors| {
                let mut canary = good.clone();
                canary.server_errors = errors;
                compared(&good, &canary).verdict
            };
            assert_eq!((with(8), with(9)), (Verdict::Pass, Verdict::Fail), "of {requests}");
        }
    }

    #[test]
    fn what_is_certain_and_small_fails_nothing() {
        // A million requests, of which 2 % more take 0.5 ms to 1 ms; and classes that shift by 2 %.
        let mut baseline = side(0, &[("0", 500_000), ("1", 500_000)]);
        let mut canary = side(0, &[("0", 520_000), ("1", 480_000)]);
        for (counts, slow) in [(&mut baseline, 30_000), (&mut canary, 50_000)] {
            counts.requests = 1_000_000;
            counts.add_duration(0.0005, 1_000_000 - slow);
            counts.add_duration(0.001, slow);
        }
        let comparison = compared(&baseline, &canary);
        assert_eq!(comparison.verdict, Verdict::Pass, "{comparison:?}");
        for name in ["latency", "predictions"] {
            let test = comparison.tests.iter().find(|test| test.name == name).expect(name);
            assert!(test.p_value < Some(1e-6) && test.effect < test.tolerance, "{test:?}");
        }
    }

    #[test]
    fn a_failure_is_told_with_both_sides_numbers() {
        let good = side(500, &[("lit", 150), ("dark", 350)]);
        let comparison = compared(&good, &side(500, &[("lit", 450), ("dark", 50)]));
        let told: Vec<String> = comparison.failures().map(Test::told).collect();
        assert_eq!(
            told,
            [
                "predictions: share of class `lit` 90.00 %, baseline 30.00 % (p < 0.0001, chi-square test of homogeneity, with \
             Cramér's V)"
            ]
        );
    }
}
