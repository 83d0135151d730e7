//! What a process has used of the machine, as the kernel tells it: processor time and memory.

use std::fs;

/// Ticks in a second of processor time in `/proc`: `USER_HZ`, which is 100 wherever Linux has a server.
const TICKS: f64 = 100.0;

/// What a process has used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Processor time of all its threads since it started, in seconds.
    pub cpu_seconds: f64,
    /// Memory that it holds now, in bytes.
    pub resident_bytes: u64,
}

impl Usage {
    /// Of this process; none where there is no `/proc`.
    pub fn of_this() -> Option<Self> {
        Self::read("self")
    }

    /// Of another one; none when it has gone.
    pub fn of(process: u32) -> Option<Self> {
        Self::read(&process.to_string())
    }

    fn read(process: &str) -> Option<Self> {
        let file = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).ok();
        Self::parse(&file("stat")?, &file("status")?)
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The program's name stands in brackets, and may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let (user, system) = (ticks()?, ticks()?);
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(Self {
            cpu_seconds: (user + system) as f64 / TICKS,
            resident_bytes: kilobytes * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1000 0 0";
        let status = "Name:\ta\nVmHWM:\t  900 kB\nVmRSS:\t  512 kB\n";
        assert_eq!(
            Usage::parse(stat, status),
            Some(Usage {
                cpu_seconds: 3.0,
                resident_bytes: 512 << 10
            })
        );
        assert_eq!(Usage::parse("7 (a) S", status), None);
        assert_eq!(Usage::parse(stat, ""), None);
        assert!(Usage::of_this().is_some_and(|usage| usage.resident_bytes > 1 << 20));
    }
}
