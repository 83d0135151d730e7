//! What the server can be told: the settings, their defaults, and what cannot go together.
//!
//! The flags are a table (`flags`), from which the help, the names of the environment variables and the suggestions
//! follow; `read` reads the arguments and the environment of `emberline-server` by it. `emberline serve` takes the same
//! flags through clap; a test holds the two together.

mod flags;
mod read;

pub use flags::{FLAGS, Flag};
pub use read::Request;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;

use super::cache::Size;
use crate::problem::Problem;
use read::wrong;

/// How a server runs. See [`FLAGS`] for what each means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address or name to listen on; not read with `inherit`.
    pub host: String,
    /// Port to listen on, 0 for a free one; not read with `inherit`.
    pub port: u16,
    /// Port to speak gRPC on, 0 for a free one; none to speak none.
    pub grpc_port: Option<u16>,
    /// Whether `host` may be reachable from other machines.
    pub allow_public: bool,
    /// The key file; without one, everyone who reaches the port is answered.
    pub keys: Option<PathBuf>,
    /// PEM file with the certificate that TLS is spoken with, and those between it and the root.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with its private key; one comes with the other.
    pub tls_key: Option<PathBuf>,
    /// Whether each request is logged.
    pub access_log: bool,
    /// Whether the listening socket is stdin and a supervisor speaks on stdout.
    pub inherit: bool,
    /// How long to go on accepting connections, with readiness 503, after being told to go.
    pub drain: Duration,
    /// How long idle connections stay open after that.
    pub idle_grace: Duration,
    /// How long requests in flight may take after that.
    pub grace: Duration,
    /// Largest body of a request, in bytes.
    pub max_body: usize,
    /// Requests that wait for the model before more are refused.
    pub queue: usize,
    /// Inputs that go through the model at once.
    pub max_batch: usize,
    /// Answers that are kept, to be given again.
    pub cache: Option<Size>,
    /// Length of the window that drift is measured over.
    pub drift_window: Duration,
    /// Threads that serve connections, 0 for one on each core.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 5000,
            grpc_port: None,
            allow_public: false,
            keys: None,
            tls_cert: None,
            tls_key: None,
            access_log: false,
            inherit: false,
            drain: Duration::ZERO,
            idle_grace: Duration::from_secs(2),
            grace: Duration::from_secs(25),
            max_body: 16 << 20,
            queue: 256,
            max_batch: 64,
            cache: None,
            drift_window: Duration::from_hours(1),
            threads: 0,
        }
    }
}

impl Settings {
    /// Checks what no single flag can get wrong.
    ///
    /// # Errors
    ///
    /// Which flags do not go together.
    pub fn check(&self) -> Result<()> {
        if self.inherit && !self.drain.is_zero() {
            return Err(Problem::new(
                "`--drain` goes with a socket of the server's own: with `--inherit` it stops accepting at once, and its \
                 siblings on the socket take over",
            )
            .hint("leave out --drain (EMBERLINE_DRAIN)")
            .into());
        }
        if self.grpc_port == Some(self.port) && self.port != 0 {
            let reason = format!("`{}` is the port of HTTP already", self.port);
            return Err(wrong("--grpc-port", &reason));
        }
        if self.inherit && self.grpc_port.is_some() {
            return Err(Problem::new(
                "`--grpc-port` goes with sockets of the server's own: with `--inherit` there is one, on stdin, and it is \
                 for HTTP",
            )
            .hint("leave out --grpc-port (EMBERLINE_GRPC_PORT)")
            .into());
        }
        for (given, other, name) in [
            (&self.tls_cert, &self.tls_key, "tls-key"),
            (&self.tls_key, &self.tls_cert, "tls-cert"),
        ] {
            if given.is_some() && other.is_none() {
                return Err(wrong(
                    &format!("--{name}"),
                    "a certificate goes with its key, and this one is missing",
                ));
            }
        }
        for (name, value) in [("queue", self.queue), ("max-batch", self.max_batch)] {
            if value == 0 {
                return Err(wrong(&format!("--{name}"), "`0` is below 1"));
            }
        }
        Ok(())
    }

    fn set(&mut self, flag: &Flag, value: &str) -> Result<(), String> {
        match flag.name {
            "host" => value.clone_into(&mut self.host),
            "port" => self.port = port(value)?,
            "grpc-port" => self.grpc_port = (!value.is_empty()).then(|| port(value)).transpose()?,
            "allow-public" => self.allow_public = truth(value)?,
            "keys" => self.keys = file(value),
            "tls-cert" => self.tls_cert = file(value),
            "tls-key" => self.tls_key = file(value),
            "access-log" => self.access_log = truth(value)?,
            "inherit" => self.inherit = truth(value)?,
            "drain" => self.drain = seconds(value)?,
            "idle-grace" => self.idle_grace = seconds(value)?,
            "grace" => self.grace = seconds(value)?,
            "max-body" => self.max_body = number(value)?,
            "queue" => self.queue = number(value)?,
            "cache" => self.cache = (!value.is_empty()).then(|| value.parse()).transpose()?,
            "drift-window" => self.drift_window = seconds(value)?,
            "threads" => self.threads = number(value)?,
            _ => self.max_batch = number(value)?,
        }
        Ok(())
    }
}

/// Reads a duration that is written in seconds.
///
/// # Errors
///
/// What is wrong with the text.
pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("`{text}` is no number of seconds"))
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no port, which is a whole number up to {}", u16::MAX))
}

fn number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no whole number that fits"))
}

/// As clap reads a switch from the environment, with its `BoolishValueParser`: what it does not know is no yes.
fn truth(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "1" | "y" | "yes" | "t" | "true" | "on" => Ok(true),
        "" | "0" | "n" | "no" | "f" | "false" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither `true` nor `false`")),
    }
}

fn file(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::super::cache::Policy;
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let mut from_table = Settings {
            host: String::new(),
            port: 1,
            grpc_port: Some(1),
            allow_public: true,
            keys: Some(PathBuf::new()),
            tls_cert: Some(PathBuf::new()),
            tls_key: Some(PathBuf::new()),
            access_log: true,
            inherit: true,
            drain: Duration::MAX,
            idle_grace: Duration::MAX,
            grace: Duration::MAX,
            max_body: 1,
            queue: 1,
            max_batch: 1,
            cache: Some(Size {
                policy: Policy::Lru,
                entries: 1,
            }),
            drift_window: Duration::from_secs(1),
            threads: 1,
        };
        for flag in &FLAGS {
            from_table.set(flag, flag.default).expect("a default is valid");
        }
        assert_eq!(from_table, Settings::default());
    }
}
