//! `emberline gateway`: nginx in front of the replicas.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::Context;
use super::duration::duration;
use super::error::Failure;
use super::output::{ProgressMode, Report, table, yaml};
use super::place::Place;
use crate::cluster::Cluster;
use crate::gateway::divided::Divided;
use crate::gateway::kubernetes::{self, Manifests};
use crate::gateway::nginx::{Change, Nginx};
use crate::gateway::{Gateway, Upstream};
use crate::problem::Problem;
use crate::project::{Balance, Project, ServiceType, TargetKind};
use crate::serve::Settings;

/// How long an upstream may take to accept a connection before a person is warned.
const CONNECT: Duration = Duration::from_secs(1);

/// Put nginx in front of the replicas
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  emberline gateway up\n  curl -s localhost:8080/digits/v2/models/digits"
)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `gateway`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the gateway's nginx.conf, or its objects for a cluster
    ///
    /// The file is a whole configuration that runs without root. Its paths are relative: `nginx -p FOLDER -c nginx.conf`.
    /// With `--target kubernetes` it is YAML for `kubectl apply -f -`.
    #[command(
        after_help = "Examples:\n  emberline gateway render --upstream 10.0.0.1:5000 --upstream 10.0.0.2:5000 > nginx.conf\n  emberline gateway render --target kubernetes -n models"
    )]
    Render(Gate),
    /// Start nginx, or hand a changed configuration to the one that runs
    ///
    /// It outlives the terminal; `emberline gateway down` ends it. Its files and logs are in `.emberline/gateway/`, or
    /// `.emberline/gateway.DESTINATION/`. With `--target kubernetes` it runs in the cluster, in front of the Service.
    #[command(
        after_help = "Examples:\n  emberline gateway up --listen 127.0.0.1:9000 --balance least_conn\n  emberline gateway up --target kubernetes"
    )]
    Up(Gate),
    /// End nginx, after it has answered what it has accepted
    #[command(after_help = "Example:\n  emberline gateway down")]
    Down(Down),
}

/// What the gateway is to be.
#[derive(Debug, clap::Args)]
pub struct Gate {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
    /// A replica, HOST:PORT; once for each [default: `deploy.host` and `deploy.port`]
    #[arg(long, value_delimiter = ',', env = "EMBERLINE_UPSTREAM")]
    pub upstream: Vec<Upstream>,
    /// How requests are spread [default: `gateway.balance`]
    #[arg(long, env = "EMBERLINE_BALANCE", value_parser = balances())]
    pub balance: Option<Balance>,
    /// Address and port to listen on [default: `gateway.listen`]
    #[arg(long, value_name = "ADDRESS:PORT", env = "EMBERLINE_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Listen beyond this machine, though anyone who reaches the port is answered
    #[arg(long, env = "EMBERLINE_ALLOW_PUBLIC")]
    pub allow_public: bool,
    /// Kubernetes: how long its pods may take until they are ready
    #[arg(long, value_parser = duration, default_value = "60s", env = "EMBERLINE_TIMEOUT")]
    pub timeout: Duration,
}

/// Arguments of `gateway down`.
#[derive(Debug, clap::Args)]
pub struct Down {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
}

fn balances() -> impl TypedValueParser<Value = Balance> {
    let known = [
        (Balance::RoundRobin, "To each replica in turn"),
        (Balance::LeastConn, "To the one with the fewest requests in hand"),
        (Balance::IpHash, "By the client's address"),
    ];
    PossibleValuesParser::new(known.map(|(balance, help)| PossibleValue::new(balance.name()).help(help))).map(
        move |name| {
            let found = known.iter().find(|(balance, _)| balance.name() == name);
            found.map_or_else(Balance::default, |(balance, _)| *balance)
        },
    )
}

/// Prints the configuration.
///
/// # Errors
///
/// What is wrong with the project or with an address.
pub fn render(args: &Gate, context: &Context) -> Result<RenderReport> {
    let project = context.project(&args.project)?;
    let (gateway, objects) = if args.place.kind(&project)? == TargetKind::Kubernetes {
        let gateway = in_cluster(args, &project, project.config.deploy.port)?;
        let namespace = args.place.access(&project).namespace;
        let manifests = Manifests::render(&gateway, &project.config.gateway, namespace.as_deref(), None, None)?;
        (gateway, Some(manifests.objects()?))
    } else {
        (gateway(args, &project)?, None)
    };
    Ok(RenderReport {
        config: gateway.render()?.config,
        objects,
        gateway: GatewayReport::new(&gateway),
    })
}

/// Starts or reloads nginx.
///
/// # Errors
///
/// As [`render`], and why nginx does not run.
pub fn up(args: &Gate, context: &Context) -> Result<UpReport> {
    let project = context.project(&args.project)?;
    if args.place.kind(&project)? == TargetKind::Kubernetes {
        return up_in_cluster(args, &project, context);
    }
    let gateway = gateway(args, &project)?;
    let silent: Vec<String> = gateway
        .upstreams()
        .iter()
        .map(ToString::to_string)
        .filter(|upstream| !answers(upstream))
        .collect();
    if !silent.is_empty() {
        context.output.warn(&format!(
            "nothing listens on {} yet; `emberline deploy` serves the project",
            silent.join(", ")
        ));
    }
    let nginx = Nginx::new(&project.state_of("gateway"));
    let change = nginx.up(&gateway)?;
    Ok(UpReport {
        change: Some(change),
        address: Some(gateway.address()),
        address_hint: None,
        folder: Some(nginx.folder().to_owned()),
        namespace: None,
        gateway: GatewayReport::new(&gateway),
    })
}

fn up_in_cluster(args: &Gate, project: &Project, context: &Context) -> Result<UpReport> {
    let name = &project.config.name;
    let cluster = Cluster::connect(&args.place.access(project))?;
    let backend = kubernetes::backend(&cluster, &format!("{name}-service"))?;
    // A canary that has a share of the requests keeps it.
    let divided = Divided::find(&cluster, name)?;
    let split = divided.as_ref().map(|divided| divided.split(name)).transpose()?;
    let gateway = in_cluster(args, project, backend.port)?.divided(split);
    let config = &project.config.gateway;
    let namespace = Some(cluster.namespace());
    let manifests = Manifests::render(&gateway, config, namespace, Some(&backend), divided.as_ref())?;
    let interrupt = context.interrupt()?;
    let spinner =
        (context.output.progress_mode() == ProgressMode::Tty).then(|| context.output.spinner("starting the gateway"));
    let up = manifests.up(&cluster, name, args.timeout, &mut |rollout| {
        let line = format!(
            "gateway: {} of {} pods ready",
            rollout.updated_and_ready(),
            rollout.desired()
        );
        if let Some(spinner) = &spinner {
            spinner.set_message(line);
        }
        if interrupt.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted("; the cluster goes on with it".into()).into());
        }
        Ok(())
    });
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let node_port = up?;
    let (namespace, called) = (cluster.namespace(), kubernetes::called(name));
    let port_forward = format!(
        "`kubectl{} port-forward -n {namespace} service/{called} 8080:80` brings it to http://127.0.0.1:8080/{name}/",
        cluster
            .context()
            .map(|context| format!(" --context {context}"))
            .unwrap_or_default()
    );
    let hint = match node_port {
        Some(port) => format!("every node answers at port {port}, path /{name}/; {port_forward}"),
        None => format!("it is inside the cluster; {port_forward}"),
    };
    Ok(UpReport {
        change: None,
        address: None,
        address_hint: Some(hint),
        folder: None,
        namespace: Some(namespace.to_owned()),
        gateway: GatewayReport::new(&gateway),
    })
}

/// The gateway in front of the project's Service, whose port is given.
fn in_cluster(args: &Gate, project: &Project, port: u16) -> Result<Gateway> {
    let config = &project.config.gateway;
    let flags = [
        ("--listen", args.listen.is_some()),
        ("--upstream", !args.upstream.is_empty()),
    ];
    if let Some((flag, _)) = flags.iter().find(|(_, given)| *given) {
        return Err(Failure::Usage(format!(
            "`{flag}` is about this machine; in a cluster the gateway stands in front of the Service"
        ))
        .into());
    }
    let balance = args.balance.unwrap_or(config.balance);
    if balance != Balance::RoundRobin {
        return Err(Problem::new(format!(
            "a gateway in a cluster cannot balance by `{}`: the Service chooses the replica of each request",
            balance.name()
        ))
        .hint("leave `gateway.balance` and --balance out, or say `round_robin`")
        .into());
    }
    if config.service_type != ServiceType::ClusterIP && !args.allow_public {
        return Err(Problem::new(format!(
            "a Service of type `{}` can be reached beyond the cluster, and the gateway answers anyone without a key",
            config.service_type.name()
        ))
        .hint("if that is what you want, say so with --allow-public; otherwise `gateway.service_type` is ClusterIP")
        .into());
    }
    let (name, max_body) = (&project.config.name, Settings::default().max_body);
    Gateway::of_service(name, &format!("{name}-service"), port, max_body)
}

/// Ends nginx.
///
/// # Errors
///
/// When none runs, or it does not end.
pub fn down(args: &Down, context: &Context) -> Result<DownReport> {
    let project = context.project(&args.project)?;
    let pid = if args.place.kind(&project)? == TargetKind::Kubernetes {
        let cluster = Cluster::connect(&args.place.access(&project))?;
        kubernetes::down(&cluster, &project.config.name)?;
        None
    } else {
        Some(Nginx::new(&project.state_of("gateway")).down()?)
    };
    Ok(DownReport {
        name: project.config.name,
        pid,
    })
}

/// The gateway that the flags and the project ask for.
fn gateway(args: &Gate, project: &Project) -> Result<Gateway> {
    let config = &project.config;
    let listen = args.listen.unwrap_or(config.gateway.listen);
    if !(args.allow_public || listen.ip().is_loopback()) {
        return Err(Problem::new(format!(
            "`{listen}` can be reached from other machines, and the gateway answers anyone without a key"
        ))
        .hint("if that is what you want, say so with --allow-public; otherwise use --listen 127.0.0.1:8080")
        .into());
    }
    let upstreams = if args.upstream.is_empty() {
        vec![Upstream::of_service(&config.deploy.host, config.deploy.port)?]
    } else {
        args.upstream.clone()
    };
    let balance = args.balance.unwrap_or(config.gateway.balance);
    Gateway::new(&config.name, listen, balance, upstreams, Settings::default().max_body)
}

fn answers(upstream: &str) -> bool {
    let Ok(mut addresses) = upstream.to_socket_addrs() else {
        return false;
    };
    addresses.any(|address| TcpStream::connect_timeout(&address, CONNECT).is_ok())
}

/// A gateway, as `render` and `up` tell it.
#[derive(Debug, Serialize)]
pub struct GatewayReport {
    /// The project's name, and its route.
    pub name: String,
    /// Address and port.
    pub listen: SocketAddr,
    /// How requests are spread.
    pub balance: Balance,
    /// Over what.
    pub upstreams: Vec<Upstream>,
}

impl GatewayReport {
    fn new(gateway: &Gateway) -> Self {
        Self {
            name: gateway.name().to_owned(),
            listen: gateway.listen(),
            balance: gateway.balance(),
            upstreams: gateway.upstreams().to_vec(),
        }
    }
}

/// What `gateway render` gives.
#[derive(Debug, Serialize)]
pub struct RenderReport {
    /// The nginx.conf.
    pub config: String,
    /// The objects of a cluster that hold and run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<Vec<serde_json::Value>>,
    /// What it is for.
    #[serde(flatten)]
    pub gateway: GatewayReport,
}

impl Report for RenderReport {
    /// The file alone, for `> nginx.conf`, or the objects, for `kubectl apply -f -`.
    fn text(&self) -> String {
        match &self.objects {
            None => self.config.trim_end().to_owned(),
            Some(objects) => yaml(objects),
        }
    }
}

/// What `gateway up` gives.
#[derive(Debug, Serialize)]
pub struct UpReport {
    /// What was done on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// The URL of the route, from this machine; none when the way there begins elsewhere.
    pub address: Option<String>,
    /// Why there is no address, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_hint: Option<String>,
    /// Where nginx's files and logs are on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// The namespace of the cluster that it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What runs.
    #[serde(flatten)]
    pub gateway: GatewayReport,
}

impl Report for UpReport {
    fn text(&self) -> String {
        let gateway = &self.gateway;
        let upstreams: Vec<String> = gateway.upstreams.iter().map(ToString::to_string).collect();
        let state = match (&self.change, &self.namespace) {
            (Some(Change::Started), _) => "started".to_owned(),
            (Some(Change::Reloaded), _) => "reloaded".to_owned(),
            (Some(Change::Unchanged), _) => "running already".to_owned(),
            (None, namespace) => format!("ready in namespace {}", namespace.as_deref().unwrap_or_default()),
        };
        let address = match (&self.address, &self.address_hint) {
            (Some(address), _) => address.clone(),
            (None, hint) => format!("none: {}", hint.as_deref().unwrap_or_default()),
        };
        let mut facts = vec![
            ("gateway", state),
            ("address", address),
            ("balance", gateway.balance.name().to_owned()),
            ("upstreams", upstreams.join(", ")),
        ];
        facts.extend(
            self.folder
                .as_ref()
                .map(|folder| ("files", folder.display().to_string())),
        );
        let facts = table(&facts);
        match &self.address {
            Some(address) => format!("{facts}\n\nask it: curl -s {address}v2/models/{}", gateway.name),
            None => facts,
        }
    }
}

/// What `gateway down` gives.
#[derive(Debug, Serialize)]
pub struct DownReport {
    /// The project's name.
    pub name: String,
    /// nginx's process on this machine, which has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

impl Report for DownReport {
    fn text(&self) -> String {
        match self.pid {
            Some(pid) => format!("ended the gateway of `{}` (process {pid})", self.name),
            None => format!("ended the gateway of `{}`", self.name),
        }
    }
}
