//! How far the inputs and the answers of late are from those of training: the population stability index of each against
//! the bundle's profile, over a sliding window.
//!
//! The index compares two histograms, `p` of training and `q` of the window: the sum over the bins of
//! `(q - p) ln(q / p)`, each share taken as if half a sample more had fallen into each bin, so that an empty bin has a
//! logarithm (Krichevsky and Trofimov 1981). A missing value is a bin of its own; a bin that is empty on both sides says
//! nothing. By convention (Siddiqi 2006) below 0.1 nothing has changed, and above 0.25 much has. Without any drift its
//! mean is about `(bins - 1) / samples` (Yurdakul 2018), so it is told from [`PER_BIN`] samples a bin on: then chance
//! alone gives 0.02.
//!
//! The window is a ring of slices of counts. The youngest is counted into; when it is old enough and holds enough, the
//! oldest is emptied and takes its place. So a window is as long as it was told to be, and longer when there was too
//! little traffic to say anything. Counting is a few relaxed atomic additions and waits for nobody.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::bundle::{FeatureProfile, Profile, each_feature};
use crate::preprocess::Schema;
use crate::problem::Problem;

/// Slices of the window.
const SLICES: usize = 10;
/// Samples for each bin before an index is told.
const PER_BIN: u64 = 50;
/// Columns of a table that are watched: the first ones. Each is a time series for whoever scrapes, and costs time for
/// each prediction.
pub const MOST_FEATURES: usize = 64;
/// Samples between two looks at the clock.
const LOOK: u64 = 16;

/// Counts of late, and what they are compared with.
#[derive(Debug)]
pub struct Drift {
    schema: Schema,
    /// Each with the place of its bins in the counts of a slice; one more than its bins, for missing values.
    features: Vec<(FeatureProfile, usize)>,
    predictions: Vec<usize>,
    /// The place of the classes in the counts of a slice.
    classes: usize,
    slices: [Slice; SLICES],
    /// Number of the youngest slice, ever rising.
    youngest: AtomicUsize,
    /// When it began, in nanoseconds after `started`.
    began: AtomicU64,
    /// Whether a thread is about to go on to the next slice.
    turning: AtomicBool,
    started: Instant,
    /// How long a slice lasts at the least, in nanoseconds.
    lasts: u64,
    /// What it holds at the least.
    holds: u64,
}

#[derive(Debug)]
struct Slice {
    samples: AtomicU64,
    counts: Vec<AtomicU64>,
}

/// What the window says.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<'a> {
    /// Predictions in the window.
    pub samples: u64,
    /// The index of the predicted classes; none as long as there are too few.
    pub predictions: Option<f64>,
    /// Each feature that is watched.
    pub features: Vec<FeatureReading<'a>>,
}

/// What the window says of one feature.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureReading<'a> {
    /// The column, or the statistic of an image.
    pub name: &'a str,
    /// The index; none as long as there are too few samples.
    pub index: Option<f64>,
    /// Share of missing values of a column, 0 to 1; none as long as there is no sample.
    pub missing: Option<f64>,
}

impl Drift {
    /// An empty window of the given length, to be compared with the training data's profile.
    ///
    /// # Errors
    ///
    /// A profile of other features than the schema's.
    pub fn new(schema: &Schema, profile: Profile, window: Duration) -> Result<Self, Problem> {
        let names = crate::bundle::feature_names(schema);
        if !names.eq(profile.features.iter().map(|feature| feature.name.as_str())) {
            return Err(
                Problem::new("profile.json has other features than the model reads").hint("train the bundle again")
            );
        }
        let mut classes = 0;
        let mut features = Vec::new();
        for feature in profile.features.into_iter().take(MOST_FEATURES) {
            let start = classes;
            classes += feature.counts.len() + 1;
            features.push((feature, start));
        }
        let places = classes + profile.predictions.len();
        let slice = || Slice {
            samples: AtomicU64::new(0),
            counts: (0..places).map(|_| AtomicU64::new(0)).collect(),
        };
        let bins = features.iter().map(|(feature, _)| feature.counts.len() + 1);
        let bins = bins.chain([profile.predictions.len()]).max().unwrap_or(1);
        Ok(Self {
            schema: schema.clone(),
            features,
            classes,
            predictions: profile.predictions,
            slices: std::array::from_fn(|_| slice()),
            youngest: AtomicUsize::new(0),
            began: AtomicU64::new(0),
            turning: AtomicBool::new(false),
            started: Instant::now(),
            lasts: nanoseconds(window) / SLICES as u64,
            // All but the youngest, which may be empty, are enough for every index to be told.
            holds: (bins as u64 * PER_BIN).div_ceil(SLICES as u64 - 1),
        })
    }

    /// Counts a raw input, which the model could read, and the class that was the answer.
    pub fn observe(&self, raw: &[f32], class: usize) {
        let slice = &self.slices[self.youngest.load(Ordering::Acquire) % SLICES];
        each_feature(&self.schema, raw, |index, value| {
            if let Some((feature, start)) = self.features.get(index) {
                let bin = feature.bin(value).unwrap_or(feature.counts.len());
                slice.add(start + bin);
            }
        });
        slice.add(self.classes + class);
        let samples = slice.samples.fetch_add(1, Ordering::Relaxed) + 1;
        if samples >= self.holds && samples.is_multiple_of(LOOK) {
            self.turn(nanoseconds(self.started.elapsed()));
        }
    }

    /// Goes on to the next slice when the youngest is old enough. Only one thread does; the others go on counting, and
    /// what falls into the slice before is counted there.
    fn turn(&self, now: u64) {
        let due = || now.saturating_sub(self.began.load(Ordering::Relaxed)) >= self.lasts;
        if !due() || self.turning.swap(true, Ordering::Acquire) {
            return;
        }
        let youngest = self.youngest.load(Ordering::Relaxed);
        // Another may have been here since.
        if due() && self.slices[youngest % SLICES].samples.load(Ordering::Relaxed) >= self.holds {
            let next = &self.slices[(youngest + 1) % SLICES];
            next.samples.store(0, Ordering::Relaxed);
            for count in &next.counts {
                count.store(0, Ordering::Relaxed);
            }
            self.began.store(now, Ordering::Relaxed);
            self.youngest.store(youngest + 1, Ordering::Release);
        }
        self.turning.store(false, Ordering::Release);
    }

    /// What the window says now.
    pub fn read(&self) -> Reading<'_> {
        let counts: Vec<u64> = (0..self.classes + self.predictions.len())
            .map(|place| {
                let slices = self.slices.iter();
                slices.map(|slice| slice.counts[place].load(Ordering::Relaxed)).sum()
            })
            .collect();
        // An image has every pixel.
        let is_table = matches!(self.schema, Schema::Table { .. });
        let features = self.features.iter().map(|(feature, start)| {
            let window = &counts[*start..=start + feature.counts.len()];
            let training: Vec<usize> = feature.counts.iter().copied().chain([feature.missing]).collect();
            let samples: u64 = window.iter().sum();
            FeatureReading {
                name: &feature.name,
                index: stability(&training, window),
                missing: (is_table && samples > 0).then(|| window[feature.counts.len()] as f64 / samples as f64),
            }
        });
        Reading {
            samples: self
                .slices
                .iter()
                .map(|slice| slice.samples.load(Ordering::Relaxed))
                .sum(),
            predictions: stability(&self.predictions, &counts[self.classes..]),
            features: features.collect(),
        }
    }
}

impl Slice {
    fn add(&self, place: usize) {
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The population stability index of two histograms with the same bins; none when one has too few samples to say.
fn stability(training: &[usize], window: &[u64]) -> Option<f64> {
    let bins = || {
        let pairs = training.iter().zip(window);
        pairs.filter(|(p, q)| **p > 0 || **q > 0)
    };
    let (mut expected, mut found, mut number) = (0, 0, 0);
    for (p, q) in bins() {
        expected += *p as u64;
        found += q;
        number += 1;
    }
    if expected == 0 || found < number * PER_BIN {
        return None;
    }
    let share = |count: u64, all: u64| (count as f64 + 0.5) / (all as f64 + 0.5 * number as f64);
    let index = bins().map(|(p, q)| {
        let (p, q) = (share(*p as u64, expected), share(*q, found));
        (q - p) * (q / p).ln()
    });
    Some(index.sum())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Column, ColumnKind};
    use std::thread;

    const HOUR: Duration = Duration::from_hours(1);

    fn table() -> Schema {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        let categories = ["bonn", "oslo", "rome"].map(ToString::to_string).to_vec();
        Schema::Table {
            columns: vec![
                column("age", ColumnKind::Numeric),
                column("city", ColumnKind::Categorical { categories }),
            ],
        }
    }

    /// Numbers that look random, from 0 to 1.
    fn random(seed: u64) -> impl Iterator<Item = f32> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u64 << 24) as f32
        })
    }

    /// Rows of `age` from `low` to `low + 50` and a city, mostly the first.
    fn rows(count: usize, low: f32, seed: u64) -> Vec<[f32; 2]> {
        let mut random = random(seed);
        let mut next = || random.next().unwrap_or_default();
        (0..count)
            .map(|_| [low + 50.0 * next(), (next() * next() * 3.0).floor()])
            .collect()
    }

    fn watch(window: Duration) -> Drift {
        let training = rows(10_000, 20.0, 1);
        let answers: Vec<usize> = training.iter().map(|row| usize::from(row[0] > 40.0)).collect();
        let profile = Profile::new(&table(), training.as_flattened(), &answers, 2);
        Drift::new(&table(), profile, window).expect("a profile of the table")
    }

    fn observe(drift: &Drift, rows: &[[f32; 2]]) {
        for row in rows {
            drift.observe(row, usize::from(row[0] > 40.0));
        }
    }

    #[test]
    fn the_same_is_stable_and_what_moved_is_told() {
        let drift = watch(HOUR);
        observe(&drift, &rows(499, 20.0, 2));
        let early = drift.read();
        assert_eq!(early.samples, 499);
        assert_eq!(early.features[0].index, None, "too few for ten bins");
        assert!(
            early.predictions.is_some_and(|index| index < 0.1),
            "enough for two classes"
        );
        observe(&drift, &rows(1501, 20.0, 3));
        let same = drift.read();
        for feature in &same.features {
            assert!(
                feature.index.is_some_and(|index| (0.0..0.1).contains(&index)),
                "{same:?}"
            );
        }
        let drift = watch(HOUR);
        observe(&drift, &rows(2000, 40.0, 4));
        let moved = drift.read();
        assert!(moved.features[0].index.is_some_and(|index| index > 0.25), "{moved:?}");
        assert!(moved.features[1].index.is_some_and(|index| index < 0.1), "{moved:?}");
        assert!(moved.predictions.is_some_and(|index| index > 0.25), "{moved:?}");
    }

    #[test]
    fn values_that_begin_to_be_missing_are_a_drift() {
        let drift = watch(HOUR);
        for (index, row) in rows(2000, 20.0, 5).into_iter().enumerate() {
            let age = if index % 4 == 0 { f32::NAN } else { row[0] };
            drift.observe(&[age, row[1]], 0);
        }
        let reading = drift.read();
        assert_eq!(reading.features[0].missing, Some(0.25));
        assert_eq!(reading.features[1].missing, Some(0.0));
        assert!(
            reading.features[0].index.is_some_and(|index| index > 0.25),
            "{reading:?}"
        );
    }

    #[test]
    fn the_index_is_that_of_its_definition() {
        // Shares of 0.2 and 0.8 against 0.5 and 0.5, by hand; half a sample in a million changes nothing.
        let expected = -0.3 * (0.2_f64 / 0.5).ln() + 0.3 * (0.8_f64 / 0.5).ln();
        let index = stability(&[500_000, 500_000], &[200_000, 800_000]).expect("enough");
        assert!((index - expected).abs() < 1e-5, "{index} {expected}");
        assert_eq!(stability(&[5, 5], &[60, 60]), Some(0.0));
        assert!(
            stability(&[100, 0], &[0, 100]).is_some_and(f64::is_finite),
            "empty bins"
        );
        assert_eq!(stability(&[0, 0], &[60, 60]), None, "nothing to compare with");
        assert_eq!(stability(&[5, 5], &[50, 49]), None, "too few");
        assert_eq!(stability(&[50, 0, 50], &[60, 0, 60]), stability(&[50, 50], &[60, 60]));
    }

    #[test]
    fn the_window_slides_with_time_and_not_before_a_slice_says_something() {
        let drift = watch(Duration::from_secs(10));
        let second = 1_000_000_000;
        observe(&drift, &rows(2000, 40.0, 6));
        drift.turn(second / 2);
        assert_eq!(drift.youngest.load(Ordering::Relaxed), 0, "too young");
        drift.turn(second);
        drift.turn(second);
        assert_eq!(drift.youngest.load(Ordering::Relaxed), 1, "once");
        drift.turn(100 * second);
        assert_eq!(drift.youngest.load(Ordering::Relaxed), 1, "it holds nothing yet");
        assert_eq!(drift.read().samples, 2000);
        for slice in 0..SLICES as u64 {
            observe(&drift, &rows(200, 20.0, 7 + slice));
            drift.turn((200 + slice) * second);
        }
        let reading = drift.read();
        assert_eq!(reading.samples, 200 * (SLICES as u64 - 1), "what came first has gone");
        assert!(
            reading.features[0].index.is_some_and(|index| index < 0.1),
            "{reading:?}"
        );
    }

    #[test]
    fn a_window_without_length_holds_what_an_index_needs() {
        let drift = watch(Duration::ZERO);
        observe(&drift, &rows(20_000, 20.0, 30));
        let samples = drift.read().samples;
        assert!((500..700).contains(&samples), "{samples}");
    }

    #[test]
    fn threads_lose_no_count() {
        let drift = watch(HOUR);
        thread::scope(|scope| {
            for seed in 0..4 {
                let drift = &drift;
                scope.spawn(move || observe(drift, &rows(5000, 20.0, seed)));
            }
        });
        let reading = drift.read();
        assert_eq!(reading.samples, 20_000);
        let counted: u64 = drift
            .slices
            .iter()
            .flat_map(|slice| &slice.counts)
            .map(|count| count.load(Ordering::Relaxed))
            .sum();
        assert_eq!(counted, 3 * 20_000);
    }

    #[test]
    fn a_wide_table_is_watched_in_part_and_another_profile_is_refused() {
        let columns = (0..100).map(|index| Column {
            name: format!("c{index}"),
            kind: ColumnKind::Numeric,
        });
        let schema = Schema::Table {
            columns: columns.collect(),
        };
        let profile = Profile::new(&schema, &[1.0; 300], &[0, 1, 1], 2);
        let drift = Drift::new(&schema, profile.clone(), HOUR).expect("a profile of the table");
        drift.observe(&[1.0; 100], 1);
        assert_eq!(drift.read().features.len(), MOST_FEATURES);
        assert!(Drift::new(&table(), profile, HOUR).is_err());
    }
}
