//! What this account may do in the namespace, asked of the cluster itself.

use std::fmt;

use anyhow::Result;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::ApiResource;

use super::Cluster;

/// Something that may be done to a kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// The group of the interface; empty for the core.
    pub group: &'static str,
    /// Such as `deployments`, or with its part `pods/log`.
    pub resource: &'static str,
    /// Such as `create`.
    pub verb: &'static str,
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)
    }
}

impl Cluster {
    /// The version of its interface.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn version(&self) -> Result<String> {
        let info = self.ask("reach the cluster", self.client().apiserver_version())?;
        Ok(info.git_version)
    }

    /// Whether it knows what pods use, which an autoscaler reads.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn has_metrics(&self) -> Result<bool> {
        let groups = self.ask("list the interfaces of the cluster", self.client().list_api_groups())?;
        Ok(groups.groups.iter().any(|group| group.name == "metrics.k8s.io"))
    }

    /// Processors of all nodes that pods may have; none when this account may not know, as most may not.
    pub fn processors(&self) -> Option<f64> {
        let nodes: Api<DynamicObject> = Api::all_with(self.client().clone(), &ApiResource::erase::<Node>(&()));
        let found = self.ask("list the nodes", nodes.list(&ListParams::default())).ok()?;
        let processors = found.items.iter().map(|node| {
            let amount = node.data["status"]["allocatable"]["cpu"].as_str()?;
            match amount.strip_suffix('m') {
                Some(thousandths) => Some(thousandths.parse::<f64>().ok()? / 1000.0),
                None => amount.parse().ok(),
            }
        });
        processors.sum()
    }

    /// Those of the rights that this account has not in the namespace.
    ///
    /// # Errors
    ///
    /// When the cluster does not say.
    pub fn lacks(&self, rights: impl IntoIterator<Item = Right>) -> Result<Vec<Right>> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client().clone());
        let mut lacking = Vec::new();
        for right in rights {
            let (resource, part) = match right.resource.split_once('/') {
                Some((resource, part)) => (resource, Some(part.to_owned())),
                None => (right.resource, None),
            };
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(ResourceAttributes {
                        group: Some(right.group.to_owned()),
                        namespace: Some(self.namespace().to_owned()),
                        resource: Some(resource.to_owned()),
                        subresource: part,
                        verb: Some(right.verb.to_owned()),
                        ..ResourceAttributes::default()
                    }),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let parameters = PostParams::default();
            let answer = self.ask("ask what this account may do", reviews.create(&parameters, &review))?;
            if !answer.status.is_some_and(|status| status.allowed) {
                lacking.push(right);
            }
        }
        Ok(lacking)
    }
}

/// What the Role in a guide allows: group, kind and verb of each right.
#[cfg(test)]
pub fn named_by(guide: &str) -> std::collections::BTreeSet<String> {
    use k8s_openapi::api::rbac::v1::Role;

    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(guide);
    let guide = std::fs::read_to_string(guide).expect("the guide");
    let (_, role) = guide.split_once("```yaml\napiVersion: rbac").expect("a role");
    let (role, _) = role.split_once("```").expect("its end");
    let role: Role = serde_saphyr::from_str(&format!("apiVersion: rbac{role}")).expect("a role");
    let mut named = std::collections::BTreeSet::new();
    for rule in role.rules.unwrap_or_default() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                named.extend(rule.verbs.iter().map(|verb| format!("{group} {resource} {verb}")));
            }
        }
    }
    named
}
