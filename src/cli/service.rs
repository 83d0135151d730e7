//! A service as a person reads it. What is known of it is `deploy`'s.

use serde::Serialize;

use super::canary;
use super::output::{Report, columns, short, table};
use super::watch::updated;
use crate::deploy::history::utc;
use crate::deploy::{Autoscale, Replicas, Service};

/// A service, as `deploy`, `scale`, `rollback` and `status` tell it.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct ServiceReport(pub Service);

impl Report for ServiceReport {
    fn text(&self) -> String {
        let Self(service) = self;
        let target = match &service.namespace {
            Some(namespace) => format!("{}, namespace {namespace}", service.target.name()),
            None => service.target.name().to_owned(),
        };
        let Replicas { desired, ready } = service.replicas;
        let mut replicas = format!("{ready} of {desired} ready");
        let updated = updated(service);
        if updated < ready {
            replicas = format!("{replicas}, {updated} of them of revision {}", service.revision);
        }
        let mut facts = vec![
            ("name", service.name.clone()),
            ("target", target),
            ("version", service.version.clone()),
            ("revision", service.revision.to_string()),
            (
                "replicas",
                match &service.autoscale {
                    None => replicas,
                    Some(Autoscale { min, max, cpu }) => {
                        format!("{replicas}, {min} to {max} by the load: {cpu} % of processor time")
                    }
                },
            ),
            ("phase", service.phase.name().to_owned()),
            (
                "address",
                match (&service.address, &service.address_hint) {
                    (Some(address), _) => address.clone(),
                    (None, hint) => format!("none: {}", hint.as_deref().unwrap_or_default()),
                },
            ),
        ];
        if let Some(proof) = &service.proof {
            facts.push(("availability", proof.to_string()));
        }
        facts.extend(service.canary.as_ref().map(|tried| ("canary", canary::sentence(tried))));
        let mut text = table(&facts);
        if let Some(tests) = service.canary.as_ref().and_then(canary::tests) {
            text = format!("{text}\n\n{tests}");
        }
        match &service.trouble {
            None => text,
            Some(trouble) => {
                let hint = trouble.hint.as_ref().map(|hint| format!("\nhint: {hint}"));
                format!(
                    "{text}\n\nlast trouble, with revision {} at {}: {}{}",
                    trouble.revision,
                    utc(trouble.at),
                    trouble.reason,
                    hint.unwrap_or_default()
                )
            }
        }
    }
}

impl ServiceReport {
    /// The table of the processes; empty when there is none.
    pub(super) fn instances(&self) -> String {
        let named = self.0.instances.iter().any(|instance| instance.name.is_some());
        let heads = [
            "REPLICA",
            if named { "NAME" } else { "PID" },
            "VERSION",
            "REVISION",
            "READY",
            "RESTARTS",
            "REQUESTS",
            "UP SINCE",
        ];
        let rows = self.0.instances.iter().map(|instance| {
            vec![
                instance.replica.to_string(),
                match &instance.name {
                    Some(name) => name.clone(),
                    None => instance.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                },
                instance.version.clone(),
                instance.revision.to_string(),
                match &instance.waiting {
                    _ if instance.ready => "yes".to_owned(),
                    Some(reason) => format!("no: {}", short(reason, 60)),
                    None => "no".to_owned(),
                },
                instance.restarts.to_string(),
                instance
                    .requests
                    .map_or_else(|| "-".to_owned(), |requests| requests.to_string()),
                utc(instance.since),
            ]
        });
        if self.0.instances.is_empty() {
            return String::new();
        }
        columns([heads.map(str::to_owned).to_vec()].into_iter().chain(rows))
    }
}
