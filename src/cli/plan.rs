//! `emberline plan`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::Result;
use serde::Serialize;

use super::Context;
use super::figures;
use super::lines::Lines;
use super::objective::{carries, missed, source, told};
use super::output::{Report, table};
use super::plot;
use super::scale::{headroom, rate};
use crate::bundle::capacity::{Capacity, Measurement, Place, Slo, Subject};
use crate::bundle::{Bundle, Footprint, Store};
use crate::capacity::local::Bench;
use crate::capacity::{GatewayNeeds, HEADROOM, Needs, Terms, carried, needs};
use crate::deploy::Resources;
use crate::deploy::kubernetes::MOST_REPLICAS;
use crate::gateway::WORKERS;
use crate::problem::Problem;
use crate::project::Project;

/// The objective when nobody says another one.
const SLO: &str = "p99=20ms";
/// Rates at which the gateway is measured: it takes the same for each request, and is to be far from its end.
const GATEWAY_RATES: [f64; 2] = [20.0, 1000.0];

/// Say on paper what a rate takes
///
/// Replicas, processors, memory, network and gateways, from what one replica was measured to carry. `scale --slo` measures
/// it in a cluster, `--measure` on this machine, with nginx in front of it. What was not measured is not told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  emberline plan --rps 1000000 --measure\n  emberline plan --rps 1000000 --slo p99=50ms"
)]
pub struct Args {
    /// Folder of the project
    #[arg(default_value = ".", env = "EMBERLINE_PROJECT")]
    project: PathBuf,
    /// Version or directory of the bundle; the newest of the project by default
    #[arg(long, env = "EMBERLINE_BUNDLE")]
    bundle: Option<String>,
    /// Requests in a second that are to be answered
    #[arg(long, value_name = "RATE", value_parser = rate, env = "EMBERLINE_RPS")]
    rps: f64,
    /// The time that they are to be answered in, such as `p99=20ms` [default: what was measured for]
    #[arg(long, value_name = "OBJECTIVE", env = "EMBERLINE_SLO")]
    slo: Option<Slo>,
    /// The share of what is carried that is left in hand, in percent [default: 30]
    #[arg(long, value_name = "PERCENT", value_parser = headroom, env = "EMBERLINE_HEADROOM")]
    headroom: Option<u32>,
    /// Measure one server on this machine first, and nginx in front of it
    #[arg(long, env = "EMBERLINE_MEASURE")]
    measure: bool,
}

/// What a rate takes, and where that is known from.
#[derive(Debug, Serialize)]
pub struct PlanReport {
    version: String,
    needs: Needs,
    /// What was measured of a replica.
    replica: Measurement,
    /// What was measured of the gateway.
    gateway: Option<Measurement>,
    /// Processor time and memory that a replica is promised.
    #[serde(skip)]
    promised: [String; 2],
    /// Whether the curve is news.
    #[serde(skip)]
    width: Option<usize>,
}

/// Runs the command.
///
/// # Errors
///
/// When nothing was measured, or it says that the objective cannot be kept.
pub fn run(args: &Args, context: &Context) -> Result<PlanReport> {
    let project = context.project(&args.project)?;
    let store = Store::of_project(&project.folder);
    let bundle = match &args.bundle {
        Some(reference) => store.open(reference)?,
        None => store.latest()?,
    };
    let mut capacity = Capacity::read(&bundle)?;
    if args.measure {
        let slo = match args.slo {
            Some(slo) => slo,
            None => SLO.parse().map_err(Problem::new)?,
        };
        measure(&project, &bundle, slo, &mut capacity, context)?;
    }
    let of = |subject| {
        if args.measure {
            capacity.find_in(subject, Place::Local)
        } else {
            capacity.find(subject)
        }
    };
    let replica = of(Subject::Replica).ok_or_else(|| unmeasured(&bundle, args.rps))?;
    let gateway = of(Subject::Gateway);
    let slo = args.slo.unwrap_or(replica.slo);
    let config = &project.config;
    let footprint = Footprint::read(bundle.path(), bundle.digest())?;
    let promised = Resources::of(&config.deploy, footprint.as_ref().map(|found| &found.usage));
    let terms = Terms {
        cpu: promised.cpu,
        memory: promised.memory_request,
        gateways: config.gateway.replicas,
    };
    let needs = needs(
        replica,
        gateway,
        &slo,
        args.rps,
        args.headroom.unwrap_or(HEADROOM),
        &terms,
    );
    Ok(PlanReport {
        version: bundle.version().to_owned(),
        needs: needs.ok_or_else(|| missed(replica, &slo, &config.name, ""))?,
        replica: replica.clone(),
        gateway: gateway.cloned(),
        promised: [promised.cpu.to_string(), promised.memory_request.to_string()],
        width: args.measure.then(|| context.output.width()),
    })
}

fn unmeasured(bundle: &Bundle, rps: f64) -> anyhow::Error {
    Problem::new(format!("nobody has measured what bundle `{}` carries", bundle.version()))
        .hint(format!(
            "`emberline plan --rps {rps} --measure` measures it on this machine, `emberline scale --slo p99=20ms --rps {rps}` \
             in the cluster"
        ))
        .into()
}

/// Measures on this machine, and keeps it with the bundle.
fn measure(project: &Project, bundle: &Bundle, slo: Slo, capacity: &mut Capacity, context: &Context) -> Result<()> {
    let interrupt = context.interrupt()?;
    let stopped = || super::error::Failure::Interrupted("; nothing was kept".into());
    let mut lines = Lines::new(&context.output, "measuring on this machine", "measure");
    lines.show("one server, on 127.0.0.1");
    let mut bench = Bench {
        bundle,
        slo,
        stop: &|| interrupt.load(Ordering::Relaxed),
        tell: &mut |of, step| lines.show(&told(of, step, &slo)),
    };
    let replica = bench.replica()?.ok_or_else(stopped)?;
    let half = carried(&replica, &slo).map(|carried| carried.step.rate / 2.0);
    capacity.keep(replica);
    if let Some(half) = half {
        let [least, most] = GATEWAY_RATES;
        match bench.gateway(half.clamp(least, most), &project.state_of("measure")) {
            Ok(Some(gateway)) => capacity.keep(gateway),
            Ok(None) => return Err(stopped().into()),
            Err(error) => context.output.warn(&format!("the gateway was not measured: {error:#}")),
        }
    }
    capacity.write(bundle)?;
    Ok(())
}

impl Report for PlanReport {
    fn text(&self) -> String {
        let Needs {
            replicas: sizing,
            promised_processors,
            memory_bytes,
            resident_bytes,
            request_bytes,
            response_bytes,
            gateway,
        } = &self.needs;
        let (rps, [cpu, memory]) = (sizing.rps, &self.promised);
        let busy = match sizing.processors {
            Some(processors) => figures::amount(processors),
            None => "unknown, as the server does not tell what it uses,".to_owned(),
        };
        let most = match sizing.replicas {
            too_many if too_many > MOST_REPLICAS as u64 => format!("; one service has {MOST_REPLICAS} at most"),
            _ => String::new(),
        };
        let replicas = format!(
            "{} for {} requests/s, {} % in hand{most}",
            figures::count(sizing.replicas),
            figures::amount(rps),
            sizing.headroom
        );
        let resident = resident_bytes.map(|bytes| format!(", of which {} were held", figures::memory(bytes as f64)));
        let mut facts = vec![
            ("replicas", replicas),
            ("", format!("one {}", carries(sizing))),
            ("", source(&self.replica)),
            (
                "processors",
                format!(
                    "{busy} busy, {} promised: {cpu} for each replica",
                    figures::amount(*promised_processors)
                ),
            ),
            (
                "memory",
                format!(
                    "{}: {} for each replica{}",
                    figures::memory(*memory_bytes as f64),
                    memory,
                    resident.unwrap_or_default()
                ),
            ),
            (
                "network",
                format!(
                    "{} in and {} out: {} and {} for a request",
                    figures::bandwidth(request_bytes * rps),
                    figures::bandwidth(response_bytes * rps),
                    figures::length(*request_bytes),
                    figures::length(*response_bytes)
                ),
            ),
        ];
        match (gateway, &self.gateway) {
            (Some(needs), Some(measured)) => facts.extend(of_gateway(needs, measured)),
            _ => facts.push((
                "gateway",
                format!(
                    "unknown: it was not measured; `emberline plan --rps {rps} --measure` does, where there is nginx"
                ),
            )),
        }
        let text = table(&facts);
        match self.width {
            Some(width) => format!("{}\n\n{text}", plot::curve(&self.replica.steps, &sizing.slo, width)),
            None => text,
        }
    }
}

fn of_gateway(needs: &GatewayNeeds, measured: &Measurement) -> [(&'static str, String); 4] {
    [
        ("gateway", figures::counted(needs.pods, "pod")),
        (
            "",
            format!(
                "{} of processor time for a request: the {WORKERS} workers of a pod end at {} requests/s",
                figures::time(needs.cpu_seconds_per_request),
                figures::amount(needs.pod_rps)
            ),
        ),
        (
            "",
            format!(
                "`gateway.replicas: {}` is saturated at {} requests/s",
                needs.configured,
                figures::amount(needs.saturates_at_rps)
            ),
        ),
        ("", source(measured)),
    ]
}
