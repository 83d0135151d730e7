//! An objective for the time to answer, as it is written: `p99=20ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The slowest answer that an objective may ask for.
const LONGEST: Duration = Duration::from_secs(10);

/// An objective for the time to answer, such as `p99=20ms`: so many of 100 requests are answered within that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slo {
    /// Which time is held against it.
    pub percentile: Percentile,
    /// What it may be at most: whole microseconds.
    pub within: Duration,
}

/// A time that so many of 100 answers took at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Percentile {
    /// 50.
    P50,
    /// 90.
    P90,
    /// 99.
    P99,
}

impl Percentile {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
        }
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = text.split_once('=').and_then(|(percentile, time)| {
            let percentile = [Percentile::P50, Percentile::P90, Percentile::P99]
                .into_iter()
                .find(|known| known.name() == percentile)?;
            let end = time.find(|letter: char| letter.is_ascii_alphabetic())?;
            let (number, unit) = time.split_at(end);
            let micros = match unit {
                "us" => 1.0,
                "ms" => 1e3,
                "s" => 1e6,
                _ => return None,
            };
            let micros = (number.parse::<f64>().ok()? * micros).round();
            (1.0..=LONGEST.as_micros() as f64).contains(&micros).then(|| Self {
                percentile,
                within: Duration::from_micros(micros as u64),
            })
        });
        found.ok_or_else(|| {
            format!(
                "`{text}` is no objective such as `p99=20ms`: p50, p90 or p99, and 1us to {}s",
                LONGEST.as_secs()
            )
        })
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.within.as_micros();
        write!(to, "{}=", self.percentile.name())?;
        if micros.is_multiple_of(1_000_000) {
            write!(to, "{}s", micros / 1_000_000)
        } else if micros.is_multiple_of(1_000) {
            write!(to, "{}ms", micros / 1_000)
        } else {
            write!(to, "{micros}us")
        }
    }
}

impl Serialize for Slo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Slo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slo(text: &str) -> Slo {
        text.parse().expect(text)
    }

    #[test]
    fn an_objective_is_read_and_written() {
        for text in ["p99=20ms", "p50=1us", "p90=1500us", "p99=2s", "p99=10s"] {
            assert_eq!(slo(text).to_string(), text);
        }
        assert_eq!(slo("p99=0.5ms"), slo("p99=500us"));
        assert_eq!(slo("p99=1000ms"), slo("p99=1s"));
        for text in [
            "", "p99", "p99=", "p99=20", "p95=20ms", "p99=0ms", "p99=-1ms", "p99=11s", "p99=nans", "99=20ms", "p99=1m",
        ] {
            let error = text.parse::<Slo>().expect_err(text);
            assert!(error.contains("such as `p99=20ms`"), "{error}");
        }
    }
}
