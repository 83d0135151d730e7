//! `docker`: replicas as containers of this machine's engine, behind one nginx that holds the service's address.

use std::time::Duration;

use anyhow::Result;

use crate::deploy::history::Revision;
use crate::deploy::{Autoscale, Events, LogLine, LogQuery, Request, Service, Target};
use crate::engine::Engine;
use crate::problem::Problem;
use crate::project::Project;

/// The service of one project in this machine's engine.
#[derive(Debug)]
pub struct Docker {
    name: String,
    engine: Engine,
}

impl Docker {
    /// The service of `project`; it need not be deployed yet.
    ///
    /// # Errors
    ///
    /// When no engine answers.
    pub fn new(project: &Project) -> Result<Self> {
        Ok(Self {
            name: project.config.name.clone(),
            engine: Engine::connect()?,
        })
    }

    fn unfinished<T>(&self) -> Result<T> {
        let _ = &self.engine;
        Err(Problem::new(format!("`{}` cannot be deployed to docker yet", self.name)).into())
    }
}

impl Target for Docker {
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
