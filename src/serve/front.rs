//! What every request has to do with, whatever it asks for: TLS, a key, a name of its own, and the access log. What the
//! request means is the router's business.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use hyper::header::{CONTENT_LENGTH, HeaderValue, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};

use super::access_log::{AccessLog, Entry};
use super::keys::{self, Keys};
use super::refusal::Refusal;
use super::reload;
use super::request_id::RequestIds;
use super::settings::Settings;
use super::tls::{self, Tls};

/// What stands before a service.
#[derive(Debug)]
pub struct Front {
    keys: Option<Keys>,
    tls: Option<Tls>,
    access_log: Option<AccessLog>,
    ids: RequestIds,
}

/// Who sends a request, and what it is called.
#[derive(Debug)]
pub struct Visit {
    /// The name of the request.
    pub id: HeaderValue,
    /// The name of the key that let it in.
    key: Option<Arc<str>>,
}

/// How a request was answered.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The kind of request, as in the metrics.
    pub protocol: &'static str,
    /// The answer's status.
    pub status: StatusCode,
    /// How long it took.
    pub seconds: f64,
    /// Bytes of the answer's body.
    pub bytes: u64,
}

impl Front {
    /// Reads the files that the settings name, and begins the access log.
    ///
    /// # Errors
    ///
    /// Which file cannot be used, and why.
    pub fn open(settings: &Settings) -> Result<Self> {
        let tls = match (&settings.tls_cert, &settings.tls_key) {
            (Some(certificate), Some(key)) => Some(tls::open(certificate, key)?),
            _ => None,
        };
        let access_log = if settings.access_log {
            // With a supervisor, stdout is its control channel.
            let (stdout, stderr) = (io::stdout(), io::stderr());
            let out = if settings.inherit {
                stderr.as_fd()
            } else {
                stdout.as_fd()
            };
            let out = out.try_clone_to_owned().context("cannot write the access log")?;
            Some(AccessLog::begin(File::from(out))?)
        } else {
            None
        };
        Ok(Self {
            keys: settings.keys.as_deref().map(keys::open).transpose()?,
            tls,
            access_log,
            ids: RequestIds::default(),
        })
    }

    /// What TLS is spoken with, if it is.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Whether keys are asked for.
    pub fn asks_for_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// How an address of the server begins.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether anyone wants to know where a connection comes from.
    pub fn logs(&self) -> bool {
        self.access_log.is_some()
    }

    /// What is to be said of keys that are sent to this address, if anything.
    pub fn warning(&self, address: SocketAddr) -> Option<String> {
        let readable = self.keys.is_some() && self.tls.is_none() && !address.ip().is_loopback();
        readable.then(|| {
            "keys and inputs can be read on their way here: give --tls-cert and --tls-key, unless a gateway before this \
             server speaks TLS"
                .to_owned()
        })
    }

    /// Names a request, and lets it in or not. Whoever has no key learns nothing, so this comes before everything else.
    pub fn visit(&self, headers: &HeaderMap, needs_key: bool) -> (Visit, Result<(), Refusal>) {
        let mut visit = Visit {
            id: self.ids.name(headers),
            key: None,
        };
        let Some(keys) = self.keys.as_ref().filter(|_| needs_key) else {
            return (visit, Ok(()));
        };
        visit.key = keys.current().admits(headers).cloned();
        let admitted = match &visit.key {
            Some(_) => Ok(()),
            None if keys::shows_one(headers) => Err(unauthorised("this key is not one that is let in here")),
            None => Err(unauthorised(
                "a key is needed here: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            )),
        };
        (visit, admitted)
    }

    /// Writes a request that was answered into the access log.
    pub fn answered(&self, client: Option<SocketAddr>, visit: &Visit, head: &Parts, outcome: Outcome) {
        let Some(log) = &self.access_log else { return };
        let text = |value: &'_ HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let announced = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        log.write(&Entry {
            request_id: visit.id.to_str().unwrap_or_default(),
            client,
            key: visit.key.as_deref(),
            method: head.method.as_str(),
            path: head.uri.path(),
            protocol: outcome.protocol,
            status: outcome.status.as_u16(),
            duration_seconds: outcome.seconds,
            bytes_in: announced.and_then(|length| length.parse().ok()),
            bytes_out: outcome.bytes,
            user_agent: head.headers.get(USER_AGENT).map(text).as_deref(),
        });
    }

    /// Has changed files read again, and tells what came of it, for ever.
    pub async fn watch(self: &Arc<Self>, log: &dyn Fn(&str)) -> Infallible {
        if self.keys.is_none() && self.tls.is_none() && self.access_log.is_none() {
            return std::future::pending().await;
        }
        let mut lost = 0;
        loop {
            tokio::time::sleep(reload::EVERY).await;
            let front = Arc::clone(self);
            // A file system that hangs holds up none that serve.
            let look = tokio::task::spawn_blocking(move || {
                let keys = front.keys.as_ref().and_then(Keys::look);
                let tls = front.tls.as_ref().and_then(Tls::look);
                keys.into_iter().chain(tls).collect::<Vec<_>>()
            });
            for line in look.await.unwrap_or_default() {
                log(&line);
            }
            let now = self.lost_lines();
            if now > lost {
                log(&format!(
                    "access log: {} lines lost, because nobody takes them in time",
                    now - lost
                ));
                lost = now;
            }
        }
    }

    /// How often a changed file could not be taken, for each kind of file.
    pub fn reload_failures(&self) -> [(&'static str, u64); 2] {
        [
            ("keys", self.keys.as_ref().map_or(0, Keys::failures)),
            ("certificate", self.tls.as_ref().map_or(0, Tls::failures)),
        ]
    }

    /// Lines that the access log has not.
    pub fn lost_lines(&self) -> u64 {
        self.access_log.as_ref().map_or(0, AccessLog::lost)
    }

    /// Waits until the last lines of the access log are written; gives what is to be said of those that are not.
    pub fn end(&self) -> Option<String> {
        match self.access_log.as_ref().map_or(0, AccessLog::end) {
            0 => None,
            left => Some(format!(
                "access log: the last {left} lines lost, because nobody takes them"
            )),
        }
    }
}

fn unauthorised(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, message)
}
