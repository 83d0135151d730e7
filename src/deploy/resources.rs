//! What a replica asks for and may take: what the project says, else what `package` has measured with room for what it has not
//! seen, else fixed numbers. The rules are in docs/decisions/0019-footprint.md.

use crate::bundle::Usage;
use crate::project::{Cpu, DeployConfig, Memory};

/// Measured memory counts so many times: load that comes at once, other processors, allocators that keep what they had.
const ROOM: u64 = 2;
/// Memory is asked for in whole steps of so many bytes.
const STEP: u64 = 8 << 20;
/// The least memory that is asked for on the ground of a measurement.
const LEAST_MEMORY: u64 = 32 << 20;
/// Predictions a second that a replica is promised the processor time for.
const RATE: f64 = 100.0;
/// Processor time is asked for in whole steps of so many thousandths.
const CPU_STEP: u32 = 10;
/// The most that is asked for on the ground of a measurement: one processor. A replica that needs more gets it where there is
/// some, and a node of two would have no room for it otherwise.
const MOST_CPU: u32 = 1000;

/// What a replica asks for and may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Memory that it is promised.
    pub memory_request: Memory,
    /// Memory that it may take.
    pub memory: Memory,
    /// Processor time that it is promised; what is left over it gets besides.
    pub cpu: Cpu,
}

impl Resources {
    /// Those of a replica of a bundle that takes `usage`, where that is known.
    pub fn of(config: &DeployConfig, usage: Option<&Usage>) -> Self {
        let measured = |usage: &Usage| {
            let request = memory(usage.memory_bytes);
            (request, memory(usage.memory_largest_request_bytes).max(request))
        };
        let (memory_request, memory) = match (config.memory, usage) {
            (Some(memory), _) => (memory, memory),
            (None, Some(usage)) => measured(usage),
            (None, None) => (Memory::default(), Memory::default()),
        };
        let cpu = match (config.cpu, usage) {
            (Some(cpu), _) => cpu,
            (None, Some(usage)) => cpu(usage.cpu_seconds_per_prediction),
            (None, None) => Cpu::default(),
        };
        Self {
            memory_request,
            memory,
            cpu,
        }
    }
}

fn memory(measured: u64) -> Memory {
    let bytes = (measured.saturating_mul(ROOM)).max(LEAST_MEMORY);
    Memory::of_bytes(bytes.div_ceil(STEP).saturating_mul(STEP))
}

fn cpu(seconds_per_prediction: f64) -> Cpu {
    let thousandths = (seconds_per_prediction * RATE * 1000.0)
        .ceil()
        .clamp(0.0, f64::from(MOST_CPU)) as u32;
    let least = Cpu::default().thousandths();
    Cpu::of_thousandths((thousandths.div_ceil(CPU_STEP) * CPU_STEP).clamp(least, MOST_CPU))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(steady: u64, largest: u64, cpu: f64) -> Usage {
        Usage {
            memory_bytes: steady,
            memory_largest_request_bytes: largest,
            cpu_seconds_per_prediction: cpu,
            predictions: 1000,
        }
    }

    /// As Kubernetes has them.
    fn told(config: &DeployConfig, usage: Option<&Usage>) -> [String; 3] {
        let resources = Resources::of(config, usage);
        [
            resources.memory_request.to_string(),
            resources.memory.to_string(),
            resources.cpu.to_string(),
        ]
    }

    #[test]
    fn what_was_measured_is_doubled_and_rounded_up() {
        let config = DeployConfig::default();
        let small = usage(12_500_000, 68_700_000, 53e-6);
        assert_eq!(told(&config, Some(&small)), ["32Mi", "136Mi", "100m"]);
        let large = usage(400 << 20, 900 << 20, 4.04e-3);
        assert_eq!(told(&config, Some(&large)), ["800Mi", "1800Mi", "410m"]);
        // Never more than a processor, and a limit below the request would be refused.
        let odd = usage(50 << 20, 10 << 20, 3.0);
        assert_eq!(told(&config, Some(&odd)), ["104Mi", "104Mi", "1"]);
        assert_eq!(told(&config, Some(&usage(0, 0, 0.0))), ["32Mi", "32Mi", "100m"]);
    }

    #[test]
    fn what_the_project_says_wins_and_what_nobody_knows_is_fixed() {
        let mut config = DeployConfig::default();
        assert_eq!(told(&config, None), ["128Mi", "128Mi", "100m"]);
        let measured = usage(100 << 20, 200 << 20, 2e-3);
        config.memory = Some("64Mi".parse().expect("memory"));
        assert_eq!(told(&config, Some(&measured)), ["64Mi", "64Mi", "200m"]);
        config.cpu = Some("50m".parse().expect("a share"));
        assert_eq!(told(&config, Some(&measured)), ["64Mi", "64Mi", "50m"]);
    }
}
