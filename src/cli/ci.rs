//! `emberline ci init`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::Context;
use super::output::{Report, table};
use crate::ci::{self, System};
use crate::files;
use crate::problem::Problem;
use crate::project::GateConfig;

/// Run the chain on a build server
#[derive(Clone, Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: CiCommand,
}

/// The commands of `ci`.
#[derive(Clone, Debug, Subcommand)]
pub enum CiCommand {
    /// Write the file that a build server reads its pipeline from
    ///
    /// The pipeline has the stages train, evaluate (the gate), package and deploy, and respects the exit codes. The file
    /// is yours to change, and is not written over without --force.
    Init(InitArgs),
}

/// Arguments of `emberline ci init`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberline ci init gitlab\n  emberline ci init jenkins digits --stdout")]
pub struct InitArgs {
    /// The build server
    #[arg(value_enum)]
    pub system: SystemArg,
    /// Folder of the project, at the top of its repository
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Write over a file that differs
    #[arg(long, env = "EMBERLINE_FORCE")]
    pub force: bool,
    /// Print the file and write nothing
    #[arg(long, conflicts_with = "force", env = "EMBERLINE_STDOUT")]
    pub stdout: bool,
}

/// Build servers, as the command line has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SystemArg {
    /// A declarative Jenkinsfile
    Jenkins,
    /// .gitlab-ci.yml
    Gitlab,
}

/// What `ci init` gives.
#[derive(Debug, Serialize)]
pub struct CiInitReport {
    /// The file, inside the project's folder.
    pub file: PathBuf,
    /// The stages, the first one first.
    pub stages: [&'static str; 4],
    /// Whether the file was written; not when it was the same already, or is printed.
    pub written: bool,
    /// The file's content, with `--stdout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl Report for CiInitReport {
    fn text(&self) -> String {
        match &self.content {
            Some(content) => content.trim_end().to_owned(),
            None => table(&[
                ("file", self.file.display().to_string()),
                ("stages", self.stages.join(", ")),
            ]),
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// What is wrong with the project, or a file that is there already and differs.
pub fn run(args: &Args, context: &Context) -> Result<CiInitReport> {
    let CiCommand::Init(args) = &args.command;
    let system = match args.system {
        SystemArg::Jenkins => System::Jenkins,
        SystemArg::Gitlab => System::Gitlab,
    };
    let project = context.project(&args.project)?;
    if project.config.evaluate.gate == GateConfig::default() {
        context
            .output
            .warn("`evaluate.gate` has no threshold: the pipeline ends at `package`, which refuses such a bundle");
    }
    let text = ci::render(system, &project.config, context.destination())?;
    let file = project.folder.join(system.file());
    let file = file.strip_prefix(".").map(PathBuf::from).unwrap_or(file);
    let report = |written, content| CiInitReport {
        file: file.clone(),
        stages: ci::stages(),
        written,
        content,
    };
    if args.stdout {
        return Ok(report(false, Some(text)));
    }
    if file.exists() {
        if files::read(&file)? == text.as_bytes() {
            context.output.note("the file is there already, as it should be");
            return Ok(report(false, None));
        }
        if !args.force {
            return Err(
                Problem::new(format!("`{}` is there already, and differs", file.display()))
                    .hint("--force writes over it, --stdout prints what would be written")
                    .into(),
            );
        }
    }
    files::replace(&file, text.as_bytes())?;
    Ok(report(true, None))
}
