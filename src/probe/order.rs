//! What a probe is told: `emberline-server BUNDLE --probe URL [--rate N] [--for SECONDS]`, and a key from the environment.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use lexopt::{Arg, Parser};

use super::destination::{Destination, KEY};
use crate::problem::Problem;

/// Most requests in a second: it is a probe, and no load.
const MOST_RATE: f64 = 1000.0;
/// Longest run, in seconds: what is forgotten ends by itself.
const LONGEST: f64 = 86_400.0;

/// What is asked, how often and for how long.
#[derive(Clone, PartialEq)]
pub struct Order {
    /// The bundle whose golden inputs are asked.
    pub bundle: PathBuf,
    /// The service.
    pub destination: Destination,
    /// Requests in a second.
    pub rate: f64,
    /// How long.
    pub duration: Duration,
}

impl fmt::Debug for Order {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It holds a key.
        write!(to, "{}:{}", self.destination.host, self.destination.port)
    }
}

impl Order {
    /// Whether these arguments are for a probe.
    pub fn is_asked(arguments: &[OsString]) -> bool {
        let asks = |argument: &OsString| argument == "--probe" || argument.as_encoded_bytes().starts_with(b"--probe=");
        arguments.iter().any(asks)
    }

    /// Reads the arguments and the environment.
    ///
    /// # Errors
    ///
    /// Which argument is wrong.
    pub fn read(arguments: Vec<OsString>, environment: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let mut bundle = environment("EMBERLINE_BUNDLE").map(PathBuf::from);
        let (mut given, mut url, mut rate, mut seconds) = (false, String::new(), 50.0, 900.0);
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("probe") => url = text(parser.value()?)?,
                Arg::Long("rate") => rate = number("--rate", &text(parser.value()?)?, MOST_RATE).map_err(wrong)?,
                Arg::Long("for") => seconds = number("--for", &text(parser.value()?)?, LONGEST).map_err(wrong)?,
                Arg::Value(path) if !given => (bundle, given) = (Some(path.into()), true),
                other => {
                    return Err(wrong(format!(
                        "{}: with `--probe` there are BUNDLE, --rate and --for",
                        other.unexpected()
                    )));
                }
            }
        }
        let destination =
            Destination::new(&url, environment(KEY)).map_err(|reason| wrong(format!("`--probe`: {reason}")))?;
        Ok(Self {
            bundle: bundle.ok_or_else(|| wrong("no BUNDLE was given, whose golden inputs to ask".to_owned()))?,
            destination,
            rate,
            duration: Duration::from_secs_f64(seconds),
        })
    }
}

pub(super) fn number(name: &str, text: &str, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= most);
    number.ok_or_else(|| format!("`{name}`: `{text}` is no number above 0 and up to {most}"))
}

pub(super) fn text(value: OsString) -> Result<String> {
    value
        .into_string()
        .map_err(|_| wrong("an argument or variable is not UTF-8".to_owned()))
}

fn wrong(reason: String) -> anyhow::Error {
    Problem::new(reason)
        .hint("emberline-server BUNDLE --probe http://HOST:PORT [--rate N] [--for SECONDS]")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str], key: &str) -> Result<Order, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        assert!(Order::is_asked(&arguments));
        Order::read(arguments, |name| (name == KEY).then(|| key.into())).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_is_read() {
        let order = read(
            &[
                "/model",
                "--probe",
                "http://digits-service:5000/",
                "--rate=20",
                "--for",
                "1.5",
            ],
            "",
        )
        .expect("an order");
        assert_eq!(
            (order.destination.host.as_str(), order.destination.port),
            ("digits-service", 5000)
        );
        assert_eq!((order.rate, order.duration), (20.0, Duration::from_millis(1500)));
        let order = read(&["--probe=http://[::1]:80", "m"], "").expect("an order");
        assert_eq!((order.destination.host.as_str(), order.rate), ("[::1]", 50.0));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |arguments: &[&str]| read(arguments, "").expect_err("refused");
        assert!(error(&["m", "--probe", "https://a:1"]).contains("no `http://HOST:PORT`"));
        let with = |flag: &str, value: &str| error(&["m", "--probe", "http://a:1", flag, value]);
        assert!(with("--rate", "0").contains("`--rate`: `0`"));
        assert!(with("--rate", "1e9").contains("up to 1000"));
        assert!(with("--for", "nan").contains("`--for`"));
        assert!(with("--port", "1").contains("--port"));
        assert!(error(&["--probe", "http://a:1"]).contains("no BUNDLE"));
        assert!(
            read(&["m", "--probe", "http://a:1"], "a\r\nb")
                .expect_err("refused")
                .contains("no key")
        );
    }

    #[test]
    fn a_key_is_never_shown() {
        let order = read(&["m", "--probe", "http://a:1"], "emb_secret").expect("an order");
        assert!(!format!("{order:?}").contains("secret"));
    }
}
