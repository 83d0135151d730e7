//! Whom a probe, or a load, asks: a host and a port, and the key that it asks for, from the environment.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep, timeout_at};

use super::HEADER;
use crate::problem::Problem;

/// Where the service's key is read from.
pub const KEY: &str = "EMBERLINE_PROBE_KEY";
/// How long the name of the service may take to be known: a pod's network is a little younger than the pod.
const NAMING: Duration = Duration::from_secs(10);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(100);

/// A service that is asked.
#[derive(Clone, PartialEq)]
pub struct Destination {
    /// Its host, an IPv6 address in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The key that it asks for, which no argument may hold: arguments are everyone's to see.
    key: Option<String>,
}

impl Destination {
    /// The service at `http://HOST:PORT`.
    ///
    /// # Errors
    ///
    /// What is wrong with either.
    pub fn new(url: &str, key: Option<OsString>) -> Result<Self, String> {
        let (host, port) = place(url).ok_or_else(|| format!("`{url}` is no `http://HOST:PORT`"))?;
        let key = key.filter(|key| !key.is_empty()).map(OsString::into_string).transpose();
        let key = key.map_err(|_| format!("`{KEY}` holds what is no key"))?;
        if key
            .as_ref()
            .is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(format!("`{KEY}` holds what is no key"));
        }
        Ok(Self { host, port, key })
    }

    /// A prediction with this body.
    pub(super) fn request(&self, connection: &str, body: &str) -> Vec<u8> {
        let head = self.head("POST", "/predict", connection);
        format!(
            "{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// A question for what is at a path.
    pub(super) fn get(&self, path: &str) -> Vec<u8> {
        format!("{}\r\n", self.head("GET", path, "keep-alive")).into_bytes()
    }

    fn head(&self, method: &str, path: &str, connection: &str) -> String {
        let Self { host, port, .. } = self;
        let key = self.key.as_ref();
        let key = key.map_or_else(String::new, |key| format!("Authorization: Bearer {key}\r\n"));
        format!("{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: {connection}\r\n{HEADER}: 1\r\n{key}")
    }

    /// Its address. It is looked up once: what a rollout changes is behind it.
    pub(super) async fn find(&self) -> Result<SocketAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let end = Instant::now() + NAMING;
        loop {
            let found = timeout_at(end, tokio::net::lookup_host((host, self.port))).await;
            let reason = match found {
                Ok(Ok(mut addresses)) => match addresses.next() {
                    Some(address) => return Ok(address),
                    None => "it has no address".to_owned(),
                },
                Ok(Err(error)) => error.to_string(),
                Err(_) => "nobody answers".to_owned(),
            };
            if Instant::now() + Duration::from_secs(1) > end {
                return Err(Problem::new(format!("cannot find host `{host}`: {reason}")).into());
            }
            sleep(AGAIN).await;
        }
    }
}

/// Host and port of `http://HOST:PORT`.
fn place(url: &str) -> Option<(String, u16)> {
    let (host, port) = url.strip_prefix("http://")?.trim_end_matches('/').rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let addressed = |byte: u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
    let known = match bare {
        Some(address) => address.bytes().all(addressed),
        None => host.bytes().all(named),
    };
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (known && !host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_a_port() {
        for url in [
            "",
            "https://a:1",
            "http://a",
            "http://a:0",
            "http://:1",
            "http://a b:1",
            "http://a/b:1",
        ] {
            assert_eq!(place(url), None, "{url}");
        }
        assert_eq!(place("http://[::1]:80"), Some(("[::1]".to_owned(), 80)));
        assert_eq!(
            place("http://digits-service:5000/"),
            Some(("digits-service".to_owned(), 5000))
        );
    }

    #[test]
    fn a_key_is_sent() {
        let destination = Destination::new("http://a:1", Some("emb_secret".into())).expect("a destination");
        let request = String::from_utf8(destination.request("close", "[1]")).expect("text");
        assert!(request.starts_with("POST /predict HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n"));
        assert!(request.contains("\r\nAuthorization: Bearer emb_secret\r\n"));
        assert!(request.ends_with("\r\nContent-Length: 3\r\n\r\n[1]"));
        let question = String::from_utf8(destination.get("/metrics")).expect("text");
        assert!(question.starts_with("GET /metrics HTTP/1.1\r\n") && question.ends_with("\r\n\r\n"));
        let error = Destination::new("http://a:1", Some("a\r\nb".into())).err();
        assert!(error.is_some_and(|error| error.contains("no key")));
    }
}
