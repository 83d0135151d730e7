//! Running a bundle as a service: put out, scaled, rolled back, watched and taken away, behind one [`Target`].
//!
//! What every target shares is here: what is asked for, what is told, and the history's record. How it comes about is a
//! target's own: `local` runs replicas as processes of this machine, `docker` as containers behind an nginx, `kubernetes`
//! as pods. No target opens a tensor, and none prints.

pub mod canary;
pub mod docker;
pub mod history;
pub mod kubernetes;
pub mod local;
mod lock;
mod proof;
mod records;
mod resources;
mod service;
mod trouble;

pub use canary::{Canary, Trial};
pub use proof::Proof;
pub use resources::Resources;
use service::address;
pub use service::{Autoscale, Instance, Phase, Replicas, Service, Stage, Trouble};

use std::time::Duration;

use anyhow::{Context, Result};

use history::{ReleaseSource, Revision};

/// What is to be deployed, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The bundle.
    pub source: ReleaseSource,
    /// Address to listen on; a cluster has its own.
    pub host: String,
    /// Port to listen on, above 0.
    pub port: u16,
    /// Processes that answer, at least 1.
    pub replicas: usize,
    /// What each of them asks for and may take.
    pub resources: Resources,
    /// How long a replica may take until it is ready.
    pub timeout: Duration,
    /// What the key file holds whose keys clients need; nobody needs one without it.
    pub keys: Option<String>,
}

/// A place where a service runs.
///
/// Every method that changes the service holds its lock, and returns when the service is as asked, or has failed to be:
/// a [`DeployError`] then says what serves now.
pub trait Target {
    /// Serves the bundle in place of the one that is served now, without a request lost. What runs already is left alone.
    ///
    /// # Errors
    ///
    /// [`DeployError`], or a problem with the state on the disk.
    fn deploy(&self, request: &Request, events: &dyn Events) -> Result<Service>;

    /// Changes the number of replicas. `timeout` is for all of them together.
    ///
    /// # Errors
    ///
    /// As [`Target::deploy`], and when nothing is deployed.
    fn scale(&self, replicas: usize, timeout: Duration, events: &dyn Events) -> Result<Service>;

    /// Has the number of replicas follow their load, from now until [`Target::scale`] fixes it again.
    ///
    /// # Errors
    ///
    /// As [`Target::scale`], and when the target cannot do that.
    fn autoscale(&self, autoscale: Autoscale, timeout: Duration, events: &dyn Events) -> Result<Service>;

    /// Serves the bundle of a former revision again, as a new revision: of `to`, or of the one that
    /// [`history::target`] finds. `timeout` is how long a replica may take until it is ready.
    ///
    /// # Errors
    ///
    /// As [`Target::deploy`], and when there is no such revision or its bundle is gone.
    fn rollback(&self, to: Option<u64>, timeout: Duration, events: &dyn Events) -> Result<Service>;

    /// What serves now.
    ///
    /// # Errors
    ///
    /// When nothing is deployed.
    fn status(&self) -> Result<Service>;

    /// The revisions, the oldest first.
    ///
    /// # Errors
    ///
    /// When nothing is deployed.
    fn history(&self) -> Result<Vec<Revision>>;

    /// Ends the service, after it has answered what it has accepted, and forgets it.
    ///
    /// # Errors
    ///
    /// When nothing is deployed, or something does not end.
    fn delete(&self, events: &dyn Events) -> Result<()>;

    /// Posts JSON to a path of the running service, by the way that its clients take, with a key if one is needed, and
    /// gives the answer's body.
    ///
    /// # Errors
    ///
    /// When nothing is deployed, or the answer is no success.
    fn ask(&self, path: &str, body: &str, key: Option<&str>) -> Result<String>;

    /// Hands lines of the replicas' logs to `sink`, until it says no (and for ever with `follow`).
    ///
    /// # Errors
    ///
    /// When nothing is deployed, or there is no such replica.
    fn logs(&self, query: &LogQuery, sink: &mut dyn FnMut(LogLine) -> bool) -> Result<()>;
}

/// Who is told how a change goes, and may stop waiting for it.
pub trait Events {
    /// Something has changed.
    fn progress(&self, service: &Service);

    /// Whether to stop waiting. The change itself goes on where a supervisor or a cluster makes it; where it is made by
    /// this command, it ends after the step at hand.
    fn interrupted(&self) -> bool;

    /// What requests through the service saw of the change, or why nobody knows. `arrived` says whether it came to what was
    /// asked for; the service that is then given holds the same.
    fn proved(&self, _proof: &Result<Proof, String>, _arrived: bool) {}

    /// What is being done about a canary.
    fn canary(&self, _step: &canary::Step) {}
}

/// Which lines of the logs.
#[derive(Clone, Copy, Debug)]
pub struct LogQuery {
    /// Of this replica alone.
    pub replica: Option<u32>,
    /// The last lines of each replica.
    pub lines: usize,
    /// And those that are yet to come.
    pub follow: bool,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogLine {
    /// The replica that wrote it.
    pub replica: u32,
    /// Its container or pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Without its newline.
    pub line: String,
}

/// How long a service may take for one answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Posts JSON to a URL, with a key if one is needed.
fn post(url: &str, body: &str, key: Option<&str>) -> Result<String> {
    let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER)).build();
    let failed = || format!("the service at {url} did not answer");
    let mut request = ureq::Agent::new_with_config(config)
        .post(url)
        .header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    request
        .send(body)
        .with_context(failed)?
        .into_body()
        .read_to_string()
        .with_context(failed)
}

/// Ends of a deployment that a script branches on.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Another process is changing the deployment.
    #[error("another deploy holds the lock of `{name}`{holder}")]
    Locked {
        /// The deployment.
        name: String,
        /// ` (who)`, when it is known.
        holder: String,
    },
    /// The new version did not become ready, and the former one serves on.
    #[error("deploy failed and was rolled back: {0}")]
    RolledBack(String),
    /// The new version did not become ready, and there is no former one.
    #[error("deploy failed: {0}")]
    NotRolledBack(String),
    /// Ctrl-C: nobody waits for the change any longer.
    #[error("interrupted; the change goes on without this command")]
    Interrupted,
    /// Ctrl-C, where nothing else than this command makes the change.
    #[error("interrupted; {0}")]
    Halted(String),
}

impl DeployError {
    /// The exit code of the tool.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::RolledBack(_) => 4,
            Self::NotRolledBack(_) => 5,
            Self::Locked { .. } => 6,
            Self::Interrupted | Self::Halted(_) => 130,
        }
    }
}
