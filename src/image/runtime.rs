//! The runtime that goes into the image: found, or built from the tool's own source.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::elf::{self, NotForScratch};
use crate::files;
use crate::problem::Problem;
use crate::project::Architecture;

/// The runtime's file name.
const NAME: &str = "emberline-server";
/// The cargo profile that it is built with.
const PROFILE: &str = "runtime";
/// What it has beside what every server has.
const FEATURES: &str = "grpc";
/// Where the source of this tool was when it was built.
const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
/// Lines of a failed build that its error repeats.
const LAST_LINES: usize = 20;

/// A static executable of `emberline-server`.
#[derive(Clone, Debug)]
pub struct Runtime {
    path: PathBuf,
    bytes: Vec<u8>,
    architecture: Architecture,
}

impl Runtime {
    /// Finds the runtime: the one at `path`, else the one beside this tool, else one that is built from the source that
    /// this tool was built from, when that is still there. `wanted` is the processor that it must be for; `progress` is
    /// told what the build prints, line by line.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot run in an empty image, or it is for another processor, or its build fails.
    pub fn find(path: Option<&Path>, wanted: Option<Architecture>, progress: &mut dyn FnMut(&str)) -> Result<Self> {
        let runtime = match path {
            Some(path) => Self::open(path)?,
            None => match Self::beside_the_tool() {
                Some(runtime) => runtime,
                None => Self::open(&build(wanted, progress)?)?,
            },
        };
        match wanted {
            Some(wanted) if wanted != runtime.architecture => {
                Err(wrong_architecture(runtime.architecture.name(), wanted).into())
            }
            _ => Ok(runtime),
        }
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The executable.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The processor that it runs on, as its header says.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    fn open(path: &Path) -> Result<Self> {
        let bytes = files::read(path).map_err(|error| {
            let problem = Problem::new(format!("{error:#}"));
            problem.hint("`--runtime` takes the path of a static `emberline-server`")
        })?;
        match elf::inspect(&bytes) {
            Ok(architecture) => Ok(Self {
                path: path.to_owned(),
                bytes,
                architecture,
            }),
            Err(error) => {
                let problem = Problem::new(format!("`{}` cannot be the runtime: {error}", path.display()));
                Err(match error {
                    NotForScratch::Dynamic => problem.hint(format!("build a static one: {}", recipe("<TRIPLE>"))),
                    _ => problem.hint("`--runtime` takes the path of a static `emberline-server`"),
                }
                .into())
            }
        }
    }

    /// A development build has a dynamic runtime beside it, which is passed over.
    fn beside_the_tool() -> Option<Self> {
        Self::open(&env::current_exe().ok()?.with_file_name(NAME)).ok()
    }
}

fn wrong_architecture(found: &str, wanted: Architecture) -> Problem {
    let wanted = wanted.name();
    Problem::new(format!(
        "the runtime is for {found}, and the image is to be for {wanted}"
    ))
    .hint(format!(
        "give one that was built for {wanted} by `--runtime`, or leave `--architecture` and `package.architecture` out"
    ))
}

/// The command that builds the runtime, for a person.
fn recipe(triple: &str) -> String {
    format!("`RUSTFLAGS='{STATIC}' cargo {}`", arguments(triple).join(" "))
}

/// Links the C library into the executable.
const STATIC: &str = "-C target-feature=+crt-static";

fn arguments(triple: &str) -> [&str; 10] {
    [
        "build",
        "--profile",
        PROFILE,
        "--no-default-features",
        "--features",
        FEATURES,
        "--bin",
        NAME,
        "--target",
        triple,
    ]
}

/// Where [`Runtime::find`] would get a runtime, in words; nothing is built.
///
/// # Errors
///
/// When it would get none.
pub fn runtime_source() -> Result<String> {
    if Runtime::beside_the_tool().is_some() {
        return Ok(format!("the static `{NAME}` beside this tool"));
    }
    if !is_source(Path::new(SOURCE)) {
        return Err(no_runtime().into());
    }
    Ok(format!("`{NAME}` is built from `{SOURCE}`, for {}", host_triple()?))
}

fn no_runtime() -> Problem {
    Problem::new(format!("there is no static `{NAME}` beside this tool")).hint("give the path of one by `--runtime`")
}

/// Builds the runtime from source and gives its path. When it was built before, cargo sees that in a moment.
fn build(wanted: Option<Architecture>, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let source = Path::new(SOURCE);
    if !is_source(source) {
        return Err(no_runtime().into());
    }
    let triple = host_triple()?;
    let (processor, system) = triple.split_once('-').unwrap_or((&triple, ""));
    if !system.contains("linux") {
        return Err(
            Problem::new(format!("a runtime for Linux cannot be built on `{triple}`"))
                .hint("give the path of a static `emberline-server` for Linux by `--runtime`")
                .into(),
        );
    }
    // What the build would give is known before the minutes that it takes.
    let native = match processor {
        "x86_64" => Some(Architecture::Amd64),
        "aarch64" => Some(Architecture::Arm64),
        _ => None,
    };
    if let Some(wanted) = wanted
        && native != Some(wanted)
    {
        return Err(wrong_architecture(native.map_or(processor, |native| native.name()), wanted).into());
    }
    let target = match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => std::path::absolute(folder)?,
        None => source.join("target"),
    };
    let mut cargo = Command::new("cargo");
    cargo
        .args(arguments(&triple))
        .arg("--target-dir")
        .arg(&target)
        .current_dir(source)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_another_build(name)) {
        cargo.env_remove(name);
    }
    cargo.env("RUSTFLAGS", STATIC);
    run(cargo, progress).with_context(|| format!("cannot build the runtime in `{SOURCE}`"))?;
    Ok(target.join(&triple).join(PROFILE).join(NAME))
}

fn run(mut cargo: Command, progress: &mut dyn FnMut(&str)) -> Result<()> {
    let mut child = cargo.spawn().map_err(|error| no_toolchain("cargo", &error))?;
    let mut last = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = String::from_utf8_lossy(&line.context("cannot read what cargo prints")?).into_owned();
            progress(&line);
            if last.len() == LAST_LINES {
                last.remove(0);
            }
            last.push(line);
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if status.success() {
        return Ok(());
    }
    Err(Problem::new(format!("cargo failed ({status}):\n{}", last.join("\n")))
        .hint("give the path of a static `emberline-server` by `--runtime` to do without the build")
        .into())
}

fn is_source(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    manifest.lines().any(|line| line == "name = \"emberline\"") && folder.join("src/bin/server.rs").exists()
}

/// Variables that belong to the cargo that runs this tool, or that would build another runtime than is asked for. Left in
/// place, they would have cargo build everything again.
fn is_of_another_build(name: &OsString) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let exact = ["CARGO", "CARGO_BUILD_TARGET", "CARGO_ENCODED_RUSTFLAGS"];
    let beginnings = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_"];
    exact.contains(&name) || beginnings.iter().any(|beginning| name.starts_with(beginning))
}

/// What this machine's compiler builds for.
fn host_triple() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| no_toolchain("rustc", &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("`rustc -vV` does not say what it builds for")?
        .trim()
        .to_owned())
}

fn no_toolchain(program: &str, error: &std::io::Error) -> Problem {
    Problem::new(format!("cannot run `{program}`, which builds the runtime: {error}"))
        .hint("install Rust (rustup.rs), or give the path of a static `emberline-server` by `--runtime`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_surrounding_build_are_told_from_settings() {
        for name in [
            "CARGO",
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
        ] {
            assert!(is_of_another_build(&name.into()), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "PATH"] {
            assert!(!is_of_another_build(&name.into()), "{name}");
        }
    }

    #[test]
    fn this_is_the_source() {
        assert!(is_source(Path::new(SOURCE)));
        assert!(!is_source(&env::temp_dir()));
    }
}
