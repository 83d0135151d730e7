//! `emberline monitor`: what watches a service, printed.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;

use super::Context;
use super::error::Failure;
use super::output::Report;
use super::place::Place;
use crate::engine::Engine;
use crate::gateway::Upstream;
use crate::monitor::{self, Targets};
use crate::project::{Project, TargetKind};

/// Print what watches the service: Prometheus' configuration, its alerts, a Grafana dashboard
///
/// All of it is made from the metrics that the server has, and is yours to change.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Example:\n  emberline monitor prometheus > prometheus.yml\n  emberline monitor alerts > alerts.yml\n  prometheus --config.file=prometheus.yml"
)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `monitor`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print Prometheus' configuration
    ///
    /// A whole file, prometheus.yml, that scrapes the servers of the project: at their address, or found among this machine's
    /// containers or a cluster's pods. It reads the alerts from alerts.yml beside it.
    #[command(
        after_help = "Examples:\n  emberline monitor prometheus > prometheus.yml\n  emberline monitor prometheus --server 10.0.0.1:5000 --server 10.0.0.2:5000\n  emberline monitor prometheus --target kubernetes -n models"
    )]
    Prometheus(Scrape),
    /// Print Prometheus' alert rules
    ///
    /// The file alerts.yml. What each alert means, and what to do then, stands in it.
    #[command(after_help = "Example:\n  emberline monitor alerts > alerts.yml && promtool check rules alerts.yml")]
    Alerts(Named),
    /// Print a dashboard for Grafana
    ///
    /// A panel for every metric, for Grafana 11 and later: Dashboards, New, Import. One dashboard shows all models and
    /// servers that its Prometheus knows, and this project's first.
    #[command(after_help = "Example:\n  emberline monitor grafana > dashboard.json")]
    Grafana(Named),
}

/// Arguments of `monitor prometheus`.
#[derive(Debug, clap::Args)]
pub struct Scrape {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where the service runs
    #[command(flatten)]
    pub place: Place,
    /// A server, HOST:PORT; once for each [default: `deploy.host` and `deploy.port`, or found where the service runs]
    #[arg(long, value_delimiter = ',', env = "EMBERLINE_SERVER")]
    pub server: Vec<Upstream>,
}

/// Arguments of `monitor alerts` and `monitor grafana`.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
}

/// What `monitor` gives.
#[derive(Debug, Serialize)]
pub struct MonitorReport {
    /// The project's name.
    pub name: String,
    /// The label `job` of its series in Prometheus.
    pub job: String,
    /// What the file is called by those who read it.
    pub file: &'static str,
    /// The file.
    pub content: String,
}

impl Report for MonitorReport {
    /// The file alone, for `> prometheus.yml`.
    fn text(&self) -> String {
        self.content.trim_end().to_owned()
    }
}

/// Prints Prometheus' configuration.
///
/// # Errors
///
/// What is wrong with the project, or with where it runs.
pub fn prometheus(args: &Scrape, context: &Context) -> Result<MonitorReport> {
    let project = context.project(&args.project)?;
    let targets = targets(args, &project)?;
    let shared = project.config.deploy.replicas > 1 && args.server.is_empty();
    if shared && matches!(targets, Targets::Addresses(_)) {
        context.output.warn(
            "the replicas on this machine share one address, and one of them answers Prometheus: its numbers are those \
             of that one",
        );
    }
    let job = job(&project);
    let keys = matches!(targets, Targets::Kubernetes { .. }) && project.config.deploy.keys.is_some();
    let text = monitor::configuration(&project.config.name, &job, keys, &targets)?;
    Ok(report(project, "prometheus.yml", text))
}

/// Prints the alert rules.
///
/// # Errors
///
/// What is wrong with the project.
pub fn alerts(args: &Named, context: &Context) -> Result<MonitorReport> {
    let project = context.project(&args.project)?;
    let text = monitor::rules(&job(&project))?;
    Ok(report(project, monitor::ALERTS, text))
}

/// Prints the dashboard.
///
/// # Errors
///
/// What is wrong with the project.
pub fn grafana(args: &Named, context: &Context) -> Result<MonitorReport> {
    let project = context.project(&args.project)?;
    let dashboard = monitor::dashboard(&project.config.name);
    let text = serde_json::to_string_pretty(&dashboard)?;
    Ok(report(project, "dashboard.json", text))
}

fn report(project: Project, file: &'static str, text: String) -> MonitorReport {
    MonitorReport {
        job: job(&project),
        name: project.config.name,
        file,
        content: text,
    }
}

fn job(project: &Project) -> String {
    monitor::job(&project.config.name, project.destination.as_deref())
}

fn targets(args: &Scrape, project: &Project) -> Result<Targets> {
    let kind = args.place.kind(project)?;
    let usage = |message: &str| Err(Failure::Usage(message.to_owned()).into());
    if !args.server.is_empty() {
        if kind == TargetKind::Kubernetes {
            return usage(
                "`--server` is an address, and in a cluster Prometheus finds the pods itself: say one or the other",
            );
        }
        return Ok(Targets::Addresses(
            args.server.iter().map(ToString::to_string).collect(),
        ));
    }
    if args.place.context.is_some() {
        return usage("`--context` says nothing to Prometheus, which takes the current context of a kubeconfig");
    }
    Ok(match kind {
        TargetKind::Local => {
            let deploy = &project.config.deploy;
            Targets::Addresses(vec![Upstream::of_service(&deploy.host, deploy.port)?.to_string()])
        }
        TargetKind::Docker => Targets::Docker {
            host: Engine::address()?,
            instance: job(project),
        },
        TargetKind::Kubernetes => Targets::Kubernetes {
            namespace: args.place.access(project).namespace,
            // Prometheus reads its files relative to its configuration, wherever that will be.
            kubeconfig: args.place.kubeconfig.as_deref().map(std::path::absolute).transpose()?,
        },
    })
}
