//! One trial, in a process of its own on whichever machine: what it is told, what it does, and what it says of it in lines of
//! JSON.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::identity::{self, Files};
use super::parcel::{self, Part, Seal};
use super::space::Settings;
use crate::bundle::{Bundle, Store};
use crate::data;
use crate::problem::Problem;
use crate::project::{Config, Project};
use crate::train::{self, Event, TrainDevice};

/// What a trial is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// The trial's name.
    pub id: String,
    /// The configuration, whole.
    pub config: Config,
    /// What the bundle says of the source that it comes from.
    pub source_revision: Option<String>,
    /// The folder that paths start from and bundles go to.
    pub folder: PathBuf,
    /// The folder with the MNIST files, in place of the configuration's.
    pub data_dir: Option<PathBuf>,
    /// Whether the bundle has to come home through a log.
    pub carried: bool,
}

/// What the trials of a Job are told; each takes its own by its index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignments {
    /// What the settings are laid over.
    pub config: Config,
    /// As for one.
    pub source_revision: Option<String>,
    /// As for one.
    pub folder: PathBuf,
    /// Each trial's name and settings.
    pub trials: Vec<(String, Settings)>,
}

impl Assignment {
    /// Reads what a trial is told: an assignment, or with an index the assignments of a Job.
    ///
    /// # Errors
    ///
    /// What it cannot be.
    pub fn read(text: &str, index: Option<usize>) -> Result<Self> {
        let Some(index) = index else {
            return Ok(serde_json::from_str(text)?);
        };
        let all: Assignments = serde_json::from_str(text)?;
        let Some((id, settings)) = all.trials.get(index) else {
            return Err(Problem::new(format!("there is no trial with index {index}")).into());
        };
        Ok(Self {
            id: id.clone(),
            config: settings.applied(&all.config),
            source_revision: all.source_revision,
            folder: all.folder,
            data_dir: None,
            carried: true,
        })
    }
}

/// A line that a trial says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A part of its bundle.
    Part(Part),
    /// Its end.
    Done(Outcome),
}

/// What has come of a trial, as it says itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Version of its bundle.
    pub version: String,
    /// SHA-256 of its `bundle.json`.
    pub digest: String,
    /// From the first byte of data to the written bundle.
    pub seconds: f64,
    /// What was sent of the bundle, when it was.
    pub seal: Option<Seal>,
}

/// Does what `train` does, and adds the bundle to the store of the folder; `None` when it was interrupted: what is not whole
/// is worth nothing in a comparison.
///
/// # Errors
///
/// Whatever is wrong with configuration, data or disk; that the data or the tool is another one than that of the sweep; that
/// the bundle could not come home.
pub fn perform(assignment: &Assignment, interrupt: &AtomicBool) -> Result<Option<(Bundle, f64)>> {
    let start = Instant::now();
    let project = Project {
        folder: assignment.folder.clone(),
        destination: None,
        config: assignment.config.clone(),
    };
    let data_dir = assignment.data_dir.as_deref();
    let files = Files::read(&project, data_dir, &|_| ())?;
    if identity::of_trial(&project.config, &files)? != assignment.id {
        return Err(
            Problem::new("the data or the tool is not that of the sweep that this is a trial of")
                .hint("leave the data as it is while a sweep goes on; and `--worker-image` takes an image of the same tool and data")
                .into(),
        );
    }
    let loaded = data::load(&project, data_dir, &|_| ())?;
    let mut too_large = None;
    let trained = train::train(
        &project,
        loaded.training,
        TrainDevice::Cpu,
        assignment.source_revision.clone(),
        &mut |event| {
            // Floats hardly compress: what will be too large is known before it is trained.
            if let Event::Started { parameters, .. } = event
                && assignment.carried
                && parameters * size_of::<f32>() > parcel::MOST + parcel::MOST / 4
            {
                too_large = Some(parcel::too_large(parameters * size_of::<f32>()));
                interrupt.store(true, Ordering::Relaxed);
            }
        },
        interrupt,
    )?;
    if let Some(problem) = too_large {
        return Err(problem.into());
    }
    let Some(trained) = trained.filter(|trained| !trained.interrupted) else {
        return Ok(None);
    };
    let bundle = Store::of_project(&project.folder).add(trained.draft)?;
    Ok(Some((bundle, start.elapsed().as_secs_f64())))
}

/// Says what has come of a trial, line by line.
///
/// # Errors
///
/// A bundle that is too large for a log, and those of `say`.
pub fn tell(bundle: &Bundle, seconds: f64, carried: bool, say: &mut dyn FnMut(&Line) -> Result<()>) -> Result<()> {
    let mut seal = None;
    if carried {
        let (parts, whole) = parcel::pack(bundle)?;
        for part in parts {
            say(&Line::Part(part))?;
        }
        seal = Some(whole);
    }
    say(&Line::Done(Outcome {
        version: bundle.version().to_owned(),
        digest: bundle.digest().to_owned(),
        seconds,
        seal,
    }))
}

/// What a trial has said: the parts and the end of it, and everything else in lines.
#[derive(Debug, Default)]
pub struct Said {
    /// Parts of its bundle.
    pub parts: Vec<Part>,
    /// Its end, once it was told.
    pub outcome: Option<Outcome>,
    /// What is said to people.
    pub lines: Vec<String>,
}

/// Takes apart what a trial has said.
pub fn report(text: &str) -> Said {
    let mut said = Said::default();
    for line in text.lines() {
        match serde_json::from_str(line) {
            Ok(Line::Part(part)) => said.parts.push(part),
            Ok(Line::Done(outcome)) => said.outcome = Some(outcome),
            Err(_) if line.trim().is_empty() => {}
            Err(_) => said.lines.push(line.to_owned()),
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_taken_apart() {
        let outcome = Outcome {
            version: "0123456789ab".into(),
            digest: "0".into(),
            seconds: 1.5,
            seal: None,
        };
        let done = serde_json::to_string(&Line::Done(outcome.clone())).expect("JSON");
        let said = report(&format!(
            "warning: x\n{{\"part\":{{\"part\":0,\"bytes\":\"aGk=\"}}}}\n\n{done}\n"
        ));
        assert_eq!(said.outcome, Some(outcome));
        assert_eq!((said.parts[0].part, &said.parts[0].bytes.0[..]), (0, &b"hi"[..]));
        assert_eq!(said.lines, ["warning: x"]);
    }

    #[test]
    fn each_trial_of_a_job_takes_its_own() {
        let config: Config = serde_saphyr::from_str("name: d\ndata: {source: synthetic-digits}").expect("a project");
        let settings = Settings {
            seed: Some(7),
            ..Settings::default()
        };
        let all = Assignments {
            config: config.clone(),
            source_revision: Some("r".into()),
            folder: "/work".into(),
            trials: vec![("a".into(), Settings::default()), ("b".into(), settings)],
        };
        let text = serde_json::to_string(&all).expect("JSON");
        let one = Assignment::read(&text, Some(1)).expect("an assignment");
        assert_eq!((one.id.as_str(), one.config.train.seed), ("b", 7));
        assert_eq!(Assignment::read(&text, Some(0)).expect("an assignment").config, config);
        assert!(Assignment::read(&text, Some(2)).is_err());
    }
}
