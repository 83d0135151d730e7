//! Objects put into a cluster by server-side apply, and taken out again.

use std::fmt::Debug;

use anyhow::Result;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Cluster, FIELD_MANAGER, refusal};
use crate::problem::Problem;

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
    pub fn apply<K>(&self, object: &K, write: Write) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
        K::DynamicType: Default,
    {
        let mut parameters = PatchParams::apply(FIELD_MANAGER).force();
        parameters.dry_run = write == Write::DryRun;
        let (kind, name) = (K::kind(&K::DynamicType::default()).into_owned(), object.name_any());
        let request = self.objects::<K>();
        self.ask(
            &format!("apply {kind} `{name}`"),
            request.patch(&name, &parameters, &Patch::Apply(object)),
        )
    }

    /// The object, if it is there.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn get<K>(&self, name: &str) -> Result<Option<K>>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        let request: Api<K> = self.objects();
        self.find(&format!("read {kind} `{name}`"), request.get(name))
    }

    /// Deletes an object with what it owns; says whether it was there. It may take a while until it has gone.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn delete<K>(&self, name: &str) -> Result<bool>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        let request: Api<K> = self.objects();
        let parameters = DeleteParams::background();
        let answer = self.find(&format!("delete {kind} `{name}`"), request.delete(name, &parameters))?;
        Ok(answer.is_some())
    }

    /// Refuses an object of our name that somebody else has made.
    ///
    /// # Errors
    ///
    /// A [`Problem`] that names it.
    pub fn check_ours<K>(&self, found: Option<&K>, label: (&str, &str)) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        let Some(found) = found else { return Ok(()) };
        if found.labels().get(label.0).map(String::as_str) == Some(label.1) {
            return Ok(());
        }
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        Err(Problem::new(format!(
            "there is a {kind} `{}` in namespace `{}` that emberline has not made",
            found.name_any(),
            self.namespace()
        ))
        .hint("give the project another `name`, or deploy to another --namespace")
        .into())
    }

    /// Posts JSON to a Service of the namespace by way of the cluster's interface, and gives the answer's body.
    ///
    /// # Errors
    ///
    /// When nothing behind the Service answers, or the answer is no success.
    pub fn post(&self, service: &str, port: &str, path: &str, body: &str) -> Result<String> {
        let namespace = self.namespace();
        let uri = format!("/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy{path}");
        let doing = format!("ask Service `{service}`");
        let request = http::Request::post(uri)
            .header("content-type", "application/json")
            .body(body.as_bytes().to_vec())?;
        let client = self.client().clone();
        self.ask(&doing, async move { client.request_text(request).await })
    }
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
        let request: Api<k8s_openapi::api::apps::v1::Deployment> = self.objects();
        let part = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": deployment },
            "spec": { "replicas": replicas },
        });
        let parameters = PatchParams::apply(&format!("{FIELD_MANAGER}-autoscaler")).force();
        let answer = self.block_on(request.patch(deployment, &parameters, &Patch::Apply(&part)));
        answer
            .map(|_| ())
            .map_err(|error| refusal(&error, &format!("hand over the replicas of `{deployment}`"), self))
    }
}
