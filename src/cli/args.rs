//! The command tree and the options that every command takes.

use clap::{Args, Parser, Subcommand};

use super::output::{Format, ProgressMode};
use super::package;

/// From labelled data to a served, scaled, watched model.
#[derive(Debug, Parser)]
#[command(
    name = "emberline",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Example:\n  emberline init digits && emberline ship digits"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// How the result is printed on stdout
    #[arg(
        short = 'o',
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "EMBERLINE_FORMAT"
    )]
    pub format: Format,
    /// How progress is shown on stderr
    #[arg(long, global = true, value_enum, default_value_t, env = "EMBERLINE_PROGRESS")]
    pub progress: ProgressMode,
    /// Print nothing on stderr but errors
    #[arg(short, long, global = true, env = "EMBERLINE_QUIET")]
    pub quiet: bool,
    /// Lay `emberline.<DESTINATION>.yaml` over `emberline.yaml`
    #[arg(short, long, global = true, env = "EMBERLINE_DESTINATION")]
    pub destination: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a bundle and the runtime as a container image
    Package(package::Args),
}
