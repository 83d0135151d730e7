//! What each source says: a running server, a pod, an image, the history of a service, and a bundle on this machine.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::Value;

use super::Trace;
use crate::bundle::{Bundle, Evaluation, Manifest, WEIGHTS};
use crate::deploy::history::{Revision, utc};
use crate::image::{BUNDLE_LABEL, CREATED_LABEL, DATA_LABEL, Inspected, REVISION_LABEL, VERDICT_LABEL, VERSION_LABEL};

/// How much later than its revision a pod may have been made by the clocks of two machines, in seconds.
const CLOCKS: u64 = 5;

/// What a server says at `GET /`; whether it is one of ours.
pub fn server(trace: &mut Trace, answer: &str, from: &str) -> bool {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let text = |key: &str| answer[key].as_str();
    let (Some(name), Some(version), Some(digest)) = (text("model"), text("version"), text("digest")) else {
        return false;
    };
    if trace.is_about(digest, from) {
        trace.learn("name", name, from);
        trace.learn("version", version, from);
    }
    true
}

/// What the cluster says of a pod. Its annotations are what `deploy` has asked for.
pub fn pod(trace: &mut Trace, pod: &Pod) {
    let from = format!("pod `{}`", pod.name_any());
    trace.learn("runs_in", pod.name_any(), &from);
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    if let Some(image) = container.and_then(|container| container.image.as_ref()) {
        trace.learn("image", image, &from);
    }
    if let Some(digest) = image_digest(pod) {
        trace.learn("image_digest", digest, &from);
    }
    let from = format!("the annotations of pod `{}`", pod.name_any());
    let annotation = |name: &str| pod.annotations().get(&format!("emberline/{name}"));
    if annotation("bundle-digest").is_none_or(|digest| !trace.is_about(digest, &from)) {
        return;
    }
    for (name, fact) in [("gate", "evaluation"), ("source-revision", "source_revision")] {
        if let Some(value) = annotation(name) {
            trace.learn(fact, value, &from);
        }
    }
}

/// The digest by which a registry knows the image that a pod runs. One that was never in a registry has none.
fn image_digest(pod: &Pod) -> Option<&str> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let (_, digest) = statuses.first()?.image_id.split_once('@')?;
    Some(digest)
}

/// What an image says: the bundle inside it, and its labels.
pub fn image(trace: &mut Trace, image: &Inspected, from: &str) {
    if let Some(digest) = &image.digest {
        trace.learn("image_digest", digest, from);
    }
    if let Some(model) = &image.model {
        let weights = format!("the weights in {from}");
        let from = format!("the bundle in {from}");
        if !trace.is_about(&model.digest, &from) {
            return;
        }
        // Of the bytes that are there, and not only what is written of them.
        if let Some(digest) = &model.weights_digest {
            trace.learn("weights_digest", digest, &weights);
        }
        manifest(trace, &model.manifest, &from);
        if let Some(found) = &model.evaluation {
            evaluation(trace, found, &from);
        }
    }
    let from = format!("the labels of {from}");
    let label = |name: &str| image.labels.get(name);
    if label(BUNDLE_LABEL).is_none_or(|digest| !trace.is_about(digest, &from)) {
        return;
    }
    for (name, fact) in [
        (VERSION_LABEL, "version"),
        (DATA_LABEL, "data_digest"),
        (VERDICT_LABEL, "evaluation"),
        (REVISION_LABEL, "source_revision"),
        (CREATED_LABEL, "image_created"),
    ] {
        if let Some(value) = label(name) {
            trace.learn(fact, value, &from);
        }
    }
}

/// What the history says of the newest revision with the bundle that is traced; of the one that was the newest at a time, in
/// seconds since 1970, when that is given. Whether there is one.
pub fn history(trace: &mut Trace, revisions: &[Revision], at: Option<u64>, from: &str) -> bool {
    let known = |name: &str| trace.get(name).map(str::to_owned);
    let (digest, image) = (known("bundle_digest"), known("image"));
    let fits = |revision: &&Revision| {
        let source = &revision.source;
        let is_then = at.is_none_or(|at| revision.deployed_at <= at + CLOCKS);
        let is_image = source.image.is_none() || image.is_none() || source.image == image;
        let is_bundle = digest.as_ref().is_none_or(|digest| *digest == source.digest);
        is_then && is_image && is_bundle && (digest.is_some() || image.is_some())
    };
    let Some(found) = revisions.iter().rfind(fits) else {
        return false;
    };
    let source = &found.source;
    trace.is_about(&source.digest, from);
    trace.learn("version", &source.version, from);
    if let Some(image) = &source.image {
        trace.learn("image", image, from);
    }
    if let Some(revision) = &source.source_revision {
        trace.learn("source_revision", revision, from);
    }
    trace.learn("revision", found.revision.to_string(), from);
    trace.learn("deployed_at", utc(found.deployed_at), from);
    trace.learn("deployed_by", &found.deployed_by, from);
    trace.learn("outcome", found.outcome.name(), from);
    true
}

/// That an image runs in pods.
pub fn running(trace: &mut Trace, pods: &[Pod], image: &str, from: &str) {
    let runs = |pod: &&Pod| {
        let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
        container.and_then(|container| container.image.as_deref()) == Some(image)
    };
    let names: Vec<String> = pods.iter().filter(runs).map(ResourceExt::name_any).collect();
    if !names.is_empty() {
        trace.learn("runs_in", names.join(", "), from);
    }
}

/// What a bundle on this machine says, when it is the one that is traced.
pub fn bundle(trace: &mut Trace, found: &Bundle) {
    let from = format!("bundle `{}` on this machine", found.version());
    if !trace.is_about(found.digest(), &from) {
        return;
    }
    manifest(trace, found.manifest(), &from);
    // Why one cannot be read is `evaluate`'s to say; here it is one that nobody knows.
    if let Ok(Some(found)) = Evaluation::read(found) {
        evaluation(trace, &found, &from);
    }
}

fn manifest(trace: &mut Trace, manifest: &Manifest, from: &str) {
    trace.learn("name", &manifest.name, from);
    if let Some(digest) = manifest.files.get(WEIGHTS) {
        trace.learn("weights_digest", digest, from);
    }
    trace.learn("data_source", &manifest.data.source, from);
    trace.learn("data_digest", &manifest.data.digest, from);
    trace.learn("seed", manifest.training.seed.to_string(), from);
    trace.learn("tool_version", &manifest.tool_version, from);
    if let Some(revision) = &manifest.source_revision {
        trace.learn("source_revision", revision, from);
    }
}

fn evaluation(trace: &mut Trace, evaluation: &Evaluation, from: &str) {
    trace.learn("version", &evaluation.bundle.version, from);
    trace.learn("evaluation", evaluation.verdict.name(), from);
    for name in ["accuracy", "samples"] {
        let value = &evaluation.report[name];
        if value.is_number() {
            trace.learn(name, value.to_string(), from);
        }
    }
}
