//! A plan on paper: what a rate takes of everything that was measured, and nothing of what was not.

use serde::Serialize;

use super::{Sizing, carried, size};
use crate::bundle::capacity::{Measurement, Slo};
use crate::gateway::WORKERS;
use crate::project::{Cpu, Memory};

/// What a rate takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Needs {
    /// The replicas.
    pub replicas: Sizing,
    /// Processors that the replicas are promised together.
    pub promised_processors: f64,
    /// Memory that the replicas are promised together, in bytes.
    pub memory_bytes: u64,
    /// Memory that one held when it was measured; none when it does not tell.
    pub resident_bytes: Option<u64>,
    /// Bytes of a request and of its answer, with their heads.
    pub request_bytes: f64,
    /// See [`Needs::request_bytes`].
    pub response_bytes: f64,
    /// What stands in front of them; none when it was never measured.
    pub gateway: Option<GatewayNeeds>,
}

/// What a rate takes of nginx.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatewayNeeds {
    /// Processor time for a request.
    pub cpu_seconds_per_request: f64,
    /// Requests in a second at which the workers of one pod keep a processor each busy.
    pub pod_rps: f64,
    /// Pods, with the same share in hand as the replicas.
    pub pods: u64,
    /// Pods that `gateway.replicas` asks for.
    pub configured: usize,
    /// Requests in a second at which those are saturated.
    pub saturates_at_rps: f64,
}

/// What a project has decided before anything is measured.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Processor time that each replica is promised.
    pub cpu: Cpu,
    /// Memory that each replica is promised.
    pub memory: Memory,
    /// Pods of the gateway.
    pub gateways: usize,
}

/// What `rps` takes by measurements of a replica and of the gateway; none when the replica does not keep the objective at the
/// lowest rate.
pub fn needs(
    replica: &Measurement,
    gateway: Option<&Measurement>,
    slo: &Slo,
    rps: f64,
    headroom: u32,
    terms: &Terms,
) -> Option<Needs> {
    let sizing = size(replica, slo, rps, headroom)?;
    let step = carried(replica, slo)?.step;
    let each = |bytes: u64| bytes as f64 / step.answered.max(1) as f64;
    Some(Needs {
        promised_processors: sizing.replicas as f64 * terms.cpu.processors(),
        memory_bytes: sizing.replicas.saturating_mul(terms.memory.bytes()),
        resident_bytes: step.memory_bytes,
        request_bytes: each(step.sent_bytes),
        response_bytes: each(step.received_bytes),
        gateway: gateway.and_then(|gateway| of_gateway(gateway, rps, headroom, terms.gateways)),
        replicas: sizing,
    })
}

/// None when its measurement has no step that tells of its processor time.
fn of_gateway(gateway: &Measurement, rps: f64, headroom: u32, configured: usize) -> Option<GatewayNeeds> {
    let cpu = gateway.steps.iter().rev().find_map(|step| {
        let seconds = step.cpu_seconds.filter(|seconds| *seconds > 0.0)?;
        (step.answered > 0).then(|| seconds / step.answered as f64)
    })?;
    let pod_rps = WORKERS as f64 / cpu;
    let share = pod_rps * f64::from(100 - headroom.min(99)) / 100.0;
    Some(GatewayNeeds {
        cpu_seconds_per_request: cpu,
        pod_rps,
        pods: ((rps / share).ceil() as u64).max(1),
        configured,
        saturates_at_rps: pod_rps * configured as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{measurement, step};
    use super::*;
    use crate::bundle::capacity::Step;

    fn terms() -> Terms {
        Terms {
            cpu: Cpu::default(),
            memory: Memory::default(),
            gateways: 2,
        }
    }

    fn slo() -> Slo {
        "p99=20ms".parse().expect("an objective")
    }

    #[test]
    fn everything_follows_from_what_was_measured() {
        let replica = measurement(vec![step(20.0, 2.0), step(1000.0, 18.0), step(1150.0, 300.0)]);
        let gateway = measurement(vec![Step {
            cpu_seconds: Some(0.1),
            ..step(500.0, 3.0)
        }]);
        let needs = needs(&replica, Some(&gateway), &slo(), 1e6, 30, &terms()).expect("a plan");
        assert_eq!(needs.replicas.replicas, 1429);
        // By default a replica is promised 128 MiB and a tenth of a processor, and there are two gateways.
        assert_eq!(needs.memory_bytes, 1429 * (128 << 20));
        assert_eq!(needs.promised_processors.round(), 143.0);
        assert_eq!((needs.request_bytes, needs.response_bytes), (1500.0, 500.0));
        let gateway = needs.gateway.expect("a gateway");
        // 0.1 ms of a processor for a request: two workers end at 20,000 a second, and take 14,000.
        assert_eq!(gateway.pod_rps.round(), 20_000.0);
        assert_eq!((gateway.pods, gateway.saturates_at_rps.round()), (72, 40_000.0));
    }

    #[test]
    fn what_was_not_measured_is_not_told() {
        let replica = measurement(vec![step(20.0, 2.0)]);
        let plan =
            |gateway: Option<&Measurement>| needs(&replica, gateway, &slo(), 100.0, 30, &terms()).expect("a plan");
        assert_eq!(plan(None).gateway, None);
        let silent = measurement(vec![Step {
            cpu_seconds: None,
            ..step(20.0, 2.0)
        }]);
        assert_eq!(plan(Some(&silent)).gateway, None);
        assert_eq!(needs(&measurement(Vec::new()), None, &slo(), 1.0, 30, &terms()), None);
    }
}
