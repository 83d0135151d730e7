//! A measurement on this machine: a server of its own on a free port of the loopback, and nginx in front of it. Both end with
//! the measurement; the server also ends with this process, however that ends.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::bundle::Bundle;
use crate::bundle::capacity::{Limit, Machine, Measurement, Place, Slo, Step, Subject};
use crate::clock::seconds_since_1970;
use crate::gateway::nginx::Nginx;
use crate::gateway::{Gateway, Route, Upstream};
use crate::probe::load::{self, Order, Told};
use crate::problem::Problem;
use crate::project::Balance;

/// The largest body that the gateway takes while it is measured, in bytes.
const MAX_BODY: usize = 16 << 20;

/// What is measured, and who is told.
pub struct Bench<'a> {
    /// The bundle.
    pub bundle: &'a Bundle,
    /// What is to be met.
    pub slo: Slo,
    /// Whether to end early.
    pub stop: &'a dyn Fn() -> bool,
    /// Hears what becomes of each rate.
    pub tell: &'a mut dyn FnMut(Subject, &Step),
}

/// What a load has told; not whole when it was stopped.
#[derive(Default)]
struct Heard {
    machine: Machine,
    steps: Vec<Step>,
    limit: Option<Limit>,
}

impl Bench<'_> {
    /// Measures one server; none when it was stopped.
    ///
    /// # Errors
    ///
    /// When the server does not start, or is not asked.
    pub fn replica(&mut self) -> Result<Option<Measurement>> {
        let server = Server::start(self.bundle.path())?;
        let order = self.order(server.address)?;
        let heard = self.load(Subject::Replica, &order, &mut |_| {})?;
        Ok(self.measurement(Subject::Replica, heard))
    }

    /// Measures what nginx takes for a request at one rate, in front of one server; none when it was stopped. Its files are
    /// in `folder`.
    ///
    /// # Errors
    ///
    /// When there is no nginx, or either does not start.
    pub fn gateway(&mut self, rate: f64, folder: &Path) -> Result<Option<Measurement>> {
        let server = Server::start(self.bundle.path())?;
        let nginx = Nginx::new(folder);
        // One that a killed process has left behind.
        if nginx.runs() {
            nginx.down()?;
        }
        let listen = free_address()?;
        let upstream: Upstream = server.address.to_string().parse()?;
        let name = &self.bundle.manifest().name;
        let gateway = Gateway::new(name, listen, Balance::RoundRobin, vec![upstream], MAX_BODY)?;
        nginx.up(&gateway.at(Route::Root).as_in_a_pod())?;
        let order = Order {
            from: rate,
            to: rate,
            ..self.order(listen)?
        };
        let mut before = None;
        let heard = self.load(Subject::Gateway, &order, &mut |told| {
            let now = nginx.cpu_seconds();
            if let Told::Step(step) = told {
                step.cpu_seconds = before
                    .zip(now)
                    .map(|(before, now)| Step::processor_seconds(before, now));
                step.memory_bytes = None;
            }
            before = now;
        });
        let down = nginx.down();
        let heard = heard?;
        down?;
        Ok(self.measurement(Subject::Gateway, heard))
    }

    fn order(&self, address: SocketAddr) -> Result<Order> {
        Order::new(self.bundle.path().to_owned(), &format!("http://{address}"), self.slo)
    }

    /// Sends the load; `amend` sees what it tells first.
    fn load(&mut self, of: Subject, order: &Order, amend: &mut dyn FnMut(&mut Told)) -> Result<Heard> {
        let mut heard = Heard::default();
        let tell = &mut *self.tell;
        load::run(order, self.stop, &mut |told| {
            let mut told = told.clone();
            amend(&mut told);
            match told {
                Told::Machine(machine) => heard.machine = machine,
                Told::Step(step) => {
                    tell(of, &step);
                    heard.steps.push(step);
                }
                Told::End(limit) => heard.limit = Some(limit),
            }
        })?;
        Ok(heard)
    }

    fn measurement(&self, of: Subject, heard: Heard) -> Option<Measurement> {
        Some(Measurement {
            of,
            place: Place::Local,
            at: seconds_since_1970(),
            machine: heard.machine,
            resources: None,
            slo: self.slo,
            limit: heard.limit?,
            steps: heard.steps,
        })
    }
}

/// A server of this program.
struct Server {
    child: Child,
    /// It ends when this closes.
    channel: BufReader<UnixStream>,
    address: SocketAddr,
}

impl Server {
    /// Starts one, and waits until it is ready.
    fn start(bundle: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr()?;
        let (channel, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command.args(["serve", "--inherit", "--bundle"]).arg(bundle);
        // What is set for other servers would be measured with it.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"EMBERLINE_")) {
            command.env_remove(name);
        }
        let child = command
            .stdin(OwnedFd::from(listener))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a server to measure")?;
        // The command holds the server's ends of both until it goes.
        drop(command);
        let mut server = Self {
            child,
            channel: BufReader::new(channel),
            address,
        };
        let mut line = String::new();
        server.channel.read_line(&mut line)?;
        match line.trim() {
            "ready" => Ok(server),
            "" => Err(Problem::new("the server that was to be measured has ended").into()),
            said => Err(Problem::new(format!("the server that was to be measured does not start: {said}")).into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody else is served by it, and it cannot be gone: it has not been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
    Ok(listener.local_addr()?)
}
