//! Proof of availability: a pod beside the service that sends it predictions through its Service, from before a change
//! until the pods that it replaces have gone.
//!
//! The pod runs the image that serves now, so that nothing else has to be there. It asks nothing of the cluster, is no
//! replica, and ends by itself should its client die; the next change replaces what is left of it. A probe that cannot
//! start is no reason to leave a service as it is: the change goes on, and says that nothing was proved.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::io::AsyncBufReadExt;
use futures_util::stream::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, LogParams};
use minijinja::context;
use serde::Deserialize;

use super::Kubernetes;
use super::history::History;
use super::lock::Lock;
use super::manifests::{MANAGED, Names};
use crate::cluster::Cluster;
use crate::cluster::diagnosis::{self, Cause};
use crate::cluster::rollout::Rollout;
use crate::deploy::{DeployError, Events, Proof, Service};
use crate::templates;

/// How long a probe sends requests at most, in seconds: what comes later in a change that takes longer is not proved.
const LONGEST: u64 = 900;
/// When the cluster ends a probe that its client has forgotten, in seconds.
const DEADLINE: u64 = LONGEST + 60;
/// How long a probe may take until it has its first answer. The change waits for it.
const BEGINNING: Duration = Duration::from_secs(15);
/// Requests of which one at least has to be answered, or nothing is to be proved.
const TRIED: u64 = 50;
/// How long the probe of the change before may take to go.
const FORMER: Duration = Duration::from_secs(5);
/// How long the pods that were replaced may take to go, while the probe goes on.
const GOING: Duration = Duration::from_secs(15);
/// How long a probe may take to end: what a request may take, and a margin.
const END: Duration = Duration::from_secs(12);
/// Between two looks.
const POLL: Duration = Duration::from_millis(250);

/// What is known of the proof of a change that is under way.
pub enum Probe<'a> {
    /// Nothing serves, nothing changes, or nobody wants one.
    Unasked,
    /// There is none, for this reason.
    Lost(String),
    /// It sends requests.
    Sending(Prober<'a>),
}

/// A probe that sends requests; removed when it is dropped.
pub struct Prober<'a> {
    cluster: &'a Cluster,
    name: String,
    removed: bool,
}

/// What has become of a probe so far.
enum Seen {
    /// It has not been answered yet.
    Waits,
    /// A request was answered.
    Begun,
    /// There is no such pod.
    Gone,
}

/// A line of its log.
#[derive(Deserialize)]
struct Line {
    answered: u64,
    #[serde(rename = "final")]
    last: bool,
    #[serde(flatten)]
    proof: Proof,
}

impl Kubernetes {
    /// Begins to send the service requests, if it serves, and waits until one was answered.
    ///
    /// # Errors
    ///
    /// [`DeployError::Interrupted`], and what the cluster says against the lock. That there can be no probe is none.
    pub(super) fn probe(&self, running: Option<&Rollout>, lock: &Lock, events: &dyn Events) -> Result<Probe<'_>> {
        let ready = running.and_then(|running| running.pods.iter().find(|pod| diagnosis::is_ready(pod)));
        let image = ready.and_then(|pod| pod.spec.as_ref()?.containers.first()?.image.clone());
        let (Some(image), Some(port), true) = (image, self.port(), self.probes) else {
            return Ok(Probe::Unasked);
        };
        let mut prober = Prober {
            cluster: &self.cluster,
            name: probe_name(&self.names),
            removed: true,
        };
        if let Err(error) = self.create(&mut prober, &image, port) {
            return Ok(Probe::Lost(format!("{error:#}")));
        }
        let deadline = Instant::now() + BEGINNING;
        let mut is_first = true;
        loop {
            match prober.look() {
                Ok(Seen::Begun) => return Ok(Probe::Sending(prober)),
                // Whoever cleans up, or a node that took it for the one before, may do so once: nothing has been asked yet.
                Ok(Seen::Gone) if is_first => {
                    is_first = false;
                    if let Err(error) = self.create(&mut prober, &image, port) {
                        return Ok(Probe::Lost(format!("{error:#}")));
                    }
                }
                Ok(Seen::Gone) => return Ok(Probe::Lost("somebody has deleted it, twice".to_owned())),
                Ok(Seen::Waits) if Instant::now() > deadline => {
                    return Ok(Probe::Lost(format!(
                        "it had no answer within {} s",
                        BEGINNING.as_secs()
                    )));
                }
                Ok(Seen::Waits) => {}
                Err(reason) => return Ok(Probe::Lost(reason)),
            }
            if events.interrupted() {
                return Err(DeployError::Interrupted.into());
            }
            lock.renew()?;
            std::thread::sleep(POLL);
        }
    }

    /// Creates the pod, in the place of one that a client has left behind.
    fn create(&self, prober: &mut Prober, image: &str, port: u16) -> Result<()> {
        let found: Option<Pod> = self.cluster.get(&prober.name)?;
        self.cluster.check_ours(found.as_ref(), MANAGED)?;
        if let Some(former) = found {
            self.make_room(prober, &former)?;
        }
        let mut labels = self.names.labels(None);
        labels.insert("app.kubernetes.io/component".to_owned(), "probe".to_owned());
        let values = context! {
            name => self.names.name().to_owned(),
            namespace => self.cluster.namespace().to_owned(),
            labels,
            image => image.to_owned(),
            url => format!("http://{}:{port}", self.names.service()),
            seconds => LONGEST,
            deadline => DEADLINE,
            memory => self.project.config.deploy.memory.unwrap_or_default().to_string(),
        };
        let pod: Pod = templates::object("probe.yaml", templates::KUBERNETES_PROBE, &values)?;
        anyhow::ensure!(
            self.cluster.put(&pod)?.is_some(),
            "the pod `{}` of another change is there still",
            prober.name
        );
        prober.removed = false;
        Ok(())
    }

    /// Waits until a former probe has gone, which it does by itself when its change is over; one that a client has left behind is
    /// taken away. A node that has two pods of one name to do with may take one for the other.
    fn make_room(&self, prober: &mut Prober, former: &Pod) -> Result<()> {
        let is_going = former.metadata.deletion_timestamp.is_some();
        let deadline = Instant::now() + FORMER;
        if !is_going {
            prober.remove();
        }
        while self.cluster.get::<Pod>(&prober.name)?.is_some() {
            if Instant::now() > deadline {
                prober.remove();
                break;
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Ends the probe of a change once the pods that it replaced have gone, tells what it saw, and keeps it with
    /// `record`: the history, and a revision in it.
    ///
    /// # Errors
    ///
    /// Those of the change, and what the cluster says against keeping it.
    pub(super) fn proved(
        &self,
        probe: Probe,
        outcome: Result<Service>,
        record: Option<(&mut History, u64)>,
        lock: &Lock,
        events: &dyn Events,
    ) -> Result<Service> {
        let over = |error: &anyhow::Error| {
            let end = error.downcast_ref::<DeployError>();
            matches!(end, Some(DeployError::RolledBack(_) | DeployError::NotRolledBack(_)))
        };
        let arrived = outcome.is_ok();
        let proof = match probe {
            Probe::Unasked => return outcome,
            // Whoever does not wait for the change does not wait for its proof.
            Probe::Sending(_) if !arrived && !outcome.as_ref().is_err_and(over) => return outcome,
            Probe::Sending(prober) => {
                self.pods_go(lock, events)?;
                prober.end()
            }
            Probe::Lost(reason) => Err(reason),
        };
        events.proved(&proof, arrived);
        if let (Some((history, revision)), Ok(proof)) = (record, &proof) {
            history.prove(revision, proof.clone())?;
        }
        let mut service = outcome?;
        match proof {
            Ok(proof) => service.proof = Some(proof),
            Err(reason) => service.proof_hint = Some(reason),
        }
        Ok(service)
    }

    /// Waits until no pod is on its way out, for a while.
    fn pods_go(&self, lock: &Lock, events: &dyn Events) -> Result<()> {
        let deadline = Instant::now() + GOING;
        while Instant::now() < deadline && !events.interrupted() {
            let pods = self.cluster.list::<Pod>(&self.names.selector())?;
            if pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none()) {
                break;
            }
            lock.renew()?;
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Takes away a probe that a client has left behind.
    ///
    /// # Errors
    ///
    /// What the cluster says against it.
    pub(super) fn remove_probe(&self) -> Result<()> {
        let mut labels = self.names.labels(None);
        labels.insert("app.kubernetes.io/component".to_owned(), "probe".to_owned());
        for pod in self.cluster.list::<Pod>(&labels)? {
            self.cluster.delete::<Pod>(&pod.name_any())?;
        }
        Ok(())
    }
}

/// What the pod of a probe is called.
fn probe_name(names: &Names) -> String {
    format!("{}-probe", names.name())
}

impl Prober<'_> {
    /// Whether a request was answered; why not, when none will be.
    fn look(&self) -> Result<Seen, String> {
        let pod: Option<Pod> = self.cluster.get(&self.name).map_err(|error| format!("{error:#}"))?;
        let Some(pod) = pod else { return Ok(Seen::Gone) };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        match phase {
            Some("Running") => {}
            Some("Succeeded" | "Failed") => return Err(format!("it has ended: {}", self.log().trim())),
            _ => {
                let cause = diagnosis::cause(&pod).filter(Cause::is_hopeless);
                return cause.map_or(Ok(Seen::Waits), |cause| Err(cause.reason));
            }
        }
        let Some(line) = self.log().lines().next_back().and_then(parse) else {
            return Ok(Seen::Waits);
        };
        if line.answered == 0 && line.proof.failed > TRIED {
            return Err(format!("the service does not answer it: {}", line.proof));
        }
        Ok(if line.answered > 0 { Seen::Begun } else { Seen::Waits })
    }

    /// The last lines of its log, as far as they can be had.
    fn log(&self) -> String {
        let parameters = LogParams {
            tail_lines: Some(2),
            ..LogParams::default()
        };
        let pods = self.cluster.pods();
        let asked = self
            .cluster
            .find("read the log of the probe", pods.logs(&self.name, &parameters));
        asked.ok().flatten().unwrap_or_default()
    }

    /// Ends it, and reads what it says last; or what it said before, should that be all that there is.
    fn end(mut self) -> Result<Proof, String> {
        let pods = self.cluster.pods();
        let parameters = LogParams {
            follow: true,
            tail_lines: Some(2),
            ..LogParams::default()
        };
        let mut told = None;
        let listening = async {
            // It is listened to before it is told to go: its log goes with it.
            let log = pods.log_stream(&self.name, &parameters).await?;
            pods.delete(&self.name, &DeleteParams::default()).await?;
            let mut lines = std::pin::pin!(log.lines());
            while let Some(Ok(line)) = lines.next().await {
                let Some(line) = parse(&line) else { continue };
                let last = line.last;
                told = Some(line.proof);
                if last {
                    break;
                }
            }
            Ok::<(), kube::Error>(())
        };
        // A timeout begins inside the runtime that keeps its time.
        let heard = self
            .cluster
            .block_on(async { tokio::time::timeout(END, listening).await });
        // Deleted as it should be, it needs no second push.
        self.removed = matches!(heard, Ok(Ok(())));
        told.ok_or_else(|| match heard {
            Ok(Err(error)) => format!("its log cannot be read: {error}"),
            _ => "it has said nothing".to_owned(),
        })
    }

    /// Takes it away at once, whatever it does, as far as the cluster lets us: it ends by itself otherwise.
    fn remove(&mut self) {
        let pods = self.cluster.pods();
        let parameters = DeleteParams::default().grace_period(0);
        let _ = self
            .cluster
            .find("remove the probe", pods.delete(&self.name, &parameters));
        self.removed = true;
    }
}

impl Drop for Prober<'_> {
    fn drop(&mut self) {
        if !self.removed {
            self.remove();
        }
    }
}

fn parse(line: &str) -> Option<Line> {
    serde_json::from_str(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_says_is_understood() {
        let line = parse(
            r#"{"seconds":2.5,"sent":9,"answered":8,"failed":1,"reasons":{"timeout":1},"p50_seconds":0.001,
            "p99_seconds":0.002,"versions":{"0123456789ab":8},"final":true}"#,
        )
        .expect("a line");
        assert!(line.last);
        assert_eq!((line.answered, line.proof.sent, line.proof.failed), (8, 9, 1));
        assert_eq!(line.proof.p99_seconds, Some(0.002));
        assert!(parse("error: there is no flag `--probe`").is_none());
    }
}
