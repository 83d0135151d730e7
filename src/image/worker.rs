//! The image of a worker: this very tool, what links it, and the files of a project's data, each in a layer of its own, on
//! nothing. It is named by the digest of what it holds, so that what a registry has already is neither made nor sent again.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::config::USER;
use super::elf;
use super::layer::{Entry, Layer};
use super::registry;
use super::{Image, Reference};
use crate::files;
use crate::problem::Problem;
use crate::project::Architecture;

/// Where the files of the data are in the image.
pub const DATA_FOLDER: &str = "/project/data";
/// Where the tool is, and the libraries that it is linked with.
const TOOL: &str = "emberline";
const LIBRARIES: &str = "libraries";
/// Goes into the name: another form of image is another image.
const FORM: &str = "worker 1";

/// Makes the image of a worker with these files of data, pushes it to `repository` unless it is there, and gives its
/// reference with its digest. `progress` is told of each layer.
///
/// # Errors
///
/// When this tool cannot run in an image, and what the registry has against it.
pub fn push_worker(
    repository: &str,
    data: BTreeMap<String, Vec<u8>>,
    progress: &mut dyn FnMut(&str),
) -> Result<String> {
    let tool = Tool::this()?;
    let contents = tool.names_and_digests().chain(
        data.iter()
            .map(|(name, bytes)| format!("data {name} {}", files::sha256(bytes))),
    );
    let contents: Vec<String> = [FORM.to_owned()].into_iter().chain(contents).collect();
    let name = files::sha256(contents.join("\n").as_bytes());
    let reference = Reference::new(repository, &format!("tune-{}", &name[..12]))?;
    reference.require_registry()?;
    if let Some(digest) = registry::find(&reference)? {
        progress(&format!("{reference}: is there already"));
        return Ok(format!("{reference}@{digest}"));
    }
    let image = tool.image(reference.clone(), data)?;
    image.push(progress)?;
    Ok(format!("{reference}@{}", image.digest()))
}

/// This tool, with what it needs to run.
struct Tool {
    architecture: Architecture,
    executable: Vec<u8>,
    /// The loader's path, as the executable names it, and its content.
    loader: Option<(String, Vec<u8>)>,
    /// By the names that the loader looks for.
    libraries: BTreeMap<String, Vec<u8>>,
}

impl Tool {
    /// # Errors
    ///
    /// When it is not for Linux, or what it is linked with cannot be found.
    fn this() -> Result<Self> {
        let itself = Path::new("/proc/self/exe");
        let path = if itself.exists() {
            itself.to_owned()
        } else {
            env::current_exe()?
        };
        let executable = files::read(&path)?;
        let (architecture, loader) = elf::read(&executable).map_err(|error| {
            Problem::new(format!("this tool cannot be the one of a worker's image: {error}"))
                .hint("`--worker-image` names an image that `emberline tune` has pushed from a Linux machine")
        })?;
        let Some(loader) = loader else {
            return Ok(Self {
                architecture,
                executable,
                loader: None,
                libraries: BTreeMap::new(),
            });
        };
        // Not its own link, which the loader would take for that of itself.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let mut libraries = BTreeMap::new();
        for (name, path) in linked(&loader, &path)? {
            libraries.insert(name, files::read(&path)?);
        }
        Ok(Self {
            architecture,
            executable,
            loader: Some((loader.clone(), files::read(Path::new(&loader))?)),
            libraries,
        })
    }

    fn names_and_digests(&self) -> impl Iterator<Item = String> {
        let tool = [(TOOL, &self.executable)].into_iter();
        let loader = self.loader.iter().map(|(name, bytes)| (name.as_str(), bytes));
        let libraries = self.libraries.iter().map(|(name, bytes)| (name.as_str(), bytes));
        tool.chain(loader)
            .chain(libraries)
            .map(|(name, bytes)| format!("tool {name} {}", files::sha256(bytes)))
    }

    fn image(self, reference: Reference, data: BTreeMap<String, Vec<u8>>) -> Result<Image> {
        let mut layers = Vec::new();
        if let Some((path, bytes)) = self.loader {
            let mut entries = folders(path.trim_start_matches('/'));
            entries.push(Entry::file(path.trim_start_matches('/'), 0o755, bytes));
            entries.push(Entry::folder(LIBRARIES));
            for (name, bytes) in self.libraries {
                entries.push(Entry::file(&format!("{LIBRARIES}/{name}"), 0o755, bytes));
            }
            layers.push(Layer::new("libraries", entries, 0)?);
        }
        layers.push(Layer::new("tool", vec![Entry::file(TOOL, 0o755, self.executable)], 0)?);
        if !data.is_empty() {
            let folder = DATA_FOLDER.trim_start_matches('/');
            let mut entries = folders(&format!("{folder}/x"));
            let mut keys: Vec<&str> = data.keys().filter_map(|name| Some(name.split_once('/')?.0)).collect();
            keys.dedup();
            entries.extend(keys.iter().map(|key| Entry::folder(&format!("{folder}/{key}"))));
            for (name, bytes) in data {
                entries.push(Entry::file(&format!("{folder}/{name}"), 0o644, bytes));
            }
            layers.push(Layer::new("data", entries, 0)?);
        }
        let title = "a worker of `emberline tune`: the tool and a project's data".to_owned();
        let labels = BTreeMap::from([
            ("org.opencontainers.image.description".to_owned(), title),
            (
                "org.opencontainers.image.version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
        ]);
        let runs = json!({
            "User": USER,
            "Env": ["PATH=/", format!("LD_LIBRARY_PATH=/{LIBRARIES}")],
            "Entrypoint": [format!("/{TOOL}")],
            "WorkingDir": "/",
            "Labels": labels,
        });
        Image::assemble_to_run(reference, self.architecture, layers, &labels, 0, &runs)
    }
}

/// The folders that a file is in, from the outermost.
fn folders(path: &str) -> Vec<Entry> {
    let ends = path.match_indices('/').map(|(end, _)| end);
    ends.map(|end| Entry::folder(&path[..end])).collect()
}

/// What the loader finds an executable to be linked with: each library's name, and where it is.
fn linked(loader: &str, executable: &Path) -> Result<Vec<(String, PathBuf)>> {
    let cannot = |reason: String| {
        Problem::new(format!(
            "`{loader} --list {}` does not say what this tool is linked with: {reason}",
            executable.display()
        ))
        .hint("`--worker-image` names an image that `emberline tune` has pushed from another machine")
    };
    let output = Command::new(loader)
        .arg("--list")
        .arg(executable)
        .output()
        .map_err(|error| cannot(error.to_string()))?;
    let (said, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() {
        return Err(cannot(error.trim().to_owned()).into());
    }
    parse(&said).map_err(|reason| cannot(reason).into())
}

/// Lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f...)`. The kernel's own library and the loader are in
/// no such line, or are there without a `=>`.
fn parse(said: &str) -> Result<Vec<(String, PathBuf)>, String> {
    let mut libraries = Vec::new();
    for line in said.lines() {
        let Some((name, place)) = line.trim().split_once(" => ") else {
            continue;
        };
        let place = place.rsplit_once(" (").map_or(place, |(place, _)| place);
        if !place.starts_with('/') {
            return Err(format!("`{name}` is {place}"));
        }
        // The loader itself is there by its own path.
        if !name.starts_with('/') {
            libraries.push((name.to_owned(), PathBuf::from(place)));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_is_understood() {
        let said = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f01)\n\
                    \tlibc.so.6 => /usr/lib/libc.so.6 (0x00007f02)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f03)\n";
        assert_eq!(
            parse(said),
            Ok(vec![
                ("libm.so.6".to_owned(), PathBuf::from("/lib/x86_64-linux-gnu/libm.so.6")),
                ("libc.so.6".to_owned(), PathBuf::from("/usr/lib/libc.so.6")),
            ])
        );
        assert_eq!(
            parse("\tlibx.so => not found\n"),
            Err("`libx.so` is not found".to_owned())
        );
    }

    #[test]
    fn folders_come_from_the_outermost() {
        let told: Vec<String> = folders("a/b/c").iter().map(|entry| format!("{entry:?}")).collect();
        assert_eq!(told.len(), 2);
        assert!(told[0].contains("\"a/\"") && told[1].contains("\"a/b/\""), "{told:?}");
    }

    /// This test's own executable is as the tool's: what it needs is found, and the image of it is the same each time.
    #[test]
    fn an_image_of_this_program_is_the_same_each_time() {
        let data = BTreeMap::from([("images/a.gz".to_owned(), b"a".to_vec())]);
        let image = || {
            let mut tool = Tool::this().expect("this program");
            // What is compressed here is shortened: it is not run.
            tool.executable.truncate(1 << 16);
            let reference = Reference::new("localhost/digits", "tune-0").expect("a reference");
            tool.image(reference, data.clone()).expect("an image")
        };
        let one = image();
        assert_eq!(one.digest(), image().digest());
        let contents: Vec<&str> = one.layers().iter().map(Layer::content).collect();
        assert_eq!(contents.last(), Some(&"data"));
        assert!(contents.contains(&"tool"));
    }
}
