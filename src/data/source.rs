//! From `data` in `emberline.yaml` to what is trained and tested on. The formats know how to read; this decides what is
//! read, with which seed, and what is held out.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::idx::{self, Images};
use super::split::{TEST_SEED, stratified};
use super::table::Table;
use super::{Dataset, Event, ProjectData, complete_rows, digits, mnist};
use crate::preprocess::{Missing, Schema};
use crate::problem::Problem;
use crate::project::{DataConfig, Project, Source};

const TRAINING_DIGITS: usize = 60_000;
const TEST_DIGITS: usize = 10_000;
const TEST_SPLIT: f64 = 0.2;

/// Everything that the project is trained and tested on.
///
/// `data_dir` takes the place of `data.dir`. Rows that `preprocess.missing` refuses are an error, those that it drops are
/// gone. Where there is no test set of its own, `data.test_split` of the data is held out, class by class, the
/// same for every seed of training.
///
/// # Errors
///
/// Whatever is wrong with the data, with its file and, where there are any, row and column.
pub fn load(project: &Project, data_dir: Option<&Path>, events: &dyn Fn(Event)) -> Result<ProjectData> {
    let loader = Loader::new(project, &project.config.data, data_dir, events);
    let raw = loader.training()?;
    let test = loader.test()?;
    let schema = raw.schema(loader.config)?;
    let classes = raw.classes(loader.config);
    let whole = loader.without_dropped(&raw, raw.dataset(&schema, &classes, loader.missing())?, true)?;
    check_classes(loader.config, &raw, &whole, if test.is_some() { 2 } else { 3 })?;
    if let Some(test) = test {
        let test = loader.without_dropped(&test, test.dataset(&schema, &classes, loader.missing())?, true)?;
        return Ok(ProjectData { training: whole, test });
    }
    let (kept, held_out) = loader.cut(&whole);
    Ok(ProjectData {
        training: whole.select(&kept),
        test: whole.select(&held_out),
    })
}

/// The test set alone, read against the schema and the classes of a bundle: the same samples as [`load`] gives.
///
/// # Errors
///
/// As [`load`]; data that the bundle's model cannot read: another kind, a column or a class that it does not know; and,
/// where the test set is cut from the data, other data than the bundle was trained on, `trained_on` being its digest: the
/// cut is then another one, and samples of the training would be among those that it is tested on.
pub fn load_test(
    project: &Project,
    schema: &Schema,
    classes: &[String],
    trained_on: &str,
    data_dir: Option<&Path>,
    events: &dyn Fn(Event),
) -> Result<Dataset> {
    let loader = Loader::new(project, &project.config.data, data_dir, events);
    if let Some(test) = loader.test()? {
        let dataset = test.dataset(schema, classes, loader.missing())?;
        return loader.without_dropped(&test, dataset, true);
    }
    // The cut is made on the data as training saw it, and only then is it read as the bundle sees it.
    let raw = loader.training()?;
    let own = raw.dataset(
        &raw.schema(loader.config)?,
        &raw.classes(loader.config),
        loader.missing(),
    )?;
    let rows = loader.kept_rows(&own);
    let whole = own.select(&rows);
    let (kept, held_out) = loader.cut(&whole);
    if whole.select(&kept).digest() != trained_on {
        return Err(Problem::new(format!(
            "`{}` or `data.test_split` has changed since the bundle was trained: what is held out now may have been trained on",
            raw.file().display()
        ))
        .hint("train again, or give a test set of its own (`data.test_file`, `data.test_images`)")
        .into());
    }
    let held_out: Vec<usize> = held_out.into_iter().map(|at| rows[at]).collect();
    let test = raw.dataset(schema, classes, loader.missing())?.select(&held_out);
    loader.without_dropped(&raw, test, false)
}

/// The labelled data of one evaluation slice, all of it, read against the schema and the classes of a bundle.
///
/// A slice of `synthetic-digits` is drawn with the seed of the test set, one of `mnist` is its test set.
///
/// # Errors
///
/// As [`load_test`].
pub fn load_slice(
    project: &Project,
    slice: &DataConfig,
    schema: &Schema,
    classes: &[String],
    data_dir: Option<&Path>,
    events: &dyn Fn(Event),
) -> Result<Dataset> {
    let loader = Loader::new(project, slice, data_dir, events);
    let raw = match loader.source()? {
        Source::SyntheticDigits => loader.draw(slice.count.unwrap_or(TEST_DIGITS), TEST_SEED),
        Source::Mnist => loader.mnist(mnist::Part::Test)?,
        Source::Idx | Source::Csv => loader.training()?,
    };
    let dataset = raw.dataset(schema, classes, loader.missing())?;
    loader.without_dropped(&raw, dataset, true)
}

/// A file that the project's data is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// The key of `data` that names it, or the folder that it is in.
    pub key: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

/// The files that [`load`] reads; none where the data is drawn. What is to be downloaded is downloaded.
///
/// # Errors
///
/// As [`load`], as far as it is about finding them.
pub fn files(project: &Project, data_dir: Option<&Path>, events: &dyn Fn(Event)) -> Result<Vec<DataFile>> {
    let loader = Loader::new(project, &project.config.data, data_dir, events);
    let config = loader.config;
    let named = match loader.source()? {
        Source::SyntheticDigits => Vec::new(),
        Source::Mnist => {
            let mut files = Vec::new();
            for part in [mnist::Part::Training, mnist::Part::Test] {
                let (images, labels) = loader.mnist_files(part)?;
                files.extend([images, labels].map(|path| DataFile { key: "dir", path }));
            }
            return Ok(files);
        }
        Source::Idx => vec![
            ("images", &config.images),
            ("labels", &config.labels),
            ("test_images", &config.test_images),
            ("test_labels", &config.test_labels),
        ],
        Source::Csv => vec![("file", &config.file), ("test_file", &config.test_file)],
    };
    let files = named.into_iter().filter_map(|(key, path)| {
        let path = project.path(path.as_deref()?);
        Some(DataFile { key, path })
    });
    Ok(files.collect())
}

/// Labelled samples as their source has them, before they are read against a schema.
enum Raw {
    Images(Images),
    Table(Table),
}

impl Raw {
    fn schema(&self, config: &DataConfig) -> Result<Schema> {
        match self {
            Self::Images(images) => Ok(images.schema.clone()),
            Self::Table(table) => table.schema(config),
        }
    }

    fn classes(&self, config: &DataConfig) -> Vec<String> {
        match (config.source, self) {
            (Some(Source::SyntheticDigits | Source::Mnist), _) => (0..10).map(|digit| digit.to_string()).collect(),
            (_, Self::Images(images)) => images.classes(),
            (_, Self::Table(table)) => table.classes(),
        }
    }

    fn dataset(&self, schema: &Schema, classes: &[String], missing: Missing) -> Result<Dataset> {
        match self {
            Self::Images(images) => images.dataset(schema, classes),
            Self::Table(table) => table.dataset(schema, classes, missing),
        }
    }

    fn file(&self) -> &Path {
        match self {
            Self::Images(images) => &images.labels_file,
            Self::Table(table) => table.file(),
        }
    }
}

/// One `data` section with what is needed to read it.
struct Loader<'a> {
    project: &'a Project,
    config: &'a DataConfig,
    data_dir: Option<&'a Path>,
    events: &'a dyn Fn(Event),
}

impl<'a> Loader<'a> {
    fn new(
        project: &'a Project,
        config: &'a DataConfig,
        data_dir: Option<&'a Path>,
        events: &'a dyn Fn(Event),
    ) -> Self {
        Self {
            project,
            config,
            data_dir,
            events,
        }
    }

    fn source(&self) -> Result<Source> {
        Ok(self.config.check("data").map_err(Problem::new)?)
    }

    fn seed(&self) -> u64 {
        self.project.config.train.seed
    }

    fn missing(&self) -> Missing {
        self.project.config.preprocess.missing
    }

    /// What `count`, `dir`, `images` or `file` name.
    fn training(&self) -> Result<Raw> {
        let config = self.config;
        match self.source()? {
            Source::SyntheticDigits => Ok(self.draw(config.count.unwrap_or(TRAINING_DIGITS), self.seed())),
            Source::Mnist => self.mnist(mnist::Part::Training),
            Source::Idx => self.images(config.images.as_deref(), config.labels.as_deref()),
            Source::Csv => self.table(config.file.as_deref()),
        }
    }

    /// The test set that the source has of its own, if it has one.
    fn test(&self) -> Result<Option<Raw>> {
        let config = self.config;
        let raw = match self.source()? {
            Source::SyntheticDigits => self.draw(config.test_count.unwrap_or(TEST_DIGITS), TEST_SEED),
            Source::Mnist => self.mnist(mnist::Part::Test)?,
            Source::Idx if config.test_images.is_some() => {
                self.images(config.test_images.as_deref(), config.test_labels.as_deref())?
            }
            Source::Csv if config.test_file.is_some() => self.table(config.test_file.as_deref())?,
            Source::Idx | Source::Csv => return Ok(None),
        };
        Ok(Some(raw))
    }

    fn draw(&self, count: usize, seed: u64) -> Raw {
        (self.events)(Event::Drawing { count });
        let digits::Digits { pixels, labels } = digits::draw(count, seed);
        Raw::Images(Images {
            schema: idx::grey(digits::SIDE, digits::SIDE),
            pixels,
            labels,
            labels_file: "synthetic-digits".into(),
        })
    }

    fn mnist_files(&self, part: mnist::Part) -> Result<(PathBuf, PathBuf)> {
        let own = self.config.dir.as_deref().map(|folder| self.project.path(folder));
        let folder = self.data_dir.or(own.as_deref());
        mnist::find(part, folder, self.events)
    }

    fn mnist(&self, part: mnist::Part) -> Result<Raw> {
        let (images, labels) = self.mnist_files(part)?;
        Ok(Raw::Images(Images::read(&images, &labels)?))
    }

    // `DataConfig::check` has seen to it that the keys which a source needs are there: an empty path is not reached.
    fn images(&self, images: Option<&Path>, labels: Option<&Path>) -> Result<Raw> {
        let images = self.project.path(images.unwrap_or(Path::new("")));
        let labels = self.project.path(labels.unwrap_or(Path::new("")));
        Ok(Raw::Images(Images::read(&images, &labels)?))
    }

    fn table(&self, file: Option<&Path>) -> Result<Raw> {
        let file = self.project.path(file.unwrap_or(Path::new("")));
        let label = self.config.label.as_deref().unwrap_or_default();
        Ok(Raw::Table(Table::read(&file, label)?))
    }

    fn cut(&self, whole: &Dataset) -> (Vec<usize>, Vec<usize>) {
        let share = self.config.test_split.unwrap_or(TEST_SPLIT);
        stratified(&whole.labels, whole.classes.len(), share, TEST_SEED)
    }

    fn kept_rows(&self, dataset: &Dataset) -> Vec<usize> {
        match (self.missing(), &dataset.schema) {
            (Missing::Drop, Schema::Table { .. }) => complete_rows(dataset),
            _ => (0..dataset.len()).collect(),
        }
    }

    /// Leaves out the rows that `missing: drop` drops.
    fn without_dropped(&self, raw: &Raw, dataset: Dataset, tell: bool) -> Result<Dataset> {
        let rows = self.kept_rows(&dataset);
        let left_out = dataset.len() - rows.len();
        if left_out == 0 {
            return Ok(dataset);
        }
        let file = raw.file().to_owned();
        if rows.is_empty() {
            return Err(Problem::new(format!(
                "`{}`: every row has a missing number, and `preprocess.missing: drop` leaves none",
                file.display()
            ))
            .hint("set `preprocess.missing` to `mean` or `median`, or ignore the columns that are mostly empty")
            .into());
        }
        if tell {
            (self.events)(Event::LeftOut { file, rows: left_out });
        }
        Ok(dataset.select(&rows))
    }
}

/// Each class must be in the training split, the validation split and, when it is cut from the same data, the test set.
fn check_classes(config: &DataConfig, raw: &Raw, whole: &Dataset, needed: usize) -> Result<()> {
    let mut counts = vec![0_usize; whole.classes.len()];
    for &label in &whole.labels {
        counts[label as usize] += 1;
    }
    if counts.len() < 2 {
        return Err(Problem::new(format!(
            "`{}` holds a single class, and a model tells two or more apart",
            raw.file().display()
        ))
        .into());
    }
    let Some(class) = counts.iter().position(|count| *count < needed) else {
        return Ok(());
    };
    let name = &whole.classes[class];
    let place = match raw {
        Raw::Images(images) => format!("`{}`", images.labels_file.display()),
        Raw::Table(table) => table.place_of_class(name),
    };
    let parts = if needed == 2 {
        "training and validation"
    } else {
        "training, validation and test"
    };
    Err(Problem::new(format!(
        "{place}: class `{name}` has {} sample{}, and {parts} need one each",
        counts[class],
        if counts[class] == 1 { "" } else { "s" }
    ))
    .hint(match config.source {
        Some(Source::SyntheticDigits) => "draw more digits: raise `data.count`",
        _ => "add samples of it, or leave the class out",
    })
    .into())
}
