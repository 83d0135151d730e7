//! `emberline gateway`: nginx in front of the replicas.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::Context;
use super::output::{Report, table};
use crate::gateway::nginx::{Change, Nginx};
use crate::gateway::{Gateway, Upstream};
use crate::problem::Problem;
use crate::project::{Balance, Project};
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
    /// Print the gateway's nginx.conf
    ///
    /// It is a whole configuration that runs without root. Its paths are relative: `nginx -p FOLDER -c nginx.conf`.
    #[command(
        after_help = "Example:\n  emberline gateway render --upstream 10.0.0.1:5000 --upstream 10.0.0.2:5000 > nginx.conf"
    )]
    Render(Gate),
    /// Start nginx, or hand a changed configuration to the one that runs
    ///
    /// It outlives the terminal; `emberline gateway down` ends it. Its files and logs are in `.emberline/gateway/`.
    #[command(after_help = "Example:\n  emberline gateway up --listen 127.0.0.1:9000 --balance least_conn")]
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
}

/// Arguments of `gateway down`.
#[derive(Debug, clap::Args)]
pub struct Down {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
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
    let gateway = gateway(args, &project)?;
    Ok(RenderReport {
        config: gateway.render()?.config,
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
    let nginx = Nginx::new(&folder(&project));
    let change = nginx.up(&gateway)?;
    Ok(UpReport {
        change,
        address: gateway.address(),
        folder: nginx.folder().to_owned(),
        gateway: GatewayReport::new(&gateway),
    })
}

/// Ends nginx.
///
/// # Errors
///
/// When none runs, or it does not end.
pub fn down(args: &Down, context: &Context) -> Result<DownReport> {
    let project = context.project(&args.project)?;
    let pid = Nginx::new(&folder(&project)).down()?;
    Ok(DownReport {
        name: project.config.name,
        pid,
    })
}

/// Where its files and logs are.
fn folder(project: &Project) -> PathBuf {
    project.state().join("gateway")
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
    /// What it is for.
    #[serde(flatten)]
    pub gateway: GatewayReport,
}

impl Report for RenderReport {
    /// The file alone, for `> nginx.conf`.
    fn text(&self) -> String {
        self.config.trim_end().to_owned()
    }
}

/// What `gateway up` gives.
#[derive(Debug, Serialize)]
pub struct UpReport {
    /// What was done.
    pub change: Change,
    /// The URL of the route, from this machine.
    pub address: String,
    /// Where nginx's files and logs are.
    pub folder: PathBuf,
    /// What runs.
    #[serde(flatten)]
    pub gateway: GatewayReport,
}

impl Report for UpReport {
    fn text(&self) -> String {
        let Self { address, gateway, .. } = self;
        let upstreams: Vec<String> = gateway.upstreams.iter().map(ToString::to_string).collect();
        let change = match self.change {
            Change::Started => "started",
            Change::Reloaded => "reloaded",
            Change::Unchanged => "running already",
        };
        let facts = table(&[
            ("gateway", change.to_owned()),
            ("address", address.clone()),
            ("balance", gateway.balance.name().to_owned()),
            ("upstreams", upstreams.join(", ")),
            ("files", self.folder.display().to_string()),
        ]);
        format!("{facts}\n\nask it: curl -s {address}v2/models/{}", gateway.name)
    }
}

/// What `gateway down` gives.
#[derive(Debug, Serialize)]
pub struct DownReport {
    /// The project's name.
    pub name: String,
    /// nginx's process, which has ended.
    pub pid: u32,
}

impl Report for DownReport {
    fn text(&self) -> String {
        format!("ended the gateway of `{}` (process {})", self.name, self.pid)
    }
}
