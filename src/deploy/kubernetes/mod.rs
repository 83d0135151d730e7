//! `kubernetes`: replicas as pods of a Deployment, behind a Service.
//!
//! What is wanted is applied, and the cluster's own controllers make it so: a client that is killed leaves nothing
//! unfinished but its wait. Beside the objects of a release stand the history (a `ConfigMap`) and the lock (a Lease).

mod canary;
mod converge;
mod custom;
mod differences;
mod former;
mod history;
mod holder;
mod lock;
mod logs;
mod manifests;
mod measure;
mod proof;
mod removal;
mod rights;
mod roll;
mod routes;
mod scale;
mod stage;
mod told;

pub use differences::Difference;
pub use manifests::Manifests;
pub use measure::Measured;
pub use rights::rights;
pub use routes::{Extra, check_known};

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use self::converge::Wait;
use self::former::{Former, former, has_arrived, scaling_has_arrived, set_replicas, settle};
use self::history::{History, Record, template};
use self::lock::Lock;
use self::manifests::{MANAGED, Names};
use self::proof::Probe;
use self::roll::Change;
use self::scale::check_number;
use crate::cluster::rollout::Rollout;
use crate::cluster::{Access, Cluster, Write};
use crate::deploy::history::{self as records, Outcome, ReleaseSource, Revision, Scaled};
use crate::deploy::{Autoscale, Events, LogLine, LogQuery, Request, Service, Target};
use crate::problem::Problem;
use crate::project::Project;

/// Replicas that one service may have: more are a slip of the finger, which would fill a cluster.
pub const MOST_REPLICAS: usize = 1000;
/// Between two looks at what goes.
const POLL: Duration = Duration::from_millis(500);

/// The service of one project in a cluster.
pub struct Kubernetes {
    project: Project,
    names: Names,
    cluster: Cluster,
    probes: bool,
    keeps_failures: bool,
}

impl Kubernetes {
    /// The service of `project`; it need not be deployed yet.
    ///
    /// # Errors
    ///
    /// When no cluster is named.
    pub fn new(project: &Project, access: &Access) -> Result<Self> {
        Ok(Self {
            names: Names::new(&project.config.name),
            project: project.clone(),
            cluster: Cluster::connect(access)?,
            probes: true,
            keeps_failures: false,
        })
    }

    /// Changes without a proof that they lose no request.
    #[must_use]
    pub fn without_probe(self) -> Self {
        Self { probes: false, ..self }
    }

    /// Leaves a version that does not arrive as it is, to be looked at.
    #[must_use]
    pub fn keeping_failures(self) -> Self {
        Self {
            keeps_failures: true,
            ..self
        }
    }

    /// Processors of the cluster's nodes, as far as one may know.
    pub fn processors(&self) -> Option<f64> {
        self.cluster.processors()
    }

    /// What a deployment would change; nothing is changed.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub fn differences(&self, request: &Request) -> Result<Vec<Difference>> {
        let wanted = self.render(request)?;
        check_known(&self.cluster, &self.extras())?;
        let history = History::read(&self.cluster, &self.names)?;
        differences::differences(&self.cluster, &self.names, &wanted, &history)
    }

    /// The objects that are wanted. With an autoscaler the number of replicas is none of the Deployment's business.
    fn render(&self, request: &Request) -> Result<Manifests> {
        let mut wanted = Manifests::render(&self.project, request, Some(self.cluster.namespace()))?;
        if self.autoscale()?.is_some() {
            set_replicas(&mut wanted.deployment, None);
        }
        Ok(wanted)
    }

    /// The kinds that the project asks for of what not every release has.
    fn extras(&self) -> BTreeSet<Extra> {
        Extra::wanted(&self.project.config.deploy)
    }

    fn observe(&self) -> Result<Rollout> {
        let rollout = Rollout::observe(&self.cluster, &self.names.deployment())?;
        let rollout = rollout.ok_or_else(|| self.nothing_deployed())?;
        self.cluster.check_ours(Some(&rollout.deployment), MANAGED)?;
        Ok(rollout)
    }

    fn nothing_deployed(&self) -> anyhow::Error {
        let context = match self.cluster.context() {
            Some(context) => format!(" of context `{context}`"),
            None => String::new(),
        };
        Problem::new(format!(
            "`{}` is not deployed in namespace `{}`{context}",
            self.names.name(),
            self.cluster.namespace()
        ))
        .hint(format!(
            "`emberline deploy --target kubernetes -n {}` serves the newest bundle there",
            self.cluster.namespace()
        ))
        .into()
    }

    fn no_history(&self) -> anyhow::Error {
        Problem::new(format!(
            "`{}` is deployed, and its history is gone: there is no ConfigMap `{}`",
            self.names.name(),
            self.names.history()
        ))
        .hint("the next `emberline deploy` begins another one")
        .into()
    }

    /// Takes the lock. What a client that has died had besides is taken away.
    fn lock(&self, what: &str) -> Result<Lock<'_>> {
        let lock = Lock::take(&self.cluster, &self.names, what)?;
        if lock.was_left() {
            // A probe that stays ends by itself, and is in nobody's way.
            let _ = self.remove_probe();
        }
        Ok(lock)
    }

    fn wait<'a>(&'a self, lock: &'a Lock, timeout: Duration, events: &'a dyn Events) -> Wait<'a> {
        Wait {
            cluster: &self.cluster,
            deployment: self.names.deployment(),
            lock,
            timeout,
            events,
        }
    }
}

/// The revisions of a service of the namespace, the oldest first; none when there is no history of one.
///
/// # Errors
///
/// What the cluster says against it.
pub fn revisions(cluster: &Cluster, service: &str) -> Result<Vec<Revision>> {
    Ok(History::read(cluster, &Names::new(service))?.revisions())
}

/// The replicas of all services of the namespace.
///
/// # Errors
///
/// What the cluster says against it.
pub fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    let labels = [MANAGED, ("app.kubernetes.io/component", "server")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    cluster.list(&labels.into())
}

impl Target for Kubernetes {
    fn deploy(&self, request: &Request, events: &dyn Events) -> Result<Service> {
        check_number(request.replicas)?;
        let found: Option<Deployment> = self.cluster.get(&self.names.deployment())?;
        self.cluster.check_ours(found.as_ref(), MANAGED)?;
        // All objects are checked before the first one is written.
        self.differences(request)?;
        let lock = self.lock("emberline deploy")?;
        self.check_no_canary()?;
        let mut history = History::read(&self.cluster, &self.names)?;
        let wanted = self.render(request)?;
        let autoscale = self.autoscale()?;
        let running = Rollout::observe(&self.cluster, &self.names.deployment())?;
        if let Some(running) = &running {
            settle(&mut history, running)?;
        }
        let former = former(&history, running.as_ref(), autoscale.is_some());
        let same = history
            .current()
            .filter(|record| running.is_some() && template(&record.deployment) == template(&wanted.deployment));
        let replicas = running.as_ref().map(Rollout::desired);
        let stays = running.as_ref().is_some_and(Rollout::is_complete)
            && same.is_some()
            && (autoscale.is_some() || replicas == Some(request.replicas));
        let probe = match self.port() {
            _ if stays => Probe::Unasked,
            Some(port) if port != request.port && self.probes => {
                Probe::Lost(format!("the Service moves from port {port} to {}", request.port))
            }
            _ => self.probe(running.as_ref(), &lock, events)?,
        };
        let (revision, former) = match (same, &running) {
            (Some(record), Some(running)) if record.revision.outcome == Outcome::Deployed => {
                (record.revision.revision, Former::Same(running.desired()))
            }
            // On its way already, though nobody waits for it any more.
            (Some(record), Some(_)) => (record.revision.revision, former),
            _ => {
                let revision = history.begin(request.source.clone(), None, wanted.deployment.clone())?;
                (revision, former)
            }
        };
        // Another number of replicas of what is served already is a change as well, and no revision.
        let scaled = match former {
            Former::Same(before) if autoscale.is_none() && before != request.replicas => {
                history.begin_scaling(Scaled::to(before, request.replicas))?;
                true
            }
            _ => false,
        };
        history.note_extras(history.extras() | &self.extras())?;
        for manifest in wanted.around()? {
            self.cluster.apply_manifest(&manifest, Write::Real)?;
        }
        let change = Change {
            revision,
            deployment: wanted.deployment.clone(),
            former,
            timeout: request.timeout,
        };
        let outcome = self.roll(change, &lock, &mut history, events);
        let outcome = self.proved(probe, outcome, Some((&mut history, revision)), &lock, events);
        if scaled {
            history.end_scaling(&outcome)?;
        }
        let service = outcome?;
        differences::prune(&self.cluster, &self.names, &wanted, &history)?;
        history.note_extras(self.extras())?;
        Ok(service)
    }

    fn scale(&self, replicas: usize, timeout: Duration, events: &dyn Events) -> Result<Service> {
        self.fix_replicas(replicas, timeout, events)
    }

    fn autoscale(&self, autoscale: Autoscale, timeout: Duration, events: &dyn Events) -> Result<Service> {
        self.follow_load(autoscale, timeout, events)
    }

    fn rollback(&self, to: Option<u64>, timeout: Duration, events: &dyn Events) -> Result<Service> {
        let rollout = self.observe()?;
        let lock = self.lock("emberline rollback")?;
        self.check_no_canary()?;
        let mut history = History::read(&self.cluster, &self.names)?;
        settle(&mut history, &rollout)?;
        let revisions = history.revisions();
        if revisions.is_empty() {
            return Err(self.no_history());
        }
        let found = records::target(&revisions, to)?.revision;
        let record = history
            .get(found)
            .cloned()
            .ok_or_else(|| Problem::new(format!("there is no record of revision {found}")))?;
        let Record {
            revision,
            mut deployment,
        } = record;
        let replicas = match self.autoscale()? {
            Some(_) => None,
            None => Some(rollout.desired()),
        };
        set_replicas(&mut deployment, replicas);
        differences::check_keys(&rollout.deployment, &deployment, found, &revision.source.version)?;
        let former = former(&history, Some(&rollout), replicas.is_none());
        let source: ReleaseSource = revision.source;
        let probe = self.probe(Some(&rollout), &lock, events)?;
        let number = history.begin(source, Some(revision.revision), deployment.clone())?;
        let change = Change {
            revision: number,
            deployment,
            former,
            timeout,
        };
        let outcome = self.roll(change, &lock, &mut history, events);
        self.proved(probe, outcome, Some((&mut history, number)), &lock, events)
    }

    fn status(&self) -> Result<Service> {
        let rollout = self.observe()?;
        let history = History::read(&self.cluster, &self.names)?;
        Ok(Service {
            canary: self.running_canary()?,
            ..self.service(&rollout, &history, self.autoscale()?)
        })
    }

    fn history(&self) -> Result<Vec<Revision>> {
        let history = History::read(&self.cluster, &self.names)?;
        if history.newest().is_none() {
            self.observe()?;
            return Err(self.no_history());
        }
        match Rollout::observe(&self.cluster, &self.names.deployment())? {
            Some(rollout) => {
                let mut revisions = history.revisions();
                let arrived = has_arrived(&history, &rollout);
                let scaled = scaling_has_arrived(&history, &rollout);
                for revision in &mut revisions {
                    if Some(revision.revision) == arrived {
                        revision.outcome = Outcome::Deployed;
                        revision.reason = None;
                        revision.kept = false;
                    }
                    if Some(revision.revision) == scaled
                        && let Some(scaled) = revision.scaled.last_mut()
                    {
                        scaled.outcome = Outcome::Deployed;
                    }
                }
                Ok(revisions)
            }
            None => Ok(history.revisions()),
        }
    }

    fn delete(&self, events: &dyn Events) -> Result<()> {
        self.remove(events)
    }

    fn ask(&self, path: &str, body: &str, key: Option<&str>) -> Result<String> {
        let service = self.names.service();
        let answer = self.cluster.post(&service, "http", path, body, key)?;
        answer.ok_or_else(|| {
            Problem::new(format!(
                "Service `{service}` wants a key, and was asked with none that it lets in"
            ))
            .hint("`EMBERLINE_KEY` is the key that it is asked with; `emberline keys add NAME` makes one")
            .into()
        })
    }

    fn logs(&self, query: &LogQuery, sink: &mut dyn FnMut(LogLine) -> bool) -> Result<()> {
        self.observe()?;
        logs::read(&self.cluster, &self.names.deployment(), query, sink)
    }
}
