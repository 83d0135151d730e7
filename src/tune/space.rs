//! The space: from the lists of `tune` to the settings of each trial. Pure.

use std::collections::HashMap;

use anyhow::Result;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::no_space;
use crate::bundle::Schedule;
use crate::problem::Problem;
use crate::project::{Config, ModelKind, Strategy, TuneConfig};

/// Trials of a sweep, at the most.
pub const MOST_TRIALS: usize = 1000;

/// How trials are drawn, when the command line says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draw {
    /// So many, at random, whatever `tune.strategy` says.
    pub trials: Option<usize>,
}

/// What a trial lays over the project's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `model.kind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ModelKind>,
    /// `model.hidden`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Vec<usize>>,
    /// `model.filters`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<[usize; 2]>,
    /// `model.dropout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// `train.learning_rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// `train.schedule`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// `train.batch_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// `train.epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// `train.seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Settings {
    /// The configuration with these settings.
    #[must_use]
    pub fn applied(&self, config: &Config) -> Config {
        let mut config = config.clone();
        if let Some(kind) = self.kind {
            config.set_kind(kind);
        }
        let model = &mut config.model;
        model.hidden = self.hidden.clone().or(model.hidden.take());
        model.filters = self.filters.or(model.filters);
        model.dropout = self.dropout.or(model.dropout);
        let train = &mut config.train;
        train.learning_rate = self.learning_rate.unwrap_or(train.learning_rate);
        train.schedule = self.schedule.unwrap_or(train.schedule);
        train.batch_size = self.batch_size.unwrap_or(train.batch_size);
        train.epochs = self.epochs.unwrap_or(train.epochs);
        train.seed = self.seed.unwrap_or(train.seed);
        config
    }

    /// Each key with its value, as `emberline.yaml` writes it.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let value = serde_json::to_value(self).unwrap_or_default();
        let pairs = value.as_object().into_iter().flatten();
        pairs
            .map(|(key, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (key.clone(), value.replace(',', ", "))
            })
            .collect()
    }
}

/// The settings of each trial, in the order of the lists, the last key changing first; or as they are drawn.
///
/// # Errors
///
/// No lists, too many combinations, fewer of them than are to be drawn, or values that do not go together.
pub fn settings(config: &Config, draw: &Draw) -> Result<Vec<Settings>> {
    let tune = &config.tune;
    if tune.is_empty() {
        return Err(no_space().into());
    }
    let all = combinations(tune);
    let trials = match (tune.strategy, draw.trials.or(tune.trials)) {
        (Strategy::Grid, None) => None,
        (_, Some(trials)) => Some(trials),
        (Strategy::Random, None) => {
            return Err(
                Problem::new("`tune.strategy` is `random`, and nothing says how many trials it draws")
                    .hint("`tune.trials: 20`, or `--trials 20`, draws 20 of the combinations")
                    .into(),
            );
        }
    };
    let many = trials.map_or(all, |trials| trials as u128);
    if many > MOST_TRIALS as u128 {
        return Err(Problem::new(format!(
            "a sweep of {many} trials is too large: {MOST_TRIALS} are the most"
        ))
        .hint("`--trials 20` draws 20 of the combinations; or list fewer values")
        .into());
    }
    if many > all {
        return Err(Problem::new(format!(
            "{many} trials are to be drawn, and the lists of `tune` have {all} combinations"
        ))
        .hint("draw fewer, or `strategy: grid` without `trials`, which tries each of them")
        .into());
    }
    let numbers: Vec<u128> = match trials {
        None => (0..all).collect(),
        Some(trials) => drawn(all, trials, config.train.seed),
    };
    let settings: Vec<Settings> = numbers.into_iter().map(|number| combination(tune, number)).collect();
    for settings in &settings {
        settings.applied(config).check().map_err(|reason| {
            let pairs = settings
                .pairs()
                .into_iter()
                .map(|(key, value)| format!("{key}: {value}"));
            let pairs = pairs.collect::<Vec<_>>().join(", ");
            Problem::new(format!(
                "`tune` has a combination that cannot be trained, {{{pairs}}}: {reason}"
            ))
            .hint("leave one of the values out, or make two sweeps, each with an overlay of its own (`-d`)")
        })?;
    }
    Ok(settings)
}

/// How many there are.
fn combinations(tune: &TuneConfig) -> u128 {
    fn length<T>(list: Option<&Vec<T>>) -> u128 {
        list.map_or(1, Vec::len) as u128
    }
    [
        length(tune.kind.as_ref()),
        length(tune.hidden.as_ref()),
        length(tune.filters.as_ref()),
        length(tune.dropout.as_ref()),
        length(tune.learning_rate.as_ref()),
        length(tune.schedule.as_ref()),
        length(tune.batch_size.as_ref()),
        length(tune.epochs.as_ref()),
        length(tune.seed.as_ref()),
    ]
    .into_iter()
    .fold(1, u128::saturating_mul)
}

/// The combination with this number.
fn combination(tune: &TuneConfig, mut number: u128) -> Settings {
    fn digit<T: Clone>(list: Option<&Vec<T>>, number: &mut u128) -> Option<T> {
        let list = list?;
        let length = list.len() as u128;
        let value = list[(*number % length) as usize].clone();
        *number /= length;
        Some(value)
    }
    // From the last key to the first: the last is the one that changes from each to the next.
    let seed = digit(tune.seed.as_ref(), &mut number);
    let epochs = digit(tune.epochs.as_ref(), &mut number);
    let batch_size = digit(tune.batch_size.as_ref(), &mut number);
    let schedule = digit(tune.schedule.as_ref(), &mut number);
    let learning_rate = digit(tune.learning_rate.as_ref(), &mut number);
    let dropout = digit(tune.dropout.as_ref(), &mut number);
    let filters = digit(tune.filters.as_ref(), &mut number);
    let hidden = digit(tune.hidden.as_ref(), &mut number);
    let kind = digit(tune.kind.as_ref(), &mut number);
    Settings {
        kind,
        hidden,
        filters,
        dropout,
        learning_rate,
        schedule,
        batch_size,
        epochs,
        seed,
    }
}

/// `trials` different numbers below `all`, at random. More of them begin with the same: a sweep that is made larger goes
/// on from what was tried.
fn drawn(all: u128, trials: usize, seed: u64) -> Vec<u128> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    // A shuffle of all of them of which only the beginning is done, and only what was moved is written down.
    let mut moved: HashMap<u128, u128> = HashMap::new();
    (0..trials as u128)
        .map(|at| {
            let from = random.random_range(at..all);
            let found = moved.get(&from).copied().unwrap_or(from);
            let here = moved.get(&at).copied().unwrap_or(at);
            moved.insert(from, here);
            found
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn config(tune: &str) -> Config {
        serde_saphyr::from_str(&format!(
            "name: d\ndata: {{source: synthetic-digits}}\nmodel: {{dropout: 0.4}}\ntune: {tune}\n"
        ))
        .expect("a configuration")
    }

    fn refused(tune: &str, draw: Draw) -> (String, String) {
        let error = settings(&config(tune), &draw).expect_err(tune);
        let problem = error.downcast_ref::<Problem>().expect("a problem");
        (problem.to_string(), problem.hint_text().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_grid_is_every_combination_the_last_key_first() {
        let config = config("{learning_rate: [0.1, 0.2], hidden: [[8], [4, 4]], seed: [1]}");
        let all = settings(&config, &Draw::default()).expect("settings");
        let told: Vec<String> = all
            .iter()
            .map(|settings| serde_json::to_string(settings).expect("JSON"))
            .collect();
        assert_eq!(
            told,
            [
                r#"{"hidden":[8],"learning_rate":0.1,"seed":1}"#,
                r#"{"hidden":[8],"learning_rate":0.2,"seed":1}"#,
                r#"{"hidden":[4,4],"learning_rate":0.1,"seed":1}"#,
                r#"{"hidden":[4,4],"learning_rate":0.2,"seed":1}"#,
            ]
        );
        let applied = all[3].applied(&config);
        assert_eq!(applied.model.hidden, Some(vec![4, 4]));
        assert_eq!((applied.train.learning_rate, applied.train.seed), (0.2, 1));
        // What has no list stays.
        assert_eq!((applied.model.dropout, applied.train.epochs), (Some(0.4), 10));
    }

    #[test]
    fn another_kind_takes_its_own_sizes() {
        let mut config = config("{kind: [mlp, cnn]}");
        config.model.hidden = Some(vec![9, 9]);
        let all = settings(&config, &Draw::default()).expect("settings");
        let hidden: Vec<_> = all.iter().map(|one| one.applied(&config).model.hidden).collect();
        assert_eq!(hidden, [Some(vec![9, 9]), None]);
    }

    #[test]
    fn draws_are_repeatable_different_and_grow() {
        let tune = "{strategy: random, trials: 6, learning_rate: [1, 2, 3, 4, 5, 6, 7], seed: [1, 2, 3, 4, 5, 6]}";
        let draw = |trials, seed| {
            let mut config = config(tune);
            config.train.seed = seed;
            let all = settings(&config, &Draw { trials }).expect("settings");
            all.into_iter()
                .map(|one| serde_json::to_string(&one).expect("JSON"))
                .collect::<Vec<_>>()
        };
        let six = draw(None, 1);
        assert_eq!(six.len(), 6);
        assert_eq!(six, draw(None, 1));
        assert_ne!(six, draw(None, 2));
        assert_eq!(draw(Some(20), 1)[..6], six);
        // All of them, each once.
        assert_eq!(draw(Some(42), 1).into_iter().collect::<BTreeSet<_>>().len(), 42);
    }

    #[test]
    fn spaces_that_cannot_be_tried_are_refused() {
        let grid = Draw::default();
        let (error, hint) = refused("{}", grid);
        assert!(error.contains("no `tune` section"), "{error}");
        // What the hint shows is one that works.
        let shown = hint
            .split('`')
            .find(|part| part.starts_with("tune: "))
            .expect("a section");
        let shown = config(shown.trim_start_matches("tune: "));
        assert_eq!(settings(&shown, &grid).expect("settings").len(), 4);

        let (error, _) = refused("{kind: [mlp, cnn], hidden: [[64, 64]]}", grid);
        assert!(
            error.contains("{hidden: [64, 64], kind: cnn}: `model.hidden` has 2 sizes"),
            "{error}"
        );
        let (error, hint) = refused("{strategy: random, seed: [1, 2]}", grid);
        assert!(
            error.contains("nothing says how many") && hint.contains("--trials"),
            "{error}"
        );
        let (error, _) = refused("{seed: [1, 2]}", Draw { trials: Some(3) });
        assert!(
            error.contains("3 trials are to be drawn") && error.contains("2 combinations"),
            "{error}"
        );
        let many = (1..=40).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
        let (error, _) = refused(&format!("{{seed: [{many}], epochs: [{many}]}}"), grid);
        assert!(error.contains("1600 trials is too large"), "{error}");
    }
}
