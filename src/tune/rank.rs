//! The order of trials. Pure.

use std::cmp::Ordering;

use serde::Serialize;

use super::Record;
use crate::project::GateConfig;

/// What decides between trials, measured on the validation split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The share of right answers: the more the better.
    Accuracy,
    /// The mean cross-entropy: the less the better.
    Loss,
}

impl Metric {
    /// The one that a gate names: accuracy, unless it has a threshold for the loss and none for accuracy.
    pub fn of(gate: &GateConfig) -> Self {
        match (gate.accuracy, gate.loss) {
            (None, Some(_)) => Self::Loss,
            _ => Self::Accuracy,
        }
    }

    /// As `evaluate.gate` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Loss => "loss",
        }
    }

    /// The better one first. What is no number is the worst.
    fn compare(self, a: &Record, b: &Record) -> Ordering {
        let worst_last = |a: f64, b: f64| a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(&b));
        match self {
            Self::Accuracy => worst_last(-a.validation.accuracy, -b.validation.accuracy),
            Self::Loss => worst_last(a.validation.loss, b.validation.loss),
        }
    }
}

/// The best first: by the metric; among equals the one with fewer weights; among those the one that comes first.
pub fn rank<'a>(metric: Metric, records: impl IntoIterator<Item = (usize, &'a Record)>) -> Vec<usize> {
    let mut records: Vec<(usize, &Record)> = records.into_iter().collect();
    records.sort_by(|(a_index, a), (b_index, b)| {
        metric
            .compare(a, b)
            .then(a.parameters.cmp(&b.parameters))
            .then(a_index.cmp(b_index))
    });
    records.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Validation;
    use super::*;

    fn record(accuracy: f64, loss: f64, parameters: usize) -> Record {
        Record {
            id: String::new(),
            version: String::new(),
            digest: String::new(),
            parameters,
            validation: Validation { accuracy, loss },
            seconds: 1.0,
            place: String::new(),
        }
    }

    #[test]
    fn the_gate_names_the_metric() {
        let gate = |accuracy, loss| GateConfig {
            accuracy,
            loss,
            ..GateConfig::default()
        };
        for (accuracy, loss, metric) in [
            (None, None, Metric::Accuracy),
            (Some(0.9), None, Metric::Accuracy),
            (Some(0.9), Some(0.1), Metric::Accuracy),
            (None, Some(0.1), Metric::Loss),
        ] {
            assert_eq!(Metric::of(&gate(accuracy, loss)), metric);
        }
    }

    #[test]
    fn equals_are_told_apart_by_size_and_then_by_order() {
        let records = [
            record(0.8, 0.5, 10),
            record(0.9, 0.4, 20),
            record(0.9, 0.6, 10),
            record(0.9, 0.7, 10),
            record(f64::NAN, f64::NAN, 1),
        ];
        let ranked = |metric| rank(metric, records.iter().enumerate());
        assert_eq!(ranked(Metric::Accuracy), [2, 3, 1, 0, 4]);
        assert_eq!(ranked(Metric::Loss), [1, 0, 2, 3, 4]);
    }
}
