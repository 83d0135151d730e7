//! What requests through a service saw of a change: the proof that it lost none of them, or what it lost.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Requests that were sent at a steady pace from before the change until the replicas that it replaced had gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// How long, in seconds.
    pub seconds: f64,
    /// Requests that were sent.
    pub sent: u64,
    /// Those that were not answered as they should be.
    pub failed: u64,
    /// Why not, with the number of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u64>,
    /// What 99 of 100 answers took at most, in seconds from when their request was due; none when nothing was answered.
    pub p99_seconds: Option<f64>,
    /// Answers by the version that gave them.
    pub versions: BTreeMap<String, u64>,
}

impl fmt::Display for Proof {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{} requests through the Service during the change, {} failed",
            thousands(self.sent),
            thousands(self.failed)
        )?;
        for (index, (reason, count)) in self.reasons.iter().enumerate() {
            let before = if index == 0 { " (" } else { ", " };
            write!(to, "{before}{reason}: {}", thousands(*count))?;
        }
        if !self.reasons.is_empty() {
            to.write_str(")")?;
        }
        match self.p99_seconds {
            Some(seconds) => write!(to, ", p99 {:.1} ms", seconds * 1e3),
            None => Ok(()),
        }
    }
}

/// `1,234`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_a_sentence() {
        let mut proof = Proof {
            seconds: 24.7,
            sent: 1_234,
            failed: 0,
            reasons: BTreeMap::new(),
            p99_seconds: Some(0.0021),
            versions: BTreeMap::new(),
        };
        assert_eq!(
            proof.to_string(),
            "1,234 requests through the Service during the change, 0 failed, p99 2.1 ms"
        );
        proof.sent = 1_000_000;
        proof.failed = 12;
        proof.reasons = BTreeMap::from([("status 503".to_owned(), 2), ("timeout".to_owned(), 10)]);
        proof.p99_seconds = None;
        assert_eq!(
            proof.to_string(),
            "1,000,000 requests through the Service during the change, 12 failed (status 503: 2, timeout: 10)"
        );
    }
}
