//! Trials as the pods of an Indexed Job. The Job is the cluster's from the moment that it is made: whoever asked for it may
//! go, and comes back to it by the name that follows from the sweep. Results are in the logs of the pods, and collected as
//! each ends; when all are told of, the Job is deleted.

mod job;
mod pods;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{End, Event, Failure, Hear, Ledger, Pace, Sweep, Trial};
use crate::cluster::{Cluster, Right};
use crate::image;
use crate::problem::Problem;
use job::State;
use pods::Phase;

/// Between two looks.
const POLL: Duration = Duration::from_secs(1);
/// Looks at a log that has not all of its lines yet, though its pod has ended.
const LOOKS: u32 = 5;
/// How long a sweep may wait without any trial that runs before what is in the way is told as the reason of its end: a node
/// that is added takes some minutes.
const PATIENCE: Duration = Duration::from_mins(5);
/// The label of the pods of a Job.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Where trials run, and what.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The image.
    pub worker: &'a Worker,
}

/// What the trials run.
#[derive(Clone, Debug)]
pub enum Worker {
    /// An image that is there.
    Image(String),
    /// One that is made and pushed to this repository, unless it is there already.
    Pushed(String),
}

/// What an account needs to be allowed in its namespace; docs/guide/tuning.md says the same, and a test holds the two
/// together. `create` of pods is asked for to try one out before there is a Job.
pub fn rights() -> impl Iterator<Item = Right> {
    const NEEDED: [(&str, &str, &[&str]); 3] = [
        ("batch", "jobs", &["get", "list", "create", "delete"]),
        ("", "pods", &["list", "create"]),
        ("", "pods/log", &["get"]),
    ];
    NEEDED
        .into_iter()
        .flat_map(|(group, resource, verbs)| verbs.iter().map(move |verb| Right { group, resource, verb }))
}

/// Does `trials`, and tells of each. What is done is in the store and in the ledger. A Job of the sweep that is there
/// already is gone on with.
///
/// # Errors
///
/// What the cluster says against it, or an image that it cannot get: the Job is deleted then. The errors of `hear` and of
/// the ledger leave it as it is.
pub fn run(
    site: Site<'_>,
    sweep: &Sweep,
    trials: &[&Trial],
    ledger: &Ledger,
    pace: Pace,
    interrupt: &AtomicBool,
    hear: Hear<'_>,
) -> Result<End> {
    let Site { cluster, worker } = site;
    let name = job::name(sweep);
    let found: Option<Job> = cluster.get(&name)?;
    let job = match found {
        Some(found) if job::is_of(&found, sweep) => {
            hear(Event::Told(&format!(
                "going on with the Job `{name}`, which is there already"
            )))?;
            found
        }
        Some(_) => {
            return Err(Problem::new(format!(
                "there is a Job `{name}` in namespace `{}` that is not of this sweep",
                cluster.namespace()
            ))
            .hint("give the project another `name`, or choose another --namespace")
            .into());
        }
        None => {
            let image = match worker {
                Worker::Image(image) => image.clone(),
                Worker::Pushed(repository) => {
                    let mut heard = Ok(());
                    let image = image::push_worker(repository, sweep.files.contents()?, &mut |line| {
                        if heard.is_ok() {
                            heard = hear(Event::Told(line));
                        }
                    })?;
                    heard?;
                    image
                }
            };
            create(cluster, &job::render(sweep, trials, &image, pace, cluster.namespace())?)?
        }
    };
    let ids = job::trials(&job)?;
    // A Job that was there need not have all of them.
    let rest: Vec<&Trial> = trials
        .iter()
        .copied()
        .filter(|trial| !ids.contains(&trial.id))
        .collect();
    let mut watch = Watch {
        cluster,
        ledger,
        name,
        trials: (0..)
            .zip(&ids)
            .filter_map(|(index, id)| Some((index, *trials.iter().find(|trial| trial.id == *id)?)))
            .collect(),
        started: BTreeSet::new(),
        looks: BTreeMap::new(),
        failures: BTreeMap::new(),
        waits: None,
        moved: Instant::now(),
    };
    let end = watch.until_the_end(interrupt, pace, hear);
    match &end {
        Ok(End::Whole | End::Late) => {
            cluster.delete::<Job>(&watch.name)?;
            if !rest.is_empty() && matches!(end, Ok(End::Whole)) {
                return run(site, sweep, &rest, ledger, pace, interrupt, hear);
            }
        }
        // Nothing runs, and nothing will.
        Err(error) if error.is::<Hopeless>() => {
            cluster.delete::<Job>(&watch.name)?;
        }
        Ok(End::Interrupted) | Err(_) => {}
    }
    end
}

/// Ends the sweeps of a project: the Jobs that were deleted.
///
/// # Errors
///
/// What the cluster says against it.
pub fn cancel(cluster: &Cluster, project: &str) -> Result<Vec<String>> {
    let jobs: Vec<Job> = cluster.list(&job::labels(project))?;
    let mut gone = Vec::new();
    for job in jobs {
        let name = job.name_any();
        if cluster.delete::<Job>(&name)? {
            gone.push(name);
        }
    }
    Ok(gone)
}

/// Makes the Job; before it, a pod of it is tried out: what keeps all of them away, a quota or a policy, would otherwise
/// show in the cluster's events alone.
fn create(cluster: &Cluster, job: &Job) -> Result<Job> {
    cluster.try_out(&job::pod(job))?;
    cluster.put(job)?.ok_or_else(|| {
        Problem::new(format!("somebody else has just made the Job `{}`", job.name_any()))
            .hint("the same command goes on with it")
            .into()
    })
}

/// That no trial will ever run.
#[derive(Debug, thiserror::Error)]
#[error("no trial can run in the cluster")]
struct Hopeless;

/// A Job that is waited for.
struct Watch<'a> {
    cluster: &'a Cluster,
    ledger: &'a Ledger,
    name: String,
    /// By their indexes: those that nothing was told of yet.
    trials: BTreeMap<usize, &'a Trial>,
    started: BTreeSet<String>,
    /// How often the log of a pod was looked at in vain.
    looks: BTreeMap<String, u32>,
    /// Why the last pod of a trial failed, by its index, with the pod.
    failures: BTreeMap<usize, (String, Failure)>,
    /// What keeps the sweep waiting, as it was told last.
    waits: Option<String>,
    /// When something ran last.
    moved: Instant,
}

impl<'a> Watch<'a> {
    fn until_the_end(&mut self, interrupt: &AtomicBool, pace: Pace, hear: Hear<'_>) -> Result<End> {
        while !self.trials.is_empty() {
            let job = self.cluster.get::<Job>(&self.name)?.ok_or_else(|| {
                Problem::new(format!("somebody has deleted the Job `{}`", self.name))
                    .hint("what was collected is kept: the same command does what is missing")
            })?;
            // After the Job, so that whatever it says to have ended is there with its end.
            let labels = BTreeMap::from([(JOB_NAME.to_owned(), self.name.clone())]);
            let pods: Vec<Pod> = self.cluster.list(&labels)?;
            self.look(&job, &pods, hear)?;
            if self.trials.is_empty() {
                break;
            }
            if interrupt.load(Ordering::Relaxed) {
                return Ok(End::Interrupted);
            }
            if Instant::now() > pace.deadline {
                return Ok(End::Late);
            }
            thread::sleep(POLL);
        }
        Ok(End::Whole)
    }

    /// Takes in what there is now.
    fn look(&mut self, job: &Job, pods: &[Pod], hear: Hear<'_>) -> Result<()> {
        let mut obstacle = None;
        for pod in pods {
            let Some((index, trial)) = pods::index(pod).and_then(|index| Some((index, *self.trials.get(&index)?)))
            else {
                continue;
            };
            let name = pod.name_any();
            match pods::phase(pod) {
                Phase::Done => self.collect(index, trial, &name, hear)?,
                Phase::Failed => {
                    self.moved = Instant::now();
                    if self.failures.get(&index).is_none_or(|(pod, _)| *pod != name) {
                        let failure = pods::reason(pod, &pods::said(self.cluster, &name)?);
                        self.failures.insert(index, (name, failure));
                    }
                }
                Phase::Running => {
                    self.moved = Instant::now();
                    if self.started.insert(name.clone()) {
                        hear(Event::Started { trial, place: &name })?;
                    }
                }
                Phase::Waiting => obstacle = obstacle.or(pods::obstacle(pod)),
            }
        }
        self.give_up(job, pods, hear)?;
        let Some(obstacle) = obstacle else { return Ok(()) };
        if obstacle.is_hopeless() || self.moved.elapsed() > PATIENCE {
            let problem = Problem::new(obstacle.reason).hint(obstacle.hint.unwrap_or_default());
            return Err(anyhow::Error::from(problem).context(Hopeless));
        }
        // It is told once, and not for each pod.
        if self.waits.is_none() {
            hear(Event::Waits(&obstacle.reason))?;
            self.waits = Some(obstacle.reason);
        }
        Ok(())
    }

    /// Fetches the bundle of a trial that has ended well.
    fn collect(&mut self, index: usize, trial: &'a Trial, pod: &str, hear: Hear<'_>) -> Result<()> {
        self.moved = Instant::now();
        let said = pods::said(self.cluster, pod)?;
        let looks = self.looks.entry(pod.to_owned()).or_default();
        *looks += 1;
        // What a pod has said last reaches its node's disk a moment after its end.
        if said.outcome.is_none() && *looks < LOOKS {
            return Ok(());
        }
        match pods::collect(&trial.id, pod, &said, self.ledger.store()) {
            Ok(record) => {
                self.ledger.keep(&record)?;
                self.trials.remove(&index);
                hear(Event::Done { trial, record: &record })
            }
            Err(failure) => self.fail(index, &failure, hear),
        }
    }

    /// Tells of the trials that the Job does not try again.
    fn give_up(&mut self, job: &Job, pods: &[Pod], hear: Hear<'_>) -> Result<()> {
        let mut over = job::failed(job);
        let mut otherwise = "it failed, and its pod has gone".to_owned();
        let state = job::state(job);
        if state != State::Open {
            // What has ended well is collected, unless its pod has gone with it.
            let to_collect: BTreeSet<usize> = pods
                .iter()
                .filter(|pod| pods::phase(pod) == Phase::Done)
                .filter_map(pods::index)
                .collect();
            let left = self.trials.keys().copied();
            over = left.filter(|index| !to_collect.contains(index)).collect();
            "its pod has gone before its bundle was fetched".clone_into(&mut otherwise);
        }
        if let State::Failed(words) = state {
            otherwise = words;
        }
        for index in over {
            if self.trials.contains_key(&index) {
                let failure = self.failures.remove(&index).map(|(_, failure)| failure);
                let failure = failure.unwrap_or_else(|| Failure {
                    reason: otherwise.clone(),
                    log: Vec::new(),
                });
                self.fail(index, &failure, hear)?;
            }
        }
        Ok(())
    }

    fn fail(&mut self, index: usize, failure: &Failure, hear: Hear<'_>) -> Result<()> {
        match self.trials.remove(&index) {
            Some(trial) => hear(Event::Failed { trial, failure }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rights;
    use crate::cluster::named_by;

    #[test]
    fn the_guide_names_the_same_rights() {
        let needed = rights().map(|right| format!("{} {} {}", right.group, right.resource, right.verb));
        assert_eq!(named_by("docs/guide/tuning.md"), needed.collect());
    }
}
