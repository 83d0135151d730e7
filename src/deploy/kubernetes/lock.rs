//! One change at a time: a Lease that a change holds, and that ends by itself when its client has died.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, ObjectMeta, Preconditions};

use super::holder::Process;
use super::manifests::Names;
use crate::cluster::Cluster;
use crate::deploy::DeployError;
use crate::deploy::history::who;
use crate::problem::Problem;

/// How long a client may be silent before it counts as dead.
const LIFE: i32 = 30;
/// The annotation that says which process holds it.
const PROCESS: &str = "emberline/process";
/// Between two signs of life.
const RENEWAL: Duration = Duration::from_secs(8);

/// The Lease, held; let go when it is dropped.
pub struct Lock<'a> {
    cluster: &'a Cluster,
    name: String,
    holder: String,
    uid: Option<String>,
    was_left: bool,
    renewed: Cell<Instant>,
}

impl<'a> Lock<'a> {
    /// Takes the Lease for `what`, such as `emberline deploy`.
    ///
    /// # Errors
    ///
    /// [`DeployError::Locked`] when a living client holds it, and what the cluster says against it.
    pub fn take(cluster: &'a Cluster, names: &Names, what: &str) -> Result<Self> {
        let name = names.lock();
        let holder = format!("{}, {what}, process {}", who(), std::process::id());
        let locked = |by: &str| {
            let hint = format!("try again; a lock whose client has died ends by itself after {LIFE} s");
            anyhow::Error::from(Problem::new(format!("it is the Lease `{}`", names.lock())).hint(hint)).context(
                DeployError::Locked {
                    name: names.name().to_owned(),
                    holder: format!(" ({by})"),
                },
            )
        };
        let found: Option<Lease> = cluster.get(&name)?;
        if let Some(holder) = found.as_ref().and_then(living_holder) {
            return Err(locked(&holder));
        }
        let now = MicroTime(Timestamp::now());
        let process = Process::this().map(|process| BTreeMap::from([(PROCESS.to_owned(), process.told())]));
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(names.labels(None)),
                annotations: process,
                // The cluster refuses what is older than its own: of two clients that take it at once, one gets it.
                resource_version: found.as_ref().and_then(|lease| lease.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.clone()),
                lease_duration_seconds: Some(LIFE),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        let taken = cluster.put(&lease)?.ok_or_else(|| locked("it was taken just now"))?;
        Ok(Self {
            cluster,
            name,
            holder,
            uid: taken.metadata.uid,
            was_left: found.is_some(),
            renewed: Cell::new(Instant::now()),
        })
    }

    /// Whether a client that has died has left it, and what else it had.
    pub fn was_left(&self) -> bool {
        self.was_left
    }

    /// Shows that the client lives, when it is time for it.
    ///
    /// # Errors
    ///
    /// When the cluster cannot be told, or somebody else has taken the Lease meanwhile.
    pub fn renew(&self) -> Result<()> {
        if self.renewed.get().elapsed() < RENEWAL {
            return Ok(());
        }
        let Some(mut lease) = self.cluster.get::<Lease>(&self.name)? else {
            return Ok(());
        };
        let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
        if spec.holder_identity.as_ref() != Some(&self.holder) {
            return Err(DeployError::Locked {
                name: self.name.clone(),
                holder: format!(" ({})", spec.holder_identity.clone().unwrap_or_default()),
            }
            .into());
        }
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        // Somebody who was quicker has taken it, and is found the next time.
        self.cluster.put(&lease)?;
        self.renewed.set(Instant::now());
        Ok(())
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let leases = self.cluster.untyped::<Lease>();
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: self.uid.clone(),
                ..Preconditions::default()
            }),
            ..DeleteParams::default()
        };
        // One that cannot be let go ends by itself.
        let _ = self.cluster.block_on(leases.delete(&self.name, &parameters));
    }
}

/// Who holds a Lease, unless nobody does, nothing was heard of them for too long, or it is a process of this machine that
/// has died.
fn living_holder(lease: &Lease) -> Option<String> {
    let process = lease.metadata.annotations.as_ref().and_then(|found| found.get(PROCESS));
    if process
        .and_then(|process| Process::read(process))
        .is_some_and(|process| process.has_died())
    {
        return None;
    }
    let spec = lease.spec.as_ref()?;
    let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
    let life = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or(LIFE).into());
    let heard = spec.renew_time.as_ref().or(spec.acquire_time.as_ref())?.0;
    (Timestamp::now().duration_since(heard) < life).then_some(holder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, silent: i64) -> Lease {
        let heard = Timestamp::now() - SignedDuration::from_secs(silent);
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_duration_seconds: Some(LIFE),
                renew_time: Some(MicroTime(heard)),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn a_holder_that_was_silent_for_too_long_holds_nothing() {
        assert_eq!(living_holder(&lease("someone", 5)).as_deref(), Some("someone"));
        assert_eq!(living_holder(&lease("someone", 31)), None);
        assert_eq!(living_holder(&lease("", 5)), None);
        assert_eq!(living_holder(&Lease::default()), None);
        let mut held = lease("someone", 5);
        let this = Process::this().expect("a process").told();
        held.metadata.annotations = Some(BTreeMap::from([(PROCESS.to_owned(), this.clone())]));
        assert_eq!(living_holder(&held).as_deref(), Some("someone"));
        let (before, _) = this.rsplit_once(' ').expect("words");
        held.metadata.annotations = Some(BTreeMap::from([(PROCESS.to_owned(), format!("{before} 1"))]));
        assert_eq!(living_holder(&held), None);
    }
}
