//! `emberline doctor`: what the commands about a project would stumble over, asked before any work.
//!
//! Each check asks the room that would stumble; nothing is built, started or changed.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, anyhow};
use serde::Serialize;

use super::output::{Report, columns};
use super::place::Place;
use super::{Context, package};
use crate::bundle::{Store, require_pass};
use crate::cluster::{Cluster, Right};
use crate::deploy::Target;
use crate::deploy::kubernetes::{Extra, check_known, rights};
use crate::deploy::local::Local;
use crate::engine::Engine;
use crate::image;
use crate::problem::Problem;
use crate::project::{Builder, Project, TargetKind};
use crate::tune;

/// Check what the commands need: Docker, the cluster, rights, nginx, a port
///
/// Nothing is changed. Exit codes: 0 all that is needed is there, 1 something is not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline doctor --target kubernetes")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct DoctorReport {
    /// In the order in which the commands would need it.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is there.
    pub verdict: Finding,
    /// What there is, or what is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// As it should be.
    Ok,
    /// Missing or broken, and only some commands need it.
    Warning,
    /// Missing or broken, and needed.
    Failed,
}

impl Finding {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// [`crate::cli::error::Failure::Usage`] when a flag is about another target.
pub fn run(args: &Args, context: &Context) -> Result<DoctorReport> {
    let mut checks = Vec::new();
    let project = match context.project(&args.project) {
        Ok(project) => project,
        Err(error) => {
            // Without a project nothing says what is needed.
            checks.push(Check::of("project", Finding::Failed, Err(error)));
            return Ok(DoctorReport { checks });
        }
    };
    let kind = args.place.kind(&project)?;
    let config = &project.config;
    checks.push(Check::of(
        "project",
        Finding::Failed,
        Ok(format!("`{}`, for the target `{}`", config.name, kind.name())),
    ));
    // What is not there yet is made by the next command.
    checks.push(Check::of("bundle", Finding::Warning, bundle(&project)));
    checks.push(Check::of("runtime", Finding::Failed, image::runtime_source()));
    let needs_engine = kind == TargetKind::Docker || config.package.builder == Builder::Docker;
    let needed = |needed: bool| if needed { Finding::Failed } else { Finding::Warning };
    checks.push(Check::of("engine", needed(needs_engine), engine()));
    checks.push(Check::of("nginx", needed(kind == TargetKind::Docker), nginx()));
    match kind {
        TargetKind::Local | TargetKind::Docker => {
            checks.push(Check::of("port", Finding::Failed, port(&project, args)));
        }
        TargetKind::Kubernetes => cluster(&project, args, &mut checks),
    }
    Ok(DoctorReport { checks })
}

fn bundle(project: &Project) -> Result<String> {
    let bundle = Store::of_project(&project.folder).latest()?;
    let thresholds = serde_json::to_value(&project.config.evaluate.gate)?;
    require_pass(&bundle, &thresholds)?;
    Ok(format!("version {}, whose gate has passed", bundle.version()))
}

fn engine() -> Result<String> {
    let engine = Engine::connect()?;
    let version = engine.block_on(engine.docker().version())?;
    Ok(format!("Docker {}", version.version.unwrap_or_default()))
}

fn nginx() -> Result<String> {
    let output = Command::new("nginx").arg("-v").output().map_err(|error| {
        Problem::new(format!("cannot run `nginx`: {error}"))
            .hint("a gateway on this machine and `--target docker` need it: `apt-get install nginx-light`")
    })?;
    Ok(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Whether the service's port is free, or the service's own.
fn port(project: &Project, args: &Args) -> Result<String> {
    let (host, port) = (&project.config.deploy.host, project.config.deploy.port);
    let serves = match args.place.kind(project)? {
        TargetKind::Local => Local::new(project).status().ok(),
        _ => args.place.target(project).and_then(|target| target.status()).ok(),
    };
    let ours = serves
        .and_then(|service| service.address)
        .is_some_and(|address| address.ends_with(&format!(":{port}")));
    if ours {
        return Ok(format!("{port}, where the service is"));
    }
    TcpListener::bind((host.as_str(), port)).map_err(|error| {
        Problem::new(format!("cannot listen on `{host}:{port}`: {error}"))
            .hint("`deploy.port`, or --port, chooses another one; `ss -ltnp` shows who listens")
    })?;
    Ok(format!("{port} is free"))
}

fn cluster(project: &Project, args: &Args, checks: &mut Vec<Check>) {
    checks.push(Check::of("registry", Finding::Failed, registry(project)));
    let cluster = match Cluster::connect(&args.place.access(project)) {
        Ok(cluster) => cluster,
        Err(error) => return checks.push(Check::of("cluster", Finding::Failed, Err(error))),
    };
    let answers = cluster.version().and_then(|version| {
        cluster.check()?;
        Ok(format!("Kubernetes {version}, namespace `{}`", cluster.namespace()))
    });
    let answers = Check::of("cluster", Finding::Failed, answers);
    let goes_on = answers.verdict == Finding::Ok;
    checks.push(answers);
    // What follows would say the same again.
    if goes_on {
        checks.push(Check::of("rights", Finding::Failed, allowed(project, &cluster)));
        let extras = Extra::wanted(&project.config.deploy);
        if !extras.is_empty() {
            checks.push(Check::of("kinds", Finding::Failed, kinds(&cluster, &extras)));
        }
        checks.push(Check::of("metrics", Finding::Warning, metrics(&cluster)));
    }
}

fn registry(project: &Project) -> Result<String> {
    let reference = package::reference(project, None, "VERSION")?;
    image::may_push(&reference)?;
    Ok(format!("`{}` lets this user in", reference.require_registry()?))
}

fn allowed(project: &Project, cluster: &Cluster) -> Result<String> {
    let config = &project.config.deploy;
    let sweeps = !project.config.tune.is_empty();
    let of_sweeps = tune::kubernetes::rights().filter(|_| sweeps);
    let mut needed: Vec<Right> = rights(config.keys.is_some(), &Extra::wanted(config)).collect();
    needed.extend(of_sweeps.filter(|right| !needed.contains(right)).collect::<Vec<_>>());
    let lacking = cluster.lacks(needed)?;
    if lacking.is_empty() {
        return Ok("all that the commands need".to_owned());
    }
    let lacking: Vec<String> = lacking.iter().map(|right| format!("`{right}`")).collect();
    Err(Problem::new(format!(
        "this account may not {} in namespace `{}`",
        lacking.join(", "),
        cluster.namespace()
    ))
    .hint(if sweeps {
        "docs/guide/deploying.md has a Role with all rights that are needed, and docs/guide/tuning.md one with those of `tune`"
    } else {
        "docs/guide/deploying.md has a Role with all rights that are needed"
    })
    .into())
}

/// Whether the cluster has the kinds of what the project asks for besides.
fn kinds(cluster: &Cluster, extras: &BTreeSet<Extra>) -> Result<String> {
    check_known(cluster, extras)?;
    let kinds: Vec<&str> = extras.iter().map(|extra| extra.kind()).collect();
    Ok(format!("the cluster has {}", kinds.join(", ")))
}

fn metrics(cluster: &Cluster) -> Result<String> {
    if cluster.has_metrics()? {
        return Ok("the cluster knows what pods use".to_owned());
    }
    Err(
        Problem::new("the cluster does not know what pods use, so `scale --autoscale` cannot work")
            .hint("install metrics-server")
            .into(),
    )
}

impl Check {
    /// What came of a check; `otherwise` is how bad it is when it is not as it should be.
    fn of(name: &'static str, otherwise: Finding, outcome: Result<String>) -> Self {
        let error = match outcome {
            Ok(message) => {
                return Self {
                    name,
                    verdict: Finding::Ok,
                    message,
                    hint: None,
                };
            }
            Err(error) => error,
        };
        let hint = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Problem>()?.hint_text());
        Self {
            name,
            verdict: otherwise,
            hint: hint.map(str::to_owned),
            message: format!("{error:#}"),
        }
    }
}

impl DoctorReport {
    /// What ends the command with a code above 0.
    pub fn failure(&self) -> Option<anyhow::Error> {
        let failed: Vec<&str> = self
            .checks
            .iter()
            .filter(|check| check.verdict == Finding::Failed)
            .map(|check| check.name)
            .collect();
        (!failed.is_empty()).then(|| anyhow!("not as it should be: {}", failed.join(", ")))
    }
}

impl Report for DoctorReport {
    fn text(&self) -> String {
        columns(self.checks.iter().flat_map(|check| {
            let row =
                |first: &str, second: &str, third: &str| vec![first.to_owned(), second.to_owned(), third.to_owned()];
            let hint = check.hint.as_ref().map(|hint| row("", "", &format!("hint: {hint}")));
            [row(check.name, check.verdict.name(), &check.message)]
                .into_iter()
                .chain(hint)
        }))
    }
}
