//! An image on the disk: an OCI layout, which is a directory, or the same in one file for `docker load`. Either is written
//! under a temporary name and then renamed.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::Image;
use super::layer::{self, Entry, archive};
use crate::files;
use crate::problem::Problem;
use crate::project::PackageOutput;

/// The file that makes a directory an OCI layout.
const MARK: &str = "oci-layout";
/// The file that names the images of a layout.
const INDEX: &str = "index.json";

/// Whether there was anything to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The image is new there.
    New,
    /// The same image was there already.
    Same,
}

impl Image {
    /// Writes the image to `path`, in place of another image that is there.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or `path` holds anything but one image; what was there is then as it was.
    pub fn write(&self, output: PackageOutput, path: &Path) -> Result<Written> {
        match output {
            PackageOutput::Oci => self.write_layout(path),
            PackageOutput::Tar => self.write_archive(path),
        }
    }

    fn write_layout(&self, path: &Path) -> Result<Written> {
        let files = self.files();
        if files
            .iter()
            .all(|(name, bytes)| fs::read(path.join(name)).is_ok_and(|found| found == *bytes))
        {
            return Ok(Written::Same);
        }
        if !may_be_replaced(path) {
            return Err(
                Problem::new(format!("`{}` holds something else than one image", path.display()))
                    .hint("name a folder that does not exist yet")
                    .into(),
            );
        }
        if let Some(folder) = path.parent() {
            files::create_folder(folder)?;
        }
        let temporary = files::temporary_beside(path);
        let written = (|| {
            for (name, bytes) in &files {
                let file = temporary.join(name);
                fs::create_dir_all(file.parent().unwrap_or(&temporary))?;
                files::write_synced(&file, bytes)?;
            }
            files::sync_folder(&temporary)?;
            swap_in(&temporary, path)
        })();
        if let Err(error) = written {
            let _ = fs::remove_dir_all(&temporary);
            return Err(files::cannot_write(path, &error));
        }
        Ok(Written::New)
    }

    /// The layout in an archive, and beside it the `manifest.json` that `docker load` of any age reads.
    fn write_archive(&self, path: &Path) -> Result<Written> {
        let mut entries = vec![Entry::folder("blobs"), Entry::folder("blobs/sha256")];
        for (name, bytes) in self.files() {
            entries.push(Entry::file(&name, 0o644, bytes.to_vec()));
        }
        let manifest = serde_json::to_vec(&json!([{
            "Config": blob_path(&layer::digest(&self.config)),
            "RepoTags": [self.reference.to_string()],
            "Layers": self.layers.iter().map(|layer| blob_path(layer.digest())).collect::<Vec<_>>(),
        }]))?;
        entries.push(Entry::file("manifest.json", 0o644, manifest));
        let bytes = archive(&entries, self.created)?;
        if fs::read(path).is_ok_and(|found| found == bytes) {
            return Ok(Written::Same);
        }
        files::replace(path, &bytes)?;
        Ok(Written::New)
    }

    /// The files of the layout, the index after all that it leads to.
    fn files(&self) -> Vec<(String, &[u8])> {
        let mut files = vec![(MARK.to_owned(), &b"{\"imageLayoutVersion\":\"1.0.0\"}"[..])];
        for layer in &self.layers {
            files.push((blob_path(layer.digest()), layer.blob()));
        }
        for blob in [&self.config, &self.manifest] {
            files.push((blob_path(&layer::digest(blob)), blob));
        }
        files.push((INDEX.to_owned(), &self.index));
        files
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// Whether nothing is lost there but one image, which can be made again.
fn may_be_replaced(path: &Path) -> bool {
    let free = !path.exists() || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    free || fs::read(path.join(INDEX))
        .ok()
        .and_then(|text| serde_json::from_slice::<Value>(&text).ok())
        .and_then(|index| index["manifests"].as_array().map(Vec::len))
        == Some(1)
}

/// Puts the directory `new` in the place of `path`, whose former content is deleted only then.
fn swap_in(new: &Path, path: &Path) -> io::Result<()> {
    let former = new.with_extension("former");
    let replaces = path.exists();
    if replaces {
        fs::rename(path, &former)?;
    }
    if let Err(error) = fs::rename(new, path) {
        if replaces {
            fs::rename(&former, path)?;
        }
        return Err(error);
    }
    if replaces {
        // The new image is in place; what is left of the former one harms nobody.
        let _ = fs::remove_dir_all(&former);
    }
    files::sync_folder(path.parent().unwrap_or(Path::new(".")))
}
