//! What the containers have logged, and what they log from now on: those that are there, and those that come.

use std::collections::BTreeSet;
use std::future::ready;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::stream::{SelectAll, Stream, StreamExt, once};

use super::container::Container;
use super::containers::{self, Containers};
use crate::deploy::{LogLine, LogQuery};
use crate::problem::Problem;

/// Between two looks for containers that have come.
const LOOK: Duration = Duration::from_millis(500);

/// Whose line, or that it says no more for now, and the line.
type Said = (String, Option<LogLine>);
type Lines = Pin<Box<dyn Stream<Item = Said>>>;

/// Hands lines to `sink` until it says no; with `query.follow` until `deployed` says no.
///
/// # Errors
///
/// When there is no such replica, or the engine does not answer.
pub fn read(
    containers: &Containers,
    query: &LogQuery,
    deployed: &dyn Fn() -> bool,
    sink: &mut dyn FnMut(LogLine) -> bool,
) -> Result<()> {
    let found = containers.list()?;
    if let Some(replica) = query.replica
        && !found.iter().any(|container| container.replica == replica)
    {
        let mut known: Vec<u32> = found.iter().map(|container| container.replica).collect();
        known.sort_unstable();
        known.dedup();
        let known: Vec<String> = known.iter().map(u32::to_string).collect();
        return Err(Problem::new(format!("there is no container of replica {replica}"))
            .hint(format!("there are containers of: {}", known.join(", ")))
            .into());
    }
    let wanted = |container: &Container| query.replica.is_none_or(|replica| replica == container.replica);
    if query.follow {
        return follow(containers, query.lines, &wanted, deployed, sink);
    }
    for container in found.iter().filter(|container| wanted(container)) {
        for line in containers.last_lines(container, query.lines) {
            if !sink(container.said(line)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Hands on the last `lines` lines of each container, and what comes after them.
fn follow(
    containers: &Containers,
    lines: usize,
    wanted: &dyn Fn(&Container) -> bool,
    deployed: &dyn Fn() -> bool,
    sink: &mut dyn FnMut(LogLine) -> bool,
) -> Result<()> {
    // Ids of those that are listened to, and of those that have been: these say again what they said before.
    let (mut heard, mut known) = (BTreeSet::new(), BTreeSet::new());
    let mut streams: SelectAll<Lines> = SelectAll::new();
    loop {
        // The last look comes after the service has ended, so that its last words are heard.
        let last = !deployed();
        for container in containers.list()?.iter().filter(|container| wanted(container)) {
            if container.pid.is_some() && heard.insert(container.id.clone()) {
                let again = !known.insert(container.id.clone());
                streams.push(listen(containers, container, (!again).then_some(lines)));
            }
        }
        let goes_on = containers.engine().block_on(async {
            let look = tokio::time::sleep(LOOK);
            tokio::pin!(look);
            loop {
                tokio::select! {
                    said = streams.next(), if !streams.is_empty() => {
                        let goes_on = match said {
                            Some((_, Some(line))) => sink(line),
                            Some((id, None)) => {
                                heard.remove(&id);
                                true
                            }
                            None => true,
                        };
                        if !goes_on {
                            return false;
                        }
                    }
                    () = &mut look => return true,
                }
            }
        });
        if last || !goes_on {
            return Ok(());
        }
    }
}

/// The last `lines` lines of a container, or those since it was started last, and what it says until it ends.
fn listen(containers: &Containers, container: &Container, lines: Option<usize>) -> Lines {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(true);
    let options = match lines {
        Some(lines) => options.tail(&lines.to_string()),
        None => options.since(i32::try_from(container.since).unwrap_or_default()),
    };
    let (id, whose) = (container.id.clone(), container.clone());
    let end = id.clone();
    let output = containers.engine().docker().logs(&id, Some(options.build()));
    Box::pin(
        output
            .filter_map(move |output| {
                let line = output.ok().map(|output| whose.said(containers::line(output.as_ref())));
                ready(line.map(|line| (id.clone(), Some(line))))
            })
            .chain(once(ready((end, None)))),
    )
}
