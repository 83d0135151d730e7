//! The sources as a project uses them: what is read, and what every kind of bad file is told.

mod images;
mod tables;

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::*;
use crate::preprocess::{Column, ColumnKind, Missing, Schema};
use crate::project::{Config, DataConfig, PreprocessConfig, Project, Source};

/// A project in a folder of its own.
struct Fixture {
    folder: TempDir,
    project: Project,
}

impl Fixture {
    fn new(data: DataConfig, files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).expect("write");
        }
        let project = Project {
            destination: None,
            folder: folder.path().to_owned(),
            config: Config {
                name: "t".into(),
                data,
                ..Config::default()
            },
        };
        Self { folder, project }
    }

    fn csv(text: &str) -> Self {
        Self::new(table_config(), &[("t.csv", text.as_bytes())])
    }

    fn idx(images: &[u8], labels: &[u8]) -> Self {
        Self::new(idx_config(), &[("i", images), ("l", labels)])
    }

    fn missing(mut self, missing: Missing) -> Self {
        self.project.config.preprocess = PreprocessConfig {
            missing,
            ..PreprocessConfig::default()
        };
        self
    }

    fn load(&self) -> ProjectData {
        load(&self.project, None, &|_| ()).expect("good data")
    }

    /// The error, with its hint.
    fn error(&self) -> String {
        said(&load(&self.project, None, &|_| ()).expect_err("bad data"))
    }
}

fn said(error: &anyhow::Error) -> String {
    let hint = error.downcast_ref::<Problem>().and_then(Problem::hint_text);
    format!("{error} ({})", hint.unwrap_or_default())
}

fn table_config() -> DataConfig {
    DataConfig {
        source: Some(Source::Csv),
        file: Some("t.csv".into()),
        label: Some("kind".into()),
        ..DataConfig::default()
    }
}

fn idx_config() -> DataConfig {
    DataConfig {
        source: Some(Source::Idx),
        images: Some("i".into()),
        labels: Some("l".into()),
        ..DataConfig::default()
    }
}

fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}

#[test]
fn the_examples_are_what_their_credits_say() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let digits = Fixture::new(
        DataConfig {
            images: Some(examples.join("digits/real-images-idx3-ubyte.gz")),
            labels: Some(examples.join("digits/real-labels-idx1-ubyte.gz")),
            ..idx_config()
        },
        &[],
    );
    let classes: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    let config = &digits.project.config.data;
    let real = load_slice(&digits.project, config, &idx::grey(28, 28), &classes, None, &|_| ()).expect("reads");
    let count = |class| real.labels.iter().filter(|label| **label == class).count();
    assert_eq!((0..10).map(count).collect::<Vec<_>>(), [100; 10]);
    let penguins = Fixture::new(
        DataConfig {
            file: Some(examples.join("tabular/penguins.csv")),
            label: Some("species".into()),
            ..table_config()
        },
        &[],
    )
    .missing(Missing::Median);
    let data = penguins.load();
    assert_eq!(data.training.classes, ["Adelie", "Chinstrap", "Gentoo"]);
    assert_eq!(data.training.len() + data.test.len(), 344);
    let values = [data.training.values, data.test.values].concat();
    assert_eq!(values.iter().filter(|value| value.is_nan()).count(), 19);
}
