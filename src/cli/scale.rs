//! `emberline scale`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::Context;
use super::duration::duration;
use super::error::Failure;
use super::objective::{self, ScaleReport};
use super::place::Place;
use super::service::ServiceReport;
use super::watch::Watch;
use crate::bundle::capacity::Slo;
use crate::deploy::Autoscale;

/// The share of what replicas are promised that they should use when nobody says another one, in percent.
const CPU: u32 = 70;

/// Change the number of replicas
///
/// A number stays until the next `deploy`, which takes it from `deploy.replicas` or `--replicas`. With `--autoscale` the
/// cluster changes it by the load, deployments leave it alone, and `--replicas` ends that. With `--slo` one replica is measured
/// in a pod of its own, and the autoscaler begins with as many as the rate takes and may go up to twice that.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  emberline scale --replicas 3\n  emberline scale --target kubernetes --autoscale 2..10 --cpu 70\n  emberline scale --target kubernetes --slo p99=20ms --rps 2000"
)]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    pub project: PathBuf,
    /// Where it runs
    #[command(flatten)]
    pub place: Place,
    /// Replicas that answer
    #[arg(long, env = "EMBERLINE_REPLICAS", required_unless_present_any = ["autoscale", "slo"])]
    pub replicas: Option<usize>,
    /// Kubernetes: fewest and most replicas, between which their number follows the load
    #[arg(long, value_name = "MIN..MAX", value_parser = range, conflicts_with = "replicas", env = "EMBERLINE_AUTOSCALE")]
    pub autoscale: Option<(u32, u32)>,
    /// With --autoscale: processor time that replicas should use on average, in percent of what each is promised
    #[arg(long, value_name = "PERCENT", default_value_t = CPU, conflicts_with = "replicas", env = "EMBERLINE_CPU")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub cpu: u32,
    /// Kubernetes: measure what one replica carries within this time, such as `p99=20ms`, and scale to what --rps takes
    #[arg(long, value_name = "OBJECTIVE", requires = "rps", conflicts_with_all = ["replicas", "autoscale"])]
    #[arg(env = "EMBERLINE_SLO")]
    pub slo: Option<Slo>,
    /// With --slo: requests in a second that are to be answered
    #[arg(long, value_name = "RATE", value_parser = rate, requires = "slo", env = "EMBERLINE_RPS")]
    #[arg(conflicts_with_all = ["replicas", "autoscale"])]
    pub rps: Option<f64>,
    /// With --slo: the share of what a replica carries that is left in hand, in percent [default: 30]
    #[arg(long, value_name = "PERCENT", value_parser = headroom, requires = "slo", env = "EMBERLINE_HEADROOM")]
    #[arg(conflicts_with_all = ["replicas", "autoscale"])]
    pub headroom: Option<u32>,
    /// With --slo: a fixed number of replicas, and no autoscaler
    #[arg(long, requires = "slo", conflicts_with_all = ["replicas", "autoscale"], env = "EMBERLINE_FIXED")]
    pub fixed: bool,
    /// With --slo: measure, say what follows, and change nothing
    #[arg(long, requires = "slo", conflicts_with_all = ["replicas", "autoscale", "fixed"])]
    #[arg(env = "EMBERLINE_MEASURE_ONLY")]
    pub measure_only: bool,
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
pub fn run(args: &Args, context: &Context) -> Result<ScaleReport> {
    let project = context.project(&args.project)?;
    if let Some(slo) = args.slo {
        return objective::run(args, slo, &project, context);
    }
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
        (None, None) => Err(Failure::Usage("neither --replicas nor --autoscale nor --slo is given".into()).into()),
    }
    .map(|service| ScaleReport::of(ServiceReport(service)))
}

/// A number of requests in a second.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e12).contains(rate));
    rate.ok_or_else(|| format!("`{text}` is no number of requests in a second"))
}

/// A share that is left in hand, in percent.
pub fn headroom(text: &str) -> Result<u32, String> {
    let percent = text.parse().ok().filter(|percent| *percent <= 95);
    percent.ok_or_else(|| format!("`{text}` is no share from 0 to 95 percent"))
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
    fn rates_and_shares_have_bounds() {
        assert_eq!((rate("2000"), rate("0.5"), headroom("0")), (Ok(2000.0), Ok(0.5), Ok(0)));
        for text in ["", "0", "-1", "nan", "inf", "1e13"] {
            assert!(rate(text).is_err(), "{text}");
        }
        for text in ["", "96", "-1", "0.3"] {
            assert!(headroom(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_has_two_ends_in_their_order() {
        assert_eq!(range("2..10"), Ok((2, 10)));
        assert_eq!(range("3..=3"), Ok((3, 3)));
        for text in ["", "2", "..", "2..", "0..3", "5..2", "a..b", "-1..2"] {
            assert!(range(text).is_err(), "{text}");
        }
    }
}
