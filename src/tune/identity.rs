//! When two trials are the same: when all that decides on the weights is. A trial is named by a digest over its
//! configuration, the digests of the files that its data is read from, and the tool's version; where the project lies, and
//! what is said of it elsewhere, changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::short;
use crate::data;
use crate::files;
use crate::problem::Problem;
use crate::project::{Config, DataConfig, Project};

/// The files that the data is read from.
#[derive(Clone, Debug, Default)]
pub struct Files {
    files: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    /// `images/train-images.gz`: the key of `data` and the file's name.
    name: String,
    path: PathBuf,
    digest: String,
}

impl Files {
    /// Finds and reads them.
    ///
    /// # Errors
    ///
    /// What cannot be found or read.
    pub fn read(project: &Project, data_dir: Option<&Path>, events: &dyn Fn(data::Event)) -> Result<Self> {
        let found = data::files(project, data_dir, events)?.into_iter().map(|file| {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            Ok(File {
                name: format!("{}/{name}", file.key),
                digest: files::sha256(&files::read_regular(&file.path)?),
                path: file.path,
            })
        });
        Ok(Self {
            files: found.collect::<Result<_>>()?,
        })
    }

    /// The content of each by the name that it has in an image.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn contents(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let read = |file: &File| Ok((file.name.clone(), files::read_regular(&file.path)?));
        self.files.iter().map(read).collect()
    }

    /// The section `data` for where the files are in `folder`, by their names.
    pub fn moved(&self, data: &DataConfig, folder: &Path) -> DataConfig {
        let mut data = data.clone();
        for file in &self.files {
            let path = folder.join(&file.name);
            let (key, _) = file.name.split_once('/').unwrap_or_default();
            if key == "dir" {
                data.dir = path.parent().map(Path::to_owned);
            } else if let Some(place) = place(&mut data, key) {
                *place = Some(path);
            }
        }
        data
    }

    fn digests(&self) -> BTreeMap<&str, &str> {
        let each = self.files.iter();
        each.map(|file| (file.name.as_str(), file.digest.as_str())).collect()
    }
}

/// The key that names a file.
fn place<'a>(data: &'a mut DataConfig, key: &str) -> Option<&'a mut Option<PathBuf>> {
    Some(match key {
        "images" => &mut data.images,
        "labels" => &mut data.labels,
        "test_images" => &mut data.test_images,
        "test_labels" => &mut data.test_labels,
        "file" => &mut data.file,
        "test_file" => &mut data.test_file,
        _ => return None,
    })
}

/// The name of a trial: twelve hex digits.
///
/// # Errors
///
/// A network that cannot be.
pub fn of_trial(config: &Config, files: &Files) -> Result<String> {
    let mut data = config.data.clone();
    data.dir = None;
    for key in ["images", "labels", "test_images", "test_labels", "file", "test_file"] {
        if let Some(place) = place(&mut data, key) {
            *place = None;
        }
    }
    let text = json!({
        "tool": env!("CARGO_PKG_VERSION"),
        "name": config.name,
        "data": data,
        "files": files.digests(),
        "preprocess": config.preprocess,
        "model": config.model.resolve().map_err(Problem::new)?,
        "train": config.train,
    });
    Ok(short(&files::sha256(text.to_string().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(folder: &Path, more: &str) -> Project {
        let text = format!("name: d\ndata: {{source: csv, file: table.csv, label: a}}\n{more}");
        std::fs::write(folder.join("emberline.yaml"), text).expect("written");
        crate::project::load(folder, None).expect("a project")
    }

    fn id(project: &Project) -> String {
        let files = Files::read(project, None, &|_| ()).expect("files");
        of_trial(&project.config, &files).expect("an id")
    }

    #[test]
    fn the_same_training_has_the_same_name_wherever_it_is() {
        let (here, there) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        for folder in [&here, &there] {
            std::fs::write(folder.path().join("table.csv"), "a,b\nx,1\ny,2\n").expect("written");
        }
        let one = project(here.path(), "");
        let name = id(&one);
        assert_eq!(name.len(), 12);
        // The default that is written down, and what other commands read.
        let same = project(
            there.path(),
            "model: {hidden: [64, 64]}\nevaluate: {gate: {accuracy: 0.5}}\ndeploy: {port: 1}\n",
        );
        assert_eq!(id(&same), name);
        // In an image, with its paths.
        let files = Files::read(&one, None, &|_| ()).expect("files");
        let mut moved = one.clone();
        moved.config.data = files.moved(&one.config.data, Path::new("/project/data"));
        assert_eq!(
            moved.config.data.file.as_deref(),
            Some(Path::new("/project/data/file/table.csv"))
        );
        assert_eq!(of_trial(&moved.config, &files).expect("an id"), name);

        assert_ne!(id(&project(there.path(), "train: {seed: 1}\n")), name);
        assert_ne!(id(&project(there.path(), "model: {hidden: [64]}\n")), name);
        std::fs::write(there.path().join("table.csv"), "a,b\nx,1\ny,3\n").expect("written");
        assert_ne!(id(&project(there.path(), "")), name);
    }
}
