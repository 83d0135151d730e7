//! Amounts of memory and of processor time, written as Kubernetes writes them.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Least memory that a container engine takes for a limit.
const LEAST_MEMORY: u64 = 6 * 1024 * 1024;
/// Units of memory, the largest first, so that an amount is written in the largest that divides it.
const UNITS: [(&str, u64); 6] = [
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

/// An amount of memory: `128Mi`, `1Gi`, `500M`, or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(u64);

impl Memory {
    /// So many bytes, but no less than an engine takes.
    pub fn of_bytes(bytes: u64) -> Self {
        Self(bytes.max(LEAST_MEMORY))
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// `1Gi`.
    pub(super) const fn gibibyte() -> Self {
        Self(1 << 30)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self(128 << 20)
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
            .unwrap_or((text, 1));
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .ok_or_else(|| format!("`{text}` is no amount of memory, such as `128Mi` or `1Gi`"))?;
        if bytes < LEAST_MEMORY {
            return Err(format!("`{text}` of memory is too little: 6Mi is the least"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(formatter, "{}{unit}", self.0 / factor),
            None => write!(formatter, "{}", self.0),
        }
    }
}

/// A share of processor time in thousandths of a processor: `250m`, or whole processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu(u32);

impl Cpu {
    /// In processors.
    pub fn processors(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// So many thousandths of a processor, at least one.
    pub fn of_thousandths(thousandths: u32) -> Self {
        Self(thousandths.max(1))
    }

    /// In thousandths of a processor.
    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// One processor.
    pub(super) const fn whole() -> Self {
        Self(1000)
    }

    /// Threads that keep it busy: a part of a processor is one.
    pub fn threads(self) -> u32 {
        self.0.div_ceil(1000)
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self(100)
    }
}

impl FromStr for Cpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let thousandths = match text.strip_suffix('m') {
            Some(number) => number.parse().ok(),
            None => text.parse::<u32>().ok().and_then(|number| number.checked_mul(1000)),
        };
        match thousandths {
            Some(thousandths) if thousandths > 0 => Ok(Self(thousandths)),
            _ => Err(format!("`{text}` is no share of processors, such as `250m` or `2`")),
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(formatter, "{}", self.0 / 1000)
        } else {
            write!(formatter, "{}m", self.0)
        }
    }
}

/// A number in YAML is taken as well as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

fn parse<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(deserializer: D) -> Result<T, D::Error> {
    let text = match Written::deserialize(deserializer)? {
        Written::Number(number) => number.to_string(),
        Written::Text(text) => text,
    };
    text.parse().map_err(D::Error::custom)
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse(deserializer)
    }
}

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse(deserializer)
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Cpu {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_as_kubernetes_has_them() {
        for (text, bytes) in [
            ("128Mi", 128 << 20),
            ("1Gi", 1 << 30),
            ("500M", 500_000_000),
            ("6291456", 6 << 20),
        ] {
            assert_eq!(text.parse::<Memory>().map(Memory::bytes), Ok(bytes), "{text}");
        }
        for text in ["128Mi", "1Gi", "500M", "7000001"] {
            assert_eq!(text.parse::<Memory>().expect(text).to_string(), text);
        }
        for text in ["250m", "2"] {
            assert_eq!(text.parse::<Cpu>().expect(text).to_string(), text);
        }
        assert_eq!("1000m".parse::<Cpu>().expect("a processor").to_string(), "1");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "Mi", "1.5Gi", "-1", "128MB", "1Mi", "99999999999Gi"] {
            assert!(text.parse::<Memory>().is_err(), "{text}");
        }
        for text in ["", "m", "0", "0m", "0.5", "-1"] {
            assert!(text.parse::<Cpu>().is_err(), "{text}");
        }
    }
}
