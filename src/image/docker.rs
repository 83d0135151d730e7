//! An image by the container engine: the build context is sent, its steps are followed as they come, and the image stays in
//! the engine, which pushes it as well.

use anyhow::{Context, Result};
use bollard::errors::Error;
use bollard::models::{ImageHistoryResponseItem, ImageInspect};
use bollard::query_parameters::{BuildImageOptionsBuilder, PushImageOptionsBuilder, RemoveImageOptions};
use bollard::{Docker, body_full};
use futures_util::{Stream, StreamExt};

use super::config::{Configuration, MODEL_FOLDER, RUNTIME_FOLDER};
use super::layer::{Entry, archive};
use super::registry::{self, Refusal};
use super::{BUNDLE_LABEL, Recipe, Reference};
use crate::engine::{Engine, innermost};
use crate::problem::Problem;

/// Lines of a failed build that its error repeats.
const LAST_LINES: usize = 20;
/// Characters of a line that are shown.
const LINE_LENGTH: usize = 100;
/// What the build context calls the file.
const DOCKERFILE: &str = "Dockerfile";

/// An image that the engine has.
#[derive(Clone, Debug)]
pub struct Built {
    /// `sha256:` and the digest of its configuration: what the engine knows it by.
    pub id: String,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Its layers, the lowest first.
    pub layers: Vec<BuiltLayer>,
}

/// A layer of it.
#[derive(Clone, Debug)]
pub struct BuiltLayer {
    /// `runtime` or `model`.
    pub content: &'static str,
    /// `sha256:` and the digest of its archive.
    pub diff_id: String,
    /// Bytes of its files.
    pub size_bytes: u64,
}

impl Recipe<'_> {
    /// Has the engine build the image and give it its name. `progress` is told of each step.
    ///
    /// An image that had this name, and has no other and no container, is deleted: it is of an earlier build.
    ///
    /// # Errors
    ///
    /// Which file of the bundle cannot be read, or which step failed, with the last lines of the build.
    pub fn build_in(&self, engine: &Engine, progress: &mut dyn FnMut(&str)) -> Result<Built> {
        let context = self.context()?;
        let name = self.reference.to_string();
        let platform = format!("linux/{}", self.runtime.architecture().name());
        engine.block_on(async {
            let docker = engine.docker();
            let former = docker.inspect_image(&name).await.ok();
            let id = build(docker, context, &name, &platform, progress).await?;
            let inspect = inspected(docker, id.as_deref().unwrap_or(&name)).await?;
            let history = inspect.id.as_deref().unwrap_or(&name);
            let history = docker.image_history(history).await.map_err(|error| silent(&error))?;
            if let Some(former) = former.and_then(|former| former.id)
                && Some(&former) != inspect.id.as_ref()
            {
                sweep(docker, &former).await;
            }
            Built::read(inspect, &history)
        })
    }

    /// The Dockerfile, and a folder for each layer, in one archive.
    fn context(&self) -> Result<Vec<u8>> {
        let labels = self.labels();
        let dockerfile = Configuration { labels: &labels }.dockerfile()?;
        let mut entries = vec![
            Entry::file(DOCKERFILE, 0o644, dockerfile.into_bytes()),
            Entry::folder(RUNTIME_FOLDER),
            self.server().inside(RUNTIME_FOLDER),
            Entry::folder(MODEL_FOLDER),
        ];
        entries.extend(self.model()?.into_iter().map(|entry| entry.inside(MODEL_FOLDER)));
        Ok(archive(&entries, self.created)?)
    }
}

/// Sends a context and follows its build; gives the image's id, if the engine tells it.
async fn build(
    docker: &Docker,
    context: Vec<u8>,
    name: &str,
    platform: &str,
    progress: &mut dyn FnMut(&str),
) -> Result<Option<String>> {
    let options = BuildImageOptionsBuilder::new()
        .dockerfile(DOCKERFILE)
        .t(name)
        .platform(platform)
        .rm(true)
        .forcerm(true)
        .build();
    let mut said = docker.build_image(options, None, Some(body_full(context.into())));
    let mut transcript = Transcript::default();
    let mut id = None;
    while let Some(info) = said.next().await {
        let info = info.map_err(|error| transcript.failure(&error))?;
        transcript.add(info.stream.as_deref().unwrap_or_default(), progress);
        id = info.aux.and_then(|aux| aux.id).or(id);
    }
    Ok(id)
}

/// What a build has said so far.
#[derive(Debug, Default)]
struct Transcript {
    /// The step that it is at: `Step 2/9 : COPY ...`.
    step: Option<String>,
    /// Its last lines.
    lines: Vec<String>,
    /// A line that has not ended yet.
    rest: String,
}

impl Transcript {
    fn add(&mut self, text: &str, progress: &mut dyn FnMut(&str)) {
        self.rest.push_str(text);
        while let Some((line, rest)) = self.rest.split_once('\n') {
            let (line, rest) = (brief(line), rest.to_owned());
            self.rest = rest;
            if line.is_empty() {
                continue;
            }
            if line.starts_with("Step ") {
                progress(&line);
                self.step = Some(line.clone());
            }
            if self.lines.len() == LAST_LINES {
                self.lines.remove(0);
            }
            self.lines.push(line);
        }
    }

    fn failure(&self, error: &Error) -> Problem {
        let problem = match (error, &self.step) {
            (Error::DockerStreamError { error }, Some(step)) => Problem::new(format!(
                "a step of the image's build failed, `{step}`: {}\n{}",
                error.trim(),
                self.lines.join("\n")
            )),
            (Error::DockerStreamError { error: message } | Error::DockerResponseServerError { message, .. }, _) => {
                Problem::new(format!(
                    "the container engine refuses to build the image: {}",
                    message.trim()
                ))
            }
            (error, _) => Problem::new(format!(
                "the container engine broke off the image's build: {}",
                innermost(error)
            )),
        };
        problem.hint("`--builder oci` writes the image without an engine")
    }
}

/// A line without the spaces of the template, and no longer than a person reads.
fn brief(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LINE_LENGTH) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

async fn inspected(docker: &Docker, image: &str) -> Result<ImageInspect> {
    docker
        .inspect_image(image)
        .await
        .map_err(|error| silent(&error))
        .with_context(|| format!("the container engine does not show image `{image}`"))
}

fn silent(error: &Error) -> Problem {
    Problem::new(innermost(error))
}

/// Deletes the image that had the name before, when it is one of ours that nobody knows by a name any longer. The engine
/// itself keeps one that a container is made from.
async fn sweep(docker: &Docker, former: &str) {
    let Ok(image) = docker.inspect_image(former).await else {
        return;
    };
    let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
    let named = [image.repo_tags, image.repo_digests]
        .iter()
        .flatten()
        .any(|names| !names.is_empty());
    if labels.contains_key(BUNDLE_LABEL) && !named {
        let _ = docker.remove_image(former, None::<RemoveImageOptions>, None).await;
    }
}

impl Built {
    fn read(inspect: ImageInspect, history: &[ImageHistoryResponseItem]) -> Result<Self> {
        let diff_ids = inspect.root_fs.and_then(|files| files.layers).unwrap_or_default();
        // The newest is told first; what is no copy has no layer.
        let sizes = history
            .iter()
            .rev()
            .filter(|item| item.created_by.contains("COPY"))
            .map(|item| item.size as u64);
        let layers: Vec<_> = ["runtime", "model"]
            .into_iter()
            .zip(diff_ids)
            .zip(sizes)
            .map(|((content, diff_id), size_bytes)| BuiltLayer {
                content,
                diff_id,
                size_bytes,
            })
            .collect();
        Ok(Self {
            id: inspect.id.context("the container engine gives the image no id")?,
            size_bytes: layers.iter().map(|layer| layer.size_bytes).sum(),
            layers,
        })
    }
}

/// Has the engine push an image that it has, with the credentials of this user, and gives the digest that the registry
/// knows it by. `progress` is told what the engine says of it.
///
/// # Errors
///
/// That the reference names no registry, or what the registry has against it.
pub fn push(engine: &Engine, reference: &Reference, progress: &mut dyn FnMut(&str)) -> Result<String> {
    let host = reference.require_registry()?;
    let credentials = registry::credentials(host)?;
    let known = credentials.is_some();
    let options = PushImageOptionsBuilder::new().tag(reference.tag()).build();
    let said = engine.docker().push_image(
        reference.repository(),
        Some(options),
        credentials.map(|credentials| registry::for_engine(credentials, host)),
    );
    engine.block_on(async {
        let mut digest = None;
        let mut said = std::pin::pin!(statuses(said));
        while let Some(status) = said.next().await {
            let status = status.map_err(|error| refusal(&error).problem(reference, host, known))?;
            digest = pushed_digest(&status).map(str::to_owned).or(digest);
            // Of each layer many times, and without saying which.
            if !["Preparing", "Pushing", "Waiting"].contains(&status.as_str()) {
                progress(&status);
            }
        }
        digest.context("the container engine does not say what digest the pushed image has")
    })
}

fn statuses(
    said: impl Stream<Item = Result<bollard::models::PushImageInfo, Error>>,
) -> impl Stream<Item = Result<String, Error>> {
    said.filter_map(async |info| match info {
        Ok(info) => info.status.map(Ok),
        Err(error) => Some(Err(error)),
    })
}

/// The digest in the last line of a push: `TAG: digest: sha256:... size: 740`.
fn pushed_digest(status: &str) -> Option<&str> {
    let (_, rest) = status.split_once("digest: ")?;
    rest.split(' ').next().filter(|digest| digest.starts_with("sha256:"))
}

/// The engine passes on what it was told, in words.
fn refusal(error: &Error) -> Refusal {
    let cause = match error {
        Error::DockerStreamError { error: message } | Error::DockerResponseServerError { message, .. } => {
            message.trim().to_owned()
        }
        error => innermost(error),
    };
    let says = |texts: &[&str]| texts.iter().any(|text| cause.to_lowercase().contains(text));
    if says(&[
        "unauthorized",
        "denied",
        "basic auth",
        "authentication",
        "incorrect username",
    ]) {
        Refusal::Forbidden(cause)
    } else if says(&[
        "connection refused",
        "no such host",
        "timeout",
        "unreachable",
        "server misbehaving",
    ]) {
        Refusal::Unreachable(cause)
    } else {
        Refusal::Other(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_is_told_with_the_lines_before_it() {
        let mut transcript = Transcript::default();
        let mut steps = Vec::new();
        for text in [
            "Step 1/9 : FROM scr",
            "atch\n ---> \n",
            "Step 2/9 : COPY a b\n",
            "reading\n\n",
            "unfinished",
        ] {
            transcript.add(text, &mut |step| steps.push(step.to_owned()));
        }
        assert_eq!(steps, ["Step 1/9 : FROM scratch", "Step 2/9 : COPY a b"]);
        let problem = transcript.failure(&Error::DockerStreamError {
            error: "no space left on device\n".into(),
        });
        assert_eq!(
            problem.to_string(),
            "a step of the image's build failed, `Step 2/9 : COPY a b`: no space left on device\n\
             Step 1/9 : FROM scratch\n--->\nStep 2/9 : COPY a b\nreading"
        );
        for number in 0..100 {
            transcript.add(&format!("{number}\n"), &mut |_| ());
        }
        assert_eq!(transcript.lines.len(), LAST_LINES);
        assert_eq!(transcript.lines.last().map(String::as_str), Some("99"));
    }

    #[test]
    fn the_digest_of_a_push_is_in_its_last_line() {
        let line = "0123456789ab: digest: sha256:3f2a size: 740";
        assert_eq!(pushed_digest(line), Some("sha256:3f2a"));
        assert_eq!(pushed_digest("Layer already exists"), None);
    }

    #[test]
    fn what_a_registry_has_against_a_push_is_told_apart() {
        let told = |error: &str| refusal(&Error::DockerStreamError { error: error.into() });
        let refused = "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused";
        assert!(matches!(told(refused), Refusal::Unreachable(_)));
        assert!(matches!(told("no basic auth credentials"), Refusal::Forbidden(_)));
        assert!(matches!(
            told("unauthorized: authentication required"),
            Refusal::Forbidden(_)
        ));
        assert!(matches!(told("manifest invalid"), Refusal::Other(_)));
    }
}
