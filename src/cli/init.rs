//! `emberline init`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use super::Context;
use super::output::{Report, table};
use crate::files;
use crate::problem::Problem;
use crate::project::{self, FILE};
use crate::templates;

/// Write a project that runs as it is
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline init digits && emberline ship digits")]
pub struct Args {
    /// Folder to write, whose last part names the model
    pub name: PathBuf,
    /// What it begins with
    #[arg(long, value_enum, default_value_t, env = "EMBERLINE_TEMPLATE")]
    pub template: TemplateArg,
}

/// Templates, as the command line has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TemplateArg {
    /// Digits that the tool draws itself, measured on real handwriting
    #[default]
    Digits,
    /// The MNIST handwritten digits
    Mnist,
    /// A table with numbers, names and missing values
    Tabular,
}

/// What `init` gives.
#[derive(Debug, Serialize)]
pub struct InitReport {
    /// The model's name.
    pub name: String,
    /// The folder.
    pub project: PathBuf,
    /// Files that were written, inside it.
    pub files: Vec<String>,
}

impl Report for InitReport {
    fn text(&self) -> String {
        table(&[
            ("project", self.project.display().to_string()),
            ("files", self.files.join(", ")),
            ("next", format!("emberline ship {}", self.project.display())),
        ])
    }
}

/// Runs the command.
///
/// # Errors
///
/// A folder that has a project already, or a name that cannot name a service.
pub fn run(args: &Args, context: &Context) -> Result<InitReport> {
    let folder = &args.name;
    // `init .` takes the name of the folder that it is called in.
    let last = folder.file_name().map(ToOwned::to_owned);
    let last = last.or_else(|| Some(folder.canonicalize().ok()?.file_name()?.to_owned()));
    let name = last.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    project::check_name(&name).map_err(|reason| Problem::new(reason).hint("for example: `emberline init digits`"))?;
    let wanted = args
        .template
        .to_possible_value()
        .map(|value| value.get_name().to_owned());
    let template = templates::PROJECTS
        .iter()
        .find(|template| Some(template.name) == wanted.as_deref())
        .ok_or_else(|| Problem::new("there is no such template"))?;
    let config = templates::render(FILE, template.config, BTreeMap::from([("name", name.clone())]))?;
    let files: Vec<(&str, &[u8])> = std::iter::once((FILE, config.as_bytes()))
        .chain(template.files.iter().copied())
        .collect();
    if let Some(file) = files
        .iter()
        .map(|(file, _)| folder.join(file))
        .find(|file| file.exists())
    {
        return Err(Problem::new(format!("`{}` is there already", file.display()))
            .hint("choose another name, or remove it first: nothing was written")
            .into());
    }
    for (file, content) in &files {
        files::replace(&folder.join(file), content)?;
    }
    context
        .output
        .note(&format!("a new project `{name}` from template `{}`", template.name));
    Ok(InitReport {
        files: files.iter().map(|(file, _)| (*file).to_owned()).collect(),
        name,
        project: folder.clone(),
    })
}
