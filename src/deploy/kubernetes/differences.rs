//! What a deployment would change in the cluster, object by object, as the cluster itself says; and what it leaves behind
//! that is no longer wanted. Nothing is changed here but by [`prune`].

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use serde_json::Value;

use super::history::{History, template};
use super::manifests::{MANAGED, Manifests, Names};
use super::routes;
use crate::cluster::{Cluster, Manifest, Write, applicable};
use crate::problem::Problem;

/// An object as it is, and as it would be.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// As it is; none when it is not there.
    pub live: Option<Value>,
    /// As it would be, with the cluster's defaults; none when it would go.
    pub wanted: Option<Value>,
}

impl Difference {
    /// Whether anything would change.
    pub fn is_change(&self) -> bool {
        self.live != self.wanted
    }
}

/// All objects of a release and those that would go, those that would stay as they are among them.
///
/// # Errors
///
/// What the cluster says against one of them, and an object of the same name that somebody else has made.
pub fn differences(cluster: &Cluster, names: &Names, wanted: &Manifests, history: &History) -> Result<Vec<Difference>> {
    let mut all = Vec::new();
    for manifest in wanted.all()? {
        all.push(Difference {
            kind: manifest.kind().to_owned(),
            name: manifest.name(),
            live: cluster.find_manifest(&manifest, MANAGED)?,
            wanted: Some(cluster.apply_manifest(&manifest, Write::DryRun)?),
        });
    }
    for surplus in surplus(cluster, names, wanted, history)? {
        all.push(Difference {
            kind: surplus.kind().to_owned(),
            name: surplus.name(),
            live: Some(applicable(&surplus.value()?)?),
            wanted: None,
        });
    }
    Ok(all)
}

/// Takes away what an earlier release has left and this one does not have.
///
/// # Errors
///
/// What the cluster says against it.
pub fn prune(cluster: &Cluster, names: &Names, wanted: &Manifests, history: &History) -> Result<()> {
    for surplus in surplus(cluster, names, wanted, history)? {
        cluster.delete_manifest(&surplus)?;
    }
    Ok(())
}

/// What has our labels, and is neither wanted nor needed by a revision that a rollback could bring back. The history, the
/// lock and the autoscaler belong to no release, and are not looked at.
fn surplus(cluster: &Cluster, names: &Names, wanted: &Manifests, history: &History) -> Result<Vec<Manifest>> {
    let labels = names.labels(None);
    let mut found = cluster.list_manifests::<NetworkPolicy>(&labels)?;
    found.extend(cluster.list_manifests::<PodDisruptionBudget>(&labels)?);
    found.extend(routes::found(cluster, names, history.extras())?);
    // Asked for by its name: who may list Secrets may read all of them.
    let needed = history.deployments().flat_map(secrets).any(|name| name == names.keys());
    if wanted.keys.is_none() && !needed && history.newest().is_some() {
        found.extend(
            cluster
                .get::<Secret>(&names.keys())?
                .filter(is_ours)
                .map(|keys| Manifest::of(&keys))
                .transpose()?,
        );
    }
    let wanted: Vec<(String, String)> = wanted.all()?.iter().map(identity).collect();
    found.retain(|manifest| !wanted.contains(&identity(manifest)));
    Ok(found)
}

fn is_ours(keys: &Secret) -> bool {
    keys.labels().get(MANAGED.0).map(String::as_str) == Some(MANAGED.1)
}

fn identity(manifest: &Manifest) -> (String, String) {
    (manifest.kind().to_owned(), manifest.name())
}

/// Names of the Secrets that the pods of a Deployment need.
pub fn secrets(deployment: &Deployment) -> Vec<String> {
    let volumes = template(deployment).and_then(|template| template.spec.as_ref()?.volumes.as_ref());
    let volumes = volumes.into_iter().flatten();
    volumes
        .filter_map(|volume| volume.secret.as_ref()?.secret_name.clone())
        .collect()
}

/// Refuses to bring a revision back that would answer everybody where now a key is needed.
///
/// # Errors
///
/// A [`Problem`] with what to do instead.
pub fn check_keys(now: &Deployment, again: &Deployment, revision: u64, version: &str) -> Result<()> {
    if secrets(now).is_empty() || !secrets(again).is_empty() {
        return Ok(());
    }
    Err(Problem::new(format!(
        "revision {revision} answers without keys, and the one that serves asks for them"
    ))
    .hint(format!(
        "`emberline deploy --bundle {version}` serves its bundle with keys"
    ))
    .into())
}
