//! The command tree and the options that every command takes.

use clap::{Args, Parser, Subcommand};

use super::output::{Format, ProgressMode};
use super::{
    ci, completions, delete, deploy, diff, doctor, evaluate, gateway, generate, history, init, keys, logs, monitor,
    package, plan, predict, rollback, scale, serve, ship, status, supervise, trace, train, trial, tune,
};

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
    /// Write a project that runs as it is
    Init(init::Args),
    /// Train the project's network and write a bundle
    Train(train::Args),
    /// Train once for each combination of the values that `tune` lists, and keep the best
    Tune(tune::Args),
    /// Measure a bundle and hold it against the gate
    Evaluate(evaluate::Args),
    /// Ask a bundle for its answer to files
    Predict(predict::Args),
    /// Make a container image of the bundle, with a container engine or without
    Package(package::Args),
    /// Serve a bundle over HTTP on this machine
    Serve(serve::Args),
    /// Make, list and remove the keys of servers
    Keys(keys::Args),
    /// Serve a bundle in the background, in place of the one that is served now
    Deploy(deploy::Args),
    /// Show what `deploy` would change in the cluster
    Diff(diff::Args),
    /// Change the number of replicas
    Scale(scale::Args),
    /// Say on paper what a rate takes
    Plan(plan::Args),
    /// Show what serves now
    Status(status::Args),
    /// Print what the replicas have logged
    Logs(logs::Args),
    /// List what was deployed, when and by whom
    History(history::Args),
    /// Tell where a pod, an image or a running server comes from
    Trace(trace::Args),
    /// Serve the bundle of a former revision again
    Rollback(rollback::Args),
    /// End the service and forget its history
    Delete(delete::Args),
    /// Put nginx in front of the replicas
    Gateway(gateway::Args),
    /// Print what watches the service: Prometheus' configuration, its alerts, a Grafana dashboard
    Monitor(monitor::Args),
    /// Train, evaluate, package and deploy, stopping at the first thing that is wrong
    Ship(ship::Args),
    /// Check what the commands need, before any work
    Doctor(doctor::Args),
    /// Run the chain on a build server
    Ci(ci::Args),
    /// Print what a shell completes the command line with
    Completions(completions::Args),
    /// Write the reference and the man pages
    #[command(hide = true)]
    Generate(generate::Args),
    /// Supervise the replicas of a local deployment; started by `deploy`
    #[command(hide = true)]
    Supervise(supervise::Args),
    /// Do one trial of a sweep; started by `tune`
    #[command(hide = true)]
    Trial(trial::Args),
}
