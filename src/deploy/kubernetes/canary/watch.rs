//! Looks at the two sides: what their pods have counted since requests are divided, and how that compares.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::sides::{Side, restarts};
use crate::canary::{Comparison, Counts, LOOKS, Sides, Verdict};
use crate::cluster::Cluster;
use crate::cluster::diagnosis;
use crate::deploy::Trial;
use crate::deploy::kubernetes::manifests::Names;
use crate::problem::Problem;

/// Where a server answers in its pod.
const PORT: u16 = 5000;
/// Between two looks at whether it is time for a look.
const POLL: Duration = Duration::from_millis(250);
/// How long the metrics of a pod may be out of reach before nobody waits for them any longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What each pod of a side has counted, and what that comes to.
#[derive(Default)]
struct Tally {
    pods: BTreeMap<String, Counts>,
    total: Counts,
}

/// The two sides, watched.
pub struct Watch<'a> {
    cluster: &'a Cluster,
    names: &'a Names,
    trial: &'a Trial,
    baseline: Tally,
    canary: Tally,
    restarts: Sides<u32>,
    began: Instant,
}

impl<'a> Watch<'a> {
    /// Begins to count.
    ///
    /// # Errors
    ///
    /// When the metrics of a pod cannot be read.
    pub fn begin(cluster: &'a Cluster, names: &'a Names, trial: &'a Trial) -> Result<Self> {
        let mut watch = Self {
            cluster,
            names,
            trial,
            baseline: Tally::default(),
            canary: Tally::default(),
            restarts: restarts(cluster, names)?,
            began: Instant::now(),
        };
        watch.read()?;
        // What was counted before is nobody's.
        watch.baseline.total = Counts::default();
        watch.canary.total = Counts::default();
        watch.began = Instant::now();
        Ok(watch)
    }

    /// Looks until the time is over or a test has failed. `tell` hears of each look, `look` is asked in between whether to
    /// go on.
    ///
    /// # Errors
    ///
    /// Those of `tell` and `look`, and when the metrics of a pod cannot be read for long.
    pub fn compare(
        mut self,
        tell: &mut dyn FnMut(&Comparison) -> Result<()>,
        look: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Comparison> {
        let mut looks = 0;
        let mut reached = Instant::now();
        loop {
            look()?;
            std::thread::sleep(POLL);
            let due = self.trial.duration * (looks + 1) / LOOKS;
            if self.began.elapsed() < due {
                continue;
            }
            match self.read() {
                Ok(()) => reached = Instant::now(),
                // It is being started again, say, which is seen as such.
                Err(_) if reached.elapsed() < self.trial.duration / LOOKS + PATIENCE => {
                    if self.restarted()?.canary == 0 {
                        continue;
                    }
                }
                Err(error) => return Err(error),
            }
            looks += 1;
            let comparison = Comparison::new(
                &self.baseline.total,
                &self.canary.total,
                self.restarted()?,
                self.began.elapsed().as_secs_f64(),
                looks == LOOKS,
            );
            tell(&comparison)?;
            if looks == LOOKS || comparison.verdict == Verdict::Fail {
                return Ok(comparison);
            }
        }
    }

    /// Containers that were started again since the beginning.
    fn restarted(&self) -> Result<Sides<u32>> {
        let now = restarts(self.cluster, self.names)?;
        Ok(Sides {
            baseline: now.baseline.saturating_sub(self.restarts.baseline),
            canary: now.canary.saturating_sub(self.restarts.canary),
        })
    }

    fn read(&mut self) -> Result<()> {
        for side in Side::BOTH {
            let pods: Vec<Pod> = self.cluster.list(&side.selector(self.names))?;
            for pod in pods.iter().filter(|pod| diagnosis::is_ready(pod)) {
                let name = pod.name_any();
                let page = self.page(&name)?;
                match side {
                    Side::Baseline => self.baseline.add(name, Counts::read(&page)),
                    Side::Canary => self.canary.add(name, Counts::read(&page)),
                }
            }
        }
        Ok(())
    }

    fn page(&self, pod: &str) -> Result<String> {
        let key = self.trial.key.as_deref();
        let answer = self.cluster.ask_pod(pod, PORT, "/metrics", key).map_err(|error| {
            let hint = "where the cluster enforces network policies, its own interface has to be let in to the pods: \
                        `deploy.clients` says who may";
            error.context(Problem::new(format!("cannot read the metrics of pod `{pod}`")).hint(hint))
        })?;
        answer.ok_or_else(|| {
            Problem::new(format!("pod `{pod}` shows its metrics to those with a key only"))
                .hint(
                    "EMBERLINE_KEY holds the key that they are read with; `emberline keys list` shows whose there are",
                )
                .into()
        })
    }
}

impl Tally {
    fn add(&mut self, pod: String, counts: Counts) {
        let before = self.pods.get(&pod).cloned().unwrap_or_default();
        self.total = self.total.plus(&counts.since(&before));
        self.pods.insert(pod, counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pods_count_adds_up_though_they_come_and_go() {
        let mut tally = Tally::default();
        for (pod, requests, total) in [("a", 10, 10), ("b", 5, 15), ("a", 12, 17), ("b", 2, 19), ("c", 1, 20)] {
            tally.add(pod.to_owned(), Counts::of(requests));
            assert_eq!(tally.total.requests, total, "{pod}");
        }
    }
}
