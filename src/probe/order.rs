//! What a probe is told: `emberline-server BUNDLE --probe URL [--rate N] [--for SECONDS]`, and a key from the environment.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use lexopt::{Arg, Parser};

use super::HEADER;
use crate::problem::Problem;

/// Most requests in a second: it is a probe, and no load.
const MOST_RATE: f64 = 1000.0;
/// Longest run, in seconds: what is forgotten ends by itself.
const LONGEST: f64 = 86_400.0;
/// Where the service's key is read from.
const KEY: &str = "EMBERLINE_PROBE_KEY";

/// What is asked, how often and for how long.
#[derive(Clone, PartialEq)]
pub struct Order {
    /// The bundle whose golden inputs are asked.
    pub bundle: PathBuf,
    /// Host of the service, an IPv6 address in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Requests in a second.
    pub rate: f64,
    /// How long.
    pub duration: Duration,
    /// The key that the service asks for, which no argument may hold: arguments are everyone's to see.
    key: Option<String>,
}

impl fmt::Debug for Order {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}:{}", self.host, self.port)
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
                Arg::Long("rate") => rate = number("--rate", &text(parser.value()?)?, MOST_RATE)?,
                Arg::Long("for") => seconds = number("--for", &text(parser.value()?)?, LONGEST)?,
                Arg::Value(path) if !given => (bundle, given) = (Some(path.into()), true),
                other => {
                    return Err(wrong(format!(
                        "{}: with `--probe` there are BUNDLE, --rate and --for",
                        other.unexpected()
                    )));
                }
            }
        }
        let (host, port) = place(&url)?;
        let key = environment(KEY).filter(|key| !key.is_empty()).map(text).transpose()?;
        if key
            .as_ref()
            .is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(wrong(format!("`{KEY}` holds what is no key")));
        }
        Ok(Self {
            bundle: bundle.ok_or_else(|| wrong("no BUNDLE was given, whose golden inputs to ask".to_owned()))?,
            host,
            port,
            rate,
            duration: Duration::from_secs_f64(seconds),
            key,
        })
    }

    /// A request with this body.
    pub(super) fn request(&self, connection: &str, body: &str) -> Vec<u8> {
        let Self { host, port, .. } = self;
        let key = self.key.as_ref();
        let key = key.map_or_else(String::new, |key| format!("Authorization: Bearer {key}\r\n"));
        format!(
            "POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: {connection}\r\n{HEADER}: 1\r\n{key}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// Host and port of `http://HOST:PORT`.
fn place(url: &str) -> Result<(String, u16)> {
    let found = url.strip_prefix("http://").and_then(|rest| {
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let addressed = |byte: u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
        let known = match bare {
            Some(address) => address.bytes().all(addressed),
            None => host.bytes().all(named),
        };
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (known && !host.is_empty()).then(|| (host.to_owned(), port))
    });
    found.ok_or_else(|| wrong(format!("`--probe`: `{url}` is no `http://HOST:PORT`")))
}

fn number(name: &str, text: &str, most: f64) -> Result<f64> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= most);
    number.ok_or_else(|| wrong(format!("`{name}`: `{text}` is no number above 0 and up to {most}")))
}

fn text(value: OsString) -> Result<String> {
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
        assert_eq!((order.host.as_str(), order.port), ("digits-service", 5000));
        assert_eq!((order.rate, order.duration), (20.0, Duration::from_millis(1500)));
        let order = read(&["--probe=http://[::1]:80", "m"], "").expect("an order");
        assert_eq!((order.host.as_str(), order.rate), ("[::1]", 50.0));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |arguments: &[&str]| read(arguments, "").expect_err("refused");
        for url in [
            "",
            "https://a:1",
            "http://a",
            "http://a:0",
            "http://:1",
            "http://a b:1",
            "http://a/b:1",
        ] {
            assert!(error(&["m", "--probe", url]).contains("no `http://HOST:PORT`"), "{url}");
        }
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
    fn a_key_is_sent_and_never_shown() {
        let order = read(&["m", "--probe", "http://a:1"], "emb_secret").expect("an order");
        let request = String::from_utf8(order.request("close", "[1]")).expect("text");
        assert!(request.starts_with("POST /predict HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n"));
        assert!(request.contains("\r\nAuthorization: Bearer emb_secret\r\n"));
        assert!(request.ends_with("\r\nContent-Length: 3\r\n\r\n[1]"));
        assert!(!format!("{order:?}").contains("secret"));
    }
}
