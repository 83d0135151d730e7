//! One container, as the engine knows it: what its labels, its settings and its state say.

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, RestartPolicyNameEnum};

use super::plan::{Slot, State};
use crate::deploy::history;
use crate::deploy::{Instance, LogLine, Stage};

/// The port that a server listens on in its container, and how Docker writes it.
pub const PORT: &str = "5000/tcp";
/// The label that tells the containers of one project and destination from those of any other.
pub const PROJECT: &str = "emberline.project";
/// Its revision.
pub const REVISION: &str = "emberline.revision";
/// The replica that it is.
pub const REPLICA: &str = "emberline.replica";
/// The version of its bundle.
pub const VERSION: &str = "app.kubernetes.io/version";

/// The exit code of a process that was killed.
const KILLED: i64 = 137;

/// A container, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The replica that it is.
    pub replica: u32,
    /// Its revision.
    pub revision: u64,
    /// Version of its bundle.
    pub version: String,
    /// The engine's id of its image.
    pub image: String,
    /// Its port on this machine's loopback.
    pub port: u16,
    /// Where it is in its life.
    pub state: State,
    /// How that came about; none for one that answers.
    pub condition: Option<String>,
    /// Whether it ended because it wanted more memory than it may have.
    pub out_of_memory: bool,
    /// Whether it was killed, for want of memory or by whoever may do that.
    pub killed: bool,
    /// Whether the engine starts it again when it ends.
    pub restarts_by_itself: bool,
    /// How often the engine has.
    pub restarts: u32,
    /// Its process on this machine, while it runs.
    pub pid: Option<u32>,
    /// When it was started last, in seconds since 1970 (UTC).
    pub since: u64,
}

impl Container {
    /// As planning sees it.
    pub fn slot(&self) -> Slot {
        Slot {
            replica: self.replica,
            revision: self.revision,
            state: self.state,
        }
    }

    /// As it is told.
    pub fn instance(&self) -> Instance {
        Instance {
            replica: self.replica,
            name: Some(self.name.clone()),
            pid: self.pid,
            version: self.version.clone(),
            revision: self.revision,
            ready: self.state == State::Ready,
            stage: match self.state {
                State::Starting => Stage::GoldenCheck,
                State::Ready => Stage::Ready,
                State::Dead => Stage::Failing,
            },
            restarts: self.restarts,
            since: self.since,
            requests: None,
            waiting: self.condition.clone(),
        }
    }

    /// A line that it has logged.
    pub fn said(&self, line: String) -> LogLine {
        LogLine {
            replica: self.replica,
            name: Some(self.name.clone()),
            line,
        }
    }

    /// What `found` says, with the state that only the server itself knows.
    pub fn of(found: ContainerInspectResponse, answers: impl Fn(u16) -> bool) -> Option<Self> {
        let config = found.config?;
        let labels = config.labels?;
        let host = found.host_config?;
        let bindings = host.port_bindings?.remove(PORT)??;
        let port = bindings.first()?.host_port.as_deref()?.parse().ok()?;
        let state = found.state?;
        let policy = host.restart_policy.and_then(|policy| policy.name);
        let runs = state.running == Some(true) && state.paused != Some(true) && state.restarting != Some(true);
        let (life, condition) = if runs && answers(port) {
            (State::Ready, None)
        } else if runs || state.restarting == Some(true) {
            (State::Starting, Some(condition(&state)))
        } else {
            (State::Dead, Some(condition(&state)))
        };
        Some(Self {
            id: found.id?,
            name: found.name?.trim_start_matches('/').to_owned(),
            replica: labels.get(REPLICA)?.parse().ok()?,
            revision: labels.get(REVISION)?.parse().ok()?,
            version: labels.get(VERSION)?.clone(),
            image: found.image?,
            port,
            state: life,
            condition,
            out_of_memory: state.oom_killed == Some(true),
            killed: life == State::Dead && state.exit_code == Some(KILLED),
            restarts_by_itself: policy == Some(RestartPolicyNameEnum::UNLESS_STOPPED),
            restarts: found.restart_count.and_then(|count| count.try_into().ok()).unwrap_or(0),
            pid: state.pid.and_then(|pid| pid.try_into().ok()).filter(|pid| *pid != 0),
            since: state.started_at.as_deref().and_then(history::seconds).unwrap_or(0),
        })
    }
}

/// What the engine says of one that does not answer.
fn condition(state: &ContainerState) -> String {
    let health = state.health.as_ref().and_then(|health| health.status);
    match (state.status, health) {
        (Some(ContainerStateStatusEnum::EXITED), _) => {
            format!("ended with exit code {}", state.exit_code.unwrap_or_default())
        }
        (Some(ContainerStateStatusEnum::RUNNING), Some(health)) => format!("running, and {health}"),
        (Some(status), _) => status.to_string(),
        (None, _) => "unknown".to_owned(),
    }
}
