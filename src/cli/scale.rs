//! `emberline scale`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::Context;
use super::deploy::ServiceReport;
use super::duration::duration;
use super::error::Failure;
use super::place::Place;
use super::watch::Watch;
use crate::deploy::Autoscale;

/// The share of `deploy.cpu` that replicas should use when nobody says another one, in percent.
const CPU: u32 = 70;

/// Change the number of replicas
///
/// A number stays until the next `deploy`, which takes it from `deploy.replicas` or `--replicas`. With `--autoscale` the
/// cluster changes it by the load, deployments leave it alone, and `--replicas` ends that.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  emberline scale --replicas 3\n  emberline scale --target kubernetes --autoscale 2..10 --cpu 70"
)]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
    /// Replicas that answer
    #[arg(long, env = "EMBERLINE_REPLICAS", required_unless_present = "autoscale")]
    pub replicas: Option<usize>,
    /// Kubernetes: fewest and most replicas, between which their number follows the load
    #[arg(long, value_name = "MIN..MAX", value_parser = range, conflicts_with = "replicas", env = "EMBERLINE_AUTOSCALE")]
    pub autoscale: Option<(u32, u32)>,
    /// With --autoscale: processor time that replicas should use on average, in percent of `deploy.cpu`
    #[arg(long, value_name = "PERCENT", default_value_t = CPU, conflicts_with = "replicas", env = "EMBERLINE_CPU")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub cpu: u32,
    /// How long all of it may take
    #[arg(long, value_parser = duration, default_value = "60s", env = "EMBERLINE_TIMEOUT")]
    pub timeout: Duration,
    /// Kubernetes: send the service no requests meanwhile, which prove that none is lost
    #[arg(long, env = "EMBERLINE_NO_PROBE")]
    pub no_probe: bool,
}

/// Runs the command.
///
/// # Errors
///
/// When nothing is deployed, or the replicas do not become ready.
pub fn run(args: &Args, context: &Context) -> Result<ServiceReport> {
    let project = context.project(&args.project)?;
    let target = args.place.target_to_change(&project, args.no_probe)?;
    let watch = Watch::new(context)?;
    match (args.replicas, args.autoscale) {
        (Some(replicas), _) => target.scale(replicas, args.timeout, &watch),
        (None, Some((min, max))) => {
            let autoscale = Autoscale {
                min,
                max,
                cpu: args.cpu,
            };
            target.autoscale(autoscale, args.timeout, &watch)
        }
        (None, None) => Err(Failure::Usage("neither --replicas nor --autoscale is given".into()).into()),
    }
    .map(ServiceReport)
}

/// `2..10`: both ends are included.
fn range(text: &str) -> Result<(u32, u32), String> {
    let ends = text.split_once("..").and_then(|(min, max)| {
        let max = max.strip_prefix('=').unwrap_or(max);
        Some((min.parse::<u32>().ok()?, max.parse::<u32>().ok()?))
    });
    match ends {
        Some((min, max)) if min >= 1 && min <= max => Ok((min, max)),
        _ => Err("it takes a range from 1 up, such as `2..10`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_two_ends_in_their_order() {
        assert_eq!(range("2..10"), Ok((2, 10)));
        assert_eq!(range("3..=3"), Ok((3, 3)));
        for text in ["", "2", "..", "2..", "0..3", "5..2", "a..b", "-1..2"] {
            assert!(range(text).is_err(), "{text}");
        }
    }
}
