//! Tables in CSV: commas, a header, one row a line. It decides what each column holds, and refuses what it cannot decide.
//!
//! Rows are counted as an editor counts lines, so the header is row 1. Cells are trimmed, and blank lines are skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;
use csv::{ErrorKind, ReaderBuilder, StringRecord};

use super::idx::listed;
use super::{Dataset, cannot_read};
use crate::preprocess::{Column, ColumnKind, Missing, Schema, is_missing};
use crate::problem::Problem;
use crate::project::DataConfig;

/// More names than this in one column are an identifier or free text, not a category.
const MOST_CATEGORIES: usize = 1000;

/// A table as it was read: every row has a cell for every column.
#[derive(Debug)]
pub struct Table {
    file: PathBuf,
    header: Vec<String>,
    rows: Vec<StringRecord>,
    /// Where the column of the classes is.
    label: usize,
}

impl Table {
    /// Reads a table whose classes are in the column `label`.
    ///
    /// # Errors
    ///
    /// The file, row and column of what makes it no table, or no labelled one.
    pub fn read(file: &Path, label: &str) -> Result<Self> {
        let opened = File::open(file).map_err(|error| cannot_read(file, &error))?;
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(opened);
        let header: Vec<String> = match reader.headers() {
            Ok(header) => header.iter().map(|name| name.trim().to_owned()).collect(),
            Err(error) => return Err(unreadable(file, &error).into()),
        };
        if header.is_empty() {
            return Err(Problem::new(format!("`{}` is empty", file.display()))
                .hint("a table begins with a header, the names of its columns")
                .into());
        }
        check_header(file, &header)?;
        let label = find(file, &header, label, "data.label")?;
        let mut rows = Vec::new();
        for row in reader.into_records() {
            let mut row = row.map_err(|error| unreadable(file, &error))?;
            if row.len() != header.len() {
                return Err(ragged(file, &header, &row).into());
            }
            // The quotes of such a cell are text in CSV: `a` and `"a"` would become two names.
            if let Some(at) = row
                .iter()
                .position(|cell| cell.trim_start().starts_with('"') && cell.starts_with([' ', '\t']))
            {
                return Err(Problem::new(format!(
                    "{}, column `{}`: a space stands before the quote",
                    place(file, &row),
                    header[at]
                ))
                .hint("a quote must be the first thing in its cell: remove the spaces after the commas")
                .into());
            }
            row.trim();
            rows.push(row);
        }
        if rows.is_empty() {
            return Err(Problem::new(format!("`{}` has a header and no rows", file.display())).into());
        }
        let table = Self {
            file: file.to_owned(),
            header,
            rows,
            label,
        };
        match table.rows.iter().find(|row| is_missing(&row[label])) {
            None => Ok(table),
            Some(row) => Err(Problem::new(format!("{}: there is no label", table.place(row, label)))
                .hint("every row needs a class; remove the row or fill it in")
                .into()),
        }
    }

    /// Where it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The classes that occur, sorted by name.
    pub fn classes(&self) -> Vec<String> {
        let names: BTreeSet<&str> = self.rows.iter().map(|row| &row[self.label]).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// What the columns hold that are neither the label nor ignored.
    ///
    /// A column holds numbers when every cell that is not missing is one, unless it is listed as categorical, and names
    /// when no cell is one.
    ///
    /// # Errors
    ///
    /// A column that is neither, one without a value, one with too many names, or a key of `config` that names a column
    /// which there is not.
    pub fn schema(&self, config: &DataConfig) -> Result<Schema> {
        let columns_of = |names: &Option<Vec<String>>, key| -> Result<BTreeSet<usize>> {
            let names = names.iter().flatten();
            names.map(|name| find(&self.file, &self.header, name, key)).collect()
        };
        let ignored = columns_of(&config.ignore, "data.ignore")?;
        let categorical = columns_of(&config.categorical, "data.categorical")?;
        let listed_twice = ignored.intersection(&categorical).next();
        if let Some(&at) = listed_twice
            .or(ignored.get(&self.label))
            .or(categorical.get(&self.label))
        {
            return Err(Problem::new(format!(
                "column `{}` is listed in two of `data.label`, `data.categorical` and `data.ignore`",
                self.header[at]
            ))
            .into());
        }
        let mut columns = Vec::new();
        for (at, name) in self.header.iter().enumerate() {
            if at != self.label && !ignored.contains(&at) {
                columns.push(Column {
                    name: name.clone(),
                    kind: self.kind(at, categorical.contains(&at))?,
                });
            }
        }
        if columns.is_empty() {
            return Err(Problem::new(format!(
                "`{}` has no column to learn from besides the label `{}`",
                self.file.display(),
                self.header[self.label]
            ))
            .into());
        }
        Ok(Schema::Table { columns })
    }

    fn kind(&self, at: usize, categorical: bool) -> Result<ColumnKind> {
        let name = &self.header[at];
        let present = || self.rows.iter().filter(|row| !is_missing(&row[at]));
        let is_number = |row: &&StringRecord| row[at].parse::<f64>().is_ok();
        if present().next().is_none() {
            return Err(Problem::new(format!(
                "`{}`, column `{name}`: every value is missing",
                self.file.display()
            ))
            .hint(format!("leave it out with `data.ignore: [{name}]`"))
            .into());
        }
        if !categorical && present().any(|row| is_number(&row)) {
            for row in present() {
                self.number(row, at).map_err(|problem| {
                    problem.hint(format!(
                        "correct it, mark it as missing (`NA`), or list `{name}` in `data.categorical` if the column holds \
                         names"
                    ))
                })?;
            }
            return Ok(ColumnKind::Numeric);
        }
        let categories: BTreeSet<&str> = present().map(|row| &row[at]).collect();
        if categories.len() > MOST_CATEGORIES {
            return Err(Problem::new(format!(
                "`{}`, column `{name}`: {} different names are too many to be categories, the most is {MOST_CATEGORIES}",
                self.file.display(),
                categories.len()
            ))
            .hint(format!("leave it out with `data.ignore: [{name}]`"))
            .into());
        }
        Ok(ColumnKind::Categorical {
            categories: categories.into_iter().map(str::to_owned).collect(),
        })
    }

    fn number(&self, row: &StringRecord, at: usize) -> Result<f32, Problem> {
        let text = &row[at];
        let wrong = |why| Problem::new(format!("{}: `{text}` is {why}", self.place(row, at)));
        match text.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) if text.bytes().any(|byte| byte.is_ascii_digit()) => Err(wrong("too large for a 32-bit number")),
            Ok(_) => Err(wrong("not a finite number")),
            Err(_) => Err(wrong("no number, and the column holds numbers")),
        }
    }

    /// The rows as a dataset of this schema: columns, categories and classes are found by name, in whatever order they
    /// are here. Columns that the schema does not name are not read.
    ///
    /// # Errors
    ///
    /// With file, row and column: a class that is none of `classes`, a cell that is no number where one is needed, a
    /// missing number when `missing` is `error`, or a column that is not there.
    pub fn dataset(&self, schema: &Schema, classes: &[String], missing: Missing) -> Result<Dataset> {
        let Schema::Table { columns } = schema else {
            return Err(Problem::new(format!("`{}` is a table, and images are needed", self.file.display())).into());
        };
        let at: Vec<usize> = columns
            .iter()
            .map(|column| find(&self.file, &self.header, &column.name, "the model"))
            .collect::<Result<_>>()?;
        let class_numbers: BTreeMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
        let mut values = Vec::with_capacity(self.rows.len() * columns.len());
        let mut labels = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            labels.push(*class_numbers.get(&row[self.label]).ok_or_else(|| {
                Problem::new(format!(
                    "{}: class `{}` is none of {}",
                    self.place(row, self.label),
                    &row[self.label],
                    listed(classes)
                ))
                .hint("correct it, or train on data that holds the class")
            })?);
            for (column, &at) in columns.iter().zip(&at) {
                values.push(self.cell(row, at, column, missing)?);
            }
        }
        Ok(Dataset {
            schema: schema.clone(),
            values,
            labels,
            classes: classes.to_vec(),
        })
    }

    fn cell(&self, row: &StringRecord, at: usize, column: &Column, missing: Missing) -> Result<f32> {
        let text = &row[at];
        if column.kind == ColumnKind::Numeric && is_missing(text) && missing == Missing::Error {
            let shown = if text.is_empty() {
                "the cell is empty".into()
            } else {
                format!("`{text}` is no value")
            };
            return Err(Problem::new(format!("{}: {shown}", self.place(row, at)))
                .hint("fill it in, or set `preprocess.missing` to `mean`, `median` or `drop`")
                .into());
        }
        match column.parse(text) {
            Some(value) => Ok(value),
            None => Ok(self.number(row, at)?),
        }
    }

    /// `file`, row and column, for the beginning of a message.
    fn place(&self, row: &StringRecord, column: usize) -> String {
        format!("{}, column `{}`", place(&self.file, row), self.header[column])
    }

    /// The row, with its place in the file, that holds the only sample of a class.
    pub fn place_of_class(&self, class: &str) -> String {
        let row = self.rows.iter().find(|row| &row[self.label] == class);
        row.map_or_else(
            || format!("`{}`", self.file.display()),
            |row| self.place(row, self.label),
        )
    }
}

fn place(file: &Path, row: &StringRecord) -> String {
    let line = row.position().map_or(0, csv::Position::line);
    format!("`{}`, row {line}", file.display())
}

fn check_header(file: &Path, header: &[String]) -> Result<(), Problem> {
    for (at, name) in header.iter().enumerate() {
        if name.is_empty() {
            return Err(Problem::new(format!(
                "`{}`, row 1, column {}: the column has no name",
                file.display(),
                at + 1
            ))
            .hint("the first row of a table names its columns"));
        }
        if header[..at].contains(name) {
            return Err(Problem::new(format!(
                "`{}`, row 1, column `{name}`: two columns have this name",
                file.display()
            ))
            .hint("rename one of them"));
        }
    }
    Ok(())
}

/// Where a column is; `wanted_by` is the key that names it.
fn find(file: &Path, header: &[String], name: &str, wanted_by: &str) -> Result<usize> {
    if let Some(at) = header.iter().position(|column| column == name) {
        return Ok(at);
    }
    let problem = Problem::new(format!(
        "`{}`, row 1: there is no column `{name}`, which `{wanted_by}` names",
        file.display()
    ));
    let separator = [(';', "semicolons"), ('\t', "tabs"), ('|', "bars")]
        .into_iter()
        .find(|(separator, _)| header.len() == 1 && header[0].contains(*separator));
    let nearest = header
        .iter()
        .map(|column| (strsim::jaro_winkler(column, name), column))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    Err(match (separator, nearest) {
        (Some((_, separator)), _) => problem.hint(format!(
            "cells are separated by commas, and these seem to be by {separator}"
        )),
        (None, Some((_, column))) => problem.hint(format!("did you mean `{column}`?")),
        (None, None) => problem.hint(format!("the columns are {}", listed(header))),
    }
    .into())
}

fn ragged(file: &Path, header: &[String], row: &StringRecord) -> Problem {
    let place = place(file, row);
    let (cells, columns) = (row.len(), header.len());
    let counts = format!(
        "the row has {cells} cell{}, the header {columns}",
        if cells == 1 { "" } else { "s" }
    );
    match header.get(cells) {
        Some(column) => Problem::new(format!("{place}, column `{column}`: no cell; {counts}"))
            .hint("a missing value is an empty cell between its commas"),
        None => Problem::new(format!("{place}, column {}: no header; {counts}", columns + 1))
            .hint("a comma inside a value needs quotes around the value: \"a, b\""),
    }
}

fn unreadable(file: &Path, error: &csv::Error) -> Problem {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        ErrorKind::Utf8 { err, .. } => Problem::new(format!(
            "`{}`, row {line}, column {}: the text is not UTF-8",
            file.display(),
            err.field() + 1
        ))
        .hint("save the table as UTF-8"),
        _ => Problem::new(format!("cannot read `{}`: {error}", file.display())),
    }
}
