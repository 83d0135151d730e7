//! `emberline package`: from a bundle to a container image on the disk.

use std::env;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::Context;
use super::error::Failure;
use super::output::{ProgressMode, Report};
use crate::bundle::{self, Evaluation, Store, Verdict};
use crate::image::{Layer, Recipe, Reference, Runtime, Written};
use crate::project::{Architecture, PackageOutput, Project};

/// Arguments of `emberline package`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "\
The image is the same, digest for digest, each time that the same bundle is packaged with the same runtime. All of its \
times are 1970-01-01 for that, or what SOURCE_DATE_EPOCH says (in seconds since then).

Example:
  emberline package digits --output tar
  docker load --input digits/.emberline/images/digits-0123456789ab.tar")]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Version or path of the bundle [default: the newest]
    #[arg(long, env = "EMBERLINE_BUNDLE")]
    pub bundle: Option<String>,
    /// An OCI layout (a folder) or a file for `docker load` [default: `package.output`, or oci]
    #[arg(long, env = "EMBERLINE_OUTPUT", value_parser = outputs())]
    pub output: Option<PackageOutput>,
    /// Where the image is written [default: `.emberline/images/NAME-VERSION`, for a tar with `.tar`]
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
    /// Package a bundle though its gate has not passed
    #[arg(long, env = "EMBERLINE_ALLOW_UNGATED")]
    pub allow_ungated: bool,
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
    /// `sha256:` and the digest of its manifest.
    pub digest: String,
    /// Bytes of its manifest, configuration and compressed layers.
    pub size_bytes: u64,
    /// What made it: `oci`, the tool's own writer.
    pub builder: &'static str,
    /// How long that took.
    pub seconds: f64,
    /// The bundle's version.
    pub version: String,
    /// Where it was written.
    pub path: PathBuf,
    /// `oci` or `tar`.
    pub output: PackageOutput,
    /// `amd64` or `arm64`.
    pub architecture: Architecture,
    /// The lowest first.
    pub layers: Vec<LayerReport>,
}

/// A layer of the image.
#[derive(Debug, Serialize)]
pub struct LayerReport {
    /// `runtime` or `model`.
    pub content: &'static str,
    /// `sha256:` and the digest of the compressed layer.
    pub digest: String,
    /// Bytes of the compressed layer.
    pub size_bytes: u64,
}

impl From<&Layer> for LayerReport {
    fn from(layer: &Layer) -> Self {
        Self {
            content: layer.content(),
            digest: layer.digest().to_owned(),
            size_bytes: layer.blob().len() as u64,
        }
    }
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
    let reference = reference(&project, args.repository.as_deref(), bundle.version())?;
    let image = Recipe {
        reference,
        bundle: &bundle,
        evaluation: evaluation.as_ref(),
        runtime: &find_runtime(args, package.architecture, context)?,
        created,
    }
    .build()?;
    let output = args.output.unwrap_or(package.output);
    let path = args.to.clone().unwrap_or_else(|| {
        let stem = format!("{}-{}", project.config.name, bundle.version());
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
    Ok(PackageReport {
        image: image.reference().to_string(),
        digest: image.digest(),
        size_bytes: image.size_bytes(),
        builder: "oci",
        seconds: start.elapsed().as_secs_f64(),
        version: bundle.version().to_owned(),
        path,
        output,
        architecture: image.architecture(),
        layers: image.layers().iter().map(LayerReport::from).collect(),
    })
}

/// Finds the runtime, or builds it under a spinner.
fn find_runtime(args: &Args, configured: Option<Architecture>, context: &Context) -> Result<Runtime> {
    let mut spinner = None;
    let output = &context.output;
    let runtime = Runtime::find(
        args.runtime.as_deref(),
        args.architecture.or(configured),
        &mut |line| match output.progress_mode() {
            ProgressMode::Tty => spinner
                .get_or_insert_with(|| output.spinner("building the runtime"))
                .set_message(format!("building the runtime: {}", line.trim())),
            ProgressMode::Json => output.event(&serde_json::json!({ "event": "runtime_build", "line": line })),
            _ => output.note(line),
        },
    );
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    runtime
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
