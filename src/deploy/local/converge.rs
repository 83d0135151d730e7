//! From what is wanted to what there is, as a client sees it: it writes the spec, starts the supervisor where there is
//! none, and waits. It changes nothing but files, and what it waits for goes on without it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::log;
use super::state::{Spec, StateFolder, Status};
use crate::deploy::trouble::{explained, quoted};
use crate::deploy::{DeployError, Events, Phase, Replicas, Service, address};
use crate::files;
use crate::problem::Problem;
use crate::project::TargetKind;

/// Between two looks at what there is.
pub const POLL: Duration = Duration::from_millis(20);
/// Supervisors that are started for one change before it is given up.
const STARTS: u32 = 3;
/// Lines of the supervisor's log that are told when it dies.
const TOLD_LINES: usize = 10;

/// Says what is wanted and waits until it is there, has failed, or took longer than `patience`.
///
/// # Errors
///
/// [`DeployError`] with the cause below it, or a problem with the state on the disk.
pub fn apply(state: &StateFolder, spec: &Spec, patience: Duration, events: &dyn Events) -> Result<Service> {
    state.write_spec(spec)?;
    let deadline = Instant::now() + patience;
    let mut supervisor: Option<Child> = None;
    let mut starts = 0;
    let mut told: Option<Service> = None;
    loop {
        if events.interrupted() {
            return Err(anyhow::Error::from(
                Problem::new("the supervisor does not need it").hint("`emberline status` shows how far it is"),
            )
            .context(DeployError::Interrupted));
        }
        // In this order: what a supervisor that is gone has said is its last word.
        let started = supervisor
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        let alive = started || state.supervised();
        let status = state.status()?;
        let service = service(spec, status.as_ref(), alive);
        let status = status.filter(|status| status.generation == spec.generation);
        match status.as_ref() {
            Some(status) if status.phase == Phase::Ready => return Ok(service),
            Some(status) if status.phase == Phase::RolledBack => {
                return Err(explained(status.trouble.as_ref(), DeployError::RolledBack));
            }
            Some(status) if !alive && status.phase == Phase::Failed => {
                return Err(explained(status.trouble.as_ref(), DeployError::NotRolledBack));
            }
            Some(_) if !alive => return Err(supervisor_died(state)),
            None if !alive => {
                if starts == STARTS {
                    return Err(supervisor_died(state));
                }
                starts += 1;
                supervisor = Some(start_supervisor(state)?);
            }
            _ => {}
        }
        if Instant::now() > deadline {
            let Replicas { desired, ready } = service.replicas;
            let reason = format!(
                "{ready} of {desired} replicas are ready after {} s",
                patience.as_secs_f64()
            );
            let trouble = status.and_then(|status| status.trouble);
            return Err(explained(trouble.as_ref(), |cause| {
                DeployError::NotRolledBack(if cause.is_empty() {
                    reason
                } else {
                    format!("{reason}; last, {cause}")
                })
            }));
        }
        if status.is_some() && told.as_ref() != Some(&service) {
            events.progress(&service);
            told = Some(service);
        }
        std::thread::sleep(POLL);
    }
}

/// Starts a supervisor that does not belong to this terminal.
fn start_supervisor(state: &StateFolder) -> Result<Child> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let path = state.supervisor_log();
    let errors = log::append(&path).map_err(|error| files::cannot_write(&path, &error))?;
    let mut command = Command::new(&program);
    command
        .arg("supervise")
        .arg(state.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .current_dir("/");
    // What was meant for this command is not meant for the server.
    for name in [
        "HOST",
        "PORT",
        "BUNDLE",
        "FORMAT",
        "PROGRESS",
        "QUIET",
        "DESTINATION",
        "DRAIN",
        "GRPC_PORT",
        "KEYS",
        "TLS_CERT",
        "TLS_KEY",
    ] {
        command.env_remove(format!("EMBERLINE_{name}"));
    }
    command
        .spawn()
        .with_context(|| format!("cannot start `{}`", program.display()))
}

fn supervisor_died(state: &StateFolder) -> anyhow::Error {
    let (lines, _) = log::tail(&state.supervisor_log(), 0, TOLD_LINES);
    anyhow::Error::from(Problem::new(quoted("supervisor", &lines)).hint("`emberline deploy` starts another supervisor"))
        .context(DeployError::NotRolledBack("the supervisor died".into()))
}

/// What is told of the service.
pub fn service(spec: &Spec, status: Option<&Status>, alive: bool) -> Service {
    let instances = match status {
        Some(status) if alive => status.instances.clone(),
        _ => Vec::new(),
    };
    let status = status.filter(|status| status.generation == spec.generation);
    let release = status
        .and_then(|status| status.release.as_ref())
        .unwrap_or(&spec.release);
    let phase = match status.map(|status| status.phase) {
        Some(Phase::Failed) => Phase::Failed,
        _ if !alive => Phase::Stopped,
        phase => phase.unwrap_or(Phase::Progressing),
    };
    let runs = !matches!(phase, Phase::Failed | Phase::Stopped);
    Service {
        name: spec.name.clone(),
        target: TargetKind::Local,
        version: release.version.clone(),
        revision: release.revision,
        replicas: Replicas {
            desired: release.replicas,
            ready: instances.iter().filter(|instance| instance.ready).count(),
        },
        image: None,
        namespace: None,
        autoscale: None,
        address: runs.then(|| address(&release.host, release.port)),
        address_hint: (!runs).then(|| {
            format!(
                "nothing runs; `emberline deploy --bundle {}` brings it back",
                release.version
            )
        }),
        phase,
        instances,
        trouble: status.and_then(|status| status.trouble.clone()),
        proof: None,
        proof_hint: None,
        canary: None,
    }
}
