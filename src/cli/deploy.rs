//! `emberline deploy`, and what the other commands that change or show a service share with it.

use std::cell::RefCell;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use indicatif::ProgressBar;
use serde::Serialize;

use super::Context;
use super::duration::duration;
use super::output::{Output, ProgressMode, Report, columns, table};
use crate::bundle::{Evaluation, Store, Verdict, require_pass};
use crate::deploy::history::{ReleaseSource, utc};
use crate::deploy::local::Local;
use crate::deploy::{Events, Request, Service, Target};
use crate::problem::Problem;
use crate::project::{Project, TargetKind};

/// Serve a bundle, in place of the one that is served now
///
/// The new version takes over one replica at a time, and no request is lost. When it does not become ready, the former
/// version goes on (exit code 4); when there is none, nothing is left behind (exit code 5). The service outlives the
/// terminal; `emberline delete` ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberline deploy --replicas 3 --port 8080")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where the service runs [default: `deploy.target`]
    #[arg(long, value_enum, env = "EMBERLINE_TARGET")]
    pub target: Option<TargetName>,
    /// Version of the bundle, or its directory [default: the newest]
    #[arg(long, env = "EMBERLINE_BUNDLE")]
    pub bundle: Option<String>,
    /// Address to listen on [default: `deploy.host`]
    #[arg(long, env = "EMBERLINE_HOST")]
    pub host: Option<String>,
    /// Port to listen on [default: `deploy.port`]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), env = "EMBERLINE_PORT")]
    pub port: Option<u16>,
    /// Processes that answer [default: `deploy.replicas`]
    #[arg(long, env = "EMBERLINE_REPLICAS")]
    pub replicas: Option<usize>,
    /// Listen beyond this machine, though anyone who reaches the port is answered
    #[arg(long, env = "EMBERLINE_ALLOW_PUBLIC")]
    pub allow_public: bool,
    /// Deploy a bundle whose gate has not passed
    #[arg(long, env = "EMBERLINE_ALLOW_UNGATED")]
    pub allow_ungated: bool,
    /// How long a replica may take until it is ready
    #[arg(long, value_parser = duration, default_value = "60s", env = "EMBERLINE_TIMEOUT")]
    pub timeout: Duration,
}

/// Where a service can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// Processes on this machine
    Local,
}

/// Runs the command.
///
/// # Errors
///
/// What is wrong with the project, the bundle or its gate, or how the deployment ended.
pub fn run(args: &Args, context: &Context) -> Result<ServiceReport> {
    let project = context.project(&args.project)?;
    let config = &project.config.deploy;
    let target = match args.target {
        Some(TargetName::Local) => local(&project),
        None => target(&project),
    };
    let host = args.host.clone().unwrap_or_else(|| config.host.clone());
    let port = args.port.unwrap_or(config.port);
    check_address(&host, port, args.allow_public)?;
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
            "the gate of bundle `{}` has not passed; deployed as you ask",
            bundle.version()
        ));
    }
    let replicas = args.replicas.unwrap_or(config.replicas);
    if args.replicas.is_none()
        && let Ok(now) = target.status()
        && now.replicas.desired != replicas
    {
        context.output.warn(&format!(
            "{} replicas become {replicas}, as `deploy.replicas` says; `--replicas` asks for another number",
            now.replicas.desired
        ));
    }
    if args.port.is_none()
        && let Ok(now) = target.status()
        && let Some(address) = now.address
        && !address.ends_with(&format!(":{port}"))
    {
        context.output.warn(&format!(
            "{address} moves to port {port}, as `deploy.port` says; `--port` asks for another one"
        ));
    }
    let request = Request {
        source: ReleaseSource::new(&bundle, verdict),
        host,
        port,
        replicas,
        timeout: args.timeout,
    };
    let watch = Watch::new(context)?;
    target.deploy(&request, &watch).map(ServiceReport)
}

/// The target that the project's configuration names.
pub(super) fn target(project: &Project) -> Box<dyn Target> {
    match project.config.deploy.target {
        TargetKind::Local => local(project),
    }
}

fn local(project: &Project) -> Box<dyn Target> {
    Box::new(Local::new(project))
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

/// Shows how a change goes, and stops waiting for it at Ctrl-C.
pub(super) struct Watch<'a> {
    output: &'a Output,
    spinner: Option<ProgressBar>,
    interrupted: Arc<AtomicBool>,
    told: RefCell<String>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(context: &'a Context) -> Result<Self> {
        let output = &context.output;
        let spinner = (output.progress_mode() == ProgressMode::Tty).then(|| output.spinner("looking at the service"));
        Ok(Self {
            output,
            spinner,
            interrupted: context.interrupt()?,
            told: RefCell::default(),
        })
    }
}

impl Events for Watch<'_> {
    fn progress(&self, service: &Service) {
        self.output.event(service);
        let updated = service
            .instances
            .iter()
            .filter(|instance| instance.ready && instance.revision == service.revision)
            .count();
        let line = format!(
            "revision {} (version {}) {}: {updated} of {} replicas ready",
            service.revision,
            service.version,
            service.phase.name(),
            service.replicas.desired
        );
        if let Some(spinner) = &self.spinner {
            spinner.set_message(line);
        } else if *self.told.borrow() != line {
            self.output.note(&line);
            *self.told.borrow_mut() = line;
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// A service, as `deploy`, `scale`, `rollback` and `status` tell it.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct ServiceReport(pub Service);

impl Report for ServiceReport {
    fn text(&self) -> String {
        let Self(service) = self;
        let facts = [
            ("name", service.name.clone()),
            ("version", service.version.clone()),
            ("revision", service.revision.to_string()),
            (
                "replicas",
                format!("{} of {} ready", service.replicas.ready, service.replicas.desired),
            ),
            ("phase", service.phase.name().to_owned()),
            (
                "address",
                match (&service.address, &service.address_hint) {
                    (Some(address), _) => address.clone(),
                    (None, hint) => format!("none: {}", hint.as_deref().unwrap_or_default()),
                },
            ),
        ];
        let text = table(&facts);
        match &service.trouble {
            None => text,
            Some(trouble) => format!(
                "{text}\n\nlast trouble, with revision {} at {}: {}",
                trouble.revision,
                utc(trouble.at),
                trouble.reason
            ),
        }
    }
}

impl ServiceReport {
    /// The table of the processes; empty when there is none.
    pub(super) fn instances(&self) -> String {
        let heads = [
            "REPLICA", "PID", "VERSION", "REVISION", "READY", "RESTARTS", "REQUESTS", "UP SINCE",
        ];
        let rows = self.0.instances.iter().map(|instance| {
            vec![
                instance.replica.to_string(),
                instance.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                instance.version.clone(),
                instance.revision.to_string(),
                if instance.ready { "yes" } else { "no" }.to_owned(),
                instance.restarts.to_string(),
                instance.requests.to_string(),
                utc(instance.since),
            ]
        });
        if self.0.instances.is_empty() {
            return String::new();
        }
        columns([heads.map(str::to_owned).to_vec()].into_iter().chain(rows))
    }
}
