//! The name of a request: the one that it came with, or a new one. It goes back with the answer and into the access log,
//! so that what a client saw, what a gateway logged and what the server logged are found together.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// The header that a name comes and goes in.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer name is no name.
const LONGEST: usize = 128;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Gives names to requests that came without: 16 hexadecimal digits that are another process's only by chance, and a
/// number.
#[derive(Debug)]
pub struct RequestIds {
    process: [u8; 16],
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        // The standard library's keys for hash maps are random.
        Self {
            process: hex(RandomState::new().hash_one(std::process::id())),
            next: AtomicU64::new(1),
        }
    }
}

impl RequestIds {
    /// The name of a request with these headers.
    pub fn name(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(REQUEST_ID) {
            Some(given) if is_name(given.as_bytes()) => given.clone(),
            _ => self.next(),
        }
    }

    fn next(&self) -> HeaderValue {
        let mut name = [b'-'; 29];
        name[..16].copy_from_slice(&self.process);
        // Twelve digits do for years of the most that a machine can answer.
        let number = hex(self.next.fetch_add(1, Ordering::Relaxed));
        name[17..].copy_from_slice(&number[4..]);
        HeaderValue::from_bytes(&name).unwrap_or(HeaderValue::from_static("-"))
    }
}

/// Whether a name may be handed on: to a header, to a line of JSON, to a shell.
fn is_name(name: &[u8]) -> bool {
    let known = |letter: &u8| letter.is_ascii_graphic() && !b"\"'`\\".contains(letter);
    (1..=LONGEST).contains(&name.len()) && name.iter().all(known)
}

fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (place, digit) in digits.iter_mut().enumerate() {
        *digit = DIGITS[(number >> (60 - 4 * place)) as usize & 15];
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(ids: &RequestIds, given: Option<&[u8]>) -> String {
        let headers = given
            .map(|given| (REQUEST_ID, HeaderValue::from_bytes(given).expect("a value")))
            .into_iter()
            .collect();
        ids.name(&headers).to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn a_good_name_is_kept_and_another_one_replaced() {
        let ids = RequestIds::default();
        for good in ["a", "0af7651916cd43dd-8448/eb=211:c8,0319c", &"x".repeat(128)] {
            assert_eq!(name(&ids, Some(good.as_bytes())), good);
        }
        let long = "x".repeat(129);
        let bad: [&[u8]; 7] = [b"", b"a b", b"a\"b", b"a\\b", b"a\tb", "é".as_bytes(), long.as_bytes()];
        for bad in bad {
            assert_ne!(name(&ids, Some(bad)).as_bytes(), bad);
        }
    }

    #[test]
    fn new_names_differ() {
        let (one, other) = (RequestIds::default(), RequestIds::default());
        let names = [
            name(&one, None),
            name(&one, None),
            name(&other, None),
            name(&other, None),
        ];
        for (index, name) in names.iter().enumerate() {
            assert_eq!(name.len(), 29);
            assert!(is_name(name.as_bytes()));
            assert!(!names[..index].contains(name), "{names:?}");
        }
        assert!(names[0].ends_with("-000000000001"), "{names:?}");
        assert_eq!(hex(0x0123_4567_89ab_cdef), *b"0123456789abcdef");
    }
}
