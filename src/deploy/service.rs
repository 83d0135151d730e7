//! What is told of a service: the same whether it was deployed, scaled, rolled back or asked after.

use serde::{Deserialize, Serialize};

use super::{Canary, Proof};
use crate::project::TargetKind;

/// A service as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    /// The project's name.
    pub name: String,
    /// Where it runs.
    pub target: TargetKind,
    /// Version of the bundle that is served, or on its way.
    pub version: String,
    /// Its revision.
    pub revision: u64,
    /// How many processes answer.
    pub replicas: Replicas,
    /// The image that it runs; processes of this machine need none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The namespace of a cluster that it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How its number of replicas follows their load; none when it is fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// A URL that answers from this machine; none when nothing runs, or the way there begins elsewhere.
    pub address: Option<String>,
    /// Why there is no address, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_hint: Option<String>,
    /// How far it is with what was asked of it.
    pub phase: Phase,
    /// Each process.
    pub instances: Vec<Instance>,
    /// What went wrong last.
    pub trouble: Option<Trouble>,
    /// What requests through the service saw of the change that was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Why nobody knows, where it should be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_hint: Option<String>,
    /// The version that is tried beside it, or was by the command that tells this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// Numbers of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Replicas {
    /// That should answer.
    pub desired: usize,
    /// That do answer, of whichever version.
    pub ready: usize,
}

/// How a number of replicas follows their load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autoscale {
    /// Fewest replicas, at least 1.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// The processor time that the replicas should use on average, in percent of what they are promised.
    pub cpu: u32,
}

/// How far a service is with what was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Under way: rolling, scaling, or restarting what died.
    Progressing,
    /// All that is wanted is there.
    Ready,
    /// The release failed, and its former one is on the way back.
    RollingBack,
    /// The release failed, and its former one serves.
    RolledBack,
    /// The release failed, and there is no former one.
    Failed,
    /// It should run, and nothing of it does: the machine was started anew, or the supervisor was killed.
    Stopped,
}

impl Phase {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Progressing => "progressing",
            Self::Ready => "ready",
            Self::RollingBack => "rolling back",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// What a replica is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It waits: for room on a node, or to be started again.
    Waiting,
    /// Its node gets the image.
    Pulling,
    /// Its container or process is made.
    #[default]
    Starting,
    /// It runs, and has to reproduce the golden answers of its bundle before it is ready.
    GoldenCheck,
    /// It answers.
    Ready,
    /// It was told to go, and answers what it has accepted.
    Ending,
    /// It does not get ready, or is no longer.
    Failing,
}

impl Stage {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pulling => "pulling the image",
            Self::Starting => "starting",
            Self::GoldenCheck => "golden check",
            Self::Ready => "ready",
            Self::Ending => "ending",
            Self::Failing => "failing",
        }
    }
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The replica's number; it keeps it when it is started again.
    pub replica: u32,
    /// Its container or pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its process; none while it waits for a restart, and where processes are not ours to see.
    pub pid: Option<u32>,
    /// Version of its bundle.
    pub version: String,
    /// Its revision.
    pub revision: u64,
    /// Whether it answers.
    pub ready: bool,
    /// What it is doing.
    #[serde(default)]
    pub stage: Stage,
    /// How often it was started again.
    pub restarts: u32,
    /// When it was started last, in seconds since 1970 (UTC).
    pub since: u64,
    /// Requests that it has answered, counted each few seconds; none where nobody counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Why it is not ready, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The revision that it happened to.
    pub revision: u64,
    /// When, in seconds since 1970 (UTC).
    pub at: u64,
    /// What happened.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The last lines of the replica's log.
    pub log: Vec<String>,
}

/// A URL that answers from this machine.
pub fn address(host: &str, port: u16) -> String {
    match host {
        "0.0.0.0" => format!("http://127.0.0.1:{port}"),
        "::" => format!("http://[::1]:{port}"),
        host if host.contains(':') => format!("http://[{host}]:{port}"),
        host => format!("http://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_answer_from_this_machine() {
        assert_eq!(address("127.0.0.1", 5000), "http://127.0.0.1:5000");
        assert_eq!(address("0.0.0.0", 80), "http://127.0.0.1:80");
        assert_eq!(address("::", 80), "http://[::1]:80");
        assert_eq!(address("::1", 80), "http://[::1]:80");
        assert_eq!(address("localhost", 80), "http://localhost:80");
    }
}
