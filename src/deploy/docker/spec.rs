//! What is wanted, in the target's folder: the release, and the one that serves again when it fails. What there is
//! stands in no file: the engine is asked for it.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::plan::Goal;
use crate::deploy::Trouble;
use crate::deploy::history::{Outcome, ReleaseSource};
use crate::deploy::records::{self, Records};
use crate::project::Memory;

/// `spec.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The release that should serve.
    pub release: Release,
    /// The release that serves again when that one fails; none once it has arrived, and when there is none.
    pub former: Option<Release>,
    /// What went wrong last.
    pub trouble: Option<Trouble>,
}

/// A bundle in its image, where it is served, and by how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its number in the history.
    pub revision: u64,
    /// The bundle and its image.
    pub source: ReleaseSource,
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// Containers.
    pub replicas: usize,
    /// Most memory of each.
    pub memory: Memory,
}

impl Release {
    /// What its containers should be.
    pub fn goal(&self) -> Goal {
        Goal {
            revision: self.revision,
            replicas: self.replicas,
        }
    }

    /// The reference of its image.
    pub fn image(&self) -> &str {
        self.source.image.as_deref().unwrap_or_default()
    }

    /// The command that brings it back, or goes on with it.
    pub fn command(&self) -> String {
        let version = &self.source.version;
        let command = format!("emberline deploy --target docker --bundle {version}");
        if is_packaged(self.image(), version) {
            command
        } else {
            format!("{command} --image {}", self.image())
        }
    }
}

/// Whether an image has the tag that `emberline package` gives to the bundle's image.
pub fn is_packaged(reference: &str, version: &str) -> bool {
    reference.rsplit_once(':').is_some_and(|(_, tag)| tag == version)
}

impl Spec {
    /// What is wanted; nothing when nothing is deployed.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn read(records: &Records) -> Result<Option<Self>> {
        records::read(&path(records))
    }

    /// Says what is wanted.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, records: &Records) -> Result<()> {
        records::write(&path(records), self)
    }

    /// What became of the release that should serve.
    ///
    /// # Errors
    ///
    /// A record that cannot be read.
    pub fn outcome(&self, records: &Records) -> Result<Outcome> {
        let record = records.revision(self.release.revision)?;
        Ok(record.map_or(Outcome::Deployed, |record| record.outcome))
    }

    /// What is told of a release that nobody works on, though it has not arrived; none when it has, or has failed.
    ///
    /// # Errors
    ///
    /// A record that cannot be read.
    pub fn half_way(&self, records: &Records) -> Result<Option<Trouble>> {
        let release = &self.release;
        let Some(record) = records.revision(release.revision)? else {
            return Ok(None);
        };
        if !matches!(record.outcome, Outcome::Progressing | Outcome::Superseded) {
            return Ok(None);
        }
        let command = release.command();
        let ways_on = match &self.former {
            None => format!("`{command}` completes it"),
            Some(former) if record.rolled_back_to.is_some() => {
                format!("`emberline rollback` completes it, `{}` undoes it", former.command())
            }
            Some(_) => format!("`{command}` completes it, `emberline rollback` goes back"),
        };
        Ok(Some(Trouble {
            revision: release.revision,
            at: self.trouble.as_ref().map_or(record.deployed_at, |trouble| trouble.at),
            reason: format!(
                "revision {} (version {}) was left half-way, and nobody works on it",
                release.revision, release.source.version
            ),
            hint: Some(ways_on),
            log: Vec::new(),
        }))
    }

    /// The release that serves, or served last: the wanted one once it has arrived, else the one before it.
    ///
    /// # Errors
    ///
    /// A record that cannot be read.
    pub fn serving(&self, records: &Records) -> Result<Option<Release>> {
        Ok(match self.outcome(records)? {
            Outcome::Deployed => Some(self.release.clone()),
            _ => self.former.clone(),
        })
    }
}

fn path(records: &Records) -> PathBuf {
    records.folder().join("spec.json")
}
