//! Objects put into a cluster by server-side apply, and taken out again.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde_json::{Value, json};

use super::manifest::not_ours;
use super::{Cluster, FIELD_MANAGER, Object};

/// Whether an object is really written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is.
    Real,
    /// The cluster checks it, fills in its defaults, and forgets it.
    DryRun,
}

impl Cluster {
    /// Applies an object: the fields that it has become ours, those that it no longer has go, and those of others stay.
    /// Gives the object as the cluster has it.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn apply<K: Object>(&self, object: &K, write: Write) -> Result<K> {
        let mut parameters = PatchParams::apply(FIELD_MANAGER).force();
        parameters.dry_run = write == Write::DryRun;
        let (doing, name) = (doing::<K>("apply", &object.name_any()), object.name_any());
        let value = serde_json::to_value(object)?;
        let applied = self.ask(
            &doing,
            self.untyped::<K>().patch(&name, &parameters, &Patch::Apply(&value)),
        )?;
        typed(&applied)
    }

    /// Makes an object, or puts it in the place of the version that it names; none when somebody else was quicker.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn put<K: Object>(&self, object: &K) -> Result<Option<K>> {
        let (doing, name) = (doing::<K>("write", &object.name_any()), object.name_any());
        let value: DynamicObject = serde_json::from_value(serde_json::to_value(object)?)?;
        let (objects, parameters) = (self.untyped::<K>(), PostParams::default());
        let put = self.ask(&doing, async {
            let answer = match object.meta().resource_version {
                Some(_) => objects.replace(&name, &parameters, &value).await,
                None => objects.create(&parameters, &value).await,
            };
            match answer {
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                answer => answer.map(Some),
            }
        })?;
        put.as_ref().map(typed).transpose()
    }

    /// Asks whether an object could be made: the cluster checks it against its rules and quotas, and forgets it.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn try_out<K: Object>(&self, object: &K) -> Result<()> {
        let doing = doing::<K>("make", &object.name_any());
        let value: DynamicObject = serde_json::from_value(serde_json::to_value(object)?)?;
        let parameters = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        self.ask(&doing, self.untyped::<K>().create(&parameters, &value))?;
        Ok(())
    }

    /// The object, if it is there.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn get<K: Object>(&self, name: &str) -> Result<Option<K>> {
        let found = self.find(&doing::<K>("read", name), self.untyped::<K>().get(name))?;
        found.as_ref().map(typed).transpose()
    }

    /// The objects that have these labels.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn list<K: Object>(&self, labels: &BTreeMap<String, String>) -> Result<Vec<K>> {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = ListParams::default().labels(&labels.join(","));
        let found = self.ask(&format!("list {}s", K::kind(&())), self.untyped::<K>().list(&query))?;
        found.items.iter().map(typed).collect()
    }

    /// Deletes an object with what it owns; says whether it was there. It may take a while until it has gone.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn delete<K: Object>(&self, name: &str) -> Result<bool> {
        let (objects, parameters) = (self.untyped::<K>(), DeleteParams::background());
        let answer = self.find(&doing::<K>("delete", name), objects.delete(name, &parameters))?;
        Ok(answer.is_some())
    }

    /// Refuses an object of our name that somebody else has made.
    ///
    /// # Errors
    ///
    /// A [`Problem`] that names it.
    pub fn check_ours<K: Object>(&self, found: Option<&K>, label: (&str, &str)) -> Result<()> {
        let Some(found) = found else { return Ok(()) };
        if found.labels().get(label.0).map(String::as_str) == Some(label.1) {
            return Ok(());
        }
        Err(not_ours(&K::kind(&()), &found.name_any(), self.namespace()).into())
    }
}

/// An object in its type. What is sent and received is without one, so that the machinery of a request is compiled once,
/// and not once for each type.
fn typed<K: Object>(object: &DynamicObject) -> Result<K> {
    let value = serde_json::to_value(object)?;
    serde_json::from_value(value).with_context(|| format!("the cluster has another kind of {}", K::kind(&())))
}

/// What completes "cannot ...".
fn doing<K: Object>(verb: &str, name: &str) -> String {
    format!("{verb} {} `{name}`", K::kind(&()))
}

/// An object as JSON without what the cluster keeps for itself: what somebody could apply.
///
/// # Errors
///
/// Never in practice: typed objects can be written.
pub fn applicable<K: Serialize>(object: &K) -> Result<Value> {
    let mut value = serde_json::to_value(object)?;
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for key in [
            "managedFields",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
        ] {
            metadata.remove(key);
        }
    }
    Ok(value)
}

impl Cluster {
    /// Hands a Deployment's number of replicas over to whoever changes it next, so that applying the Deployment without
    /// one leaves it as it is.
    ///
    /// The number would otherwise fall to 1, as it does for any field that its only owner no longer applies. So somebody
    /// else owns it first: <https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership>.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn hand_over_replicas(&self, deployment: &str, replicas: i32) -> Result<()> {
        let part = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": deployment },
            "spec": { "replicas": replicas },
        });
        let parameters = PatchParams::apply(&format!("{FIELD_MANAGER}-autoscaler")).force();
        let doing = format!("hand over the replicas of Deployment `{deployment}`");
        let deployments = self.untyped::<Deployment>();
        self.ask(&doing, deployments.patch(deployment, &parameters, &Patch::Apply(&part)))?;
        Ok(())
    }
}
