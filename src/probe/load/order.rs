//! What a load is told: `emberline-server BUNDLE --load URL --slo p99=20ms [--each SECONDS] [--from RATE] [--to RATE]`, and a
//! key from the environment.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use lexopt::{Arg, Parser};

use crate::bundle::capacity::Slo;
use crate::probe::destination::{Destination, KEY};
use crate::probe::order::{number, text};
use crate::problem::Problem;

/// Most requests in a second.
const MOST_RATE: f64 = 50_000.0;
/// The first rate.
const FROM: f64 = 20.0;
/// Longest time for one rate, in seconds.
const LONGEST: f64 = 30.0;
/// How long each rate is tried, in seconds.
const EACH: f64 = 1.5;

/// What is asked, and which objective is to be met.
#[derive(Clone, PartialEq)]
pub struct Order {
    /// The bundle whose golden inputs are asked.
    pub bundle: PathBuf,
    /// The server, on this machine.
    pub destination: Destination,
    /// What is to be met.
    pub slo: Slo,
    /// How long each rate is tried.
    pub each: Duration,
    /// The first rate.
    pub from: f64,
    /// The highest rate.
    pub to: f64,
}

impl fmt::Debug for Order {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It holds a key.
        write!(to, "{}:{}", self.destination.host, self.destination.port)
    }
}

impl Order {
    /// Whether these arguments are for a load.
    pub fn is_asked(arguments: &[OsString]) -> bool {
        let asks = |argument: &OsString| argument == "--load" || argument.as_encoded_bytes().starts_with(b"--load=");
        arguments.iter().any(asks)
    }

    /// The usual load on a server of this machine.
    ///
    /// # Errors
    ///
    /// When `url` is no place.
    pub fn new(bundle: PathBuf, url: &str, slo: Slo) -> Result<Self> {
        Ok(Self {
            bundle,
            destination: Destination::new(url, None).map_err(wrong)?,
            slo,
            each: Duration::from_secs_f64(EACH),
            from: FROM,
            to: MOST_RATE,
        })
    }

    /// Reads the arguments and the environment.
    ///
    /// # Errors
    ///
    /// Which argument is wrong.
    pub fn read(arguments: Vec<OsString>, environment: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let mut bundle = environment("EMBERLINE_BUNDLE").map(PathBuf::from);
        let (mut given, mut url, mut slo) = (false, String::new(), None);
        let (mut each, mut from, mut to) = (EACH, FROM, MOST_RATE);
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("load") => url = text(parser.value()?)?,
                Arg::Long("slo") => {
                    let given = text(parser.value()?)?.parse();
                    slo = Some(given.map_err(|reason| wrong(format!("`--slo`: {reason}")))?);
                }
                Arg::Long("each") => each = number("--each", &text(parser.value()?)?, LONGEST).map_err(wrong)?,
                Arg::Long("from") => from = number("--from", &text(parser.value()?)?, MOST_RATE).map_err(wrong)?,
                Arg::Long("to") => to = number("--to", &text(parser.value()?)?, MOST_RATE).map_err(wrong)?,
                Arg::Value(path) if !given => (bundle, given) = (Some(path.into()), true),
                other => {
                    return Err(wrong(format!(
                        "{}: with `--load` there are BUNDLE, --slo, --each, --from and --to",
                        other.unexpected()
                    )));
                }
            }
        }
        if from > to {
            return Err(wrong(format!("`--from`: `{from}` is above `--to`, which is `{to}`")));
        }
        let destination = Destination::new(&url, environment(KEY));
        Ok(Self {
            bundle: bundle.ok_or_else(|| wrong("no BUNDLE was given, whose golden inputs to ask".to_owned()))?,
            destination: destination.map_err(|reason| wrong(format!("`--load`: {reason}")))?,
            slo: slo.ok_or_else(|| wrong("no `--slo` was given, which is to be met".to_owned()))?,
            each: Duration::from_secs_f64(each),
            from,
            to,
        })
    }
}

fn wrong(reason: String) -> anyhow::Error {
    Problem::new(reason)
        .hint("emberline-server BUNDLE --load http://127.0.0.1:PORT --slo p99=20ms [--each SECONDS] [--from RATE] [--to RATE]")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Order, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        assert!(Order::is_asked(&arguments));
        Order::read(arguments, |name| (name == KEY).then(|| "emb_secret".into())).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_is_read() {
        let order = read(&[
            "/model",
            "--load",
            "http://127.0.0.1:5000",
            "--slo=p99=20ms",
            "--each",
            "0.5",
            "--from",
            "10",
            "--to",
            "1000",
        ])
        .expect("an order");
        assert_eq!(
            (order.from, order.to, order.each),
            (10.0, 1000.0, Duration::from_millis(500))
        );
        assert_eq!(order.slo.to_string(), "p99=20ms");
        assert!(!format!("{order:?}").contains("secret"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |flag: &str, value: &str| {
            let arguments = ["m", "--load", "http://[::1]:1", "--slo", "p99=20ms", flag, value];
            read(&arguments).expect_err("refused")
        };
        assert!(with("--each", "31").contains("up to 30"));
        assert!(with("--to", "60000").contains("up to 50000"));
        assert!(with("--to", "10").contains("`20` is above"));
        assert!(with("--slo", "p99=20").contains("`--slo`: `p99=20`"));
        assert!(with("--rate", "1").contains("--rate"));
        let error = |arguments: &[&str]| read(arguments).expect_err("refused");
        assert!(error(&["m", "--load", "http://a:1"]).contains("no `--slo`"));
        assert!(error(&["--load", "http://a:1", "--slo", "p99=1s"]).contains("no BUNDLE"));
        assert!(error(&["m", "--load", "a:1", "--slo", "p99=1s"]).contains("no `http://HOST:PORT`"));
    }
}
