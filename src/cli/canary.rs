//! `emberline deploy --canary`, `--promote` and `--abort`.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use super::deploy::{Args, request, warn_of_tls};
use super::duration::duration;
use super::error::Failure;
use super::output::columns;
use super::service::ServiceReport;
use super::ship;
use super::watch::Watch;
use crate::canary::{LEAST, Test, Verdict};
use crate::deploy::canary::{Canary, State, Step};
use crate::deploy::{DeployError, Trial};
use crate::problem::Problem;
use crate::project::TargetKind;

/// What these flags stand under in a help text.
const HEADING: &str = "Canary";

/// Flags about a version that is tried beside the one that serves.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct Flags {
    /// Kubernetes: try it first, with this share of the requests and as much for a fresh baseline: `1%` to `50%`
    #[arg(long, value_name = "PERCENT", value_parser = percent, env = "EMBERLINE_CANARY")]
    #[arg(conflicts_with_all = ["promote", "abort", "dry_run"])]
    pub canary: Option<u8>,
    /// With --canary: how long the two are compared
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2m", env = "EMBERLINE_CANARY_FOR")]
    #[arg(requires = "canary")]
    pub canary_for: Duration,
    /// Kubernetes: have the canary that runs serve
    #[arg(long, conflicts_with_all = ["abort", "dry_run"], env = "EMBERLINE_PROMOTE")]
    pub promote: bool,
    /// Kubernetes: take the canary that runs away
    #[arg(long, conflicts_with_all = ["dry_run", "no_probe"], env = "EMBERLINE_ABORT")]
    pub abort: bool,
}

impl Flags {
    /// Whether the command is about a canary.
    pub fn are_given(&self) -> bool {
        self.flag().is_some()
    }

    fn flag(&self) -> Option<&'static str> {
        match self {
            Self { canary: Some(_), .. } => Some("--canary"),
            Self { promote: true, .. } => Some("--promote"),
            Self { abort: true, .. } => Some("--abort"),
            _ => None,
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// What is wrong with the project, the bundle or its gate, or how it ended. A verdict is none: see [`failure`].
pub fn run(args: &Args, context: &Context) -> Result<ServiceReport> {
    let project = context.project(&args.project)?;
    let kind = args.place.kind(&project)?;
    let flag = args.canary.flag().unwrap_or_default();
    if kind != TargetKind::Kubernetes {
        return Err(Failure::Usage(format!(
            "`{flag}` is about a cluster, and the target is `{}`; --target kubernetes is the one that reads it",
            kind.name()
        ))
        .into());
    }
    check(args, flag)?;
    let service = args.place.kubernetes(&project)?;
    let service = if args.no_probe {
        service.without_probe()
    } else {
        service
    };
    if args.canary.promote {
        return service.promote(args.timeout, &Watch::new(context)?).map(ServiceReport);
    }
    if args.canary.abort {
        return service.abort(&Watch::new(context)?).map(ServiceReport);
    }
    let request = request(&args.wanted, args.timeout, &project, kind, context)?;
    warn_of_tls(context);
    let trial = Trial {
        percent: args.canary.canary.unwrap_or_default(),
        duration: args.canary.canary_for,
        key: ship::key(),
    };
    let service = service.canary(&request, &trial, &Watch::new(context)?)?;
    Ok(ServiceReport(service))
}

/// Refuses flags that would be of no effect.
fn check(args: &Args, flag: &str) -> Result<()> {
    let wanted = &args.wanted;
    let replicas = ("--replicas", wanted.replicas.is_some());
    let settled = [
        ("--bundle", wanted.bundle.is_some()),
        ("--image", wanted.image.is_some()),
        ("--host", wanted.host.is_some()),
        ("--port", wanted.port.is_some()),
        ("--keys", wanted.keys.is_some()),
        ("--allow-public", wanted.allow_public),
        ("--allow-ungated", wanted.allow_ungated),
        replicas,
    ];
    let without = if args.canary.canary.is_some() {
        &settled[7..]
    } else {
        &settled[..]
    };
    if let Some((given, _)) = without.iter().find(|(_, given)| *given) {
        let why = if *given == replicas.0 {
            "the number of replicas stays as it is"
        } else {
            "what runs as a canary is known"
        };
        return Err(Failure::Usage(format!("`{flag}` cannot be used with `{given}`: {why}")).into());
    }
    Ok(())
}

/// The error that a verdict ends the command with.
pub fn failure(report: &ServiceReport) -> Option<anyhow::Error> {
    let canary = report.0.canary.as_ref()?;
    let at_hand = match (canary.verdict, canary.state) {
        (Verdict::Fail, State::Aborted) => {
            let reason = format!("canary {} failed: {}", canary.version, canary.failures().join("; "));
            let problem = Problem::new(format!("version {} serves, as before", canary.baseline))
                .hint("`emberline history -o json` keeps each test with both sides' numbers");
            anyhow::Error::from(problem).context(DeployError::RolledBack(reason))
        }
        (Verdict::Undecided, State::Running) => {
            let requests = canary.requests;
            let problem = Problem::new(format!("it is there still, with {} % of the requests", canary.percent)).hint(
                "`emberline deploy --promote` has it serve, `emberline deploy --abort` takes it away, and another \
                 `emberline deploy --canary` with a longer --canary-for compares anew",
            );
            anyhow::Error::from(problem).context(Failure::Gate(format!(
                "canary {} is undecided: it answered {} requests and its baseline {} in {:.0} s, and each has to answer {LEAST}",
                canary.version, requests.canary, requests.baseline, canary.seconds
            )))
        }
        _ => return None,
    };
    Some(at_hand)
}

/// What is being done, in a line.
pub fn told(step: &Step) -> String {
    match step {
        Step::Starting => "starting the canary and its baseline".to_owned(),
        Step::Dividing => "leading requests to both".to_owned(),
        Step::Comparing { seconds, requests } => format!(
            "comparing for {seconds} s: the canary has answered {} requests, its baseline {}",
            requests.canary, requests.baseline
        ),
        Step::Promoting => "having the canary serve".to_owned(),
        Step::Ending => "taking the canary and its baseline away".to_owned(),
    }
}

/// What is told of a canary in a row of a table.
pub fn sentence(canary: &Canary) -> String {
    format!(
        "version {} {}, {}: {} requests in {:.0} s, baseline {} with version {}, {} % each",
        canary.version,
        canary.state.name(),
        canary.verdict.name(),
        canary.requests.canary,
        canary.seconds,
        canary.requests.baseline,
        canary.baseline,
        canary.percent
    )
}

/// The table of its tests, once there are some.
pub fn tests(canary: &Canary) -> Option<String> {
    if canary.tests.is_empty() {
        return None;
    }
    let heads = [
        "TEST",
        "OF",
        "BASELINE",
        "CANARY",
        "P",
        "DIFFERENCE",
        "TOLERATED",
        "OUTCOME",
    ];
    let row = |test: &Test| {
        let number = |number: f64| match test.name.as_str() {
            "latency" => format!("{:.2} ms", number * 1e3),
            _ if number.fract() == 0.0 => format!("{number}"),
            _ => format!("{number:.4}"),
        };
        vec![
            test.name.clone(),
            test.of.trim_end_matches(" in seconds").to_owned(),
            number(test.baseline),
            number(test.canary),
            test.p_value.map_or_else(|| "-".to_owned(), |p| format!("{p:.4}")),
            number(test.effect),
            number(test.tolerance),
            test.outcome.name().to_owned(),
        ]
    };
    let heads = heads.map(str::to_owned).to_vec();
    Some(columns([heads].into_iter().chain(canary.tests.iter().map(row))))
}

/// `10%`, or `10`.
fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end().parse::<u8>();
    number
        .ok()
        .filter(|percent| (1..=50).contains(percent))
        .ok_or_else(|| format!("`{text}` is no share from `1%` to `50%`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_whole_number_of_percent_that_leaves_room_for_the_baseline() {
        for (text, share) in [("10%", 10), ("1%", 1), ("50", 50), ("7 %", 7)] {
            assert_eq!(percent(text), Ok(share));
        }
        for wrong in ["", "%", "0%", "51%", "-1%", "1.5%", "10%%", "ten"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
