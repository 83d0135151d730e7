//! The playground: a page for people at `/`, where a model is tried out. It owns the files and the headers that they are
//! sent with; it knows no model: what the page tells of one, it has asked the API for, as any other client.

use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use super::refusal::{self, Response};

/// One file of the page, as it is in the source.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! file {
    ($name:literal, $kind:literal) => {
        File {
            name: $name,
            kind: $kind,
            text: include_str!(concat!("playground/", $name)),
        }
    };
}

/// The page.
pub static PAGE: File = file!("page.html", "text/html; charset=utf-8");

/// What the page loads.
static PARTS: [File; 13] = [
    file!("answer.css", "text/css; charset=utf-8"),
    file!("answer.js", "text/javascript; charset=utf-8"),
    file!("examples.js", "text/javascript; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("input.css", "text/css; charset=utf-8"),
    file!("latency.js", "text/javascript; charset=utf-8"),
    file!("pad.js", "text/javascript; charset=utf-8"),
    file!("page.css", "text/css; charset=utf-8"),
    file!("page.js", "text/javascript; charset=utf-8"),
    file!("picture.js", "text/javascript; charset=utf-8"),
    file!("saliency.js", "text/javascript; charset=utf-8"),
    file!("server.js", "text/javascript; charset=utf-8"),
    file!("table.js", "text/javascript; charset=utf-8"),
];

/// The page runs its own scripts and talks to its own server; nothing is written into it as markup, and no other page
/// may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const HEADERS: [(HeaderName, &str); 7] = [
    // A new version of the server brings a new page.
    (CACHE_CONTROL, "no-cache"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
    (REFERRER_POLICY, "no-referrer"),
    // The same path answers JSON to a program.
    (VARY, "accept"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
];

/// Whether who asks for `/` is a browser that wants a page, and no program.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains("text/html"))
}

/// What the page loads as `/playground/NAME`; none where it loads nothing of that name.
pub fn part(name: &str) -> Option<&'static File> {
    PARTS.iter().find(|part| part.name == name)
}

impl File {
    /// The file as an answer.
    pub fn response(&self) -> Response {
        let mut response = refusal::content(HeaderValue::from_static(self.kind), self.text);
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    fn all() -> impl Iterator<Item = &'static File> {
        [&PAGE].into_iter().chain(&PARTS)
    }

    /// What stands between `before` and the next quotation mark.
    fn quoted<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn what_is_loaded_is_there_and_what_is_there_is_loaded() {
        let mut loaded: BTreeSet<String> = BTreeSet::new();
        for attribute in ["src=\"", "href=\""] {
            loaded.extend(quoted(PAGE.text, attribute).map(str::to_owned));
        }
        for part in &PARTS {
            loaded.extend(quoted(part.text, "from \"./").map(|name| format!("playground/{name}")));
        }
        let there: BTreeSet<String> = PARTS.iter().map(|part| format!("playground/{}", part.name)).collect();
        assert_eq!(loaded, there);
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/serve/playground");
        assert_eq!(fs::read_dir(folder).expect("the folder").count(), PARTS.len() + 1);
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_nothing_needs_a_laxer_policy() {
        for file in all() {
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            for foreign in ["http:", "https:", "\"//", "url(", "@import"] {
                assert!(!text.contains(foreign), "`{foreign}` in {}", file.name);
            }
            for unsafe_text in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "new Function"] {
                assert!(!text.contains(unsafe_text), "`{unsafe_text}` in {}", file.name);
            }
        }
        for inline in [" style=", " onclick=", "<style", "javascript:"] {
            assert!(!PAGE.text.contains(inline), "`{inline}`");
        }
        assert_eq!(
            PAGE.text.matches("<script").count(),
            PAGE.text.matches("<script type=\"module\" src=").count()
        );
    }

    #[test]
    fn a_browser_gets_the_page_and_a_program_does_not() {
        let wanted = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            is_wanted(&headers)
        };
        assert!(wanted(
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        ));
        assert!(!wanted("application/json"));
        assert!(!wanted("*/*"));
        assert!(!is_wanted(&HeaderMap::new()));
    }

    #[test]
    fn a_part_is_known_by_its_name_alone() {
        assert_eq!(part("page.css").expect("the style").kind, "text/css; charset=utf-8");
        for name in ["page.html", "../playground.rs", "", "PAGE.CSS"] {
            assert_eq!(part(name), None, "{name}");
        }
    }
}
