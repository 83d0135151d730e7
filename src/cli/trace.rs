//! `emberline trace`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::Context;
use super::output::{Report, columns};
use super::place::Place;
use crate::bundle::Store;
use crate::cluster::Cluster;
use crate::deploy::kubernetes;
use crate::engine::Engine;
use crate::image::{Inspected, Reference};
use crate::problem::Problem;
use crate::project::{self, Project};
use crate::trace::{self, Trace};

/// How long a server may take to say what it serves.
const ANSWER: Duration = Duration::from_secs(5);

/// Tell where a pod, an image or a running server comes from
///
/// The image, the weights, the evaluation, the data and the source revision, who deployed them and when: each with who says
/// so. What runs is asked first, then its image, the history, and the bundles of this machine. The exit code is 1 when
/// nothing is known, or somebody contradicts another.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  emberline trace digits-deployment-7c9f8d5b6-x2x7k\n  emberline trace registry.example.com/team/digits:0123456789ab\n  emberline trace http://127.0.0.1:5000"
)]
pub struct Args {
    /// Name of a pod, reference of an image, or address of a running server, which is asked with the key `EMBERLINE_KEY`
    #[arg(value_name = "POD|IMAGE|ADDRESS", env = "EMBERLINE_TRACE")]
    pub what: String,
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where its service runs
    #[command(flatten)]
    pub place: Place,
}

/// What is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A pod of the cluster.
    Pod,
    /// An image, wherever it is.
    Image,
    /// A server that answers.
    Address,
}

impl Kind {
    fn of(what: &str) -> Self {
        if what.starts_with("http://") || what.starts_with("https://") {
            Self::Address
        } else if what.starts_with("pod/") || !what.contains([':', '/', '@']) {
            Self::Pod
        } else {
            Self::Image
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// When what is traced cannot be found.
pub fn run(args: &Args, context: &Context) -> Result<TraceReport> {
    // An image or a server can be traced where there is no project; then nobody knows of a history or of bundles.
    let project = match context.project(&args.project) {
        Err(_) if !args.project.join(project::FILE).exists() => None,
        found => Some(found?),
    };
    let kind = Kind::of(&args.what);
    let mut tracer = Tracer {
        place: &args.place,
        project: project.as_ref(),
        trace: Trace::default(),
    };
    match kind {
        Kind::Pod => tracer.pod(args.what.trim_start_matches("pod/"))?,
        Kind::Image => tracer.image(&args.what)?,
        Kind::Address => tracer.address(&args.what)?,
    }
    tracer.bundle();
    if tracer.trace.facts.is_empty() {
        let mut problem = format!("nothing is known of `{}`", args.what);
        for silent in &tracer.trace.silent {
            problem = format!("{problem}\n  {}: {}", silent.who, silent.why);
        }
        return Err(Problem::new(problem)
            .hint("it takes the name of a pod, the reference of an image, or an address that begins with `http://`")
            .into());
    }
    Ok(TraceReport {
        traced: args.what.clone(),
        kind,
        trace: tracer.trace.finish(),
    })
}

/// Goes from one source to the next.
struct Tracer<'a> {
    place: &'a Place,
    project: Option<&'a Project>,
    trace: Trace,
}

impl Tracer<'_> {
    fn pod(&mut self, name: &str) -> Result<()> {
        let cluster = self.cluster()?;
        let pod = cluster.get::<Pod>(name)?.ok_or_else(|| {
            Problem::new(format!("there is no pod `{name}` in namespace `{}`", cluster.namespace())).hint(
                "`emberline status` lists those of a service; `--namespace` names another one; the reference of an image has a \
                 `:` or an `@`",
            )
        })?;
        let from = format!("the server in pod `{name}`");
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
        let port = ports.next().and_then(|port| u16::try_from(port.container_port).ok());
        let answer = cluster.ask_pod(name, port.unwrap_or(80), "/", key().as_deref());
        match answer {
            Ok(Some(answer)) if trace::server(&mut self.trace, &answer, &from) => {}
            Ok(Some(_)) => self.trace.silent(from, "it is no server of emberline"),
            Ok(None) => self
                .trace
                .silent(from, "it wants a key, and EMBERLINE_KEY holds none that it lets in"),
            Err(error) => self.trace.silent(from, format!("{error:#}")),
        }
        trace::pod(&mut self.trace, &pod);
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        if let Some(service) = labels.get("app.kubernetes.io/name") {
            let created = pod.metadata.creation_timestamp.as_ref();
            let created = created.and_then(|time| u64::try_from(time.0.as_second()).ok());
            self.history_in(&cluster, service, created);
        }
        self.image_of_what_runs();
        Ok(())
    }

    fn image(&mut self, reference: &str) -> Result<()> {
        Reference::check(reference)?;
        self.inspect(reference);
        if self.trace.facts.is_empty() {
            // Whoever has deployed it knows it too.
            self.trace.learn("image", reference, "the command line");
            self.history();
            if self.trace.facts.len() == 1 {
                self.trace.facts.clear();
                return Ok(());
            }
        } else {
            self.trace.learn("image", reference, "the command line");
            self.history();
        }
        match self
            .cluster()
            .and_then(|cluster| Ok((kubernetes::pods(&cluster)?, cluster)))
        {
            Ok((pods, cluster)) => {
                let from = format!("the pods of namespace `{}`", cluster.namespace());
                trace::running(&mut self.trace, &pods, reference, &from);
            }
            Err(error) => self.trace.silent("the cluster", format!("{error:#}")),
        }
        Ok(())
    }

    fn address(&mut self, address: &str) -> Result<()> {
        let base = address.trim_end_matches('/');
        let (status, answer) = ask(&format!("{base}/")).map_err(|error| {
            Problem::new(format!("no server answers at `{address}`: {error}"))
                .hint("`emberline status` tells the address of what is deployed, and whether it runs")
        })?;
        if status == 401 {
            let with = if key().is_some() {
                "was asked with one that it does not let in"
            } else {
                "was asked with none"
            };
            return Err(
                Problem::new(format!("the server at `{address}` wants a key, and {with}"))
                    .hint("`EMBERLINE_KEY` is the key that it is asked with; `emberline keys add NAME` makes one")
                    .into(),
            );
        }
        let from = format!("the server at {base}");
        if status != 200 || !trace::server(&mut self.trace, &answer, &from) {
            return Err(Problem::new(format!(
                "what answers at `{address}`, with status {status}, is no server of emberline"
            ))
            .hint("the address of a service ends with its port, or with the gateway's path `/NAME`")
            .into());
        }
        self.history();
        self.image_of_what_runs();
        Ok(())
    }

    /// The image that something runs, by its digest where that is known: a tag may have been moved since.
    fn image_of_what_runs(&mut self) {
        let Some(image) = self.trace.get("image").map(str::to_owned) else {
            return;
        };
        let digest = self.trace.get("image_digest").map(str::to_owned);
        let named = match (digest, Reference::registry_of(&image)) {
            (Some(digest), Ok(_)) if !image.contains('@') => {
                let (repository, tag) = image.rsplit_once(':').unwrap_or((&image, ""));
                let repository = if tag.contains('/') { &image } else { repository };
                format!("{repository}@{digest}")
            }
            _ => image,
        };
        self.inspect(&named);
    }

    /// What an image says that is in its registry, or in the engine of this machine.
    fn inspect(&mut self, reference: &str) {
        if Reference::registry_of(reference).is_ok() {
            let from = "the image in its registry";
            match Inspected::from_registry(reference) {
                Ok(Some(image)) => return trace::image(&mut self.trace, &image, from),
                Ok(None) => self.trace.silent("the registry", format!("`{reference}` is not there")),
                Err(error) => self.trace.silent("the registry", format!("{error:#}")),
            }
        }
        let from = "the image in the engine";
        match Engine::connect().and_then(|engine| Inspected::from_engine(&engine, reference)) {
            Ok(Some(image)) => trace::image(&mut self.trace, &image, from),
            Ok(None) => self.trace.silent("the engine", format!("`{reference}` is not there")),
            Err(error) => self.trace.silent("the engine", format!("{error:#}")),
        }
    }

    /// What the history of the project's service says.
    fn history(&mut self) {
        let Some(project) = self.project else {
            return self.trace.silent("the history", "there is no project here");
        };
        match self.place.target(project).and_then(|target| target.history()) {
            Ok(revisions) if trace::history(&mut self.trace, &revisions, None, "the history") => {}
            Ok(_) => self.trace.silent("the history", "no revision is of it"),
            Err(error) => self.trace.silent("the history", format!("{error:#}")),
        }
    }

    /// What the history of a service in the cluster says.
    fn history_in(&mut self, cluster: &Cluster, service: &str, at: Option<u64>) {
        let from = format!("the history, ConfigMap `{service}-history`");
        match kubernetes::revisions(cluster, service) {
            Ok(revisions) if trace::history(&mut self.trace, &revisions, at, &from) => {}
            Ok(_) => self.trace.silent(from, "no revision is of it"),
            Err(error) => self.trace.silent(from, format!("{error:#}")),
        }
    }

    /// What the bundles of this machine say.
    fn bundle(&mut self) {
        let Some(version) = self.trace.get("version").map(str::to_owned) else {
            return;
        };
        let Some(project) = self.project else {
            return self
                .trace
                .silent("the bundles of this machine", "there is no project here");
        };
        match Store::of_project(&project.folder).open(&version) {
            Ok(found) => trace::bundle(&mut self.trace, &found),
            Err(error) => self.trace.silent("the bundles of this machine", format!("{error:#}")),
        }
    }

    fn cluster(&self) -> Result<Cluster> {
        Cluster::connect(&match self.project {
            Some(project) => self.place.access(project),
            None => self.place.flags(),
        })
    }
}

/// The status and the text that a server answers with.
fn ask(url: &str) -> Result<(u16, String), ureq::Error> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER))
        .http_status_as_error(false)
        .build();
    let mut request = ureq::Agent::new_with_config(config)
        .get(url)
        .header("accept", "application/json");
    if let Some(key) = key() {
        request = request.header("x-api-key", key);
    }
    let answer = request.call()?;
    Ok((answer.status().as_u16(), answer.into_body().read_to_string()?))
}

/// The key of a server that asks for one. Its only way in is the environment: arguments are read by everybody.
fn key() -> Option<String> {
    std::env::var("EMBERLINE_KEY").ok().filter(|key| !key.is_empty())
}

/// What is known of what was traced.
#[derive(Debug, Serialize)]
pub struct TraceReport {
    /// As it was asked for.
    pub traced: String,
    /// What it is.
    pub kind: Kind,
    /// What is known.
    #[serde(flatten)]
    pub trace: Trace,
}

impl TraceReport {
    /// What is wrong, when somebody contradicts another.
    pub fn failure(&self) -> Option<anyhow::Error> {
        let count = self.trace.contradictions.len();
        (count > 0).then(|| {
            let plural = if count == 1 { "" } else { "s" };
            Problem::new(format!("{count} contradiction{plural}"))
                .hint("what runs is right; what else says otherwise was changed since, or belongs to something else")
                .into()
        })
    }
}

impl Report for TraceReport {
    fn text(&self) -> String {
        let heads = ["FACT", "VALUE", "FROM"].map(str::to_owned).to_vec();
        let rows = self.trace.facts.iter().map(|fact| {
            let also = match fact.confirmed_by.len() {
                0 => String::new(),
                count => format!(", and {count} more"),
            };
            vec![
                fact.name.replace('_', " "),
                fact.value.clone(),
                format!("{}{also}", fact.from),
            ]
        });
        let mut text = columns([heads].into_iter().chain(rows));
        if !self.trace.unknown.is_empty() {
            let unknown: Vec<String> = self.trace.unknown.iter().map(|name| name.replace('_', " ")).collect();
            text = format!("{text}\n\nnobody knows: {}", unknown.join(", "));
        }
        for silent in &self.trace.silent {
            text = format!("{text}\nasked in vain: {}: {}", silent.who, silent.why);
        }
        for other in &self.trace.contradictions {
            text = format!(
                "{text}\ncontradiction: {} is `{}` by {}, and `{}` by {}",
                other.name.replace('_', " "),
                other.value,
                other.from,
                other.other,
                other.other_from
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_traced_is_told_by_its_form() {
        for (what, kind) in [
            ("digits-deployment-7c9f8d5b6-x2x7k", Kind::Pod),
            ("pod/digits", Kind::Pod),
            ("digits:0123456789ab", Kind::Image),
            ("registry.example.com/team/digits@sha256:00", Kind::Image),
            ("http://127.0.0.1:5000", Kind::Address),
        ] {
            assert_eq!(Kind::of(what), kind, "{what}");
        }
    }
}
