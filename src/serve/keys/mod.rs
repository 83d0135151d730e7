//! Who may come in: the keys of the key file, and whether a request holds one of them.
//!
//! A request shows its key as `Authorization: Bearer KEY` or `X-API-Key: KEY`. The time that the answer takes tells
//! nothing of the keys that there are: what was shown is digested, and its digest is compared with every other, each of
//! them to the end. The file's form is in [`file`]; when it is read again, in [`super::reload`].

pub mod file;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::reload::Reloaded;
use crate::problem::Problem;
use file::Key;

const API_KEY: &str = "x-api-key";

/// The keys of a server that may be exchanged while it serves.
pub type Keys = Reloaded<KeySet>;

/// The keys that may come in; at least one.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

/// Reads the key file.
///
/// # Errors
///
/// When it cannot be read, holds no key, or a line of it is wrong.
pub fn open(path: &Path) -> Result<Keys> {
    if matches!(path.try_exists(), Ok(false)) {
        let origin = path.display();
        let problem = Problem::new(format!("cannot read `{origin}`: there is no such file"));
        return Err(problem
            .hint(format!("`emberline keys add NAME --keys {origin}` makes it"))
            .into());
    }
    Reloaded::open("keys", vec![path.to_owned()], |paths, contents| {
        let origin = paths[0].display().to_string();
        let text = std::str::from_utf8(&contents[0]).with_context(|| format!("`{origin}` is no text"))?;
        KeySet::new(file::parse(text, &origin)?, &origin)
    })
}

impl KeySet {
    fn new(keys: Vec<Key>, origin: &str) -> Result<Self> {
        if keys.is_empty() {
            return Err(
                Problem::new(format!("`{origin}` holds no key, so nobody could come in"))
                    .hint(format!("`emberline keys add NAME --keys {origin}` makes one"))
                    .into(),
            );
        }
        Ok(Self(keys))
    }

    /// The name of the key that a request shows; none when it shows none of these.
    pub fn admits(&self, headers: &HeaderMap) -> Option<&Arc<str>> {
        let shown = [
            headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())),
            headers.get(API_KEY).map(|value| value.as_bytes().trim_ascii()),
        ];
        // 0 is none, and the keys count from 1.
        let mut found = 0_u32;
        for key in shown.into_iter().flatten() {
            let digest = file::digest(key);
            for (number, known) in (1..).zip(&self.0) {
                found.conditional_assign(&number, known.digest.ct_eq(&digest));
            }
        }
        let index = found.checked_sub(1)?;
        self.0.get(index as usize).map(|key| &key.name)
    }
}

/// Whether a request shows a key, known or not.
pub fn shows_one(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION) || headers.contains_key(API_KEY)
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn keys() -> KeySet {
        let key = |name: &str, text: &str| Key::new(name, file::digest(text.as_bytes()), "2026-11-23").expect("a key");
        KeySet(vec![key("phone", "emb_1"), key("batch", "emb_2"), key("next", "emb_3")])
    }

    fn admitted(headers: &[(&'static str, &str)]) -> Option<String> {
        let headers = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("a value");
            (HeaderName::from_static(name), value)
        });
        keys().admits(&headers.collect()).map(ToString::to_string)
    }

    #[test]
    fn any_of_the_keys_comes_in_by_either_header() {
        assert_eq!(admitted(&[("authorization", "Bearer emb_1")]).as_deref(), Some("phone"));
        assert_eq!(
            admitted(&[("authorization", "bearer  emb_3 ")]).as_deref(),
            Some("next")
        );
        assert_eq!(admitted(&[("x-api-key", "emb_2")]).as_deref(), Some("batch"));
        // A gateway may use the one header for itself.
        let both = [("authorization", "Basic eDp5"), ("x-api-key", "emb_2")];
        assert_eq!(admitted(&both).as_deref(), Some("batch"));
        let both = [("authorization", "Bearer emb_1"), ("x-api-key", "other")];
        assert_eq!(admitted(&both).as_deref(), Some("phone"));
    }

    #[test]
    fn nothing_else_comes_in() {
        assert_eq!(admitted(&[]), None);
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer emb_",
            "Bearer emb_11",
            "emb_1",
            "Basic emb_1",
            "Bearer EMB_1",
        ] {
            assert_eq!(admitted(&[("authorization", value)]), None, "{value}");
        }
        // A digest is no key.
        let digest = crate::files::hex(&file::digest(b"emb_1"));
        for value in ["", "emb_4", "phone", &digest] {
            assert_eq!(admitted(&[("x-api-key", value)]), None, "{value}");
        }
    }

    #[test]
    fn a_file_without_a_key_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let error = open(&path).expect_err("missing");
        assert!(error.to_string().contains("there is no such file"), "{error:#}");
        std::fs::write(&path, "# none\n\n").expect("written");
        let error = open(&path).expect_err("empty");
        assert!(error.to_string().contains("holds no key"), "{error:#}");
        std::fs::write(&path, [0xff]).expect("written");
        let error = open(&path).expect_err("no text");
        assert!(error.to_string().contains("is no text"), "{error:#}");
    }
}
