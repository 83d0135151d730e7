//! What is remembered of a canary that runs: a `ConfigMap`, the first that is written of it and the last that goes. Whoever
//! finds it can go on with what another client has begun.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Write};
use crate::deploy::Canary;
use crate::deploy::history::ReleaseSource;
use crate::deploy::kubernetes::manifests::{MANAGED, Names};
use crate::problem::Problem;

/// The key of its record.
const KEY: &str = "canary.json";

/// A canary that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its bundle.
    pub source: ReleaseSource,
    /// What is applied in the place of the service's Deployment when it is promoted.
    pub deployment: Deployment,
    /// What is told of it.
    pub canary: Canary,
}

impl Record {
    /// The canary that runs, if one does.
    ///
    /// # Errors
    ///
    /// What the cluster says against being asked, or a record that cannot be read.
    pub fn read(cluster: &Cluster, names: &Names) -> Result<Option<Self>> {
        let found: Option<ConfigMap> = cluster.get(&names.canary())?;
        cluster.check_ours(found.as_ref(), MANAGED)?;
        let Some(map) = found else { return Ok(None) };
        let text = map.data.unwrap_or_default().remove(KEY).unwrap_or_default();
        let record = serde_json::from_str(&text)
            .and_then(serde_json::from_value)
            .map_err(|error| {
                Problem::new(format!(
                    "ConfigMap `{}`: `{KEY}` is no record of a canary: {error}",
                    names.canary()
                ))
                .hint("`emberline delete` ends the service with all that belongs to it")
            })?;
        Ok(Some(record))
    }

    /// Keeps it.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn write(&self, cluster: &Cluster, names: &Names) -> Result<()> {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(names.canary()),
                labels: Some(names.labels(None)),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(
                KEY.to_owned(),
                serde_json::to_value(self)?.to_string(),
            )])),
            ..ConfigMap::default()
        };
        cluster.apply(&map, Write::Real)?;
        Ok(())
    }
}
