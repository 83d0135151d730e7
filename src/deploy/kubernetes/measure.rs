//! What one replica carries: a pod with the container of a replica and a load on it, inside the pod's own network.
//!
//! It is no replica, and nothing but its load reaches it. It ends by itself should its client die, and the next measurement
//! replaces what is left of it. What the numbers mean is `capacity`'s business.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::core::v1::{Container, ContainerState, Pod, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::api::{DeleteParams, LogParams};
use minijinja::context;

use super::Kubernetes;
use super::history::template;
use super::lock::Lock;
use super::manifests::{MANAGED, Names, VERSION};
use crate::bundle::capacity::{Measurement, Place, Resources, Slo, Step, Subject};
use crate::clock::seconds_since_1970;
use crate::cluster::Cluster;
use crate::cluster::diagnosis::{self, Cause};
use crate::deploy::DeployError;
use crate::probe::load::Told;
use crate::problem::Problem;
use crate::project::Project;
use crate::templates;

/// When the cluster ends a measurement that its client has forgotten, in seconds: longer than any takes.
const DEADLINE: u64 = 600;
/// How long the pod may take until its load begins to run.
const BEGINNING: Duration = Duration::from_mins(1);
/// How long one that was left behind may take to go.
const GOING: Duration = Duration::from_secs(20);
/// Between two looks.
const POLL: Duration = Duration::from_millis(400);
/// The load's container, by its template.
const LOAD: &str = "load";

/// A measurement of the replica of a version.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What was measured.
    pub measurement: Measurement,
    /// The version that serves, and was measured.
    pub version: String,
}

/// The pod; removed when it is dropped.
struct Measurer<'a> {
    cluster: &'a Cluster,
    name: String,
}

/// How far it is.
struct State {
    /// Why it will not come to its end.
    ended: Option<String>,
    /// What keeps it from beginning, though it may pass.
    waits_for: Option<String>,
    /// Whether its load has begun.
    begun: bool,
}

impl State {
    fn ended(reason: String, begun: bool) -> Self {
        Self {
            ended: Some(reason),
            waits_for: None,
            begun,
        }
    }
}

impl Kubernetes {
    /// Measures what one replica of the version that serves carries; `tell` hears of each rate. The service is left alone.
    ///
    /// # Errors
    ///
    /// When nothing is deployed, the pod does not come to its end, or `interrupted` says so ([`DeployError::Halted`]).
    pub fn measure(&self, slo: &Slo, interrupted: &dyn Fn() -> bool, tell: &mut dyn FnMut(&Step)) -> Result<Measured> {
        let rollout = self.observe()?;
        let wanted = template(&rollout.deployment);
        let version = wanted.and_then(|template| template.metadata.as_ref()?.labels.as_ref()?.get(VERSION).cloned());
        let version = version.unwrap_or_default();
        let spec = wanted.and_then(|template| template.spec.clone());
        let Some((server, volumes)) = spec.and_then(|spec| Some((spec.containers.first()?.clone(), spec.volumes)))
        else {
            return Err(Problem::new(format!("Deployment `{}` has no container", self.names.deployment())).into());
        };
        let resources = resources(&server);
        let lock = self.lock("emberline scale --slo")?;
        let pod = pod(&self.project, self.cluster.namespace(), server, volumes, slo)?;
        let measurer = Measurer::create(&self.cluster, &pod, &lock)?;
        let begin = Instant::now();
        let mut heard = 0;
        loop {
            if interrupted() {
                return Err(DeployError::Halted("nothing was changed".to_owned()).into());
            }
            lock.renew()?;
            let State {
                ended,
                waits_for,
                begun,
            } = measurer.state()?;
            let told = if begun { measurer.told() } else { Vec::new() };
            for step in told.iter().skip(heard).filter_map(step_of) {
                tell(step);
            }
            heard = told.len();
            if let Some(measurement) = measurement(&told, slo, &resources) {
                return Ok(Measured { measurement, version });
            }
            if let Some(reason) = ended {
                return Err(failed(&reason).into());
            }
            let late = if begun {
                Duration::from_secs(DEADLINE)
            } else {
                BEGINNING
            };
            if begin.elapsed() > late {
                let reason = waits_for.unwrap_or_else(|| format!("it has taken {} s", late.as_secs()));
                return Err(failed(&reason).into());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Takes away a measurement that a client has left behind.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub(super) fn remove_measurement(&self) -> Result<()> {
        let mut labels = self.names.labels(None);
        labels.insert("app.kubernetes.io/component".to_owned(), "measure".to_owned());
        for pod in self.cluster.list::<Pod>(&labels)? {
            self.cluster.delete::<Pod>(&pod.name_any())?;
        }
        Ok(())
    }
}

/// The pod with the container of a replica, and the load on it.
fn pod(project: &Project, namespace: &str, server: Container, volumes: Option<Vec<Volume>>, slo: &Slo) -> Result<Pod> {
    let names = Names::new(&project.config.name);
    let mut labels = names.labels(None);
    labels.insert("app.kubernetes.io/component".to_owned(), "measure".to_owned());
    let (deploy, resources) = (&project.config.deploy, resources(&server));
    // Nobody restarts it while it is asked for more than it can do, and nobody waits for it at its end.
    let alone = Container {
        lifecycle: None,
        liveness_probe: None,
        readiness_probe: None,
        startup_probe: None,
        ..server
    };
    let values = context! {
        name => names.name().to_owned(),
        namespace => namespace.to_owned(),
        labels,
        volumes => templates::part(&serde_json::to_value(volumes)?),
        image => alone.image.clone(),
        slo => slo.to_string(),
        deadline => DEADLINE,
        cpu => resources.cpu.unwrap_or_else(|| deploy.cpu.unwrap_or_default().to_string()),
        memory => resources.memory.unwrap_or_else(|| deploy.memory.unwrap_or_default().to_string()),
        server => templates::part(&serde_json::to_value(alone)?),
    };
    templates::object("measure.yaml", templates::KUBERNETES_MEASURE, &values)
}

/// What a container is promised and allowed.
fn resources(container: &Container) -> Resources {
    let resources = container.resources.as_ref();
    let amount = |amounts: Option<&BTreeMap<String, Quantity>>, name: &str| Some(amounts?.get(name)?.0.clone());
    Resources {
        cpu: amount(resources.and_then(|resources| resources.requests.as_ref()), "cpu"),
        memory: amount(resources.and_then(|resources| resources.limits.as_ref()), "memory"),
    }
}

fn step_of(told: &Told) -> Option<&Step> {
    match told {
        Told::Step(step) => Some(step),
        _ => None,
    }
}

/// What a load has told, once it is at its end.
fn measurement(told: &[Told], slo: &Slo, resources: &Resources) -> Option<Measurement> {
    let limit = told.iter().find_map(|told| match told {
        Told::End(limit) => Some(*limit),
        _ => None,
    })?;
    let machine = told.iter().find_map(|told| match told {
        Told::Machine(machine) => Some(machine.clone()),
        _ => None,
    })?;
    Some(Measurement {
        of: Subject::Replica,
        place: Place::Kubernetes,
        at: seconds_since_1970(),
        machine,
        resources: Some(resources.clone()),
        slo: *slo,
        limit,
        steps: told.iter().filter_map(step_of).cloned().collect(),
    })
}

fn failed(reason: &str) -> Problem {
    let problem = Problem::new(format!(
        "the measurement did not come to its end: {reason}; nothing was changed"
    ));
    if reason.contains("there is no flag") {
        return problem.hint("the image is older than the measurement; `emberline package` makes one of this version");
    }
    problem
        .hint("its pod needs room beside the replicas: once more what one of them asks for, and as much for its load")
}

impl<'a> Measurer<'a> {
    /// Creates the pod, in the place of one that a client has left behind.
    fn create(cluster: &'a Cluster, pod: &Pod, lock: &Lock) -> Result<Self> {
        let measurer = Self {
            cluster,
            name: pod.name_any(),
        };
        let found: Option<Pod> = cluster.get(&measurer.name)?;
        if let Err(error) = cluster.check_ours(found.as_ref(), MANAGED) {
            // It is not ours to remove.
            std::mem::forget(measurer);
            return Err(error);
        }
        if found.is_some() {
            measurer.remove();
        }
        let deadline = Instant::now() + GOING;
        while cluster.put(pod)?.is_none() {
            if Instant::now() > deadline {
                return Err(failed(&format!("the pod `{}` of another one is there still", measurer.name)).into());
            }
            lock.renew()?;
            std::thread::sleep(POLL);
        }
        Ok(measurer)
    }

    /// How far it is.
    fn state(&self) -> Result<State> {
        let pod: Option<Pod> = self.cluster.get(&self.name)?;
        let Some(pod) = pod else {
            return Ok(State::ended("somebody has deleted its pod".to_owned(), false));
        };
        let status = pod.status.clone().unwrap_or_default();
        if let Some(reason) = status.reason {
            return Ok(State::ended(status.message.unwrap_or(reason), false));
        }
        let containers = status.container_statuses.unwrap_or_default();
        let state = |load: bool| {
            let found = containers.iter().find(|container| (container.name == LOAD) == load);
            found.and_then(|container| container.state.clone())
        };
        let (load, server) = (state(true), state(false));
        let begun = load.as_ref().is_some_and(|load| load.waiting.is_none());
        // Its end is looked for in its log before this is.
        for (state, name) in [(&load, LOAD), (&server, "server")] {
            if let Some(ended) = state
                .as_ref()
                .and_then(|state: &ContainerState| state.terminated.as_ref())
            {
                // Its log has all of it, the next time at the latest.
                if name == LOAD && ended.exit_code == 0 {
                    continue;
                }
                let container = containers
                    .iter()
                    .find(|container| (container.name == LOAD) == (name == LOAD));
                let container = container.map_or(name, |container| &container.name);
                let log = self.log(container).unwrap_or_default();
                let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('{')).collect();
                let last = lines[lines.len().saturating_sub(3)..].join("; ");
                let reason = ended.reason.as_deref().unwrap_or("ended");
                let told = format!(
                    "its `{container}` ended with code {} ({reason}): {last}",
                    ended.exit_code
                );
                return Ok(State::ended(told, begun));
            }
        }
        let cause = diagnosis::cause(&pod);
        let hopeless = cause.as_ref().is_some_and(Cause::is_hopeless);
        let reason = cause.map(|cause| cause.reason);
        Ok(State {
            ended: reason.clone().filter(|_| hopeless),
            waits_for: reason,
            begun,
        })
    }

    /// What the load has told so far.
    fn told(&self) -> Vec<Told> {
        let log = self.log(LOAD).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The log of one of its containers, as far as it can be had.
    fn log(&self, container: &str) -> Option<String> {
        let parameters = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        let pods = self.cluster.pods();
        let asked = self
            .cluster
            .find("read the log of the measurement", pods.logs(&self.name, &parameters));
        asked.ok().flatten()
    }

    /// Takes it away at once, as far as the cluster lets us: it ends by itself otherwise.
    fn remove(&self) {
        let pods = self.cluster.pods();
        let parameters = DeleteParams::default().grace_period(0);
        let _ = self
            .cluster
            .find("remove the measurement", pods.delete(&self.name, &parameters));
    }
}

impl Drop for Measurer<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::manifests::{
        Manifests,
        tests::{project, request},
    };
    use super::*;
    use crate::bundle::capacity::{Limit, Machine};

    fn slo() -> Slo {
        "p99=20ms".parse().expect("an objective")
    }

    #[test]
    fn the_pod_has_the_container_of_a_replica_and_is_none() {
        let mut request = request("0123456789ab");
        request.keys = Some("phone sha256:00\n".into());
        let manifests = Manifests::render(&project(), &request, Some("models")).expect("rendered");
        let spec = template(&manifests.deployment).and_then(|template| template.spec.clone());
        let spec = spec.expect("a spec");
        let server = spec.containers[0].clone();
        let pod = pod(&project(), "models", server.clone(), spec.volumes, &slo()).expect("rendered");
        let selector = Names::new("digits").selector();
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        assert!(
            selector.iter().any(|(name, value)| labels.get(name) != Some(value)),
            "{labels:?}"
        );
        let pod = serde_json::to_value(pod).expect("JSON");
        let told = serde_json::to_value(server).expect("JSON");
        let measured = &pod["spec"]["containers"][0];
        for key in ["image", "args", "env", "resources", "securityContext", "volumeMounts"] {
            assert_eq!(measured.get(key), told.get(key), "{key}");
        }
        for key in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            assert_eq!((measured.get(key), told.get(key).is_some()), (None, true), "{key}");
        }
        assert_eq!(pod["spec"]["volumes"][0]["secret"]["secretName"], "digits-keys");
        let load = &pod["spec"]["containers"][1];
        assert_eq!(
            load["args"],
            json!(["--load", "http://127.0.0.1:5000", "--slo", "p99=20ms"])
        );
        assert_eq!(
            load["resources"]["requests"]["cpu"],
            measured["resources"]["requests"]["cpu"]
        );
        assert_eq!(load["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(pod["spec"]["activeDeadlineSeconds"], 600);
        assert_eq!(pod["metadata"]["namespace"], "models");
    }

    #[test]
    fn what_a_load_says_is_a_measurement_at_its_end_and_none_before() {
        let step = Step {
            rate: 20.0,
            ..Step::default()
        };
        let resources = Resources {
            cpu: Some("100m".into()),
            memory: None,
        };
        let lines = [
            Told::Machine(Machine::default()),
            Told::Step(step.clone()),
            Told::End(Limit::Slo),
        ];
        let told: Vec<Told> = lines
            .iter()
            .map(|told| serde_json::to_value(told).expect("JSON"))
            .map(|line| serde_json::from_value(line).expect("the same"))
            .collect();
        assert_eq!(measurement(&told[..2], &slo(), &resources), None);
        let measurement = measurement(&told, &slo(), &resources).expect("a measurement");
        assert_eq!((measurement.limit, measurement.steps), (Limit::Slo, vec![step]));
    }
}
