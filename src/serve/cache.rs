//! Answers that were given before, by the digest of their input (`--cache POLICY:ENTRIES`).
//!
//! A model gives the same answer to the same input for as long as the server runs, so an entry never goes stale: it goes
//! when there is no room. Answers differ in their last bits with the batch that an input lands in, so what is kept is
//! one of those that the model gave. It holds no request and waits for nothing; what is not here is for the batcher.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::policy::EvictionPolicy;
use sha2::{Digest, Sha256};

/// What goes when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// What was not asked for longest.
    Lru,
    /// What is asked for least often (`TinyLFU`: a new entry has to be asked for more often than the one it replaces).
    Lfu,
}

/// How many answers are kept, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// What goes when there is no room.
    pub policy: Policy,
    /// Answers that are kept, each to one input.
    pub entries: u64,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no cache: it is `lru:ENTRIES` or `lfu:ENTRIES`, as in `lru:10000`");
        let (policy, entries) = text.split_once(':').ok_or_else(wrong)?;
        let policy = match policy {
            "lru" => Policy::Lru,
            "lfu" => Policy::Lfu,
            _ => return Err(wrong()),
        };
        let entries = entries.parse().map_err(|_| wrong())?;
        if entries == 0 {
            return Err(format!("`{text}` keeps nothing: leave it out to have no cache"));
        }
        Ok(Self { policy, entries })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = match self.policy {
            Policy::Lru => "lru",
            Policy::Lfu => "lfu",
        };
        write!(to, "{policy}:{}", self.entries)
    }
}

/// The name of an input: SHA-256 of its raw values.
pub type Key = [u8; 32];

/// Answers by input, for all event loops.
#[derive(Debug)]
pub struct Cache {
    answers: moka::sync::Cache<Key, Arc<[f32]>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How a cache does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Inputs that were answered from it.
    pub hits: u64,
    /// Inputs that were not.
    pub misses: u64,
    /// Answers that it holds, about: work on it is put off.
    pub entries: u64,
}

impl Cache {
    /// Nothing is in it yet.
    pub fn new(size: Size) -> Self {
        let policy = match size.policy {
            Policy::Lru => EvictionPolicy::lru(),
            Policy::Lfu => EvictionPolicy::tiny_lfu(),
        };
        let answers = moka::sync::Cache::builder()
            .max_capacity(size.entries)
            .eviction_policy(policy)
            .build();
        Self {
            answers,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The name of an input.
    pub fn key(raw: &[f32]) -> Key {
        let mut hash = Sha256::new();
        let mut bytes = [0; 1024];
        for values in raw.chunks(bytes.len() / 4) {
            for (bytes, value) in bytes.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            hash.update(&bytes[..values.len() * 4]);
        }
        hash.finalize().into()
    }

    /// The answer that was given before, if it is here still.
    pub fn get(&self, key: &Key) -> Option<Arc<[f32]>> {
        let answer = self.answers.get(key);
        let count = if answer.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// Keeps an answer.
    pub fn put(&self, key: Key, answer: &[f32]) {
        self.answers.insert(key, answer.into());
    }

    /// How it does.
    pub fn read(&self) -> Reading {
        self.answers.run_pending_tasks();
        Reading {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.answers.entry_count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_as_it_is_written() {
        for text in ["lru:1", "lfu:10000"] {
            assert_eq!(text.parse::<Size>().expect("a size").to_string(), text);
        }
        for wrong in ["", "lru", "lru:", "lru:x", "lru:-1", "fifo:3", "10000", "lru:0"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn inputs_are_told_apart_by_every_value() {
        let one: Vec<f32> = (0..784).map(|pixel| pixel as f32).collect();
        let mut other = one.clone();
        assert_eq!(Cache::key(&one), Cache::key(&other));
        other[783] += 0.5;
        assert_ne!(Cache::key(&one), Cache::key(&other));
        assert_ne!(Cache::key(&one[..783]), Cache::key(&one));
        let plain: Vec<u8> = one.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(Cache::key(&one)[..], Sha256::digest(&plain)[..]);
    }

    fn asked(cache: &Cache, number: u8) -> bool {
        let key = [number; 32];
        let found = cache.get(&key).is_some();
        if !found {
            cache.put(key, &[f32::from(number)]);
        }
        cache.answers.run_pending_tasks();
        found
    }

    #[test]
    fn the_least_recent_goes_first() {
        let cache = Cache::new(Size {
            policy: Policy::Lru,
            entries: 2,
        });
        for number in [1, 2, 1, 3] {
            asked(&cache, number);
        }
        assert!(asked(&cache, 1), "asked for after 2");
        assert!(asked(&cache, 3));
        assert!(!asked(&cache, 2), "it had to go");
        assert_eq!(
            cache.read(),
            Reading {
                hits: 3,
                misses: 4,
                entries: 2
            }
        );
    }

    #[test]
    fn the_least_frequent_goes_first() {
        let cache = Cache::new(Size {
            policy: Policy::Lfu,
            entries: 2,
        });
        for number in [1, 1, 1, 2, 2, 2] {
            asked(&cache, number);
        }
        // Inputs that come once do not drive out those that come often.
        for number in 10..60 {
            asked(&cache, number);
        }
        assert!(asked(&cache, 1));
        assert!(asked(&cache, 2));
    }
}
