//! The Job of a sweep: what it is called, rendered from its template, and read again from the cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use minijinja::context;

use crate::image::DATA_FOLDER;
use crate::problem::Problem;
use crate::project::Config;
use crate::templates;
use crate::tune::trial::Assignments;
use crate::tune::{Pace, Sweep, Trial};

/// The label of everything that this tool has made.
pub const MANAGED: (&str, &str) = ("app.kubernetes.io/managed-by", "emberline");
/// The annotation with the sweep that a Job is of.
const SWEEP: &str = "emberline/sweep";
/// The variable that its trials are told in.
const TRIALS: &str = "EMBERLINE_SWEEP";
/// Most bytes of it: a variable of a Linux process has no more than 128 KiB.
const MOST_BYTES: usize = 120 << 10;
/// How long its pods, and so its results, stay when it has finished.
const KEPT: Duration = Duration::from_hours(1);
/// Hex digits of the sweep in its name.
const DIGITS: usize = 8;

/// What the Job of a sweep is called: with the longest name of a project it leaves room for what the cluster adds.
pub fn name(sweep: &Sweep) -> String {
    format!("{}-tune-{}", sweep.project().config.name, &sweep.id[..DIGITS])
}

/// Labels of every Job of a project, and of its pods.
pub fn labels(project: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", project),
        ("app.kubernetes.io/instance", project),
        ("app.kubernetes.io/part-of", project),
        ("app.kubernetes.io/component", "tune"),
        MANAGED,
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The Job that does `trials` with `image`.
///
/// # Errors
///
/// When the trials do not fit into one, or the template is wrong.
pub fn render(sweep: &Sweep, trials: &[&Trial], image: &str, pace: Pace, namespace: &str) -> Result<Job> {
    let config = &sweep.project().config;
    let told = serde_json::to_string(&Assignments {
        config: portable(sweep),
        source_revision: sweep.source_revision.clone(),
        folder: "/work".into(),
        trials: trials
            .iter()
            .map(|trial| (trial.id.clone(), trial.settings.clone()))
            .collect(),
    })?;
    if told.len() > MOST_BYTES {
        return Err(Problem::new(format!(
            "what the {} trials are told takes {} bytes, and a Job takes {MOST_BYTES}",
            trials.len(),
            told.len()
        ))
        .hint("`--trials 200` draws fewer")
        .into());
    }
    let deadline = pace.deadline.saturating_duration_since(Instant::now()).as_secs().max(1);
    let values = context! {
        name => name(sweep),
        namespace => namespace.to_owned(),
        labels => labels(&config.name),
        sweep => sweep.id.clone(),
        completions => trials.len(),
        parallelism => pace.parallel.min(trials.len()),
        deadline,
        kept => KEPT.as_secs(),
        image => image.to_owned(),
        // The cluster takes `$(NAME)` for another variable.
        trials => told.replace('$', "$$"),
        threads => config.tune.cpu.threads(),
        cpu => config.tune.cpu.to_string(),
        memory => config.tune.memory.to_string(),
    };
    templates::object("tune.yaml", templates::KUBERNETES_TUNE, &values)
}

/// The part of the configuration that trials read, with its data where an image has it.
fn portable(sweep: &Sweep) -> Config {
    let config = &sweep.project().config;
    Config {
        name: config.name.clone(),
        data: sweep.files.moved(&config.data, Path::new(DATA_FOLDER)),
        preprocess: config.preprocess.clone(),
        model: config.model.clone(),
        train: config.train.clone(),
        ..Config::default()
    }
}

/// A pod of a Job that nobody makes, to be asked about before the Job is.
pub fn pod(job: &Job) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("{}-0", job.name_any())),
            labels: template.metadata.and_then(|metadata| metadata.labels),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        ..Pod::default()
    }
}

/// Whether a Job is one of this sweep.
pub fn is_of(job: &Job, sweep: &Sweep) -> bool {
    job.labels().get(MANAGED.0).map(String::as_str) == Some(MANAGED.1)
        && job.annotations().get(SWEEP).map(String::as_str) == Some(&sweep.id)
}

/// The names of a Job's trials, by their indexes.
///
/// # Errors
///
/// When somebody has changed what it tells them.
pub fn trials(job: &Job) -> Result<Vec<String>> {
    let spec = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let told = spec
        .and_then(|spec| {
            spec.containers
                .first()?
                .env
                .as_ref()?
                .iter()
                .find(|one| one.name == TRIALS)
        })
        .and_then(|variable| variable.value.as_deref())
        .map(|told| told.replace("$$", "$"));
    let all: Assignments = told
        .and_then(|told| serde_json::from_str(&told).ok())
        .with_context(|| format!("the Job `{}` does not say which trials it does", job.name_any()))?;
    Ok(all.trials.into_iter().map(|(id, _)| id).collect())
}

/// Indexes that a Job has given up, `1,3-5` in its status.
pub fn failed(job: &Job) -> Vec<usize> {
    let status = job.status.as_ref();
    ranges(
        status
            .and_then(|status| status.failed_indexes.as_deref())
            .unwrap_or_default(),
    )
}

/// How a Job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Open,
    /// All of it went well.
    Complete,
    /// Not all of it did, in its own words.
    Failed(String),
}

/// How a Job stands, as its conditions say.
pub fn state(job: &Job) -> State {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut holding = conditions.into_iter().flatten().filter(|one| one.status == "True");
    let end = holding.find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed"));
    match end {
        None => State::Open,
        Some(end) if end.type_ == "Complete" => State::Complete,
        Some(end) if end.reason.as_deref() == Some("DeadlineExceeded") => {
            State::Failed("the sweep took longer than its deadline".to_owned())
        }
        Some(end) => State::Failed(end.message.clone().unwrap_or_default()),
    }
}

/// Numbers in ranges, as the status of a Job writes them.
fn ranges(text: &str) -> Vec<usize> {
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let ranges = text.split(',').filter_map(|range| match range.split_once('-') {
        Some((first, last)) => Some(number(first)?..=number(last)?),
        None => Some(number(range)?..=number(range)?),
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::project::Project;
    use crate::tune::Draw;

    fn sweep(folder: &Path) -> Sweep {
        std::fs::write(folder.join("$(HOME).csv"), "a,b\nx,1\ny,2\n").expect("written");
        let text = "name: d\ndata: {source: csv, file: $(HOME).csv, label: a}\ntune: {seed: [1, 2, 3], cpu: 1500m}\n\
                    evaluate: {gate: {accuracy: 0.5}}\n";
        std::fs::write(folder.join("emberline.yaml"), text).expect("written");
        let project: Project = crate::project::load(folder, None).expect("a project");
        Sweep::plan(project, &Draw::default(), None, Some("r".into()), &|_| ()).expect("a sweep")
    }

    fn rendered(sweep: &Sweep) -> Job {
        let trials: Vec<&Trial> = sweep.trials.iter().skip(1).collect();
        let pace = Pace {
            parallel: 9,
            deadline: Instant::now() + Duration::from_secs(100),
        };
        render(sweep, &trials, "x:1", pace, "models").expect("rendered")
    }

    #[test]
    fn a_job_tells_each_trial_what_it_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let sweep = sweep(folder.path());
        let job = rendered(&sweep);
        assert!(is_of(&job, &sweep));
        assert_eq!(
            trials(&job).expect("trials"),
            [sweep.trials[1].id.clone(), sweep.trials[2].id.clone()]
        );
        let value: Value = serde_json::to_value(&job).expect("JSON");
        let spec = &value["spec"];
        assert_eq!((&spec["completions"], &spec["parallelism"]), (&2.into(), &2.into()));
        let container = &spec["template"]["spec"]["containers"][0];
        assert_eq!(container["resources"]["requests"]["cpu"], "1500m");
        assert_eq!(
            container["env"][1]["value"], "2",
            "one and a half processors are two threads"
        );
        // No variable of the pod gets into what is told.
        let told = container["env"][0]["value"].as_str().expect("a value");
        assert!(told.contains("/project/data/file/$$(HOME).csv"), "{told}");
        assert!(!told.contains("0.5"), "a gate is nothing to a trial: {told}");
    }

    #[test]
    fn its_status_is_read() {
        assert_eq!(ranges("1,3-5,7"), [1, 3, 4, 5, 7]);
        assert_eq!(ranges(""), [0; 0]);
        let with = |condition: &str, reason: &str| {
            serde_json::from_value::<Job>(serde_json::json!({ "metadata": {}, "status": { "conditions": [
                { "type": condition, "status": "True", "reason": reason, "message": "why" },
            ]}}))
            .expect("a Job")
        };
        assert_eq!(state(&with("SuccessCriteriaMet", "")), State::Open);
        assert_eq!(state(&with("Complete", "")), State::Complete);
        assert_eq!(state(&with("Failed", "FailedIndexes")), State::Failed("why".to_owned()));
        let late = state(&with("Failed", "DeadlineExceeded"));
        assert!(
            matches!(&late, State::Failed(words) if words.contains("deadline")),
            "{late:?}"
        );
    }
}
