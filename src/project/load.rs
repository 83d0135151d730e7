//! Reading and merging: `emberline.yaml`, then `emberline.<destination>.yaml` over it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::{Config, FILE, Project};
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
    let base = read(&file)?.ok_or_else(|| {
        Problem::new(format!("no `{FILE}` in `{}`", display(&folder)))
            .hint("`emberline init NAME` writes a project; or give the project's folder as the argument")
    })?;
    let mut merged = base.value;
    let mut files = vec![base.path];
    if let Some(destination) = destination {
        let path = folder.join(format!("emberline.{destination}.yaml"));
        let overlay = read(&path)?.ok_or_else(|| {
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
    Ok(Project { folder, config })
}

/// One file, with the values as written.
struct Document {
    path: PathBuf,
    value: Value,
}

/// Reads a file and checks its keys and types, so that a mistake is reported at its own line; `None` when there is none.
fn read(path: &Path) -> Result<Option<Document>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Problem::new(format!("cannot read `{}`: {error}", path.display())).into());
        }
    };
    serde_saphyr::from_str::<Config>(&text).map_err(|error| mistake(path, &text, &error))?;
    let value = serde_saphyr::from_str::<Value>(&text).map_err(|error| mistake(path, &text, &error))?;
    let value = if value.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        value
    };
    Ok(Some(Document {
        path: path.to_owned(),
        value,
    }))
}

/// The reader's message, the line that it is about, and the nearest key or value when one was unknown.
fn mistake(path: &Path, text: &str, error: &serde_saphyr::Error) -> anyhow::Error {
    let error = error.without_snippet();
    let message = error.to_string();
    let Some(location) = error.location() else {
        return Problem::new(format!("{}: {message}", path.display())).into();
    };
    // The message ends with its place, which stands in front here.
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(message, _)| message);
    let line = location.line() as usize;
    let column = location.column() as usize;
    let source = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let problem = Problem::new(format!(
        "{}:{line}:{column}: {message}\n  |\n  | {source}\n  | {}^",
        path.display(),
        " ".repeat(column.saturating_sub(1))
    ));
    match nearest(message) {
        Some(name) => problem.hint(format!("did you mean `{name}`?")).into(),
        None => problem.into(),
    }
}

/// The expected name that is most like the unknown one, if any is like it.
fn nearest(message: &str) -> Option<String> {
    let unknown = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (unknown, rest) = unknown.split_once('`')?;
    let (_, expected) = rest.split_once("expected ")?;
    expected
        .trim_start_matches("one of ")
        .split(", ")
        .map(|name| name.trim_matches('`'))
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
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
