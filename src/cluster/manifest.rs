//! An object on its way into a cluster: read into its type once, so that a mistake in a template ends here, and handled
//! without it from there on, so that all kinds go the same way.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, TypeMeta};
use kube::core::ApiResource;
use serde_json::Value;

use super::{Cluster, FIELD_MANAGER, Object, Write, applicable};
use crate::problem::Problem;

/// An object of one of the kinds that live in namespaces.
#[derive(Clone, Debug)]
pub struct Manifest {
    resource: ApiResource,
    object: DynamicObject,
}

impl Manifest {
    /// An object of a known kind.
    ///
    /// # Errors
    ///
    /// Never in practice: typed objects can be written.
    pub fn of<K: Object>(object: &K) -> Result<Self> {
        Ok(Self {
            resource: ApiResource::erase::<K>(&()),
            object: serde_json::from_value(serde_json::to_value(object)?)?,
        })
    }

    /// Its kind, such as `Deployment`.
    pub fn kind(&self) -> &str {
        &self.resource.kind
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.object.name_any()
    }

    /// What would be applied.
    ///
    /// # Errors
    ///
    /// Never in practice: objects can be written.
    pub fn value(&self) -> Result<Value> {
        Ok(serde_json::to_value(&self.object)?)
    }

    fn told(&self, verb: &str) -> String {
        format!("{verb} {} `{}`", self.kind(), self.name())
    }
}

impl Cluster {
    /// As [`Cluster::apply`]: gives what somebody could apply to have the object as it is then.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn apply_manifest(&self, manifest: &Manifest, write: Write) -> Result<Value> {
        let mut parameters = PatchParams::apply(FIELD_MANAGER).force();
        parameters.dry_run = write == Write::DryRun;
        let patch = Patch::Apply(manifest.value()?);
        let objects = self.of(&manifest.resource);
        let name = manifest.name();
        let applied = self.ask(&manifest.told("apply"), objects.patch(&name, &parameters, &patch))?;
        applicable(&applied)
    }

    /// What there is of the same kind and name, as somebody could apply it.
    ///
    /// # Errors
    ///
    /// What the cluster says against it, and when somebody else has made it: it has not the label `ours`.
    pub fn find_manifest(&self, manifest: &Manifest, ours: (&str, &str)) -> Result<Option<Value>> {
        let objects = self.of(&manifest.resource);
        let found = self.find(&manifest.told("read"), objects.get(&manifest.name()))?;
        let Some(found) = found else { return Ok(None) };
        if found.labels().get(ours.0).map(String::as_str) != Some(ours.1) {
            return Err(not_ours(manifest.kind(), &manifest.name(), self.namespace()).into());
        }
        applicable(&found).map(Some)
    }

    /// Those of a kind that have these labels; none where the cluster has no such kind.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn list_manifests<K: Object>(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Manifest>> {
        let resource = ApiResource::erase::<K>(&());
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = ListParams::default().labels(&labels.join(","));
        let doing = format!("list {}", resource.plural);
        let found = self.find(&doing, self.of(&resource).list(&query))?;
        let types = TypeMeta {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
        };
        let manifest = |object| Manifest {
            resource: resource.clone(),
            // What is in a list does not say what it is.
            object: DynamicObject {
                types: Some(types.clone()),
                ..object
            },
        };
        Ok(found.into_iter().flatten().map(manifest).collect())
    }

    /// Whether the cluster has a kind of a versioned interface, such as `HTTPRoute` of `gateway.networking.k8s.io/v1`.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn knows(&self, interface: &str, kind: &str) -> Result<bool> {
        let doing = format!("ask the cluster for its interface {interface}");
        let found = self.find(&doing, self.client().list_api_group_resources(interface))?;
        Ok(found.is_some_and(|found| found.resources.iter().any(|resource| resource.kind == kind)))
    }

    /// As [`Cluster::delete`].
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn delete_manifest(&self, manifest: &Manifest) -> Result<()> {
        let (objects, parameters) = (self.of(&manifest.resource), DeleteParams::background());
        self.find(&manifest.told("delete"), objects.delete(&manifest.name(), &parameters))?;
        Ok(())
    }

    fn of(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client().clone(), self.namespace(), resource)
    }
}

/// That an object of our name is somebody else's.
pub(super) fn not_ours(kind: &str, name: &str, namespace: &str) -> Problem {
    let article = if kind == "Ingress" || kind == "HTTPRoute" {
        "an"
    } else {
        "a"
    };
    Problem::new(format!(
        "there is {article} {kind} `{name}` in namespace `{namespace}` that emberline has not made"
    ))
    .hint("give the project another `name`, or deploy to another --namespace")
}
