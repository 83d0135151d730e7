//! `emberline deploy`, and what the other commands that change or show a service share with it.

use std::fs;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, ValueEnum};
use serde::Serialize;

use super::duration::duration;
use super::error::Failure;
use super::output::{Report, yaml};
use super::place::Place;
use super::service::ServiceReport;
use super::watch::Watch;
use super::{Context, canary, package};
use crate::bundle::{Evaluation, Footprint, Store, Usage, Verdict, require_pass};
use crate::cluster::Manifest;
use crate::deploy::history::ReleaseSource;
use crate::deploy::kubernetes::{Kubernetes, Manifests};
use crate::deploy::{Request, Resources, Service};
use crate::image::Reference;
use crate::problem::Problem;
use crate::project::{Clients, DeployConfig, Project, TargetKind};
use crate::serve::keys;

/// Serve a bundle, in place of the one that is served now
///
/// The new version takes over one replica at a time, and no request is lost. When it does not become ready, the former
/// version goes on (exit code 4); when there is none, nothing is left behind (exit code 5). The service outlives the
/// terminal; `emberline delete` ends it.
///
/// With --canary the version is tried first, beside a fresh baseline: promoted when it passes, taken away when it fails
/// (exit code 4), left as it is when there were too few requests to say (exit code 3).
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  emberline deploy --replicas 3 --port 8080\n  emberline deploy --target kubernetes --canary 10%"
)]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
    /// What is to run
    #[command(flatten)]
    pub wanted: Wanted,
    /// How long a replica may take until it is ready
    #[arg(long, value_parser = duration, default_value = "60s", env = "EMBERLINE_TIMEOUT")]
    pub timeout: Duration,
    /// Kubernetes: send the service no requests meanwhile, which prove that none is lost
    #[arg(long, env = "EMBERLINE_NO_PROBE")]
    pub no_probe: bool,
    /// Whether a version that does not get ready is replaced by the former one; `false` leaves it to be looked at (Kubernetes)
    #[arg(long, value_name = "YES", env = "EMBERLINE_ROLLBACK_ON_FAILURE", action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), default_value = "true", default_missing_value = "true")]
    #[arg(num_args = 0..=1, require_equals = true, hide_possible_values = true)]
    pub rollback_on_failure: bool,
    /// Kubernetes: print what would be applied as YAML, and change nothing; `server` has the cluster check it
    #[arg(long, value_name = "WHERE", value_enum, env = "EMBERLINE_DRY_RUN")]
    pub dry_run: Option<DryRun>,
    /// Whether it is tried first
    #[command(flatten)]
    pub canary: canary::Flags,
}

/// Flags that say what is to run.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Wanted {
    /// Version of the bundle, or its directory [default: the newest]
    #[arg(long, env = "EMBERLINE_BUNDLE")]
    pub bundle: Option<String>,
    /// Docker, Kubernetes: the image [default: `package.repository`, or the project's name, with the bundle's version]
    #[arg(long, value_name = "REFERENCE", env = "EMBERLINE_IMAGE")]
    pub image: Option<String>,
    /// Local, Docker: address to listen on [default: `deploy.host`]
    #[arg(long, env = "EMBERLINE_HOST")]
    pub host: Option<String>,
    /// Port to listen on [default: `deploy.port`]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), env = "EMBERLINE_PORT")]
    pub port: Option<u16>,
    /// Processes that answer [default: `deploy.replicas`]
    #[arg(long, env = "EMBERLINE_REPLICAS")]
    pub replicas: Option<usize>,
    /// Kubernetes: the key file whose keys clients need [default: `deploy.keys`]
    #[arg(long, value_name = "FILE", env = "EMBERLINE_KEYS")]
    pub keys: Option<PathBuf>,
    /// Listen beyond this machine, though anyone who reaches the port is answered
    #[arg(long, env = "EMBERLINE_ALLOW_PUBLIC")]
    pub allow_public: bool,
    /// Deploy a bundle whose gate has not passed
    #[arg(long, env = "EMBERLINE_ALLOW_UNGATED")]
    pub allow_ungated: bool,
}

/// Who is asked what a deployment would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Nobody: no cluster is needed
    Client,
    /// The cluster, with all its checks and defaults
    Server,
}

/// Runs the command.
///
/// # Errors
///
/// What is wrong with the project, the bundle or its gate, or how the deployment ended.
pub fn run(args: &Args, context: &Context) -> Result<ServiceReport> {
    let project = context.project(&args.project)?;
    let kind = args.place.kind(&project)?;
    let request = request(&args.wanted, args.timeout, &project, kind, context)?;
    let target = args
        .place
        .target_to_deploy(&project, args.no_probe, args.rollback_on_failure)?;
    warn_of_tls(context);
    let now = target.status().ok();
    if let Some(now) = &now {
        warn_of_changes(&args.wanted, &request, now, context)?;
    }
    let watch = Watch::new(context)?;
    target.deploy(&request, &watch).map(ServiceReport)
}

/// What is set for `emberline serve` may be thought to hold here too.
pub(super) fn warn_of_tls(context: &Context) {
    for name in ["EMBERLINE_TLS_CERT", "EMBERLINE_TLS_KEY"] {
        if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
            context
                .output
                .warn(&format!("{name} is not read here: the service speaks plain HTTP"));
        }
    }
}

/// What `--dry-run` prints.
///
/// # Errors
///
/// As [`run`], and [`Failure::Usage`] for another target than a cluster.
pub fn dry_run(args: &Args, asked: DryRun, context: &Context) -> Result<DryRunReport> {
    let project = context.project(&args.project)?;
    let kind = args.place.kind(&project)?;
    if kind != TargetKind::Kubernetes {
        return Err(Failure::Usage(format!(
            "`--dry-run` prints what a cluster is given, and the target is `{}`; --target kubernetes is the one that \
             reads it",
            kind.name()
        ))
        .into());
    }
    let request = request(&args.wanted, args.timeout, &project, kind, context)?;
    let access = args.place.access(&project);
    let objects = match asked {
        DryRun::Client => {
            let manifests = Manifests::render(&project, &request, access.namespace.as_deref())?.all()?;
            manifests.iter().map(Manifest::value).collect::<Result<_>>()?
        }
        DryRun::Server => {
            let differences = Kubernetes::new(&project, &access)?.differences(&request)?;
            differences.into_iter().filter_map(|object| object.wanted).collect()
        }
    };
    Ok(DryRunReport { objects })
}

/// Objects that a deployment would apply.
#[derive(Debug, Serialize)]
pub struct DryRunReport {
    /// In the order of their application.
    pub objects: Vec<serde_json::Value>,
}

impl Report for DryRunReport {
    /// YAML documents, for `kubectl apply --filename -`.
    fn text(&self) -> String {
        yaml(&self.objects)
    }
}

/// What the arguments and the project ask for, once the bundle's gate allows it.
pub(super) fn request(
    args: &Wanted,
    timeout: Duration,
    project: &Project,
    kind: TargetKind,
    context: &Context,
) -> Result<Request> {
    let config = &project.config.deploy;
    let host = args.host.clone().unwrap_or_else(|| config.host.clone());
    let port = args.port.unwrap_or(config.port);
    match kind {
        TargetKind::Kubernetes if args.host.is_some() || args.allow_public => {
            return Err(Failure::Usage(
                "`--host` and `--allow-public` are about this machine; a cluster has addresses of its own".into(),
            )
            .into());
        }
        TargetKind::Kubernetes => {}
        TargetKind::Local if args.image.is_some() => {
            return Err(Failure::Usage(
                "`--image` is about containers, and the target is `local`, which runs the bundle itself".into(),
            )
            .into());
        }
        TargetKind::Local | TargetKind::Docker => check_address(&host, port, args.allow_public)?,
    }
    let store = Store::of_project(&project.folder);
    let bundle = match &args.bundle {
        Some(reference) => store.open(reference)?,
        None => store.latest()?,
    };
    let verdict = if args.allow_ungated {
        Evaluation::read(&bundle).ok().flatten().map(|found| found.verdict)
    } else {
        let thresholds = serde_json::to_value(&project.config.evaluate.gate)?;
        Some(require_pass(&bundle, &thresholds)?.verdict)
    };
    if verdict != Some(Verdict::Pass) {
        context.output.warn(&format!(
            "the gate of bundle `{}` has not passed; going on as you ask",
            bundle.version()
        ));
    }
    let mut source = ReleaseSource::new(&bundle, verdict);
    if kind != TargetKind::Local {
        source.image = Some(match &args.image {
            Some(image) => {
                Reference::check(image)?;
                image.clone()
            }
            None => package::reference(project, None, bundle.version())?.to_string(),
        });
    }
    let keys = keys(args.keys.as_deref(), project, kind)?;
    if kind == TargetKind::Kubernetes {
        warn_of_doors(project, keys.is_some(), context);
    }
    let footprint = match kind {
        TargetKind::Local => None,
        TargetKind::Docker | TargetKind::Kubernetes => Footprint::read(bundle.path(), bundle.digest())?,
    };
    let usage = footprint.as_ref().map(|found| &found.usage);
    let resources = Resources::of(config, usage);
    tell_resources(&resources, usage, kind, config, context);
    Ok(Request {
        source,
        host,
        port,
        replicas: args.replicas.unwrap_or(config.replicas),
        resources,
        timeout,
        keys,
    })
}

/// Tells what replicas get, where the project does not say it.
fn tell_resources(
    resources: &Resources,
    usage: Option<&Usage>,
    kind: TargetKind,
    config: &DeployConfig,
    context: &Context,
) {
    let Resources {
        memory_request,
        memory,
        cpu,
    } = resources;
    let mut told = Vec::new();
    let mut keys = Vec::new();
    if kind != TargetKind::Local && config.memory.is_none() {
        keys.push("`deploy.memory`");
        told.push(match kind {
            TargetKind::Kubernetes if memory_request != memory => format!("{memory_request} to {memory} of memory"),
            _ => format!("{memory} of memory"),
        });
    }
    if kind == TargetKind::Kubernetes && config.cpu.is_none() {
        keys.push("`deploy.cpu`");
        told.push(format!("{cpu} of processor time"));
    }
    if told.is_empty() {
        return;
    }
    let (told, keys) = (told.join(" and "), keys.join(" and "));
    context.output.note(&match usage {
        Some(_) => format!("each replica gets {told}, by what `emberline package` has measured ({keys} would say it)"),
        None => format!(
            "each replica gets {told}, which nobody has measured: `emberline package` on this machine does, {keys} would \
             say it"
        ),
    });
}

/// What leads to the service from beyond the cluster may lead to nobody, or everybody.
fn warn_of_doors(project: &Project, keys: bool, context: &Context) {
    let config = &project.config.deploy;
    let doors = [
        ("deploy.ingress", config.ingress.is_some()),
        ("deploy.http_route", config.http_route.is_some()),
    ];
    let asked = doors.into_iter().filter(|(_, asked)| *asked);
    let names: Vec<String> = asked.map(|(key, _)| format!("`{key}`")).collect();
    if names.is_empty() {
        return;
    }
    let names = names.join(" and ");
    if config.clients == Clients::Gateway {
        context.output.warn(&format!(
            "{names}: the controller is not let in to the pods where the cluster enforces network policies; \
             `deploy.clients: cluster` lets it in"
        ));
    }
    if !keys {
        context.output.warn(&format!(
            "{names}: whoever is let through is answered without a key; `deploy.keys` asks for one"
        ));
    }
}

/// What the key file holds, once it is known to be one.
pub(super) fn keys(asked: Option<&Path>, project: &Project, kind: TargetKind) -> Result<Option<String>> {
    let configured = project
        .config
        .deploy
        .keys
        .as_ref()
        .map(|path| project.folder.join(path));
    let Some(path) = asked.map(Path::to_owned).or(configured) else {
        return Ok(None);
    };
    if kind != TargetKind::Kubernetes {
        return Err(Failure::Usage(format!(
            "the key file `{}` (`--keys`, EMBERLINE_KEYS or `deploy.keys`) is for a cluster, and the target is `{}`, \
             whose services answer without keys; `emberline serve --keys` asks for them",
            path.display(),
            kind.name()
        ))
        .into());
    }
    let text = fs::read_to_string(&path).map_err(|error| {
        Problem::new(format!("cannot read `{}`: {error}", path.display()))
            .hint("`emberline keys add NAME` makes a key file")
    })?;
    if keys::file::parse(&text, &path.display().to_string())?.is_empty() {
        return Err(Problem::new(format!("`{}` holds no key", path.display()))
            .hint("`emberline keys add NAME` adds one")
            .into());
    }
    Ok(Some(text))
}

/// Tells of what a deployment changes besides the bundle, though nobody has asked for it on the command line.
fn warn_of_changes(args: &Wanted, request: &Request, now: &Service, context: &Context) -> Result<()> {
    let (replicas, port) = (request.replicas, request.port);
    if now.autoscale.is_some() && args.replicas.is_some() {
        return Err(Failure::Usage(
            "the number of replicas follows the load, and `--replicas` would fight it; `emberline scale --replicas N` \
             ends that"
                .into(),
        )
        .into());
    }
    if args.replicas.is_none() && now.autoscale.is_none() && now.replicas.desired != replicas {
        context.output.warn(&format!(
            "{} replicas become {replicas}, as `deploy.replicas` says; `--replicas` asks for another number",
            now.replicas.desired
        ));
    }
    if args.port.is_none()
        && let Some(address) = &now.address
        && !address.ends_with(&format!(":{port}"))
    {
        context.output.warn(&format!(
            "{address} moves to port {port}, as `deploy.port` says; `--port` asks for another one"
        ));
    }
    Ok(())
}

fn check_address(host: &str, port: u16, allow_public: bool) -> Result<()> {
    if port == 0 {
        return Err(Problem::new("`deploy.port` is 0, and a service needs a port that stays the same").into());
    }
    let mut addresses = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("cannot find host `{host}`"))?;
    if !allow_public && addresses.any(|address| !address.ip().is_loopback()) {
        return Err(Problem::new(format!(
            "`{host}` can be reached from other machines, and the service answers anyone without a key"
        ))
        .hint("if that is what you want, say so with --allow-public; otherwise use --host 127.0.0.1")
        .into());
    }
    Ok(())
}
