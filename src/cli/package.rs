//! `emberline package`: from a bundle to a container image, in the engine or on the disk, and on to its registry.

use std::env;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::Context;
use super::error::Failure;
use super::lines::Lines;
use super::output::Report;
use crate::bundle::{self, Bundle, Evaluation, Footprint, Store, Usage, Verdict};
use crate::engine::Engine;
use crate::files;
use crate::image::{self, Recipe, Reference, Runtime, Written};
use crate::project::{Architecture, Builder, PackageConfig, PackageOutput, Project};
use crate::serve::Settings;

/// Arguments of `emberline package`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "\
Where a container engine answers, it builds the image and keeps it; otherwise the tool writes the image itself, to a file. \
What is written so is the same, digest for digest, each time that the same bundle is packaged with the same runtime. All \
of its times are 1970-01-01 for that, or what SOURCE_DATE_EPOCH says (in seconds since then).

Examples:
  docker run --rm -p 127.0.0.1:5000:5000 $(emberline package digits --quiet)
  emberline package digits --output tar
  emberline package digits --repository registry.example.com/team/digits --push")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Version or path of the bundle [default: the newest]
    #[arg(long, env = "EMBERLINE_BUNDLE")]
    pub bundle: Option<String>,
    /// Who makes the image: the container engine, or the tool itself; `auto` is the engine when one answers [default:
    /// `package.builder`, or auto]
    #[arg(long, env = "EMBERLINE_BUILDER", value_parser = builders())]
    pub builder: Option<Builder>,
    /// Write a file: an OCI layout (a folder), or a tar for `docker load` [default: `package.output`]
    #[arg(long, env = "EMBERLINE_OUTPUT", value_parser = outputs())]
    pub output: Option<PackageOutput>,
    /// Where the file is written [default: `.emberline/images/NAME-VERSION`, for a tar with `.tar`]
    #[arg(long, env = "EMBERLINE_TO", value_name = "PATH")]
    pub to: Option<PathBuf>,
    /// The static `emberline-server` that goes into the image [default: the one beside this tool, or built from source]
    #[arg(long, env = "EMBERLINE_RUNTIME", value_name = "PATH")]
    pub runtime: Option<PathBuf>,
    /// Processor that the image must run on [default: `package.architecture`, or that of the runtime]
    #[arg(long, env = "EMBERLINE_ARCHITECTURE", value_parser = architectures())]
    pub architecture: Option<Architecture>,
    /// Repository in the image's reference [default: `package.repository`, or the project's name]
    #[arg(long, env = "EMBERLINE_REPOSITORY", value_name = "NAME")]
    pub repository: Option<String>,
    /// Push the image to the registry that its repository names, with the credentials of `docker login`
    #[arg(long, env = "EMBERLINE_PUSH")]
    pub push: bool,
    /// Package a bundle though its gate has not passed
    #[arg(long, env = "EMBERLINE_ALLOW_UNGATED")]
    pub allow_ungated: bool,
}

fn builders() -> impl TypedValueParser<Value = Builder> {
    PossibleValuesParser::new(["auto", "docker", "oci"]).map(|name| match name.as_str() {
        "docker" => Builder::Docker,
        "oci" => Builder::Oci,
        _ => Builder::Auto,
    })
}

fn outputs() -> impl TypedValueParser<Value = PackageOutput> {
    PossibleValuesParser::new(["oci", "tar"]).map(|name| match name.as_str() {
        "tar" => PackageOutput::Tar,
        _ => PackageOutput::Oci,
    })
}

fn architectures() -> impl TypedValueParser<Value = Architecture> {
    PossibleValuesParser::new(["amd64", "arm64"]).map(|name| match name.as_str() {
        "arm64" => Architecture::Arm64,
        _ => Architecture::Amd64,
    })
}

/// What `emberline package` prints.
#[derive(Debug, Serialize)]
pub struct PackageReport {
    /// The image's reference, `repository:version`.
    pub image: String,
    /// `sha256:` and a digest: of the image's manifest when it was written or pushed, which is what a registry knows it by;
    /// otherwise of its configuration, which is the engine's image id.
    pub digest: String,
    /// Bytes: of its manifest, configuration and compressed layers when it was written, of its files when the engine built
    /// it.
    pub size_bytes: u64,
    /// Who made it: `docker`, the container engine, or `oci`, the tool itself.
    pub builder: &'static str,
    /// How long that took.
    pub seconds: f64,
    /// The bundle's version.
    pub version: String,
    /// Where it was written; null when the engine has it.
    pub path: Option<PathBuf>,
    /// `oci` or `tar`; null when the engine has it.
    pub output: Option<PackageOutput>,
    /// `amd64` or `arm64`.
    pub architecture: Architecture,
    /// Whether the registry has it: `repository@digest` names it there.
    pub pushed: bool,
    /// The lowest first.
    pub layers: Vec<LayerReport>,
    /// What a server of the image takes, as it was measured on this machine; null when it could not be.
    pub footprint: Option<Usage>,
}

/// A layer of the image.
#[derive(Debug, Serialize)]
pub struct LayerReport {
    /// `runtime` or `model`.
    pub content: &'static str,
    /// `sha256:` and the digest of the compressed layer; null when the engine has it, which compresses nothing.
    pub digest: Option<String>,
    /// `sha256:` and the digest of the layer before it is compressed.
    pub diff_id: String,
    /// Bytes: of the compressed layer when it was written, of its files when the engine built it.
    pub size_bytes: u64,
}

impl Report for PackageReport {
    /// The reference alone, for `docker run $(emberline package)`.
    fn text(&self) -> String {
        self.image.clone()
    }
}

/// The image's reference; also for those who want to know that there is one before there is a bundle.
///
/// # Errors
///
/// A repository that no image can have.
pub(super) fn reference(project: &Project, repository: Option<&str>, version: &str) -> Result<Reference> {
    let repository = repository.or(project.config.package.repository.as_deref());
    Ok(Reference::new(repository.unwrap_or(&project.config.name), version)?)
}

/// Who is asked for to make the image. A file on the command line stands above `package.builder`.
///
/// # Errors
///
/// [`Failure::Usage`] when an engine is to make the image and a file is wanted.
pub(super) fn builder(args: &Args, config: &PackageConfig) -> Result<Builder, Failure> {
    let file = match (args.output, &args.to) {
        (Some(_), _) => Some("`--output` asks"),
        (None, Some(_)) => Some("`--to` asks"),
        (None, None) => None,
    };
    let asked = match (args.builder, file) {
        (Some(builder), _) => builder,
        (None, Some(_)) => Builder::Oci,
        (None, None) => config.builder,
    };
    let file = file.or(config.output.map(|_| "`package.output` in emberline.yaml asks"));
    match (asked, file) {
        (Builder::Docker, Some(file)) => Err(Failure::Usage(format!(
            "{file} for a file, and the builder `docker` leaves the image in the container engine"
        ))),
        (Builder::Auto, Some(_)) => Ok(Builder::Oci),
        (asked, _) => Ok(asked),
    }
}

/// The engine that is to build the image; none when the tool writes it.
fn engine(builder: Builder, context: &Context) -> Result<Option<Engine>> {
    match builder {
        Builder::Oci => Ok(None),
        Builder::Docker => Engine::connect().map(Some),
        Builder::Auto => match Engine::connect() {
            Ok(engine) => Ok(Some(engine)),
            Err(error) => {
                context
                    .output
                    .note(&format!("{error:#}; the image is written without it (`--builder oci`)"));
                Ok(None)
            }
        },
    }
}

/// Packages a bundle of the project.
///
/// # Errors
///
/// [`bundle::GateRefusal`] when its gate has not passed, and whatever else is in the way of an image.
pub fn run(args: &Args, context: &Context) -> Result<PackageReport> {
    let start = Instant::now();
    let created = source_date_epoch()?;
    let project = context.project(&args.project)?;
    let package = &project.config.package;
    let builder = builder(args, package)?;
    let (bundle, evaluation) = bundle(args, &project, context)?;
    let reference = reference(&project, args.repository.as_deref(), bundle.version())?;
    if args.push {
        // Before the minutes that a build of the runtime may take.
        reference.require_registry()?;
    }
    let engine = engine(builder, context)?;
    let runtime = find_runtime(args, package.architecture, context)?;
    let footprint = footprint(&bundle, &runtime, context);
    let recipe = Recipe {
        reference,
        bundle: &bundle,
        evaluation: evaluation.as_ref(),
        runtime: &runtime,
        created,
    };
    let mut report = match &engine {
        Some(engine) => build(&recipe, engine, args.push, context)?,
        None => write(&recipe, args, &project, context)?,
    };
    report.footprint = footprint;
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// The bundle that is asked for, with its evaluation, once its gate allows it.
fn bundle(args: &Args, project: &Project, context: &Context) -> Result<(Bundle, Option<Evaluation>)> {
    let store = Store::of_project(&project.folder);
    let bundle = match &args.bundle {
        Some(reference) => store.open(reference)?,
        None => store.latest()?,
    };
    let evaluation = if args.allow_ungated {
        Evaluation::read(&bundle)?
    } else {
        let thresholds = serde_json::to_value(&project.config.evaluate.gate)?;
        Some(bundle::require_pass(&bundle, &thresholds)?)
    };
    if evaluation.as_ref().map(|evaluation| evaluation.verdict) != Some(Verdict::Pass) {
        context.output.warn(&format!(
            "the gate of bundle `{}` has not passed; packaged as you ask",
            bundle.version()
        ));
    }
    Ok((bundle, evaluation))
}

/// The image by the container engine.
fn build(recipe: &Recipe, engine: &Engine, push: bool, context: &Context) -> Result<PackageReport> {
    let reference = &recipe.reference;
    let mut lines = Lines::new(&context.output, "building the image", "image_build");
    let built = recipe.build_in(engine, &mut |line| lines.show(line))?;
    drop(lines);
    context.output.note(&format!(
        "the container engine has `{reference}` ({:.1} MB, {})",
        built.size_bytes as f64 / 1e6,
        built.id
    ));
    let mut digest = built.id;
    if push {
        let mut lines = Lines::new(&context.output, "pushing the image", "image_push");
        digest = image::push(engine, reference, &mut |line| lines.show(line))?;
        drop(lines);
        context.output.note(&format!("pushed `{reference}` ({digest})"));
    }
    Ok(PackageReport {
        image: reference.to_string(),
        digest,
        size_bytes: built.size_bytes,
        builder: "docker",
        seconds: 0.0,
        version: recipe.bundle.version().to_owned(),
        path: None,
        output: None,
        architecture: recipe.runtime.architecture(),
        pushed: push,
        layers: built
            .layers
            .into_iter()
            .map(|layer| LayerReport {
                content: layer.content,
                digest: None,
                diff_id: layer.diff_id,
                size_bytes: layer.size_bytes,
            })
            .collect(),
        footprint: None,
    })
}

/// The image by the tool itself.
fn write(recipe: &Recipe, args: &Args, project: &Project, context: &Context) -> Result<PackageReport> {
    let image = recipe.build()?;
    let output = args.output.or(project.config.package.output).unwrap_or_default();
    let path = args.to.clone().unwrap_or_else(|| {
        let stem = format!("{}-{}", project.config.name, recipe.bundle.version());
        let name = match output {
            PackageOutput::Oci => stem,
            PackageOutput::Tar => stem + ".tar",
        };
        project.state().join("images").join(name)
    });
    let size = image.size_bytes() as f64 / 1e6;
    context.output.note(&match image.write(output, &path)? {
        Written::New => format!("wrote `{}` ({size:.1} MB, {})", path.display(), image.digest()),
        Written::Same => format!("`{}` holds this image already ({})", path.display(), image.digest()),
    });
    if args.push {
        let mut lines = Lines::new(&context.output, "pushing the image", "image_push");
        image.push(&mut |line| lines.show(line))?;
        drop(lines);
        context
            .output
            .note(&format!("pushed `{}` ({})", image.reference(), image.digest()));
    }
    let layers = image.layers().iter().map(|layer| LayerReport {
        content: layer.content(),
        digest: Some(layer.digest().to_owned()),
        diff_id: layer.diff_id().to_owned(),
        size_bytes: layer.blob().len() as u64,
    });
    Ok(PackageReport {
        image: image.reference().to_string(),
        digest: image.digest(),
        size_bytes: image.size_bytes(),
        builder: "oci",
        seconds: 0.0,
        version: recipe.bundle.version().to_owned(),
        path: Some(path),
        output: Some(output),
        architecture: image.architecture(),
        pushed: args.push,
        layers: layers.collect(),
        footprint: None,
    })
}

/// What a server of the bundle takes: measured once for each runtime, and kept beside the bundle for `deploy`. An image is
/// made without it as well.
fn footprint(bundle: &Bundle, runtime: &Runtime, context: &Context) -> Option<Usage> {
    let measured = || -> Result<Usage> {
        let digest = files::sha256(runtime.bytes());
        let known = Footprint::read(bundle.path(), bundle.digest());
        if let Ok(Some(known)) = known
            && known.runtime == digest
        {
            return Ok(known.usage);
        }
        // One of another runtime says nothing about this one.
        Footprint::remove(bundle)?;
        let usage = runtime.measure(bundle, Settings::default().max_body)?;
        Footprint::new(bundle, digest, usage).write(bundle)?;
        Ok(usage)
    };
    match measured() {
        Ok(usage) => {
            context.output.note(&format!(
                "a server of it takes {:.1} MB of memory, {:.1} MB with the largest request, and {:.0} \u{b5}s of a processor \
                 for a prediction",
                usage.memory_bytes as f64 / 1e6,
                usage.memory_largest_request_bytes as f64 / 1e6,
                usage.cpu_seconds_per_prediction * 1e6
            ));
            Some(usage)
        }
        Err(error) => {
            context.output.warn(&format!(
                "what a server of it takes is not known, and `deploy` will go by fixed numbers: {error:#}"
            ));
            None
        }
    }
}

/// Finds the runtime, or builds it and shows how that goes.
fn find_runtime(args: &Args, configured: Option<Architecture>, context: &Context) -> Result<Runtime> {
    let mut lines = Lines::new(&context.output, "building the runtime", "runtime_build");
    Runtime::find(args.runtime.as_deref(), args.architecture.or(configured), &mut |line| {
        lines.show(line);
    })
}

/// The time of everything in the image, in seconds since 1970.
fn source_date_epoch() -> Result<u32> {
    let Some(text) = env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(0);
    };
    let text = text.to_string_lossy();
    text.parse().map_err(|_| {
        Failure::Usage(format!(
            "SOURCE_DATE_EPOCH is `{text}`, and must be whole seconds since 1970, before 2106"
        ))
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::Builder::{Auto, Docker, Oci};
    use super::*;

    #[test]
    fn a_file_is_written_by_the_tool_itself() {
        let chosen = |flag: Option<Builder>, output: bool, configured: Builder, configured_output: bool| {
            let tar = |wanted: bool| wanted.then_some(PackageOutput::Tar);
            let args = Args {
                builder: flag,
                output: tar(output),
                ..Args::default()
            };
            let config = PackageConfig {
                builder: configured,
                output: tar(configured_output),
                ..PackageConfig::default()
            };
            builder(&args, &config).map_err(|failure| failure.to_string())
        };
        for (flag, output, configured, configured_output, expected) in [
            (None, false, Auto, false, Auto),
            (None, false, Docker, false, Docker),
            (None, false, Oci, false, Oci),
            (Some(Docker), false, Oci, false, Docker),
            (Some(Auto), false, Oci, false, Auto),
            // A file is asked for.
            (None, false, Auto, true, Oci),
            (None, true, Auto, false, Oci),
            (Some(Auto), true, Auto, false, Oci),
            (Some(Oci), true, Docker, false, Oci),
            // The command line stands above the file.
            (None, true, Docker, false, Oci),
        ] {
            assert_eq!(chosen(flag, output, configured, configured_output), Ok(expected));
        }
        let refused = chosen(Some(Docker), true, Auto, false).expect_err("`--output`");
        assert!(refused.starts_with("`--output` asks for a file"), "{refused}");
        let refused = chosen(Some(Docker), false, Auto, true).expect_err("`package.output`");
        assert!(refused.starts_with("`package.output` in emberline.yaml"), "{refused}");
    }
}
