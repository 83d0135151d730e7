//! The gate: thresholds of `evaluate.gate`, each held against what was measured. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Measures;
use crate::bundle::Verdict;
use crate::project::GateConfig;

/// The verdict with what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    /// `pass` when every check holds, `fail` when one does not, `none` when there is no check.
    pub verdict: Verdict,
    /// Each threshold.
    pub checks: Vec<Check>,
    /// The thresholds as configured: a verdict says nothing about others.
    pub thresholds: GateConfig,
}

/// One threshold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What is measured, as named under `evaluate.gate`.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// The least or the greatest that passes.
    pub threshold: f64,
    /// Whether a greater value is better.
    pub at_least: bool,
    /// Whether the threshold holds.
    pub pass: bool,
}

/// Holds what was measured on the test set, and on each slice by name, against the thresholds.
pub fn gate(config: &GateConfig, test: &Measures, slices: &BTreeMap<String, Measures>) -> Gate {
    let mut checks = Vec::new();
    let mut check = |name: &str, value: f64, threshold: Option<f64>, at_least: bool| {
        if let Some(threshold) = threshold {
            checks.push(Check {
                name: name.to_owned(),
                value,
                threshold,
                at_least,
                // A value that is no number passes nothing.
                pass: if at_least {
                    value >= threshold
                } else {
                    value <= threshold
                },
            });
        }
    };
    check("accuracy", test.accuracy, config.accuracy, true);
    check("loss", test.loss, config.loss, false);
    check(
        "worst_class_recall",
        test.worst_class().map_or(f64::NAN, |(_, recall)| recall),
        config.worst_class_recall,
        true,
    );
    check(
        "calibration_error",
        test.calibration_error,
        config.calibration_error,
        false,
    );
    for (name, threshold) in &config.slices {
        let value = slices.get(name).map_or(f64::NAN, |measures| measures.accuracy);
        check(&format!("slices.{name}"), value, Some(*threshold), true);
    }
    let verdict = if checks.is_empty() {
        Verdict::None
    } else if checks.iter().all(|check| check.pass) {
        Verdict::Pass
    } else {
        Verdict::Fail
    };
    Gate {
        verdict,
        checks,
        thresholds: config.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measures(right: usize, wrong: usize) -> Measures {
        let classes = ["a".to_owned(), "b".to_owned()];
        let mut probabilities = Vec::new();
        for _ in 0..right {
            probabilities.extend([0.9, 0.1]);
        }
        for _ in 0..wrong {
            probabilities.extend([0.2, 0.8]);
        }
        Measures::new(&probabilities, &vec![0; right + wrong], &classes)
    }

    fn verdict(config: &GateConfig) -> Verdict {
        let slices = BTreeMap::from([("real".to_owned(), measures(3, 1))]);
        gate(config, &measures(9, 1), &slices).verdict
    }

    #[test]
    fn every_threshold_can_fail_the_gate() {
        let none = GateConfig::default();
        assert_eq!(verdict(&none), Verdict::None);
        let with = |change: &dyn Fn(&mut GateConfig)| {
            let mut config = GateConfig::default();
            change(&mut config);
            verdict(&config)
        };
        assert_eq!(with(&|gate| gate.accuracy = Some(0.9)), Verdict::Pass);
        assert_eq!(with(&|gate| gate.accuracy = Some(0.91)), Verdict::Fail);
        assert_eq!(with(&|gate| gate.loss = Some(0.3)), Verdict::Pass);
        assert_eq!(with(&|gate| gate.loss = Some(0.2)), Verdict::Fail);
        assert_eq!(with(&|gate| gate.worst_class_recall = Some(0.9)), Verdict::Pass);
        assert_eq!(with(&|gate| gate.worst_class_recall = Some(0.95)), Verdict::Fail);
        assert_eq!(with(&|gate| gate.calibration_error = Some(0.2)), Verdict::Pass);
        assert_eq!(with(&|gate| gate.calibration_error = Some(0.05)), Verdict::Fail);
        let slice = |threshold| {
            with(&|gate| {
                gate.slices.insert("real".to_owned(), threshold);
            })
        };
        assert_eq!(slice(0.75), Verdict::Pass);
        assert_eq!(slice(0.76), Verdict::Fail);
    }

    #[test]
    fn one_missed_threshold_is_enough() {
        let config = GateConfig {
            accuracy: Some(0.5),
            loss: Some(0.01),
            ..GateConfig::default()
        };
        assert_eq!(verdict(&config), Verdict::Fail);
    }
}
