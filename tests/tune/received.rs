//! Bundles that come from elsewhere.

use std::collections::BTreeMap;
use std::fs;

use emberline::bundle::Store;

use crate::fixture;
use crate::tool::trained::names;

/// A bundle's files by their names.
type Files = BTreeMap<String, Vec<u8>>;

#[test]
fn a_bundle_that_was_changed_on_its_way_is_not_taken_in() {
    let (there, here) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let bundle = fixture::digits_bundle(there.path());
    let files: Files = names(&bundle)
        .into_iter()
        .map(|name| (name.clone(), fs::read(bundle.join(name)).expect("a file")))
        .collect();
    let store = Store::of_project(here.path());
    let refused = |change: &dyn Fn(&mut Files), words: &str| {
        let mut changed = files.clone();
        change(&mut changed);
        let error = format!("{:#}", store.receive(&changed).expect_err(words));
        assert!(error.contains(words), "{error}");
        assert_eq!(names(store.folder()), [] as [&str; 0]);
    };
    refused(
        &|files| files.get_mut("model.safetensors").expect("weights")[9] ^= 1,
        "was changed",
    );
    refused(&|files| drop(files.remove("golden.json")), "cannot be read");
    refused(&|files| drop(files.remove("bundle.json")), "no bundle");
    refused(
        &|files| drop(files.insert("../outside".into(), Vec::new())),
        "no file name",
    );

    let received = store.receive(&files).expect("a bundle");
    assert_eq!(
        Some(received.version()),
        bundle.file_name().and_then(|name| name.to_str())
    );
    assert!(!store.folder().join("latest").exists(), "the newest stays the newest");
}
