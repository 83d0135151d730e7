//! How many replicas a rate takes: from what one of them was measured to carry, to a number, a target for an autoscaler, or
//! a plan on paper. It measures on this machine ([`local`]); in a cluster `deploy` does.
//!
//! Nothing here is assumed of a model or of a machine: what was not measured is not told.

pub mod local;
mod paper;

pub use paper::{GatewayNeeds, Needs, Terms, needs};

use serde::Serialize;

use crate::bundle::capacity::{Measurement, Slo, Step, Verdict};
use crate::project::Cpu;

/// The share of what a replica carries that is left in hand when nobody says another one, in percent.
pub const HEADROOM: u32 = 30;

/// What one replica was measured to carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carried<'a> {
    /// The highest rate that keeps the objective.
    pub step: &'a Step,
    /// Whether it may carry more: no higher rate was found that misses the objective.
    pub at_least: bool,
}

/// What a rate takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sizing {
    /// The objective.
    pub slo: Slo,
    /// Requests in a second that are to be answered.
    pub rps: f64,
    /// The share of what a replica carries that is left in hand, in percent.
    pub headroom: u32,
    /// Requests in a second that one replica carries.
    pub replica_rps: f64,
    /// Whether it may carry more than that.
    pub at_least: bool,
    /// Replicas.
    pub replicas: u64,
    /// Processor time for a request; none when the server does not tell.
    pub cpu_seconds_per_request: Option<f64>,
    /// Processors that all requests keep busy.
    pub processors: Option<f64>,
    /// Processor time of a replica at its share of the rate, in percent of what it asks for.
    pub cpu_percent: Option<u32>,
}

/// What one replica carries by a measurement: the highest rate that keeps the objective, below the first that misses it. A
/// step in which the sender was late says nothing.
pub fn carried<'a>(measurement: &'a Measurement, slo: &Slo) -> Option<Carried<'a>> {
    let mut steps: Vec<&Step> = measurement.steps.iter().collect();
    steps.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    let (mut best, mut at_least) = (None, true);
    for tries in steps.chunk_by(|one, other| one.rate.total_cmp(&other.rate).is_eq()) {
        let is = |verdict| move |step: &&&Step| step.verdict(slo) == verdict;
        if let Some(met) = tries.iter().find(is(Verdict::Met)) {
            best = Some(*met);
        } else if tries.iter().any(|step| is(Verdict::Missed)(&step)) {
            at_least = false;
            break;
        }
    }
    best.map(|step| Carried { step, at_least })
}

/// What `rps` takes by a measurement of one replica, with so many percent in hand; none when not even the lowest rate keeps
/// the objective.
pub fn size(measurement: &Measurement, slo: &Slo, rps: f64, headroom: u32) -> Option<Sizing> {
    let Carried { step, at_least } = carried(measurement, slo)?;
    let share = step.rate * f64::from(100 - headroom.min(99)) / 100.0;
    let replicas = ((rps / share).ceil() as u64).max(1);
    // A server that has used less than a tick of its clock has told nothing.
    let cpu = step.cpu_seconds.filter(|seconds| *seconds > 0.0);
    let cpu = cpu.map(|seconds| seconds / step.answered.max(1) as f64);
    let asked = measurement
        .resources
        .as_ref()
        .and_then(|resources| resources.cpu.as_ref());
    let asked = asked.and_then(|text| text.parse::<Cpu>().ok());
    let percent = cpu.zip(asked).map(|(cpu, asked)| {
        let percent = (cpu * share / asked.processors() * 100.0).floor();
        (percent as u32).max(1)
    });
    Some(Sizing {
        slo: *slo,
        rps,
        headroom,
        replica_rps: step.rate,
        at_least,
        replicas,
        cpu_seconds_per_request: cpu,
        processors: cpu.map(|cpu| cpu * rps),
        cpu_percent: percent,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bundle::capacity::{Limit, Machine, Place, Resources, Subject};

    /// A step that took `millis` for 99 of 100, with 0.5 ms of processor time for each request.
    pub fn step(rate: f64, millis: f64) -> Step {
        let sent = (rate * 2.0) as u64;
        Step {
            rate,
            seconds: 2.0,
            sent,
            answered: sent,
            p50_seconds: Some(millis / 2e3),
            p90_seconds: Some(millis / 1.5e3),
            p99_seconds: Some(millis / 1e3),
            behind_seconds: 0.0001,
            cpu_seconds: Some(sent as f64 * 0.0005),
            memory_bytes: Some(20 << 20),
            sent_bytes: sent * 1500,
            received_bytes: sent * 500,
            ..Step::default()
        }
    }

    pub fn measurement(steps: Vec<Step>) -> Measurement {
        Measurement {
            of: Subject::Replica,
            place: Place::Kubernetes,
            at: 1_795_000_000,
            machine: Machine {
                cpu: "a processor".into(),
                cores: 2,
            },
            resources: Some(Resources {
                cpu: Some("100m".into()),
                memory: Some("128Mi".into()),
            }),
            slo: "p99=20ms".parse().expect("an objective"),
            limit: Limit::Slo,
            steps,
        }
    }

    fn rate(steps: Vec<Step>, slo: &str) -> Option<(f64, bool)> {
        let measurement = measurement(steps);
        carried(&measurement, &slo.parse().expect("an objective")).map(|found| (found.step.rate, found.at_least))
    }

    #[test]
    fn a_replica_carries_what_keeps_the_objective() {
        let steps = vec![step(20.0, 2.0), step(80.0, 3.0), step(320.0, 900.0), step(160.0, 19.0)];
        assert_eq!(rate(steps.clone(), "p99=20ms"), Some((160.0, false)));
        assert_eq!(rate(steps.clone(), "p99=2.5ms"), Some((20.0, false)));
        assert_eq!(rate(steps.clone(), "p99=1ms"), None);
        // An objective that every step keeps says how much it carries at least.
        assert_eq!(rate(steps, "p99=1s"), Some((320.0, true)));
        assert_eq!(rate(Vec::new(), "p99=1s"), None);
    }

    #[test]
    fn what_comes_above_a_miss_does_not_count() {
        let steps = vec![step(20.0, 2.0), step(80.0, 30.0), step(320.0, 3.0)];
        assert_eq!(rate(steps, "p99=20ms"), Some((20.0, false)));
        // A miss that was a hiccup was tried again.
        let steps = vec![step(20.0, 2.0), step(80.0, 30.0), step(80.0, 3.0), step(320.0, 400.0)];
        assert_eq!(rate(steps, "p99=20ms"), Some((80.0, false)));
    }

    #[test]
    fn a_late_sender_is_not_the_servers_fault_and_a_failed_request_is() {
        let late = Step {
            behind_seconds: 0.3,
            ..step(320.0, 310.0)
        };
        let steps = vec![step(20.0, 2.0), step(80.0, 3.0), late.clone(), late];
        assert_eq!(rate(steps, "p99=20ms"), Some((80.0, true)));
        let failed = Step {
            failed: 1,
            ..step(80.0, 3.0)
        };
        assert_eq!(rate(vec![step(20.0, 2.0), failed], "p99=20ms"), Some((20.0, false)));
    }

    #[test]
    fn replicas_and_the_target_follow_from_it() {
        let measurement = measurement(vec![step(20.0, 2.0), step(1000.0, 18.0), step(1150.0, 300.0)]);
        let slo = "p99=20ms".parse().expect("an objective");
        let sizing = size(&measurement, &slo, 2000.0, 30).expect("a size");
        // 700 requests a second each; 0.5 ms of a processor for each: 0.35 processors of the 0.1 that it asks for.
        assert_eq!((sizing.replicas, sizing.cpu_percent), (3, Some(350)));
        assert_eq!(sizing.processors, Some(1.0));
        let all = |rps, headroom| size(&measurement, &slo, rps, headroom).expect("a size").replicas;
        assert_eq!((all(0.5, 30), all(700.0, 30), all(701.0, 30)), (1, 1, 2));
        assert_eq!((all(2000.0, 0), all(1e6, 30)), (2, 1429));
        assert_eq!(size(&measurement, &"p99=1us".parse().expect("one"), 1.0, 30), None);
    }

    #[test]
    fn a_server_that_does_not_tell_its_processor_time_gives_no_target() {
        let silent = Step {
            cpu_seconds: None,
            ..step(1000.0, 18.0)
        };
        let sizing = size(
            &measurement(vec![silent]),
            &"p99=20ms".parse().expect("one"),
            2000.0,
            30,
        )
        .expect("a size");
        assert_eq!(
            (sizing.replicas, sizing.cpu_percent, sizing.processors),
            (3, None, None)
        );
        let mut unbounded = measurement(vec![step(1000.0, 18.0)]);
        unbounded.resources = None;
        let sizing = size(&unbounded, &"p99=20ms".parse().expect("one"), 2000.0, 30).expect("a size");
        assert_eq!((sizing.cpu_percent, sizing.processors), (None, Some(1.0)));
    }
}
