//! How `emberline-server` is told its settings: flag, then environment, then default.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use lexopt::{Arg, Parser};

use super::{FLAGS, Settings};
use crate::probe::{Order, load};
use crate::problem::Problem;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Serve the bundle.
    Serve(PathBuf, Settings),
    /// Ask the server that listens as these settings say whether it is ready.
    Health(Settings),
    /// Send a service predictions, and count what becomes of them.
    Probe(Order),
    /// Send a server on this machine predictions at rising rates, until it misses an objective.
    Load(load::Order),
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
        // An empty variable says nothing.
        let environment = |name: &str| environment(name).filter(|value| !value.is_empty());
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        if Order::is_asked(&arguments) {
            return Order::read(arguments, environment).map(Self::Probe);
        }
        if load::Order::is_asked(&arguments) {
            return load::Order::read(arguments, environment).map(Self::Load);
        }
        let mut settings = Settings::default();
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
                Arg::Value(more) => {
                    let (more, given) = (more.display().to_string(), given.unwrap_or_default());
                    let reason = format!("`{more}` is one argument too many: BUNDLE is `{}`", given.display());
                    return Err(Problem::new(reason).hint(TRY_HELP).into());
                }
                other @ Arg::Short(_) => {
                    return Err(Problem::new(other.unexpected().to_string()).hint(TRY_HELP).into());
                }
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

const TRY_HELP: &str = "`--help` lists the flags";

fn text(value: OsString, name: &str) -> Result<String> {
    value
        .into_string()
        .map_err(|value| wrong(name, &format!("`{}` is not UTF-8", value.display())))
}

pub(super) fn wrong(name: &str, reason: &str) -> anyhow::Error {
    Problem::new(format!("`{name}`: {reason}")).hint(TRY_HELP).into()
}

fn unknown(name: &str) -> anyhow::Error {
    let nearest = FLAGS
        .iter()
        .map(|flag| flag.name)
        .chain(["health", "load", "probe", "help", "version"])
        .min_by_key(|known| distance(name, known))
        // Half of it may be mistyped; what has less in common with it is another word.
        .filter(|nearest| distance(name, nearest) <= name.len() / 2);
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
        "      --health\n          Ask the server that listens there whether it is ready: 0 if it is, for health checks\n      \
         --probe <URL> [--rate <N>] [--for <SECONDS>]\n          Send predictions to the service at http://HOST:PORT, 50 \
         a second for 900 seconds, and count what becomes of them; its key is in EMBERLINE_PROBE_KEY\n      \
         --load <URL> --slo <p99=TIME> [--each <SECONDS>] [--from <RATE>] [--to <RATE>]\n          Send predictions to a \
         server on this machine at rising rates until it misses the objective, and tell what becomes of each rate\n  \
         -h, --help\n          Print this\n  -V, --version\n          Print the version\n\nExample:\n  \
         emberline-server .emberline/bundles/0123456789ab --port 5000",
    );
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        assert!(!error(&["b", "--frobnicate"]).contains("did you mean"));
        assert!(error(&["b", "--port", "70000"]).contains("`--port`: `70000` is no port"));
        assert!(error(&["b", "--grpc-port", "x"]).contains("up to 65535"));
        assert!(error(&["b", "--grace", "-1"]).contains("`--grace`: `-1`"));
        assert!(error(&["b", "--queue", "0"]).contains("`--queue`"));
        assert!(error(&["b", "--grpc-port", "5000"]).contains("`5000` is the port of HTTP"));
        assert!(error(&["b", "--tls-cert", "c"]).contains("`--tls-key`"));
        assert!(error(&["b", "--tls-key", "k"]).contains("`--tls-cert`"));
        assert!(error(&["b", "c"]).contains("`c` is one argument too many: BUNDLE is `b`"));
        assert!(error(&["b", "--inherit", "--drain", "1"]).contains("--drain"));
        assert!(error(&["b", "--inherit", "--grpc-port", "0"]).contains("EMBERLINE_GRPC_PORT"));
        let refused = read(&["b"], &[("EMBERLINE_ALLOW_PUBLIC", "maybe")]).expect_err("refused");
        assert!(refused.contains("`maybe` is neither"), "{refused}");
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
