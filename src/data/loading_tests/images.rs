//! Images: IDX files, MNIST and drawn digits.

use super::*;

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

/// A case, the file of images, the file of labels, and what the error says.
type BadIdx<'a> = (&'a str, &'a [u8], &'a [u8], &'a [&'a str]);

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
    let cases: [BadIdx; 16] = [
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
    let again = load_test(&fixture.project, schema, classes, "", None, &|_| ()).expect("drawn");
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
