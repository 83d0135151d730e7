//! The sources as a project uses them: what is read, and what every kind of bad file is told.

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

fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    bytes.extend(dimensions.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

/// Six images of 1 x 2, three of each class.
fn good_images() -> Vec<u8> {
    idx(&[6, 1, 2], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255])
}

fn good_labels() -> Vec<u8> {
    idx(&[6], &[0, 1, 0, 1, 0, 1])
}

fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}

#[test]
fn idx_is_read_plain_or_gzip_whatever_its_name() {
    let plain = Fixture::idx(&good_images(), &good_labels()).load();
    let packed = Fixture::idx(&gzip(&good_images()), &gzip(&good_labels())).load();
    assert_eq!(plain.training, packed.training);
    assert_eq!(plain.training.len() + plain.test.len(), 6);
    assert_eq!(plain.test.len(), 2);
    let height_width = plain.training.schema;
    assert_eq!(height_width, idx::grey(1, 2));
}

#[test]
fn colour_images_have_their_channels_last() {
    let images = idx(&[6, 1, 1, 3], &(0..18).collect::<Vec<u8>>());
    let data = Fixture::idx(&images, &good_labels()).load();
    let expected = Schema::Image {
        height: 1,
        width: 1,
        channels: 3,
    };
    assert_eq!(data.training.schema, expected);
    let error = Fixture::idx(&idx(&[6, 1, 1, 2], &[0; 12]), &good_labels()).error();
    assert_says(&error, &["i`", "2 channels", "1 or 3"]);
}

#[test]
fn a_bad_idx_file_is_told_in_one_sentence() {
    let images = good_images();
    let labels = good_labels();
    let truncated = &images[..images.len() - 3];
    let lying = idx(&[4_000_000_000, 60_000, 60_000], &[0; 12]);
    let beyond = idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 12]);
    let damaged = {
        let mut bytes = gzip(&images);
        let at = bytes.len() - 6;
        bytes[at] ^= 0xff;
        bytes
    };
    let half_gzip = &gzip(&images)[..20];
    let longer = [&images[..], &[0]].concat();
    let cases: [(&str, &[u8], &[u8], &[&str]); 16] = [
        ("empty", b"", &labels, &["i` is empty"]),
        ("empty labels", &images, b"", &["l` is empty"]),
        (
            "truncated",
            truncated,
            &labels,
            &["i` is truncated", "row 4", "column 1"],
        ),
        (
            "truncated gzip",
            &gzip(truncated),
            &labels,
            &["i` is truncated", "row 4", "column 1"],
        ),
        ("half a gzip", half_gzip, &labels, &["i` is truncated", "gzip"]),
        ("damaged gzip", &damaged, &labels, &["i` is damaged", "gzip"]),
        ("half a header", &images[..9], &labels, &["i` is truncated", "header"]),
        (
            "a picture",
            b"\x89PNG\r\n",
            &labels,
            &["i` has a wrong magic number", "89 50 4e 47", "00 00 08 03"],
        ),
        ("one byte", &[0], &labels, &["i` has a wrong magic number", "with 00"]),
        ("swapped", &labels, &images, &["i` holds labels", "swapped"]),
        ("floats", &[0, 0, 0x0d, 3], &labels, &["type 0x0d", "unsigned bytes"]),
        (
            "a lying count",
            &lying,
            &labels,
            &["i` is truncated", "claims 4000000000 items", "row 0"],
        ),
        (
            "a count beyond any file",
            &beyond,
            &labels,
            &["i`: the header gives the sizes 4294967295 x", "more than any"],
        ),
        (
            "more than the count",
            &longer,
            &labels,
            &["i`: the header gives the sizes 6 x 1 x 2", "12 bytes, and 13 follow"],
        ),
        (
            "more in gzip",
            &gzip(&longer),
            &labels,
            &["i`: the header gives the sizes 6 x 1 x 2", "more follow"],
        ),
        (
            "nothing",
            &idx(&[0, 1, 2], &[]),
            &labels,
            &["i` holds nothing", "0 x 1 x 2"],
        ),
    ];
    for (case, images, labels, parts) in cases {
        let error = Fixture::idx(images, labels).error();
        assert_says(&format!("{case}: {error}"), parts);
    }
}

#[test]
fn idx_files_that_do_not_go_together_are_told() {
    let error = Fixture::idx(&good_images(), &idx(&[5], &[0, 1, 0, 1, 0])).error();
    assert_says(&error, &["i` holds 6 images", "l` holds 5 labels"]);
    let error = Fixture::idx(&good_images(), &idx(&[6], &[3; 6])).error();
    assert_says(&error, &["l` holds a single class"]);
    let error = Fixture::idx(&good_images(), &idx(&[6], &[0, 0, 0, 0, 1, 1])).error();
    assert_says(
        &error,
        &["l`: class `1` has 2 samples", "training, validation and test"],
    );
    let mut absent = Fixture::idx(&good_images(), &good_labels());
    absent.project.config.data.images = Some("nowhere".into());
    assert_says(&absent.error(), &["cannot read", "nowhere`", "starts from the folder"]);
}

#[test]
fn labels_need_not_begin_at_0() {
    let data = Fixture::idx(&good_images(), &idx(&[6], &[7, 100, 7, 100, 7, 100])).load();
    assert_eq!(data.training.classes, ["7", "100"]);
}

#[test]
fn a_test_set_of_its_own_is_read_against_the_training_set() {
    let test = |images: &[u8], labels: &[u8]| {
        let config = DataConfig {
            test_images: Some("ti".into()),
            test_labels: Some("tl".into()),
            ..idx_config()
        };
        let files: [(&str, &[u8]); 4] = [
            ("i", &good_images()),
            ("l", &good_labels()),
            ("ti", images),
            ("tl", labels),
        ];
        Fixture::new(config, &files)
    };
    let data = test(&idx(&[2, 1, 2], &[9, 8, 7, 6]), &idx(&[2], &[1, 1])).load();
    assert_eq!((data.training.len(), data.test.labels), (6, vec![1, 1]));
    let error = test(&idx(&[2, 1, 2], &[9, 8, 7, 6]), &idx(&[2], &[1, 2])).error();
    assert_says(
        &error,
        &[
            "tl`, row 1 (the first is 0), column `label`",
            "`2` is out of range",
            "`0`, `1`",
        ],
    );
    let error = test(&idx(&[1, 2, 2], &[9, 8, 7, 6]), &idx(&[1], &[1])).error();
    assert_says(&error, &["tl`", "2 x 2 pixels", "1 x 2 pixels"]);
}

#[test]
fn mnist_takes_ten_classes_and_no_other_label() {
    let fixture = |last: u8| {
        let labels: Vec<u8> = (0..20)
            .map(|index| if index == 19 { last } else { index % 10 })
            .collect();
        let images = idx(&[20, 2, 2], &[7; 80]);
        let config = DataConfig {
            source: Some(Source::Mnist),
            ..DataConfig::default()
        };
        let files: [(&str, &[u8]); 4] = [
            ("train-images-idx3-ubyte", &images),
            ("train-labels-idx1-ubyte.gz", &gzip(&idx(&[20], &labels))),
            ("t10k-images-idx3-ubyte", &idx(&[1, 2, 2], &[7; 4])),
            ("t10k-labels-idx1-ubyte", &idx(&[1], &[3])),
        ];
        Fixture::new(config, &files)
    };
    let good = fixture(9);
    let data = load(&good.project, Some(good.folder.path()), &|_| ()).expect("good");
    assert_eq!((data.training.len(), data.test.labels), (20, vec![3]));
    assert_eq!(data.test.classes.len(), 10);
    let bad = fixture(11);
    let error = said(&load(&bad.project, Some(bad.folder.path()), &|_| ()).expect_err("label 11"));
    assert_says(&error, &["train-labels-idx1-ubyte.gz`, row 19", "`11` is out of range"]);
}

#[test]
fn digits_are_drawn_apart_for_training_and_test() {
    let config = DataConfig {
        source: Some(Source::SyntheticDigits),
        count: Some(40),
        test_count: Some(30),
        ..DataConfig::default()
    };
    let fixture = Fixture::new(config.clone(), &[]);
    let told = RefCell::new(Vec::new());
    let data = load(&fixture.project, None, &|event| told.borrow_mut().push(event)).expect("drawn");
    assert_eq!((data.training.len(), data.test.len()), (40, 30));
    assert_eq!(
        *told.borrow(),
        [Event::Drawing { count: 40 }, Event::Drawing { count: 30 }]
    );
    assert!((0..30).all(|row| data.test.row(row) != data.training.row(row)));
    let (schema, classes) = (&data.training.schema, &data.training.classes);
    let again = load_test(&fixture.project, schema, classes, None, &|_| ()).expect("drawn");
    assert_eq!(again, data.test);
    let few = Fixture::new(
        DataConfig {
            count: Some(10),
            ..config
        },
        &[],
    );
    assert_says(&few.error(), &["class `0` has 1 sample,", "raise `data.count`"]);
}

/// Ten rows, five of each class, with something to learn.
const TABLE: &str = "age,city,kind\n1,rome,a\n2,bonn,b\n3,rome,a\n4,oslo,b\n5,rome,a\n6,bonn,b\n7,rome,a\n8,bonn,b\n\
                     9,rome,a\n10,bonn,b\n";

#[test]
fn a_table_is_read_by_its_header() {
    let data = Fixture::csv(TABLE).load();
    assert_eq!((data.training.len(), data.test.len()), (8, 2));
    assert_eq!(data.training.classes, ["a", "b"]);
    let Schema::Table { columns } = &data.training.schema else {
        panic!("a table")
    };
    assert_eq!(columns[0].kind, ColumnKind::Numeric);
    let cities = ColumnKind::Categorical {
        categories: vec!["bonn".into(), "oslo".into(), "rome".into()],
    };
    let expected = Column {
        name: "city".into(),
        kind: cities,
    };
    assert_eq!(columns[1..], [expected]);
    let first = data
        .training
        .labels
        .iter()
        .position(|label| *label == 0)
        .expect("class a");
    assert_eq!(data.training.row(first)[1], 2.0);
}

#[test]
fn spaces_quotes_blank_lines_and_a_byte_order_mark_are_no_obstacle() {
    let text = TABLE
        .replace("age,city", "\u{feff} age ,\"city\"")
        .replace("3,rome,a", "\n 3 ,\"rome\", a");
    let windows = TABLE.replace('\n', "\r\n");
    let plain = Fixture::csv(TABLE).load();
    assert_eq!(Fixture::csv(&text).load().training, plain.training);
    assert_eq!(Fixture::csv(&windows).load().training, plain.training);
}

#[test]
fn columns_can_be_ignored_and_numbers_can_be_names() {
    let mut fixture = Fixture::csv(TABLE);
    fixture.project.config.data.ignore = Some(vec!["city".into()]);
    fixture.project.config.data.categorical = Some(vec!["age".into()]);
    let Schema::Table { columns } = fixture.load().training.schema else {
        panic!("a table")
    };
    assert_eq!(columns.len(), 1);
    // Names in the order of text.
    assert!(matches!(&columns[0].kind, ColumnKind::Categorical { categories } if categories[1] == "10"));
    fixture.project.config.data.ignore = Some(vec!["citty".into()]);
    assert_says(
        &fixture.error(),
        &["no column `citty`", "`data.ignore`", "did you mean `city`?"],
    );
    fixture.project.config.data.ignore = Some(vec!["age".into()]);
    assert_says(&fixture.error(), &["column `age` is listed in two"]);
    fixture.project.config.data.categorical = Some(vec!["kind".into()]);
    fixture.project.config.data.ignore = None;
    assert_says(&fixture.error(), &["column `kind` is listed in two"]);
}

#[test]
fn a_bad_table_is_told_with_file_row_and_column() {
    let replaced = |from: &str, to: &str| TABLE.replace(from, to);
    let many = (0..1001).fold("age,id,kind\n".to_owned(), |text, row| format!("{text}1,n{row},a\n"));
    let cases: [(&str, String, &[&str]); 25] = [
        ("empty", String::new(), &["t.csv` is empty", "header"]),
        (
            "no rows",
            "age,city,kind\n".into(),
            &["t.csv` has a header and no rows"],
        ),
        (
            "short row",
            replaced("3,rome,a", "3,rome"),
            &["t.csv`, row 4, column `kind`", "2 cells, the header 3"],
        ),
        (
            "long row",
            replaced("3,rome,a", "3,rome,a,x"),
            &["t.csv`, row 4, column 4", "4 cells, the header 3"],
        ),
        (
            "NaN",
            replaced("3,rome", "NaN,rome"),
            &["t.csv`, row 4, column `age`", "`NaN` is no value", "`median`"],
        ),
        (
            "empty cell",
            replaced("3,rome", ",rome"),
            &["t.csv`, row 4, column `age`", "empty"],
        ),
        (
            "infinity",
            replaced("3,rome", "inf,rome"),
            &["t.csv`, row 4, column `age`", "`inf` is not a finite number"],
        ),
        (
            "too large",
            replaced("3,rome", "3e99,rome"),
            &["t.csv`, row 4, column `age`", "`3e99` is too large"],
        ),
        (
            "a word",
            replaced("3,rome", "old,rome"),
            &["t.csv`, row 4, column `age`", "`old`", "`data.categorical`"],
        ),
        (
            "number among names",
            replaced("4,oslo", "4,7"),
            &["t.csv`, row 2, column `city`", "`rome`"],
        ),
        (
            "no label",
            replaced("3,rome,a", "3,rome,"),
            &["t.csv`, row 4, column `kind`", "no label"],
        ),
        (
            "missing label",
            replaced("3,rome,a", "3,rome,NA"),
            &["t.csv`, row 4, column `kind`", "no label"],
        ),
        (
            "no label column",
            replaced("kind", "kinds"),
            &["t.csv`, row 1", "no column `kind`", "did you mean `kinds`?"],
        ),
        (
            "nothing alike",
            replaced("kind", "zzz"),
            &["no column `kind`", "`age`, `city`, `zzz`"],
        ),
        ("semicolons", replaced(",", ";"), &["no column `kind`", "semicolons"]),
        (
            "two of a name",
            replaced("age,city", "age,age"),
            &["t.csv`, row 1, column `age`", "two columns"],
        ),
        (
            "no name",
            replaced("age,city", "age,"),
            &["t.csv`, row 1, column 2", "no name"],
        ),
        (
            "only missing",
            TABLE
                .replace(",rome", ",?")
                .replace(",bonn", ",")
                .replace(",oslo", ",null"),
            &["t.csv`, column `city`: every value is missing", "`data.ignore: [city]`"],
        ),
        (
            "single row",
            replaced("3,rome,a", "3,rome,c"),
            &["t.csv`, row 4, column `kind`", "`c` has 1 sample,"],
        ),
        (
            "single class",
            TABLE.replace(",b\n", ",a\n"),
            &["t.csv` holds a single class"],
        ),
        (
            "only a label",
            "kind\na\nb\n".into(),
            &["t.csv` has no column to learn from", "`kind`"],
        ),
        (
            "an identifier",
            many,
            &["t.csv`, column `id`: 1001 different names", "`data.ignore: [id]`"],
        ),
        (
            "a later line",
            replaced("3,rome", "\"3\n\",rome").replace("7,rome", "x,rome"),
            &["row 9, column `age`", "`x`"],
        ),
        (
            "space before a quote",
            replaced("3,rome", "3, \"rome\""),
            &["t.csv`, row 4, column `city`", "space", "quote"],
        ),
        ("tabs", replaced(",", "\t"), &["no column `kind`", "tabs"]),
    ];
    for (case, text, parts) in cases {
        let error = Fixture::csv(&text).error();
        assert_says(&format!("{case}: {error}"), parts);
    }
    let latin = TABLE
        .as_bytes()
        .iter()
        .map(|byte| if *byte == b'o' { 0xf6 } else { *byte })
        .collect::<Vec<u8>>();
    let error = Fixture::new(table_config(), &[("t.csv", &latin)]).error();
    assert_says(&error, &["t.csv`, row 2, column 2", "not UTF-8"]);
}

#[test]
fn missing_numbers_follow_the_rule_and_missing_names_do_not_need_one() {
    let text = TABLE.replace("3,rome", "NA,rome").replace("4,oslo", "4,");
    let all = |fixture: &Fixture| {
        let ProjectData { training, test } = fixture.load();
        [training.values, test.values].concat()
    };
    let kept = all(&Fixture::csv(&text).missing(Missing::Mean));
    assert_eq!(
        (kept.len(), kept.iter().filter(|value| value.is_nan()).count()),
        (20, 2)
    );
    let fixture = Fixture::csv(&text).missing(Missing::Drop);
    let dropped = all(&fixture);
    assert_eq!(
        (dropped.len(), dropped.iter().filter(|value| value.is_nan()).count()),
        (18, 1)
    );
    let told = RefCell::new(Vec::new());
    load(&fixture.project, None, &|event| told.borrow_mut().push(event)).expect("good");
    let expected = Event::LeftOut {
        file: fixture.folder.path().join("t.csv"),
        rows: 1,
    };
    assert_eq!(*told.borrow(), [expected]);
    let hollow = format!("x,y,kind\n{}", "1,,a\n,2,b\n".repeat(3));
    let error = Fixture::csv(&hollow).missing(Missing::Drop).error();
    assert_says(&error, &["t.csv`: every row has a missing number", "missing: drop`"]);
}

#[test]
fn the_test_set_is_the_same_whether_read_alone_or_not() {
    for missing in [Missing::Mean, Missing::Drop] {
        let text = TABLE
            .replace("3,rome", "NA,rome")
            .repeat(3)
            .replace("age,city,kind\n", "");
        let fixture = Fixture::csv(&format!("age,city,kind\n{text}")).missing(missing);
        let data = fixture.load();
        let (kept, _) = stratified(&data.training.labels, 2, 0.2, 1);
        let (schema, _) = fit(&data.training.select(&kept), &fixture.project.config.preprocess).expect("fits");
        let alone = load_test(&fixture.project, &schema, &data.training.classes, None, &|_| ()).expect("reads");
        assert_eq!(alone.digest(), in_schema(data.test, &schema).digest(), "{missing:?}");
    }
}

#[test]
fn a_slice_is_read_by_name_whatever_its_order() {
    let fixture = Fixture::csv(TABLE);
    let data = fixture.load();
    let slice = |text: &str| {
        fs::write(fixture.folder.path().join("s.csv"), text).expect("write");
        let config = DataConfig {
            file: Some("s.csv".into()),
            ..table_config()
        };
        let (schema, classes) = (&data.training.schema, &data.training.classes);
        load_slice(&fixture.project, &config, schema, classes, None, &|_| ())
    };
    let read = slice("kind,extra,city,age\nb,x,paris,1\na,y,rome,2\n").expect("reads");
    assert_eq!(read.labels, [1, 0]);
    assert!(read.row(0)[1].is_nan());
    assert_eq!((read.row(0)[0], read.row(1)), (1.0, &[2.0, 2.0][..]));
    let error = said(&slice("kind,city,age\na,rome,1\nc,rome,2\n").expect_err("class c"));
    assert_says(&error, &["s.csv`, row 3, column `kind`", "class `c`", "`a`, `b`"]);
    let error = said(&slice("kind,city,age\na,rome,1\nb,rome,old\n").expect_err("no number"));
    assert_says(&error, &["s.csv`, row 3, column `age`", "`old`"]);
    let error = said(&slice("kind,city\na,rome\n").expect_err("no age"));
    assert_says(&error, &["s.csv`, row 1", "no column `age`"]);
}

#[test]
fn a_slice_of_images_finds_its_classes_by_name() {
    let fixture = Fixture::idx(&good_images(), &good_labels());
    let classes = ["1".to_owned(), "0".to_owned()];
    let read = |classes: &[String]| {
        load_slice(
            &fixture.project,
            &idx_config(),
            &idx::grey(1, 2),
            classes,
            None,
            &|_| (),
        )
    };
    assert_eq!(read(&classes).expect("reads").labels, [1, 0, 1, 0, 1, 0]);
    let error = said(&read(&classes[..1]).expect_err("no class 0"));
    assert_says(&error, &["l`, row 0", "`0` is out of range"]);
    let table = Schema::Table { columns: Vec::new() };
    let read = load_slice(&fixture.project, &idx_config(), &table, &classes, None, &|_| ());
    assert_says(
        &said(&read.expect_err("no table")),
        &["1 x 2 pixels", "rows of a table"],
    );
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
