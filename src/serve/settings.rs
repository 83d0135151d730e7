//! What the server can be told, and how `emberline-server` is told it: flag, then environment, then default.
//!
//! The flags are a table, from which the help, the names of the environment variables and the suggestions follow.
//! `emberline serve` takes the same flags through clap; a test holds the two together.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;
use lexopt::{Arg, Parser};

use crate::problem::Problem;

/// How a server runs. See [`FLAGS`] for what each means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address or name to listen on; not read with `inherit`.
    pub host: String,
    /// Port to listen on, 0 for a free one; not read with `inherit`.
    pub port: u16,
    /// Whether `host` may be reachable from other machines.
    pub allow_public: bool,
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
            allow_public: false,
            inherit: false,
            drain: Duration::ZERO,
            idle_grace: Duration::from_secs(2),
            grace: Duration::from_secs(25),
            max_body: 16 << 20,
            queue: 256,
            max_batch: 64,
            drift_window: Duration::from_hours(1),
            threads: 0,
        }
    }
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// Name of its value; none for a switch.
    pub value: Option<&'static str>,
    /// The default, as it would be written; empty for a switch.
    pub default: &'static str,
    /// One sentence for people.
    pub help: &'static str,
}

impl Flag {
    /// The environment variable that it is read from.
    pub fn variable(&self) -> String {
        format!("EMBERLINE_{}", self.name.replace('-', "_").to_uppercase())
    }
}

const fn flag(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        value: Some(value),
        default,
        help,
    }
}

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        value: None,
        default: "",
        help,
    }
}

/// The flags of a server, in the order of the help.
pub const FLAGS: [Flag; 12] = [
    flag("host", "HOST", "127.0.0.1", "Address to listen on"),
    flag("port", "PORT", "5000", "Port to listen on; 0 takes a free one"),
    switch(
        "allow-public",
        "Listen beyond this machine, though anyone who reaches the port is answered",
    ),
    flag(
        "max-body",
        "BYTES",
        "16777216",
        "Largest body of a request; a larger one is answered with 413",
    ),
    flag(
        "queue",
        "REQUESTS",
        "256",
        "Requests that wait for the model before more are answered with 429",
    ),
    flag(
        "max-batch",
        "INPUTS",
        "64",
        "Inputs that go through the model at once when requests have gathered",
    ),
    flag(
        "drift-window",
        "SECONDS",
        "3600",
        "Window that drift is measured over; it is longer while it holds too little to say anything",
    ),
    flag(
        "threads",
        "COUNT",
        "0",
        "Threads that serve connections; 0 takes one for each core",
    ),
    flag(
        "drain",
        "SECONDS",
        "0",
        "After SIGTERM go on accepting for so long, with readiness 503, while load balancers look away",
    ),
    flag(
        "idle-grace",
        "SECONDS",
        "2",
        "After SIGTERM leave idle connections open for so long, so that a request on its way is answered",
    ),
    flag(
        "grace",
        "SECONDS",
        "25",
        "After SIGTERM let requests in flight take up to so long",
    ),
    switch(
        "inherit",
        "For supervisors: accept from the listening socket on stdin, and speak the control protocol on stdout",
    ),
];

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Serve the bundle.
    Serve(PathBuf, Settings),
    /// Ask the server that listens as these settings say whether it is ready.
    Health(Settings),
    /// Print this on stdout: help, or the version.
    Print(String),
}

impl Request {
    /// Reads the arguments (without the program's name) and the environment.
    ///
    /// # Errors
    ///
    /// Which argument is wrong, and the nearest flag that there is.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self> {
        let mut settings = Settings::default();
        // An empty variable says nothing.
        let environment = |name: &str| environment(name).filter(|value| !value.is_empty());
        let mut bundle = environment("EMBERLINE_BUNDLE").map(PathBuf::from);
        for flag in &FLAGS {
            let variable = flag.variable();
            if let Some(value) = environment(&variable) {
                let value = text(value, &variable)?;
                settings.set(flag, &value).map_err(|reason| wrong(&variable, &reason))?;
            }
        }
        let (mut given, mut health) = (None, false);
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Short('h') | Arg::Long("help") => return Ok(Self::Print(help())),
                Arg::Short('V') | Arg::Long("version") => {
                    return Ok(Self::Print(format!("emberline-server {}", env!("CARGO_PKG_VERSION"))));
                }
                Arg::Long("health") => health = true,
                Arg::Long(name) => {
                    let flag = FLAGS.iter().find(|flag| flag.name == name);
                    let flag = flag.ok_or_else(|| unknown(name))?;
                    let name = format!("--{}", flag.name);
                    let value = match flag.value {
                        Some(_) => text(parser.value()?, &name)?,
                        None => "true".to_owned(),
                    };
                    settings.set(flag, &value).map_err(|reason| wrong(&name, &reason))?;
                }
                Arg::Value(path) if given.is_none() => given = Some(PathBuf::from(path)),
                other => return Err(Problem::new(other.unexpected().to_string()).hint(TRY_HELP).into()),
            }
        }
        if health {
            return Ok(Self::Health(settings));
        }
        bundle = given.or(bundle);
        let bundle = bundle.ok_or_else(|| {
            Problem::new("no BUNDLE was given").hint("the directory of a bundle, as `emberline train` writes it")
        })?;
        settings.check()?;
        Ok(Self::Serve(bundle, settings))
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
            "port" => self.port = number(value)?,
            "allow-public" => self.allow_public = truth(value),
            "inherit" => self.inherit = truth(value),
            "drain" => self.drain = seconds(value)?,
            "idle-grace" => self.idle_grace = seconds(value)?,
            "grace" => self.grace = seconds(value)?,
            "max-body" => self.max_body = number(value)?,
            "queue" => self.queue = number(value)?,
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

const TRY_HELP: &str = "`emberline-server --help` lists the flags";

fn number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no whole number that fits"))
}

/// As clap reads a switch from the environment, with its `FalseyValueParser`.
fn truth(text: &str) -> bool {
    !matches!(
        text.to_lowercase().as_str(),
        "" | "0" | "n" | "no" | "f" | "false" | "off"
    )
}

fn text(value: OsString, name: &str) -> Result<String> {
    value
        .into_string()
        .map_err(|value| wrong(name, &format!("`{}` is not UTF-8", value.display())))
}

fn wrong(name: &str, reason: &str) -> anyhow::Error {
    Problem::new(format!("`{name}`: {reason}")).hint(TRY_HELP).into()
}

fn unknown(name: &str) -> anyhow::Error {
    let nearest = FLAGS
        .iter()
        .map(|flag| flag.name)
        .chain(["health", "help", "version"])
        .min_by_key(|known| distance(name, known));
    let problem = Problem::new(format!("there is no flag `--{name}`"));
    match nearest {
        Some(nearest) => problem.hint(format!("did you mean `--{nearest}`? {TRY_HELP}")).into(),
        None => problem.hint(TRY_HELP).into(),
    }
}

/// Levenshtein's distance: letters to insert, delete or replace.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (place, against) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != against);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(row[place] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

fn help() -> String {
    let mut text = String::from(
        "Serve a bundle over HTTP\n\nUsage: emberline-server [OPTIONS] BUNDLE\n\nArguments:\n  BUNDLE  Directory of the \
         bundle [env: EMBERLINE_BUNDLE]\n\nOptions:\n",
    );
    for flag in &FLAGS {
        let value = flag.value.map(|value| format!(" <{value}>")).unwrap_or_default();
        let default = match flag.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "      --{}{value}\n          {}{default} [env: {}]",
            flag.name,
            flag.help,
            flag.variable()
        );
    }
    text.push_str(
        "      --health\n          Ask the server that listens there whether it is ready: 0 if it is, for health checks\n  \
         -h, --help\n          Print this\n  -V, --version\n          Print the version\n\nExample:\n  \
         emberline-server .emberline/bundles/0123456789ab --port 5000",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Request, String> {
        Request::read(arguments.iter().map(OsString::from), |name| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
        .map_err(|error| {
            let hint = error.downcast_ref::<Problem>().and_then(Problem::hint_text);
            format!("{error} {}", hint.unwrap_or_default())
        })
    }

    fn settings(arguments: &[&str], environment: &[(&str, &str)]) -> Settings {
        match read(arguments, environment) {
            Ok(Request::Serve(_, settings)) => settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let mut from_table = Settings {
            host: String::new(),
            port: 1,
            allow_public: true,
            inherit: true,
            drain: Duration::MAX,
            idle_grace: Duration::MAX,
            grace: Duration::MAX,
            max_body: 1,
            queue: 1,
            max_batch: 1,
            drift_window: Duration::from_secs(1),
            threads: 1,
        };
        for flag in &FLAGS {
            from_table.set(flag, flag.default).expect("a default is valid");
        }
        assert_eq!(from_table, Settings::default());
    }

    #[test]
    fn a_flag_comes_before_the_environment_and_that_before_the_default() {
        let environment = [("EMBERLINE_PORT", "7"), ("EMBERLINE_ALLOW_PUBLIC", "1")];
        let read = settings(&["b", "--port", "8", "--idle-grace=0.5"], &environment);
        assert_eq!((read.port, read.allow_public), (8, true));
        assert_eq!(read.idle_grace, Duration::from_millis(500));
        assert_eq!(settings(&["b"], &environment).port, 7);
        assert_eq!(settings(&["b"], &[]).port, 5000);
        assert_eq!(
            settings(&["b"], &[("EMBERLINE_PORT", "")]).port,
            5000,
            "an empty variable says nothing"
        );
        assert!(!settings(&["b"], &[("EMBERLINE_ALLOW_PUBLIC", "false")]).allow_public);
    }

    #[test]
    fn the_bundle_comes_as_an_argument_or_from_the_environment() {
        let bundle = |request| match request {
            Ok(Request::Serve(bundle, _)) => bundle,
            other => panic!("{other:?}"),
        };
        let environment = [("EMBERLINE_BUNDLE", "e")];
        assert_eq!(bundle(read(&[], &environment)), PathBuf::from("e"));
        assert_eq!(bundle(read(&["a"], &environment)), PathBuf::from("a"));
        assert!(read(&[], &[]).expect_err("none").contains("BUNDLE"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |arguments: &[&str]| read(arguments, &[]).expect_err("refused");
        assert!(error(&["b", "--prot", "1"]).contains("did you mean `--port`"));
        assert!(error(&["b", "--max-bdy", "1"]).contains("did you mean `--max-body`"));
        assert!(error(&["b", "--port", "70000"]).contains("`--port`: `70000`"));
        assert!(error(&["b", "--grace", "-1"]).contains("`--grace`: `-1`"));
        assert!(error(&["b", "--queue", "0"]).contains("`--queue`"));
        assert!(error(&["b", "c"]).contains("\"c\""));
        assert!(error(&["b", "--inherit", "--drain", "1"]).contains("--drain"));
        let refused = read(&["b"], &[("EMBERLINE_PORT", "x")]).expect_err("refused");
        assert!(refused.contains("`EMBERLINE_PORT`: `x`"), "{refused}");
    }

    #[test]
    fn help_tells_every_flag_with_its_variable() {
        let Ok(Request::Print(text)) = read(&["--help"], &[]) else {
            panic!("help");
        };
        for flag in &FLAGS {
            assert!(text.contains(&format!("--{}", flag.name)), "{text}");
            assert!(text.contains(&flag.variable()), "{text}");
        }
        assert!(matches!(read(&["-V"], &[]), Ok(Request::Print(_))));
    }
}
