//! The gateway: nginx in front of the replicas, at `/<name>/`, or at `/` where it is the service's own address.
//!
//! What it is (the configuration file) is here, and pure; that it runs is [`nginx`]'s on this machine, and
//! [`kubernetes`]' in a cluster. It balances over addresses that it is given, and knows neither deployments nor bundles.
//!
//! No value can put a directive into the file, because none is text of a user's choosing: the name is a DNS label, the
//! balance an enum, the address that it listens on a parsed one, and an [`Upstream`] holds letters, digits, dots, dashes,
//! underscores, colons and brackets. Paths in the file are relative to the folder that nginx is started in.

pub mod divided;
pub mod kubernetes;
pub mod nginx;
mod process;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use anyhow::Result;
use serde::Serialize;

use self::divided::Split;
use crate::files;
use crate::problem::Problem;
use crate::project::{Balance, check_name};
use crate::templates;

/// Processes of nginx that answer: two are more than a model keeps busy, and `auto` would count the processors of a whole
/// node inside a container.
pub const WORKERS: usize = 2;
/// Hex digits of a configuration's digest: enough to tell one from the next.
const DIGEST: usize = 12;

/// Where the replicas are on the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// At `/<name>/`, beside whatever else may come.
    Named,
    /// At `/`: paths are those of a replica.
    Root,
}

/// Where nginx runs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Home {
    /// On a machine, with files for its logs, in front of these replicas.
    Machine(Vec<Upstream>),
    /// In a pod, whose logs are its output, in front of this Service.
    Pod(Upstream),
    /// On a machine, with files for its logs, working as it would in a pod: to be measured.
    Model(Upstream),
}

/// A gateway as it should be.
#[derive(Clone, Debug)]
pub struct Gateway {
    name: String,
    route: Route,
    listen: SocketAddr,
    balance: Balance,
    home: Home,
    max_body: usize,
    split: Option<Split>,
}

/// nginx's file for a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The file.
    pub config: String,
    /// Its digest, 12 hex digits; [`Gateway::health`] tells it, so that it is known which configuration is in force.
    pub digest: String,
}

impl Gateway {
    /// A gateway for `/<name>/` to `upstreams`, which takes bodies of up to `max_body` bytes.
    ///
    /// # Errors
    ///
    /// A name that is no DNS label, port 0, no upstream, or one that is the gateway itself.
    pub fn new(
        name: &str,
        listen: SocketAddr,
        balance: Balance,
        upstreams: Vec<Upstream>,
        max_body: usize,
    ) -> Result<Self> {
        check_name(name).map_err(Problem::new)?;
        if listen.port() == 0 {
            return Err(Problem::new(format!(
                "`{listen}` has port 0, and a gateway needs one that stays the same"
            ))
            .into());
        }
        if upstreams.is_empty() {
            return Err(Problem::new("a gateway needs an upstream")
                .hint("`--upstream HOST:PORT` names one")
                .into());
        }
        if upstreams.iter().any(|upstream| upstream.0 == listen.to_string()) {
            return Err(Problem::new(format!(
                "the gateway would listen on `{listen}`, which is its own upstream"
            ))
            .hint("choose another address with `--listen`, or other upstreams with `--upstream`")
            .into());
        }
        Ok(Self {
            name: name.to_owned(),
            route: Route::Named,
            listen,
            balance,
            home: Home::Machine(upstreams),
            max_body,
            split: None,
        })
    }

    /// A gateway for `/<name>/` in a pod, to the replicas of a Service of the same namespace.
    ///
    /// # Errors
    ///
    /// A name that is no DNS label.
    pub fn of_service(name: &str, service: &str, port: u16, max_body: usize) -> Result<Self> {
        check_name(name).map_err(Problem::new)?;
        Ok(Self {
            name: name.to_owned(),
            route: Route::Named,
            listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), kubernetes::PORT),
            balance: Balance::RoundRobin,
            home: Home::Pod(format!("{service}:{port}").parse()?),
            max_body,
            split: None,
        })
    }

    /// The same as it works in a pod, with a connection of its own for each request, to its first upstream.
    #[must_use]
    pub fn as_in_a_pod(self) -> Self {
        let first = self.upstreams()[0].clone();
        Self {
            home: Home::Model(first),
            ..self
        }
    }

    /// The same in a pod, with some of the requests led elsewhere.
    #[must_use]
    pub fn divided(self, split: Option<Split>) -> Self {
        Self { split, ..self }
    }

    /// The same at another route.
    #[must_use]
    pub fn at(self, route: Route) -> Self {
        Self { route, ..self }
    }

    /// The name of the model and of its route.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that it listens on.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// How requests are spread.
    pub fn balance(&self) -> Balance {
        self.balance
    }

    /// What requests are spread over.
    pub fn upstreams(&self) -> &[Upstream] {
        match &self.home {
            Home::Machine(upstreams) => upstreams,
            Home::Pod(service) | Home::Model(service) => std::slice::from_ref(service),
        }
    }

    /// Where the gateway answers from this machine.
    pub fn reachable(&self) -> SocketAddr {
        let ip = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.listen.port())
    }

    /// The URL of the route, from this machine.
    pub fn address(&self) -> String {
        format!("http://{}{}", self.reachable(), self.prefix())
    }

    /// The path that every path of a replica is below, with a slash at its end.
    fn prefix(&self) -> String {
        match self.route {
            Route::Named => format!("/{}/", self.name),
            Route::Root => "/".to_owned(),
        }
    }

    /// The path at which nginx tells of itself; at the root `/healthz` is the replicas' own.
    pub fn health(&self) -> &'static str {
        match self.route {
            Route::Named => "/healthz",
            Route::Root => "/-/gateway",
        }
    }

    /// nginx's file.
    ///
    /// # Errors
    ///
    /// A mistake in the template.
    pub fn render(&self) -> Result<Rendered> {
        let draft = self.render_with("")?;
        let digest = files::sha256(draft.as_bytes())[..DIGEST].to_owned();
        let config = self.render_with(&digest)?;
        Ok(Rendered { config, digest })
    }

    fn render_with(&self, digest: &str) -> Result<String> {
        let files = ["error.log", "access.log"];
        let (upstreams, service, [error_log, access_log]) = match &self.home {
            Home::Machine(upstreams) => (&upstreams[..], None, files),
            Home::Model(service) => (&[][..], Some(service.to_string()), files),
            Home::Pod(service) => (&[][..], Some(service.to_string()), ["stderr", "/dev/stdout"]),
        };
        let upstreams: Vec<String> = upstreams.iter().map(ToString::to_string).collect();
        let values = minijinja::context! {
            digest,
            name => self.name.as_str(),
            prefix => self.prefix(),
            health => self.health(),
            listen => self.listen.to_string(),
            balance => self.balance.name(),
            upstreams,
            service,
            split => self.split.as_ref().map(Split::values),
            error_log,
            access_log,
            workers => WORKERS,
            max_body => self.max_body,
        };
        templates::render("nginx.conf", templates::NGINX, values)
    }
}

/// A replica, or what stands for several: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upstream(String);

impl Upstream {
    /// The upstream that a service which listens on `host` and `port` is.
    ///
    /// # Errors
    ///
    /// As [`Upstream::from_str`].
    pub fn of_service(host: &str, port: u16) -> Result<Self> {
        // Where a service listens on all addresses, it is reached over one of this machine's own.
        match host.trim_matches(['[', ']']) {
            "0.0.0.0" => format!("127.0.0.1:{port}"),
            "::" => format!("[::1]:{port}"),
            host if host.contains(':') => format!("[{host}]:{port}"),
            host => format!("{host}:{port}"),
        }
        .parse()
    }
}

impl FromStr for Upstream {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.parse::<SocketAddr>().ok();
        let good = match (parsed, text.rsplit_once(':')) {
            (Some(address), _) => address.port() != 0 && !text.contains('%'),
            (None, Some((host, port))) => {
                let labels = host.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && label
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                        && !label.starts_with('-')
                });
                labels && host.len() <= 253 && port.parse::<u16>().is_ok_and(|port| port != 0)
            }
            (None, None) => false,
        };
        if good {
            Ok(Self(
                parsed.map_or_else(|| text.to_owned(), |address| address.to_string()),
            ))
        } else {
            Err(Problem::new(format!("`{text}` is no HOST:PORT"))
                .hint("`127.0.0.1:5000`, `[::1]:5000` and `replica-1.example.com:5000` are")
                .into())
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(balance: Balance, upstreams: &[&str]) -> Gateway {
        let upstreams = upstreams
            .iter()
            .map(|text| text.parse().expect("an upstream"))
            .collect();
        let listen = "127.0.0.1:8080".parse().expect("an address");
        Gateway::new("digits", listen, balance, upstreams, 1024).expect("a gateway")
    }

    #[test]
    fn upstreams_are_a_host_and_a_port() {
        for good in [
            "127.0.0.1:5000",
            "[::1]:5000",
            "digits-service:5000",
            "a_b.example.com:1",
        ] {
            assert_eq!(good.parse::<Upstream>().expect("good").to_string(), good);
        }
        for bad in [
            "",
            "5000",
            ":5000",
            "host",
            "host:",
            "host:0",
            "host:70000",
            "host:http",
            "::1:5000",
            "[::1]",
            "[fe80::1%1]:5000",
            "a..b:1",
            "-a:1",
            "127.0.0.1:0",
            "http://host:5000",
            "host:5000/path",
            "unix:/socket",
            "host:5000; return 200",
            "h{o}st:1",
            "$host:1",
            "a b:1",
            "a\n:1",
            "\"a\":1",
        ] {
            let error = bad.parse::<Upstream>().expect_err(bad);
            assert!(error.to_string().contains("is no HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn a_service_on_all_addresses_is_reached_over_loopback() {
        let upstream = |host| Upstream::of_service(host, 5000).expect("an upstream").to_string();
        assert_eq!(upstream("0.0.0.0"), "127.0.0.1:5000");
        assert_eq!(upstream("::"), "[::1]:5000");
        assert_eq!(upstream("::1"), "[::1]:5000");
        assert_eq!(upstream("localhost"), "localhost:5000");
    }

    #[test]
    fn the_file_says_what_was_asked_for_and_its_digest_tells_it_from_others() {
        let one = gateway(Balance::RoundRobin, &["127.0.0.1:5000"])
            .render()
            .expect("rendered");
        assert!(one.config.contains("listen 127.0.0.1:8080;"), "{}", one.config);
        assert!(one.config.contains("location /digits/ {"), "{}", one.config);
        assert!(
            one.config.contains(&format!(r#""config": "{}""#, one.digest)),
            "{}",
            one.config
        );
        assert!(!one.config.contains("round_robin"), "nginx's default has no directive");
        let two = gateway(Balance::LeastConn, &["127.0.0.1:5000", "[::1]:5001"]);
        assert_eq!(two.render().expect("once"), two.render().expect("twice"));
        let two = two.render().expect("rendered");
        assert!(
            two.config
                .contains("        least_conn;\n        server 127.0.0.1:5000 "),
            "{}",
            two.config
        );
        assert!(two.config.contains("        server [::1]:5001 "), "{}", two.config);
        assert_ne!(one.digest, two.digest);
    }

    #[test]
    fn at_the_root_every_path_is_a_replicas_but_one() {
        let root = gateway(Balance::RoundRobin, &["127.0.0.1:5000"]).at(Route::Root);
        let file = root.render().expect("rendered").config;
        assert_eq!(root.address(), "http://127.0.0.1:8080/");
        assert!(file.contains("location = /-/gateway {"), "{file}");
        assert!(
            !file.contains("location /digits/") && !file.contains("/healthz"),
            "{file}"
        );
        assert_eq!(file.matches("location / {").count(), 1, "{file}");
        assert!(!file.contains("X-Forwarded-Prefix"), "{file}");
    }

    #[test]
    fn a_gateway_in_front_of_itself_is_refused() {
        let listen = "127.0.0.1:8080".parse().expect("an address");
        let upstreams = |text: &str| vec![text.parse().expect("an upstream")];
        let new = |name, listen, upstreams| Gateway::new(name, listen, Balance::RoundRobin, upstreams, 1);
        let error = new("digits", listen, upstreams("127.0.0.1:8080")).expect_err("itself");
        assert!(error.to_string().contains("its own upstream"), "{error}");
        new("a b", listen, upstreams("h:1")).expect_err("no name");
        new("digits", listen, Vec::new()).expect_err("no upstream");
        new("digits", "127.0.0.1:0".parse().expect("an address"), upstreams("h:1")).expect_err("no port");
        let all = new("digits", "[::]:80".parse().expect("an address"), upstreams("h:1")).expect("a gateway");
        assert_eq!(all.address(), "http://[::1]:80/digits/");
    }
}
