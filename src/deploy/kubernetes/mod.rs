//! `kubernetes`: replicas as pods of a Deployment, behind a Service.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::{Access, Cluster};
use crate::deploy::history::Revision;
use crate::deploy::{Autoscale, Events, LogLine, LogQuery, Request, Service, Target};
use crate::problem::Problem;
use crate::project::Project;

/// Objects.
pub struct Manifests;

impl Manifests {
    /// Renders.
    ///
    /// # Errors
    ///
    /// None.
    pub fn render(_: &Project, _: &Request, _: Option<&str>) -> Result<Self> {
        Ok(Self)
    }
    /// Objects.
    ///
    /// # Errors
    ///
    /// None.
    pub fn objects(&self) -> Result<Vec<serde_json::Value>> {
        Ok(vec![])
    }
}

/// The service of one project in a cluster.
pub struct Kubernetes {
    name: String,
    cluster: Cluster,
}

impl Kubernetes {
    /// The service of `project`; it need not be deployed yet.
    ///
    /// # Errors
    ///
    /// When no cluster is named.
    pub fn new(project: &Project, access: &Access) -> Result<Self> {
        Ok(Self {
            name: project.config.name.clone(),
            cluster: Cluster::connect(access)?,
        })
    }
    /// Dry.
    ///
    /// # Errors
    ///
    /// None.
    pub fn dry_run(&self, _: &Request) -> Result<Vec<serde_json::Value>> {
        self.unfinished()
    }

    fn unfinished<T>(&self) -> Result<T> {
        let _ = &self.cluster;
        Err(Problem::new(format!("`{}` cannot be deployed to kubernetes yet", self.name)).into())
    }
}

impl Target for Kubernetes {
    fn deploy(&self, _: &Request, _: &dyn Events) -> Result<Service> {
        self.unfinished()
    }
    fn scale(&self, _: usize, _: Duration, _: &dyn Events) -> Result<Service> {
        self.unfinished()
    }
    fn autoscale(&self, _: Autoscale, _: Duration, _: &dyn Events) -> Result<Service> {
        self.unfinished()
    }
    fn rollback(&self, _: Option<u64>, _: Duration, _: &dyn Events) -> Result<Service> {
        self.unfinished()
    }
    fn status(&self) -> Result<Service> {
        self.unfinished()
    }
    fn history(&self) -> Result<Vec<Revision>> {
        self.unfinished()
    }
    fn delete(&self, _: &dyn Events) -> Result<()> {
        self.unfinished()
    }
    fn ask(&self, _: &str, _: &str) -> Result<String> {
        self.unfinished()
    }
    fn logs(&self, _: &LogQuery, _: &mut dyn FnMut(LogLine) -> bool) -> Result<()> {
        self.unfinished()
    }
}
