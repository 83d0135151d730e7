//! Tables.

use super::*;

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
        let alone = load_test(
            &fixture.project,
            &schema,
            &data.training.classes,
            &data.training.digest(),
            None,
            &|_| (),
        )
        .expect("reads");
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
