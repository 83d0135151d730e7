//! Reading and merging: `emberline.yaml`, then `emberline.<destination>.yaml` over it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

use super::{Config, FILE, Project, check_name};
use crate::problem::Problem;

/// Reads the project in `folder` (or of the file, when it is one), with the overlay of `destination`.
///
/// # Errors
///
/// A key that there is none of (with the nearest one that there is), a value of the wrong type, or values that do not go
/// together: each with its file and, where it can be told, the line.
pub fn load(folder: &Path, destination: Option<&str>) -> Result<Project> {
    let (folder, file) = if folder.is_file() {
        (folder.parent().unwrap_or(Path::new(".")).to_owned(), folder.to_owned())
    } else {
        (folder.to_owned(), folder.join(FILE))
    };
    let base = read(plain(&file))?.ok_or_else(|| {
        Problem::new(format!("no `{FILE}` in `{}`", display(&folder)))
            .hint("`emberline init NAME` writes a project; or give the project's folder as the argument")
    })?;
    let mut merged = base.value;
    let mut files = vec![base.path];
    if let Some(destination) = destination {
        check_name(destination).map_err(|_| {
            Problem::new(format!("`{destination}` names no destination")).hint("for example `-d staging`")
        })?;
        let path = plain(&folder.join(format!("emberline.{destination}.yaml")));
        let overlay = read(path.clone())?.ok_or_else(|| {
            Problem::new(format!("no `{}` for destination `{destination}`", path.display()))
                .hint("an overlay holds the keys that differ; leave out -d to use `emberline.yaml` alone")
        })?;
        merge(&mut merged, overlay.value);
        files.push(overlay.path);
    }
    // Each file was read on its own already, so only the mix can be wrong here.
    let config: Config =
        serde_json::from_value(merged).map_err(|error| Problem::new(format!("{}: {error}", names(&files))))?;
    config.check().map_err(|reason| {
        Problem::new(format!("{}: {reason}", names(&files))).hint("docs/reference/emberline.yaml explains each key")
    })?;
    Ok(Project {
        folder,
        destination: destination.map(str::to_owned),
        config,
    })
}

/// One file, with the keys that are written in it.
struct Document {
    path: PathBuf,
    value: Value,
}

/// Reads a file and checks its keys and types, so that a mistake is reported at its own line; `None` when there is none.
fn read(path: PathBuf) -> Result<Option<Document>> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Problem::new(format!("cannot read `{}`: {error}", path.display())).into());
        }
    };
    let written: Value = serde_saphyr::from_str(&text).map_err(|error| mistake(&path, &text, &error))?;
    if !(written.is_object() || written.is_null()) {
        return Err(Problem::new(format!("{}: {}", path.display(), expected("mapping start"))).into());
    }
    let typed: Config = if written.is_null() {
        Config::default()
    } else {
        serde_saphyr::from_str(&text).map_err(|error| mistake(&path, &text, &error))?
    };
    let value = as_written(&written, serde_json::to_value(typed)?);
    Ok(Some(Document { path, value }))
}

/// What `typed` says of the keys that are `written`: a name that looks like a number stays a name, a section with nothing
/// in it says nothing.
fn as_written(written: &Value, typed: Value) -> Value {
    match (written, typed) {
        (Value::Object(written), Value::Object(typed)) => typed
            .into_iter()
            .filter_map(|(key, value)| {
                let value = as_written(written.get(&key)?, value);
                Some((key, value))
            })
            .collect(),
        (Value::Null, Value::Object(_)) => Value::Object(serde_json::Map::new()),
        (_, typed) => typed,
    }
}

/// The mistake in words, the line that it is on, and the nearest key or value when one was unknown.
fn mistake(path: &Path, text: &str, error: &Error) -> anyhow::Error {
    let error = match error.without_snippet() {
        Error::AliasError { error, .. } => error.without_snippet(),
        error => error,
    };
    let (message, near) = match error {
        Error::SerdeUnknownField { field, expected, .. } => (
            format!("unknown key `{field}`, expected one of {}", expected.join(", ")),
            nearest(field, expected),
        ),
        Error::SerdeUnknownVariant { variant, expected, .. } => (
            format!("unknown value `{variant}`, expected one of {}", expected.join(", ")),
            nearest(variant, expected),
        ),
        Error::DuplicateMappingKey { key: Some(key), .. } => (format!("key `{key}` is there twice"), None),
        Error::MultipleDocuments { .. } => ("a second document begins here, and a project has one".into(), None),
        Error::Unexpected { expected: what, .. } | Error::InvalidScalar { ty: what, .. } => (expected(what), None),
        Error::SerdeInvalidLength { len, expected, .. } => {
            let expected = expected.replace("a tuple of size", "a list of");
            (format!("{len} values, expected {expected}"), None)
        }
        Error::NonFiniteFloat { value, .. } => (format!("`{value}` is no finite number"), None),
        other => (UserMessageFormatter.format_message(other).into_owned(), None),
    };
    let Some(location) = error.location() else {
        return Problem::new(format!("{}: {message}", path.display())).into();
    };
    let line = location.line() as usize;
    let column = location.column() as usize;
    let source = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let problem = Problem::new(format!(
        "{}:{line}:{column}: {message}\n  |\n  | {source}\n  | {}^",
        path.display(),
        " ".repeat(column.saturating_sub(1))
    ));
    match near {
        Some(name) => problem.hint(format!("did you mean `{name}`?")).into(),
        None => problem.into(),
    }
}

/// What the reader would have liked to see, for a person.
fn expected(what: &str) -> String {
    let what = match what {
        "mapping start" => "keys with values, `key: value`",
        "sequence start" => "a list, `[a, b]`",
        "floating point" => "a number",
        "u16" => "a whole number from 0 to 65535",
        "u64" => "a whole number, 0 or more",
        other => other,
    };
    format!("expected {what}")
}

/// The expected name that is most like the unknown one, if any is like it.
fn nearest(unknown: &str, expected: &[&'static str]) -> Option<&'static str> {
    expected
        .iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), *name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Lays `over` on `base`: mappings key by key, everything else as a whole.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// The path as a person would write it: without `./` in front.
fn plain(path: &Path) -> PathBuf {
    path.strip_prefix(".").unwrap_or(path).to_owned()
}

fn display(folder: &Path) -> String {
    if folder.as_os_str().is_empty() {
        ".".into()
    } else {
        folder.display().to_string()
    }
}

fn names(files: &[PathBuf]) -> String {
    files
        .iter()
        .map(|file| file.display().to_string())
        .collect::<Vec<_>>()
        .join(" with ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_written_keys_are_laid_over_and_mappings_go_key_by_key() {
        let typed = json!({"a": {"x": "1", "y": 2}, "b": [1], "c": {"z": 3}});
        let over = as_written(&json!({"a": {"x": 1}, "b": [1], "c": null}), typed);
        assert_eq!(over, json!({"a": {"x": "1"}, "b": [1], "c": {}}));
        let mut base = json!({"a": {"x": "0", "y": 0}, "b": [5, 6], "c": {"z": 0}});
        merge(&mut base, over);
        assert_eq!(base, json!({"a": {"x": "1", "y": 0}, "b": [1], "c": {"z": 0}}));
    }

    #[test]
    fn the_nearest_name_must_be_near() {
        assert_eq!(nearest("epoch", &["seed", "epochs"]), Some("epochs"));
        assert_eq!(nearest("zzz", &["seed", "epochs"]), None);
    }

    #[test]
    fn a_path_loses_its_dot() {
        assert_eq!(plain(Path::new("./emberline.yaml")), Path::new("emberline.yaml"));
        assert_eq!(plain(Path::new("a/./b")), Path::new("a/b"));
        assert_eq!(plain(Path::new("/a")), Path::new("/a"));
    }
}
