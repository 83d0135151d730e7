//! `emberline scale --slo`: one replica measured, and as many as the rate takes.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::Result;
use serde::Serialize;

use super::Context;
use super::error::Failure;
use super::figures;
use super::lines::Lines;
use super::output::{Report, table};
use super::plot;
use super::scale::Args;
use super::service::ServiceReport;
use super::watch::Watch;
use crate::bundle::Store;
use crate::bundle::capacity::{Capacity, Measurement, Place, Slo, Step, Subject};
use crate::capacity::{HEADROOM, Sizing, size};
use crate::deploy::kubernetes::{Kubernetes, MOST_REPLICAS, Measured};
use crate::deploy::{Autoscale, Target};
use crate::problem::Problem;
use crate::project::{Project, TargetKind};

/// The service as it is then, and what led to it.
#[derive(Debug, Serialize)]
pub struct ScaleReport {
    #[serde(flatten)]
    service: ServiceReport,
    /// What was measured for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<CapacityReport>,
}

/// What was measured, and what follows from it.
#[derive(Debug, Serialize)]
struct CapacityReport {
    sizing: Sizing,
    measurement: Measurement,
    /// Where it is kept; none when the bundle is not here.
    kept: Option<PathBuf>,
    #[serde(skip)]
    width: usize,
}

impl ScaleReport {
    /// A service that was scaled without a measurement.
    pub fn of(service: ServiceReport) -> Self {
        Self {
            service,
            capacity: None,
        }
    }
}

/// Measures, and scales to what follows.
///
/// # Errors
///
/// When nothing is deployed in a cluster, one replica does not keep the objective, or the replicas do not become ready.
pub fn run(args: &Args, slo: Slo, project: &Project, context: &Context) -> Result<ScaleReport> {
    let rps = args
        .rps
        .ok_or_else(|| Failure::Usage("`--slo` goes with `--rps`".into()))?;
    let kubernetes = target(args, slo, rps, project)?;
    let (measured, kept) = measure(&kubernetes, slo, project, context)?;
    let Measured { measurement, .. } = measured;
    let sizing = size(&measurement, &slo, rps, args.headroom.unwrap_or(HEADROOM))
        .ok_or_else(|| missed(&measurement, &slo, &project.config.name, "; nothing was changed"))?;
    check(&sizing, &kubernetes, context)?;
    let service = if args.measure_only {
        kubernetes.status()?
    } else {
        let watch = Watch::new(context)?;
        match autoscale(args, &sizing)? {
            Some(autoscale) => kubernetes.autoscale(autoscale, args.timeout, &watch)?,
            None => kubernetes.scale(usize::try_from(sizing.replicas)?, args.timeout, &watch)?,
        }
    };
    Ok(ScaleReport {
        service: ServiceReport(service),
        capacity: Some(CapacityReport {
            sizing,
            measurement,
            kept,
            width: context.output.width(),
        }),
    })
}

fn target(args: &Args, slo: Slo, rps: f64, project: &Project) -> Result<Kubernetes> {
    let kind = args.place.kind(project)?;
    if kind != TargetKind::Kubernetes {
        return Err(Problem::new(format!(
            "the target is `{}`, and replicas of one machine share its processors: more of them carry no more",
            kind.name()
        ))
        .hint(format!(
            "`emberline plan --slo {slo} --rps {rps} --measure` measures one here and says what the rate takes; \
             `--target kubernetes` scales to it"
        ))
        .into());
    }
    let kubernetes = args.place.kubernetes(project)?;
    Ok(if args.no_probe {
        kubernetes.without_probe()
    } else {
        kubernetes
    })
}

/// Measures a replica, and keeps what came of it with the bundle, whatever it was.
fn measure(
    kubernetes: &Kubernetes,
    slo: Slo,
    project: &Project,
    context: &Context,
) -> Result<(Measured, Option<PathBuf>)> {
    let interrupt = context.interrupt()?;
    let mut lines = Lines::new(&context.output, "measuring one replica", "measure");
    lines.show("in a pod of its own");
    let measured = kubernetes.measure(&slo, &|| interrupt.load(Ordering::Relaxed), &mut |step| {
        lines.show(&told(Subject::Replica, step, &slo));
    })?;
    drop(lines);
    let kept = Store::of_project(&project.folder)
        .open(&measured.version)
        .and_then(|bundle| {
            let mut capacity = Capacity::read(&bundle)?;
            capacity.keep(measured.measurement.clone());
            capacity.write(&bundle)
        });
    match kept {
        Ok(path) => Ok((measured, Some(path))),
        Err(error) => {
            context
                .output
                .warn(&format!("the measurement cannot be kept with the bundle: {error:#}"));
            Ok((measured, None))
        }
    }
}

/// A step as it is told while it goes on.
pub fn told(of: Subject, step: &Step, slo: &Slo) -> String {
    let time = step
        .time(slo.percentile)
        .map_or_else(|| "no answer".to_owned(), figures::time);
    let who = match of {
        Subject::Replica => "",
        Subject::Gateway => "through nginx: ",
    };
    let failed = match step.failed {
        0 => String::new(),
        failed => format!(", {} of {} failed", figures::count(failed), figures::count(step.sent)),
    };
    format!(
        "{who}{} requests/s: {} {time}{failed}",
        figures::amount(step.rate),
        slo.percentile.name()
    )
}

/// That not even the lowest rate keeps the objective, `and` what became of it.
pub fn missed(measurement: &Measurement, slo: &Slo, name: &str, and: &str) -> anyhow::Error {
    let lowest = measurement
        .steps
        .iter()
        .min_by(|one, other| one.rate.total_cmp(&other.rate));
    let told = lowest
        .map(|step| format!(": {}", told(Subject::Replica, step, slo)))
        .unwrap_or_default();
    let reasons: Vec<&str> = lowest
        .iter()
        .flat_map(|step| step.reasons.keys().map(String::as_str))
        .collect();
    let why = if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join(", "))
    };
    let problem = Problem::new(format!(
        "one replica does not keep {slo} at the lowest rate that is tried{told}{why}{and}"
    ));
    if reasons.contains(&"status 401") {
        return problem
            .hint(format!(
                "clients need a key: the load takes that of the probe, from the Secret `{name}-probe` (docs/guide/deploying.md)"
            ))
            .into();
    }
    problem
        .hint("ask for a slower objective; more `deploy.cpu` helps where other pods keep the node busy")
        .into()
}

/// Says what is known to be in the way of so many replicas.
fn check(sizing: &Sizing, kubernetes: &Kubernetes, context: &Context) -> Result<()> {
    let Sizing { replicas, rps, .. } = sizing;
    if *replicas > MOST_REPLICAS as u64 {
        return Err(Problem::new(format!(
            "{} requests/s take {} replicas, and a service has 1 to {MOST_REPLICAS} of them; nothing was changed",
            figures::amount(*rps),
            figures::count(*replicas)
        ))
        .hint(format!("`emberline plan --rps {rps}` says what all of it takes"))
        .into());
    }
    if let (Some(needed), Some(there)) = (sizing.processors, kubernetes.processors())
        && needed > there
    {
        context.output.warn(&format!(
            "{} requests/s keep {} processors busy, and the cluster's nodes have {}: so many replicas will not carry them",
            figures::amount(*rps),
            figures::amount(needed),
            figures::amount(there)
        ));
    }
    if let Some(percent) = sizing.cpu_percent.filter(|percent| *percent > 100) {
        context.output.warn(&format!(
            "a replica takes {percent} % of the processor time that it asks for (`deploy.cpu`) when it carries its share: a \
             node may promise the rest to others"
        ));
    }
    Ok(())
}

/// The autoscaler that is wanted; none for a fixed number.
fn autoscale(args: &Args, sizing: &Sizing) -> Result<Option<Autoscale>> {
    if args.fixed {
        return Ok(None);
    }
    let Some(cpu) = sizing.cpu_percent else {
        return Err(Problem::new(
            "the server does not tell what processor time a request takes, and an autoscaler would have no target",
        )
        .hint(format!(
            "`--fixed` scales to {} replicas and leaves it at that",
            sizing.replicas
        ))
        .into());
    };
    let min = u32::try_from(sizing.replicas)?;
    Ok(Some(Autoscale {
        min,
        max: (2 * min).min(u32::try_from(MOST_REPLICAS)?),
        cpu,
    }))
}

/// Where and on what something was measured.
pub fn source(measurement: &Measurement) -> String {
    let place = match measurement.place {
        Place::Local => "on this machine".to_owned(),
        Place::Kubernetes => "in the cluster".to_owned(),
    };
    let resources = measurement.resources.as_ref().map(|resources| {
        let amount = |amount: &Option<String>| amount.clone().unwrap_or_else(|| "no bound".to_owned());
        format!(", with {} and {}", amount(&resources.cpu), amount(&resources.memory))
    });
    format!(
        "measured {place} at {}, {} processors of `{}`{}",
        crate::clock::utc(measurement.at),
        measurement.machine.cores,
        measurement.machine.cpu,
        resources.unwrap_or_default()
    )
}

/// What one replica carries, in a sentence.
pub fn carries(sizing: &Sizing) -> String {
    let cpu = sizing
        .cpu_seconds_per_request
        .map(|seconds| format!(", {} of processor time for each", figures::time(seconds)));
    format!(
        "keeps {} up to {}{} requests/s{}",
        sizing.slo,
        if sizing.at_least { "at least " } else { "" },
        figures::amount(sizing.replica_rps),
        cpu.unwrap_or_default()
    )
}

impl Report for ScaleReport {
    fn text(&self) -> String {
        let service = self.service.text();
        let Some(CapacityReport {
            sizing,
            measurement,
            kept,
            width,
        }) = &self.capacity
        else {
            return service;
        };
        let mut facts = vec![
            ("one replica", carries(sizing)),
            ("", source(measurement)),
            (
                "needed",
                format!(
                    "{} for {} requests/s, {} % in hand{}",
                    figures::counted(sizing.replicas, "replica"),
                    figures::amount(sizing.rps),
                    sizing.headroom,
                    sizing
                        .processors
                        .map(|processors| format!("; {} processors busy", figures::amount(processors)))
                        .unwrap_or_default()
                ),
            ),
        ];
        facts.extend(kept.as_ref().map(|path| ("kept", path.display().to_string())));
        let curve = plot::curve(&measurement.steps, &sizing.slo, *width);
        format!("{curve}\n\n{}\n\n{service}", table(&facts))
    }
}
