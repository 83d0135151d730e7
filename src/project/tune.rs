//! `tune`: which training configurations a sweep tries, and how.

use serde::{Deserialize, Serialize};

use super::{Config, Cpu, Memory, ModelKind, NetworkConfig};
use crate::bundle::Schedule;

/// `tune`. Each list holds the values that a key takes in turn; a key without a list stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TuneConfig {
    /// Which combinations are tried.
    pub strategy: Strategy,
    /// `random`: how many.
    pub trials: Option<usize>,
    /// Trials at the same time.
    pub parallel: Option<usize>,
    /// `kubernetes`: most memory of a trial.
    pub memory: Memory,
    /// `kubernetes`: processor time that a trial is promised; it trains on so many threads.
    pub cpu: Cpu,
    /// Values of `model.kind`.
    pub kind: Option<Vec<ModelKind>>,
    /// Values of `model.hidden`.
    pub hidden: Option<Vec<Vec<usize>>>,
    /// Values of `model.filters`.
    pub filters: Option<Vec<[usize; 2]>>,
    /// Values of `model.dropout`.
    pub dropout: Option<Vec<f64>>,
    /// Values of `train.learning_rate`.
    pub learning_rate: Option<Vec<f64>>,
    /// Values of `train.schedule`.
    pub schedule: Option<Vec<Schedule>>,
    /// Values of `train.batch_size`.
    pub batch_size: Option<Vec<usize>>,
    /// Values of `train.epochs`.
    pub epochs: Option<Vec<usize>>,
    /// Values of `train.seed`.
    pub seed: Option<Vec<u64>>,
}

impl Default for TuneConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::Grid,
            trials: None,
            parallel: None,
            memory: Memory::gibibyte(),
            cpu: Cpu::whole(),
            kind: None,
            hidden: None,
            filters: None,
            dropout: None,
            learning_rate: None,
            schedule: None,
            batch_size: None,
            epochs: None,
            seed: None,
        }
    }
}

/// Which combinations of the values a sweep tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All of them.
    #[default]
    Grid,
    /// `tune.trials` of them, drawn with the seed, none twice.
    Random,
}

impl TuneConfig {
    /// Whether no key has a list.
    pub fn is_empty(&self) -> bool {
        let Self {
            strategy: _,
            trials: _,
            parallel: _,
            memory: _,
            cpu: _,
            kind,
            hidden,
            filters,
            dropout,
            learning_rate,
            schedule,
            batch_size,
            epochs,
            seed,
        } = self;
        kind.is_none()
            && hidden.is_none()
            && filters.is_none()
            && dropout.is_none()
            && learning_rate.is_none()
            && schedule.is_none()
            && batch_size.is_none()
            && epochs.is_none()
            && seed.is_none()
    }

    /// Checks each value on its own, as its key is checked where it stands alone. Whether values go together shows when
    /// they are combined.
    ///
    /// # Errors
    ///
    /// A sentence that begins with the key.
    pub fn check(&self) -> Result<(), String> {
        listed("kind", self.kind.as_deref(), |_| true, "")?;
        let sizes = "sizes of 1 or more";
        listed("hidden", self.hidden.as_deref(), |sizes| !sizes.contains(&0), sizes)?;
        listed("filters", self.filters.as_deref(), |sizes| !sizes.contains(&0), sizes)?;
        listed(
            "dropout",
            self.dropout.as_deref(),
            |share| (0.0..1.0).contains(share),
            "shares of 0 or more and below 1",
        )?;
        listed(
            "learning_rate",
            self.learning_rate.as_deref(),
            |rate| *rate > 0.0 && rate.is_finite(),
            "numbers above 0",
        )?;
        listed("schedule", self.schedule.as_deref(), |_| true, "")?;
        let whole = "whole numbers, 1 or more";
        listed("batch_size", self.batch_size.as_deref(), |size| *size > 0, whole)?;
        listed("epochs", self.epochs.as_deref(), |epochs| *epochs > 0, whole)?;
        listed("seed", self.seed.as_deref(), |_| true, "")?;
        for (key, number) in [("trials", self.trials), ("parallel", self.parallel)] {
            if number == Some(0) {
                return Err(format!("`tune.{key}` is 0, and must be 1 or more"));
            }
        }
        match (self.strategy, self.trials) {
            (Strategy::Grid, Some(_)) => {
                Err("`tune.trials` is for `strategy: random`, and a `grid` tries every combination".into())
            }
            _ => Ok(()),
        }
    }
}

/// Checks a list: that it has values, none of them twice, and all of them good.
fn listed<T: PartialEq + Serialize>(
    key: &str,
    values: Option<&[T]>,
    good: impl Fn(&T) -> bool,
    takes: &str,
) -> Result<(), String> {
    let Some(values) = values else { return Ok(()) };
    if values.is_empty() {
        return Err(format!(
            "`tune.{key}` is an empty list: give it values, or leave it out"
        ));
    }
    let shown = |value: &T| serde_json::to_string(value).unwrap_or_default();
    for (index, value) in values.iter().enumerate() {
        if !good(value) {
            return Err(format!("`tune.{key}` lists `{}`, and takes {takes}", shown(value)));
        }
        if values[..index].contains(value) {
            return Err(format!("`tune.{key}` lists `{}` twice", shown(value)));
        }
    }
    Ok(())
}

impl Config {
    /// Makes the network one of another kind, which takes its default sizes; one of its own kind stays as it is.
    pub fn set_kind(&mut self, kind: ModelKind) {
        if kind != self.model.kind {
            self.model = NetworkConfig {
                kind,
                dropout: self.model.dropout,
                ..NetworkConfig::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), String> {
        serde_saphyr::from_str::<TuneConfig>(text).expect(text).check()
    }

    #[test]
    fn each_value_is_checked_as_its_key_is() {
        for good in [
            "{}",
            "{learning_rate: [0.001, 1], hidden: [[64, 64], []], dropout: [0, 0.5], kind: [mlp, cnn]}",
            "{strategy: random, trials: 3, seed: [0, 1]}",
        ] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
        for (bad, words) in [
            ("{learning_rate: []}", "`tune.learning_rate` is an empty list"),
            (
                "{learning_rate: [0.1, 0]}",
                "`tune.learning_rate` lists `0.0`, and takes numbers above 0",
            ),
            ("{dropout: [1]}", "`tune.dropout` lists `1.0`"),
            ("{hidden: [[64], [64, 0]]}", "`tune.hidden` lists `[64,0]`"),
            ("{filters: [[0, 1]]}", "`tune.filters` lists `[0,1]`"),
            ("{epochs: [0]}", "`tune.epochs` lists `0`"),
            ("{batch_size: [0]}", "`tune.batch_size` lists `0`"),
            ("{seed: [1, 2, 1]}", "`tune.seed` lists `1` twice"),
            ("{trials: 3}", "`tune.trials` is for `strategy: random`"),
            ("{strategy: random, trials: 0}", "`tune.trials` is 0"),
            ("{parallel: 0}", "`tune.parallel` is 0"),
        ] {
            let error = checked(bad).expect_err(bad);
            assert!(error.starts_with(words), "{bad}: {error}");
        }
    }
}
