//! `VERSION.capacity.json`: what one replica of a bundle carries, and nginx in front of it, as it was measured. It lies beside
//! the bundle, as its evaluation does, and names the bundle's digest.
//!
//! What was measured is here, and what it says of an objective; how it is measured is the business of `probe`, and what
//! follows from it that of `capacity`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use super::slo::{Percentile, Slo};
use super::store::attachment_path;
use super::{Bundle, BundleRef};
use crate::files;
use crate::problem::Problem;

/// The format that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// What became of requests that came at one rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Requests in a second that were due.
    pub rate: f64,
    /// How long they came.
    pub seconds: f64,
    /// Those that were due.
    pub sent: u64,
    /// Those that were answered as they should be.
    pub answered: u64,
    /// Those that were not.
    pub failed: u64,
    /// Why not, with the number of each.
    pub reasons: BTreeMap<String, u64>,
    /// What 50 of 100 answers took at most, from when their request was due; none when nothing was answered.
    pub p50_seconds: Option<f64>,
    /// The same of 90.
    pub p90_seconds: Option<f64>,
    /// The same of 99.
    pub p99_seconds: Option<f64>,
    /// How late 99 of 100 requests were sent at most: the sender's own fault, and part of the times above.
    pub behind_seconds: f64,
    /// Processor time that what was measured took; none when it does not tell.
    pub cpu_seconds: Option<f64>,
    /// Memory that it held at the end.
    pub memory_bytes: Option<u64>,
    /// Bytes of the requests, with their heads.
    pub sent_bytes: u64,
    /// Bytes of the answers, with their heads.
    pub received_bytes: u64,
}

/// What a step says of an objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was met, and no request failed.
    Met,
    /// It was not.
    Missed,
    /// It was not, and would have been if the requests had been sent when they were due: it says nothing of the server.
    Behind,
}

impl Step {
    /// Processor time between two looks at the seconds that were used, in whole milliseconds. The kernel counts in
    /// hundredths of a second; what the subtraction leaves behind them would not be read from JSON as it was written.
    pub fn processor_seconds(before: f64, after: f64) -> f64 {
        ((after - before) * 1e3).round() / 1e3
    }

    /// The time that the objective is about.
    pub fn time(&self, percentile: Percentile) -> Option<f64> {
        match percentile {
            Percentile::P50 => self.p50_seconds,
            Percentile::P90 => self.p90_seconds,
            Percentile::P99 => self.p99_seconds,
        }
    }

    /// Whether the objective was met.
    pub fn verdict(&self, slo: &Slo) -> Verdict {
        let within = slo.within.as_secs_f64();
        let time = self.time(slo.percentile);
        if self.failed == 0 && time.is_some_and(|time| time <= within) {
            return Verdict::Met;
        }
        let late = if self.failed == 0 {
            time.is_some_and(|time| time - self.behind_seconds <= within)
        } else {
            self.behind_seconds > within
        };
        if late { Verdict::Behind } else { Verdict::Missed }
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// One replica of the bundle.
    Replica,
    /// nginx in front of one, with a connection of its own for each request, as it is in a cluster.
    Gateway,
}

/// Where it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the machine of the person who asked.
    Local,
    /// In a pod.
    Kubernetes,
}

/// The machine that it was measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The name of its processor, as the processor gives it.
    pub cpu: String,
    /// Processors that the measurement could use.
    pub cores: usize,
}

/// What a replica was promised and allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processor time that it asked for, such as `100m`.
    pub cpu: Option<String>,
    /// Memory that it might use, such as `128Mi`.
    pub memory: Option<String>,
}

/// What kept the measurement from higher rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The objective was missed there.
    Slo,
    /// The sender could not keep its pace there: what was measured carries at least so much.
    Sender,
    /// No higher rate was asked for.
    Rate,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Of what.
    pub of: Subject,
    /// Where.
    pub place: Place,
    /// When it was over, in seconds since 1970 (UTC).
    pub at: u64,
    /// On which machine.
    pub machine: Machine,
    /// With which resources; none where nobody bounds them.
    pub resources: Option<Resources>,
    /// The objective that it looked for the end of.
    pub slo: Slo,
    /// What kept it from higher rates.
    pub limit: Limit,
    /// What became of each rate, in the order in which they were tried.
    pub steps: Vec<Step>,
}

/// What is known of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// The format of the file, 1.
    pub format: u32,
    /// What was measured.
    pub bundle: BundleRef,
    /// The newest measurement of each subject in each place.
    pub measurements: Vec<Measurement>,
}

impl Capacity {
    /// What lies beside `bundle`; nothing is known when nothing does.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is of another bundle or another format.
    pub fn read(bundle: &Bundle) -> Result<Self> {
        let path = capacity_path(bundle);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self {
                    format: FORMAT,
                    bundle: BundleRef {
                        version: bundle.version().to_owned(),
                        digest: bundle.digest().to_owned(),
                    },
                    measurements: Vec::new(),
                });
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        let refuse = |reason: String| {
            Problem::new(format!("`{}` {reason}", path.display())).hint("delete it, and measure the bundle anew")
        };
        let capacity: Self =
            serde_json::from_slice(&text).map_err(|error| refuse(format!("is no measurement: {error}")))?;
        if capacity.format != FORMAT {
            return Err(refuse(format!(
                "has format {}, and this version reads format {FORMAT}",
                capacity.format
            ))
            .into());
        }
        if capacity.bundle.digest != bundle.digest() {
            return Err(refuse(format!(
                "was measured of bundle `{}`, and it lies beside bundle `{}`",
                capacity.bundle.version,
                bundle.version()
            ))
            .into());
        }
        Ok(capacity)
    }

    /// The measurement of a subject: that of a cluster before that of this machine.
    pub fn find(&self, of: Subject) -> Option<&Measurement> {
        let found = self.find_in(of, Place::Kubernetes);
        found.or_else(|| self.find_in(of, Place::Local))
    }

    /// The measurement of a subject in a place.
    pub fn find_in(&self, of: Subject, place: Place) -> Option<&Measurement> {
        let mut all = self.measurements.iter();
        all.find(|measurement| measurement.of == of && measurement.place == place)
    }

    /// Takes a measurement, in the place of an older one of the same subject there.
    pub fn keep(&mut self, measurement: Measurement) {
        self.measurements
            .retain(|old| (old.of, old.place) != (measurement.of, measurement.place));
        self.measurements.push(measurement);
    }

    /// Writes it beside `bundle`, and says where.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the former one is then as it was.
    pub fn write(&self, bundle: &Bundle) -> Result<PathBuf> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let path = capacity_path(bundle);
        files::replace(&path, &text)?;
        Ok(path)
    }
}

fn capacity_path(bundle: &Bundle) -> PathBuf {
    attachment_path(bundle.path(), "capacity")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slo(text: &str) -> Slo {
        text.parse().expect(text)
    }

    fn step(failed: u64, p99: Option<f64>, behind: f64) -> Step {
        Step {
            failed,
            p99_seconds: p99,
            behind_seconds: behind,
            ..Step::default()
        }
    }

    #[test]
    fn a_step_meets_misses_or_says_nothing() {
        let verdict = |failed, p99, behind| step(failed, p99, behind).verdict(&slo("p99=20ms"));
        assert_eq!(verdict(0, Some(0.020), 0.0), Verdict::Met);
        assert_eq!(
            verdict(0, Some(0.020), 0.019),
            Verdict::Met,
            "late, and in time all the same"
        );
        assert_eq!(verdict(0, Some(0.021), 0.0005), Verdict::Missed);
        assert_eq!(verdict(0, Some(0.100), 0.085), Verdict::Behind);
        assert_eq!(verdict(0, Some(0.500), 0.085), Verdict::Missed);
        assert_eq!(verdict(1, Some(0.001), 0.001), Verdict::Missed, "a request failed");
        assert_eq!(verdict(1, Some(0.001), 0.5), Verdict::Behind);
        assert_eq!(verdict(9, None, 0.0), Verdict::Missed);
        let fast = Step {
            p50_seconds: Some(0.001),
            ..step(0, Some(9.0), 0.0)
        };
        assert_eq!(fast.verdict(&slo("p50=1ms")), Verdict::Met);
    }

    #[test]
    fn processor_time_is_read_as_it_was_written() {
        assert_ne!(
            30.13 - 29.71,
            0.42,
            "a subtraction alone leaves something behind the hundredths"
        );
        assert_eq!(Step::processor_seconds(29.71, 30.13), 0.42);
        for ticks in 0..5000 {
            let seconds = Step::processor_seconds(29.71, 29.71 + f64::from(ticks) / 100.0);
            let text = serde_json::to_string(&seconds).expect("JSON");
            assert_eq!(serde_json::from_str::<f64>(&text).expect("a number"), seconds, "{text}");
        }
    }

    #[test]
    fn a_cluster_comes_before_this_machine_and_the_newest_before_the_older() {
        let measurement = |of, place, at| Measurement {
            of,
            place,
            at,
            machine: Machine::default(),
            resources: None,
            slo: slo("p99=20ms"),
            limit: Limit::Slo,
            steps: Vec::new(),
        };
        let mut capacity = Capacity {
            format: FORMAT,
            bundle: BundleRef {
                version: "a".into(),
                digest: "b".into(),
            },
            measurements: Vec::new(),
        };
        assert_eq!(capacity.find(Subject::Replica), None);
        capacity.keep(measurement(Subject::Replica, Place::Local, 1));
        capacity.keep(measurement(Subject::Gateway, Place::Local, 2));
        assert_eq!(capacity.find(Subject::Replica).map(|found| found.at), Some(1));
        capacity.keep(measurement(Subject::Replica, Place::Kubernetes, 3));
        capacity.keep(measurement(Subject::Replica, Place::Local, 4));
        capacity.keep(measurement(Subject::Replica, Place::Kubernetes, 5));
        assert_eq!(capacity.find(Subject::Replica).map(|found| found.at), Some(5));
        assert_eq!(capacity.find(Subject::Gateway).map(|found| found.at), Some(2));
        assert_eq!(capacity.measurements.len(), 3);
        let text = serde_json::to_string(&capacity).expect("JSON");
        assert_eq!(serde_json::from_str::<Capacity>(&text).expect("the same"), capacity);
    }
}
