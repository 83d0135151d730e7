//! `emberline templates`: what is rendered, and copies of it in the project, which are rendered instead.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;

use super::Context;
use super::output::{Report, columns};
use crate::files;
use crate::problem::Problem;
use crate::templates::{FOLDER, OWN};

/// List the templates, and copy them into the project to change them
///
/// What is made for Kubernetes, nginx, Prometheus, build servers and `package` is rendered from templates. A file in the
/// project's `templates/` stands in the place of the one of the same path, and is held to the same: a name that nobody gives,
/// or a field that the object has not, is an error.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Example:\n  emberline templates eject kubernetes/deployment.yaml\n  emberline deploy --dry-run client"
)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `templates`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the templates, and which of them the project has its own of
    #[command(after_help = "Example:\n  emberline templates list")]
    List(List),
    /// Copy templates into the project, where they take precedence
    ///
    /// What is there already stays as it is.
    #[command(after_help = "Example:\n  emberline templates eject kubernetes gateway/nginx.conf")]
    Eject(Eject),
}

/// Arguments of `templates list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Folder of the project
    #[arg(long, default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
}

/// Arguments of `templates eject`.
#[derive(Debug, clap::Args)]
pub struct Eject {
    /// Templates, or folders of them [default: all]
    pub names: Vec<String>,
    /// Folder of the project
    #[arg(long, default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
}

/// What `templates` gives.
#[derive(Debug, Serialize)]
pub struct TemplatesReport {
    /// Each that was asked about.
    pub templates: Vec<Template>,
}

/// One template.
#[derive(Debug, Serialize)]
pub struct Template {
    /// Its path in `templates/`.
    pub name: String,
    /// What is rendered.
    pub source: Source,
}

/// What is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The tool's own.
    Embedded,
    /// The project's, which is the same still.
    Project,
    /// The project's, which is another.
    Changed,
    /// Nothing: a file of the project that stands in no template's place.
    Unknown,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Project => "of the project, the same",
            Self::Changed => "of the project, changed",
            Self::Unknown => "not read: there is no such template",
        }
    }
}

/// Lists them.
///
/// # Errors
///
/// What is wrong with the project, or a file that cannot be read.
pub fn list(args: &List, context: &Context) -> Result<TemplatesReport> {
    let folder = context.project(&args.project)?.folder.join(FOLDER);
    let mut templates = Vec::new();
    for (name, text) in OWN {
        templates.push(Template {
            name: name.to_owned(),
            source: source(&folder.join(name), text)?,
        });
    }
    let mut unknown = Vec::new();
    // A folder of this name may be somebody else's: what is beside ours in it is none of our business.
    for (name, _) in OWN {
        if let Some(inside) = folder.join(name).parent() {
            for entry in fs::read_dir(inside).into_iter().flatten().flatten() {
                let path = entry.path();
                let name = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
                if path.is_file() && !OWN.iter().any(|(known, _)| *known == name) && !unknown.contains(&name) {
                    unknown.push(name);
                }
            }
        }
    }
    unknown.sort();
    templates.extend(unknown.into_iter().map(|name| Template {
        name,
        source: Source::Unknown,
    }));
    Ok(TemplatesReport { templates })
}

/// Copies them into the project.
///
/// # Errors
///
/// What is wrong with the project, a name that there is none of, or a file that cannot be written.
pub fn eject(args: &Eject, context: &Context) -> Result<TemplatesReport> {
    let folder = context.project(&args.project)?.folder.join(FOLDER);
    let mut templates = Vec::new();
    for (name, text) in chosen(&args.names)? {
        let path = folder.join(name);
        if source(&path, text)? == Source::Embedded {
            if let Some(parent) = path.parent() {
                files::create_folder(parent)?;
            }
            files::replace(&path, text.as_bytes())?;
        } else {
            context
                .output
                .note(&format!("`{}` is there already, and stays", path.display()));
        }
        templates.push(Template {
            name: name.to_owned(),
            source: source(&path, text)?,
        });
    }
    Ok(TemplatesReport { templates })
}

/// Those of these names, or in these folders; all when there is none.
fn chosen(names: &[String]) -> Result<Vec<(&'static str, &'static str)>> {
    let names: Vec<&str> = names.iter().map(|name| name.trim_end_matches('/')).collect();
    let is = |known: &str, name: &str| {
        known
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(name) = names.iter().find(|name| !OWN.iter().any(|(known, _)| is(known, name))) {
        return Err(Problem::new(format!("there is no template `{name}`"))
            .hint("`emberline templates list` names them")
            .into());
    }
    let wanted = |known: &str| names.is_empty() || names.iter().any(|name| is(known, name));
    Ok(OWN.into_iter().filter(|(known, _)| wanted(known)).collect())
}

fn source(path: &Path, text: &str) -> Result<Source> {
    if !path.exists() {
        return Ok(Source::Embedded);
    }
    Ok(if files::read(path)? == text.as_bytes() {
        Source::Project
    } else {
        Source::Changed
    })
}

impl Report for TemplatesReport {
    fn text(&self) -> String {
        let rows = self.templates.iter();
        columns(rows.map(|template| vec![template.name.clone(), template.source.name().to_owned()]))
    }
}
