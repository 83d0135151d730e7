//! The key file: a line for each key that may come in, `NAME sha256:DIGEST [created DATE]`, and comments.
//!
//! No key is in it, only its SHA-256: a key is 256 random bits, so that nobody finds it from that. What is not
//! understood is refused, because a line that is skipped would be a key that is thought to be there, or gone.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use crate::files::hex;
use crate::problem::Problem;

/// How a key begins, so that one is known for what it is where it does not belong.
pub const PREFIX: &str = "emb_";

/// SHA-256 of a key.
pub type Digest = [u8; 32];

const SCHEME: &str = "sha256:";
const LONGEST_NAME: usize = 64;

/// A key that may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Who it is for: letters, digits, `.`, `_` and `-`.
    pub name: Arc<str>,
    /// SHA-256 of its text.
    pub digest: Digest,
    /// The day it was made, `2026-11-23`.
    pub created: Option<String>,
    /// Its line in the file, from 1.
    line: usize,
}

impl Key {
    /// A key for `name`, made on the day `created`.
    ///
    /// # Errors
    ///
    /// When the name is none.
    pub fn new(name: &str, digest: Digest, created: &str) -> Result<Self> {
        check_name(name)?;
        Ok(Self {
            name: name.into(),
            digest,
            created: Some(created.to_owned()),
            line: 0,
        })
    }
}

/// The digest that a key is kept as.
pub fn digest(key: &[u8]) -> Digest {
    Sha256::digest(key).into()
}

/// Reads a key file. `origin` is what it is called in an error.
///
/// # Errors
///
/// `ORIGIN:LINE` and what is wrong there.
pub fn parse(text: &str, origin: &str) -> Result<Vec<Key>> {
    let mut keys: Vec<Key> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default();
        if content.trim().is_empty() {
            continue;
        }
        let number = index + 1;
        let wrong = |reason: String| Problem::new(format!("{origin}:{number}: {reason}")).hint(FORM);
        let key = parse_line(content, number).map_err(wrong)?;
        if let Some(same) = keys.iter().find(|other| other.name == key.name) {
            return Err(wrong(format!("`{}` is in line {} already", key.name, same.line)).into());
        }
        if let Some(same) = keys.iter().find(|other| other.digest == key.digest) {
            return Err(wrong(format!("the key of `{}` is in line {} already", key.name, same.line)).into());
        }
        keys.push(key);
    }
    Ok(keys)
}

const FORM: &str = "a line is `NAME sha256:DIGEST created 2026-11-23`, as `emberline keys add NAME` writes it";

fn parse_line(line: &str, number: usize) -> Result<Key, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, digest, created) = match words[..] {
        [name, digest] => (name, digest, None),
        [name, digest, "created", date] => (name, digest, Some(date)),
        _ => return Err("this is no key".into()),
    };
    check_name(name).map_err(|problem| problem.to_string())?;
    let hex = digest.strip_prefix(SCHEME).ok_or_else(|| {
        // Whoever puts the key itself there should not find it in a log.
        format!("the second word of `{name}` is no `{SCHEME}` digest")
    })?;
    if let Some(date) = created.filter(|date| !is_date(date)) {
        return Err(format!("`{date}` is no date"));
    }
    Ok(Key {
        name: name.into(),
        digest: from_hex(hex).ok_or_else(|| format!("the digest of `{name}` is no 64 hexadecimal digits"))?,
        created: created.map(str::to_owned),
        line: number,
    })
}

fn check_name(name: &str) -> Result<(), Problem> {
    let known = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(known) && !name.starts_with(PREFIX) {
        return Ok(());
    }
    Err(Problem::new(format!("`{}` is no name of a key", name.escape_debug()))
        .hint("a name has 1 to 64 letters, digits, `.`, `_` and `-`, and says whose key it is"))
}

fn is_date(text: &str) -> bool {
    let form = |(place, letter): (usize, u8)| match place {
        4 | 7 => letter == b'-',
        _ => letter.is_ascii_digit(),
    };
    text.len() == 10 && text.bytes().enumerate().all(form)
}

fn from_hex(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// The text of a key file with one key more; what was there stays as it was.
pub fn with(text: &str, key: &Key) -> String {
    let mut text = text.to_owned();
    if text.is_empty() {
        text.push_str("# Keys of an emberline server: NAME sha256:DIGEST created DATE\n");
    } else if !text.ends_with('\n') {
        text.push('\n');
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "{} {SCHEME}{}", key.name, hex(&key.digest));
    if let Some(created) = &key.created {
        let _ = write!(text, " created {created}");
    }
    text.push('\n');
    text
}

/// The text of a key file without a key that was read from it; everything else stays as it was.
pub fn without(text: &str, key: &Key) -> String {
    let others = text.split_inclusive('\n').enumerate();
    let others = others.filter(|(index, _)| index + 1 != key.line);
    others.map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, "keys").expect_err("refused").to_string()
    }

    #[test]
    fn what_is_written_reads_back_and_comments_stay() {
        let phone = Key::new("phone", digest(b"one"), "2026-11-23").expect("a key");
        let batch = Key::new("batch-2.x_y", digest(b"two"), "2026-11-24").expect("a key");
        let mut text = "# ours\n\nold sha256:".to_owned() + &"0A".repeat(32) + " # who?";
        text = with(&with(&text, &phone), &batch);
        let keys = parse(&text, "keys").expect("keys");
        let names: Vec<&str> = keys.iter().map(|key| &*key.name).collect();
        assert_eq!(names, ["old", "phone", "batch-2.x_y"]);
        assert_eq!((keys[0].digest, keys[0].created.as_deref()), ([10; 32], None));
        assert_eq!(
            (keys[1].digest, keys[1].created.as_deref()),
            (digest(b"one"), Some("2026-11-23"))
        );
        let less = without(&text, &keys[1]);
        assert!(less.starts_with("# ours\n\nold "), "{less}");
        let names: Vec<Arc<str>> = parse(&less, "keys")
            .expect("keys")
            .into_iter()
            .map(|key| key.name)
            .collect();
        assert_eq!(names, ["old".into(), "batch-2.x_y".into()]);
        assert!(with("", &phone).starts_with('#'));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = format!("a sha256:{}\n", "0".repeat(64));
        for (line, reason) in [
            ("b", "no key"),
            ("b sha256:00", "no 64 hexadecimal digits"),
            (&format!("b sha256:{}", "é".repeat(32)), "no 64 hexadecimal digits"),
            (&format!("b md5:{}", "1".repeat(64)), "no `sha256:` digest"),
            (&format!("b/c sha256:{}", "1".repeat(64)), "`b/c` is no name"),
            (&format!("a sha256:{}", "1".repeat(64)), "`a` is in line 1 already"),
            (
                &format!("b sha256:{}", "0".repeat(64)),
                "the key of `b` is in line 1 already",
            ),
            (
                &format!("b sha256:{} created yesterday", "1".repeat(64)),
                "`yesterday` is no date",
            ),
            (&format!("b sha256:{} made 2026-11-23", "1".repeat(64)), "no key"),
        ] {
            let error = error(&format!("{good}{line}"));
            assert!(error.starts_with("keys:2: ") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_key_in_the_place_of_its_digest_is_not_told() {
        let error = error("phone emb_secret");
        assert!(!error.contains("secret"), "{error}");
        // Nor one in the place of its name.
        assert!(Key::new("emb_secret", [0; 32], "2026-11-23").is_err());
    }
}
