//! The revisions of a service, kept in a `ConfigMap` beside it: what the other targets keep on the disk, and the Deployment
//! of each, so that a rollback brings back what was there and not what today's template makes of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::manifests::{MANAGED, Names};
use super::routes::Extra;
use crate::cluster::{Cluster, Write};
use crate::deploy::history::{KEPT, Outcome, ReleaseSource, Revision, Scaled};
use crate::deploy::{Canary, Proof, Service};
use crate::problem::Problem;

/// How the keys of the records begin; their numbers follow.
const KEY: &str = "revision-";
/// The annotation with the kinds that may be there of what not every release has.
const EXTRAS: &str = "emberline/extras";

/// A revision, and what was applied for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What is told of it.
    pub revision: Revision,
    /// Its Deployment.
    pub deployment: Deployment,
}

/// The records, the oldest first.
pub struct History<'a> {
    cluster: &'a Cluster,
    names: &'a Names,
    records: Vec<Record>,
    extras: BTreeSet<Extra>,
}

impl<'a> History<'a> {
    /// What the cluster keeps; nothing when it keeps nothing.
    ///
    /// # Errors
    ///
    /// What the cluster says against it, or a record that cannot be read.
    pub fn read(cluster: &'a Cluster, names: &'a Names) -> Result<Self> {
        let found: Option<ConfigMap> = cluster.get(&names.history())?;
        cluster.check_ours(found.as_ref(), MANAGED)?;
        let told = found.as_ref().and_then(|map| map.annotations().get(EXTRAS));
        let told: BTreeSet<&str> = told.into_iter().flat_map(|told| told.split(',')).collect();
        let extras = Extra::ALL.into_iter().filter(|extra| told.contains(extra.kind()));
        let extras = extras.collect();
        let mut records = Vec::new();
        let data = found.and_then(|map| map.data).unwrap_or_default();
        // What others have put beside the records is none of ours.
        for (key, text) in data.iter().filter(|(key, _)| key.starts_with(KEY)) {
            let record: Record = serde_json::from_str(text)
                .and_then(serde_json::from_value::<Record>)
                .map_err(|error| {
                    Problem::new(format!(
                        "ConfigMap `{}`: `{key}` is no record of a revision: {error}",
                        names.history()
                    ))
                    .hint(format!(
                        "`kubectl delete configmap {} -n {}` forgets the history, and nothing else",
                        names.history(),
                        cluster.namespace()
                    ))
                })?;
            records.push(record);
        }
        records.sort_by_key(|record| record.revision.revision);
        Ok(Self {
            cluster,
            names,
            records,
            extras,
        })
    }

    /// The kinds that may be there of what not every release has.
    pub fn extras(&self) -> &BTreeSet<Extra> {
        &self.extras
    }

    /// Notes which of them may be there: before the first is made, and after the last of a kind is gone.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn note_extras(&mut self, extras: BTreeSet<Extra>) -> Result<()> {
        if self.extras == extras {
            return Ok(());
        }
        self.extras = extras;
        self.write()
    }

    /// What is told of the revisions.
    pub fn revisions(&self) -> Vec<Revision> {
        self.records.iter().map(|record| record.revision.clone()).collect()
    }

    /// The Deployment of each revision.
    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.records.iter().map(|record| &record.deployment)
    }

    /// The newest record.
    pub fn newest(&self) -> Option<&Record> {
        self.records.last()
    }

    /// The record that is served, or on its way: the newest that has not failed, or that was left as it failed.
    pub fn current(&self) -> Option<&Record> {
        self.newest().filter(|record| record.revision.kept).or_else(|| {
            let mut records = self.records.iter();
            records.rfind(|record| matches!(record.revision.outcome, Outcome::Deployed | Outcome::Progressing))
        })
    }

    /// The newest record that has arrived.
    pub fn arrived(&self) -> Option<&Record> {
        self.records
            .iter()
            .rfind(|record| record.revision.outcome == Outcome::Deployed)
    }

    /// The record of a revision.
    pub fn get(&self, revision: u64) -> Option<&Record> {
        self.records.iter().find(|record| record.revision.revision == revision)
    }

    /// The newest revision before `revision` that has arrived with the version.
    pub fn before(&self, revision: u64, version: &str) -> Option<u64> {
        let found = self.records.iter().rfind(|record| {
            let told = &record.revision;
            told.revision < revision && told.outcome == Outcome::Deployed && told.source.version == version
        });
        found.map(|record| record.revision.revision)
    }

    /// Begins a revision: those that were on their way are superseded. Gives its number.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn begin(&mut self, source: ReleaseSource, rolled_back_to: Option<u64>, deployment: Deployment) -> Result<u64> {
        for record in &mut self.records {
            if record.revision.outcome == Outcome::Progressing {
                record.revision.outcome = Outcome::Superseded;
            }
        }
        let number = self.next();
        self.add(Record {
            revision: Revision::now(number, source, rolled_back_to),
            deployment,
        })?;
        Ok(number)
    }

    /// Keeps a revision that was tried as a canary, and never served alone.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn abort(&mut self, source: ReleaseSource, deployment: Deployment, reason: &str, canary: Canary) -> Result<()> {
        let revision = Revision {
            deployed_at: canary.since,
            deployed_by: canary.by.clone(),
            outcome: Outcome::Aborted,
            reason: Some(reason.to_owned()),
            canary: Some(canary),
            ..Revision::now(self.next(), source, None)
        };
        self.add(Record { revision, deployment })
    }

    fn next(&self) -> u64 {
        self.newest().map_or(0, |record| record.revision.revision) + 1
    }

    fn add(&mut self, record: Record) -> Result<()> {
        self.records.push(record);
        if self.records.len() > KEPT {
            self.records.drain(..self.records.len() - KEPT);
        }
        self.write()
    }

    /// Notes what became of a revision.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn end(&mut self, revision: u64, outcome: Outcome, reason: Option<String>) -> Result<()> {
        let found = self
            .records
            .iter_mut()
            .find(|record| record.revision.revision == revision);
        if let Some(record) = found {
            if record.revision.outcome == outcome {
                return Ok(());
            }
            record.revision.outcome = outcome;
            record.revision.reason = reason;
            record.revision.kept = false;
        }
        self.write()
    }

    /// Notes that a revision has failed, and is left as it is.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn keep(&mut self, revision: u64, reason: String) -> Result<()> {
        let mut records = self.records.iter_mut();
        if let Some(record) = records.find(|record| record.revision.revision == revision) {
            record.revision.outcome = Outcome::Failed;
            record.revision.reason = Some(reason);
            record.revision.kept = true;
        }
        self.write()
    }

    /// Notes that the number of replicas of what is served is to change.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn begin_scaling(&mut self, scaled: Scaled) -> Result<()> {
        self.change_current(|revision| revision.begin_scaling(scaled))
    }

    /// Notes what became of that.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn end_scaling(&mut self, outcome: &Result<Service>) -> Result<()> {
        self.change_current(|revision| revision.end_scaling(outcome))
    }

    /// Notes that a change of the number of replicas has arrived, though nobody has waited for it.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn scaling_has_arrived(&mut self) -> Result<()> {
        self.change_current(|revision| {
            if let Some(scaled) = revision.scaled.last_mut() {
                scaled.outcome = Outcome::Deployed;
            }
        })
    }

    /// Nothing is noted where the history has gone.
    fn change_current(&mut self, change: impl FnOnce(&mut Revision)) -> Result<()> {
        let current = self.current().map(|record| record.revision.revision);
        let mut records = self.records.iter_mut();
        match records.find(|record| Some(record.revision.revision) == current) {
            Some(record) => change(&mut record.revision),
            None => return Ok(()),
        }
        self.write()
    }

    /// Keeps what requests saw of the change to a revision.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn prove(&mut self, revision: u64, proof: Proof) -> Result<()> {
        let mut records = self.records.iter_mut();
        if let Some(record) = records.find(|record| record.revision.revision == revision) {
            record.revision.proof = Some(proof);
        }
        self.write()
    }

    /// Keeps how a revision did as a canary.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn tried(&mut self, revision: u64, canary: Canary) -> Result<()> {
        let mut records = self.records.iter_mut();
        if let Some(record) = records.find(|record| record.revision.revision == revision) {
            record.revision.canary = Some(canary);
        }
        self.write()
    }

    fn write(&self) -> Result<()> {
        let mut data = BTreeMap::new();
        for record in &self.records {
            data.insert(
                format!("{KEY}{}", record.revision.revision),
                serde_json::to_value(record)?.to_string(),
            );
        }
        let extras: Vec<&str> = self.extras.iter().map(|extra| extra.kind()).collect();
        let annotations = BTreeMap::from([(EXTRAS.to_owned(), extras.join(","))]);
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(self.names.history()),
                labels: Some(self.names.labels(None)),
                annotations: (!extras.is_empty()).then_some(annotations),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        };
        self.cluster.apply(&map, Write::Real)?;
        Ok(())
    }
}

/// The pods that a Deployment asks for.
pub fn template(deployment: &Deployment) -> Option<&PodTemplateSpec> {
    deployment.spec.as_ref().map(|spec| &spec.template)
}
