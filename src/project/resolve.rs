//! What a configuration means once it is whole: checks across keys, and the defaults that depend on other keys.

use super::Source::{Csv, Idx, Mnist, SyntheticDigits};
use super::{Builder, Config, DataConfig, ModelKind, NetworkConfig, Source};
use crate::model::ModelConfig;

impl Config {
    /// Checks what no single key can get wrong.
    ///
    /// # Errors
    ///
    /// A sentence that begins with the key.
    pub fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        self.data.check("data")?;
        self.model.resolve()?;
        let train = &self.train;
        at_least_one("train.epochs", train.epochs)?;
        at_least_one("train.batch_size", train.batch_size)?;
        if !(train.learning_rate > 0.0 && train.learning_rate.is_finite()) {
            return Err(format!(
                "`train.learning_rate` is `{}`, and must be above 0",
                train.learning_rate
            ));
        }
        if !(train.validation_split > 0.0 && train.validation_split < 1.0) {
            return Err(format!(
                "`train.validation_split` is `{}`, and must lie between 0 and 1: the validation split chooses the \
                 weights that are kept",
                train.validation_split
            ));
        }
        self.tune.check()?;
        for (index, slice) in self.evaluate.slices.iter().enumerate() {
            if slice.name.is_empty() {
                return Err(format!("`evaluate.slices[{index}].name` is missing"));
            }
            if self.evaluate.slices[..index]
                .iter()
                .any(|other| other.name == slice.name)
            {
                return Err(format!("`evaluate.slices` has two slices named `{}`", slice.name));
            }
            let at = format!("evaluate.slices[{index}].data");
            slice.data.check(&at)?;
            if let Some(key) = slice.data.test_key() {
                return Err(format!(
                    "`{at}.{key}` has no use: a slice is measured whole, there is no test set to set apart"
                ));
            }
        }
        let gate = &self.evaluate.gate;
        for name in gate.slices.keys() {
            if !self.evaluate.slices.iter().any(|slice| slice.name == *name) {
                return Err(format!(
                    "`evaluate.gate.slices.{name}` is a threshold for a slice that `evaluate.slices` has not"
                ));
            }
        }
        let shares = [
            ("accuracy", gate.accuracy),
            ("worst_class_recall", gate.worst_class_recall),
            ("calibration_error", gate.calibration_error),
        ];
        let slices = gate.slices.iter().map(|(name, share)| (name.as_str(), Some(*share)));
        for (name, share) in shares.into_iter().chain(slices) {
            if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                return Err(format!(
                    "`evaluate.gate` asks for `{name}: {}`, and it must lie between 0 and 1",
                    share.unwrap_or_default()
                ));
            }
        }
        if let Some(loss) = gate.loss
            && loss < 0.0
        {
            return Err(format!(
                "`evaluate.gate` asks for `loss: {loss}`, and a loss is 0 or more"
            ));
        }
        if self.package.builder == Builder::Docker && self.package.output.is_some() {
            return Err(
                "`package.builder: docker` leaves the image in the container engine, and `package.output` asks for a file"
                    .into(),
            );
        }
        if self.deploy.port == 0 {
            return Err("`deploy.port` is 0, and a service needs a port that stays the same".into());
        }
        at_least_one("deploy.replicas", self.deploy.replicas)?;
        if let Some(ingress) = &self.deploy.ingress {
            ingress.check()?;
        }
        if let Some(route) = &self.deploy.http_route {
            route.check()?;
        }
        at_least_one("gateway.replicas", self.gateway.replicas)?;
        if self.gateway.listen.port() == 0 {
            return Err(format!(
                "`gateway.listen` is `{}`, and must have a port that stays the same",
                self.gateway.listen
            ));
        }
        Ok(())
    }
}

impl NetworkConfig {
    /// The network with its defaults filled in.
    ///
    /// # Errors
    ///
    /// A key that the kind of network does not read, or the wrong number of sizes.
    pub fn resolve(&self) -> Result<ModelConfig, String> {
        let dropout = self.dropout.unwrap_or(0.2);
        if !(0.0..1.0).contains(&dropout) {
            return Err(format!(
                "`model.dropout` is `{dropout}`, and must be 0 or more and below 1"
            ));
        }
        let sizes = [
            ("hidden", self.hidden.as_deref()),
            ("filters", self.filters.as_ref().map(<[usize; 2]>::as_slice)),
        ];
        if let Some((key, _)) = sizes
            .iter()
            .find(|(_, sizes)| sizes.is_some_and(|sizes| sizes.contains(&0)))
        {
            return Err(format!("`model.{key}` has a size of 0, and takes 1 or more"));
        }
        match self.kind {
            ModelKind::Mlp => {
                if self.filters.is_some() {
                    return Err("`model.filters` is read by `kind: cnn` only, and this is a `mlp`".into());
                }
                Ok(ModelConfig::Mlp {
                    hidden: self.hidden.clone().unwrap_or_else(|| vec![64, 64]),
                    dropout,
                })
            }
            ModelKind::Cnn => {
                let hidden = match self.hidden.as_deref() {
                    None => 128,
                    Some([hidden]) => *hidden,
                    Some(several) => {
                        return Err(format!(
                            "`model.hidden` has {} sizes, and a `cnn` has one hidden layer",
                            several.len()
                        ));
                    }
                };
                Ok(ModelConfig::Cnn {
                    filters: self.filters.unwrap_or([16, 32]),
                    hidden,
                    dropout,
                })
            }
        }
    }
}

impl DataConfig {
    /// The first key that is about a test set, if one is given.
    fn test_key(&self) -> Option<&'static str> {
        let keys = [
            ("test_count", self.test_count.is_some()),
            ("test_images", self.test_images.is_some()),
            ("test_labels", self.test_labels.is_some()),
            ("test_file", self.test_file.is_some()),
            ("test_split", self.test_split.is_some()),
        ];
        keys.into_iter().find(|(_, given)| *given).map(|(key, _)| key)
    }

    /// Checks that the keys are those that the source reads.
    ///
    /// # Errors
    ///
    /// A sentence that begins with the key; `at` is where this section stands.
    pub fn check(&self, at: &str) -> Result<Source, String> {
        let Some(source) = self.source else {
            return Err(format!(
                "`{at}.source` is missing: one of synthetic-digits, mnist, idx, csv"
            ));
        };
        let keys: [(&str, bool, &[Source]); 12] = [
            ("count", self.count.is_some(), &[SyntheticDigits]),
            ("test_count", self.test_count.is_some(), &[SyntheticDigits]),
            ("dir", self.dir.is_some(), &[Mnist]),
            ("images", self.images.is_some(), &[Idx]),
            ("labels", self.labels.is_some(), &[Idx]),
            ("test_images", self.test_images.is_some(), &[Idx]),
            ("test_labels", self.test_labels.is_some(), &[Idx]),
            ("file", self.file.is_some(), &[Csv]),
            ("test_file", self.test_file.is_some(), &[Csv]),
            ("label", self.label.is_some(), &[Csv]),
            ("categorical", self.categorical.is_some(), &[Csv]),
            ("ignore", self.ignore.is_some(), &[Csv]),
        ];
        for (key, given, readers) in keys {
            if given && !readers.contains(&source) {
                return Err(format!(
                    "`{at}.{key}` is read by source `{}` only, and this is `{}`",
                    readers[0].name(),
                    source.name()
                ));
            }
        }
        let needed: &[(&str, bool)] = match source {
            Idx => &[("images", self.images.is_some()), ("labels", self.labels.is_some())],
            Csv => &[("file", self.file.is_some()), ("label", self.label.is_some())],
            SyntheticDigits | Mnist => &[],
        };
        if let Some((key, _)) = needed.iter().find(|(_, given)| !given) {
            return Err(format!("`{at}.{key}` is missing: source `{}` needs it", source.name()));
        }
        if self.test_images.is_some() != self.test_labels.is_some() {
            return Err(format!("`{at}.test_images` and `{at}.test_labels` go together"));
        }
        for (key, count) in [("count", self.count), ("test_count", self.test_count)] {
            if count == Some(0) {
                return Err(format!("`{at}.{key}` is 0"));
            }
        }
        if let Some(share) = self.test_split {
            let own_test = self.test_images.is_some() || self.test_file.is_some();
            if matches!(source, SyntheticDigits | Mnist) || own_test {
                return Err(format!(
                    "`{at}.test_split` has nothing to split: there is a test set already"
                ));
            }
            if !(share > 0.0 && share < 1.0) {
                return Err(format!("`{at}.test_split` is `{share}`, and must lie between 0 and 1"));
            }
        }
        Ok(source)
    }
}

/// Checks a name: it is used for services, images and routes: a DNS label with room for `-deployment`.
///
/// # Errors
///
/// A sentence that begins with the key.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("`name` is missing".into());
    }
    let good = name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.as_bytes()[0].is_ascii_lowercase()
        && !name.ends_with('-');
    if good {
        Ok(())
    } else {
        Err(format!(
            "`name` is `{name}`, and takes up to 40 lower-case letters, digits and dashes, beginning with a letter"
        ))
    }
}

fn at_least_one(key: &str, value: usize) -> Result<(), String> {
    if value == 0 {
        Err(format!("`{key}` is 0, and must be 1 or more"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{EvaluateConfig, SliceConfig};

    #[test]
    fn a_slice_has_no_test_set() {
        let with = |test_count| Config {
            name: "digits".into(),
            data: DataConfig {
                source: Some(Mnist),
                ..DataConfig::default()
            },
            evaluate: EvaluateConfig {
                slices: vec![SliceConfig {
                    name: "drawn".into(),
                    data: DataConfig {
                        source: Some(SyntheticDigits),
                        count: Some(100),
                        test_count,
                        ..DataConfig::default()
                    },
                }],
                ..EvaluateConfig::default()
            },
            ..Config::default()
        };
        assert_eq!(with(None).check(), Ok(()));
        let error = with(Some(10)).check().expect_err("refused");
        assert!(error.starts_with("`evaluate.slices[0].data.test_count`"), "{error}");
    }
}
