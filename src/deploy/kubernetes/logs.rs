//! The logs of the pods of a service, as they are or as they come.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use futures_util::io::AsyncBufReadExt;
use futures_util::stream::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, ResourceExt};
use tokio::sync::mpsc::{Sender, channel};

use crate::cluster::Cluster;
use crate::cluster::rollout::Rollout;
use crate::deploy::{LogLine, LogQuery};
use crate::problem::Problem;

/// Between two looks for new pods, while logs are followed.
const LOOK: Duration = Duration::from_secs(2);
/// Lines that may wait for the one who reads them.
const WAITING: usize = 256;

/// Hands lines of the pods of `deployment` to `sink`, until it says no, or for ever with `query.follow`.
///
/// # Errors
///
/// When there is no such replica, and what the cluster says against it.
pub fn read(
    cluster: &Cluster,
    deployment: &str,
    query: &LogQuery,
    sink: &mut dyn FnMut(LogLine) -> bool,
) -> Result<()> {
    let pods = numbered(cluster, deployment)?;
    if let Some(replica) = query.replica
        && !pods.iter().any(|(number, _)| *number == replica)
    {
        return Err(Problem::new(format!("there is no replica {replica}"))
            .hint("`emberline status` numbers them, the oldest first")
            .into());
    }
    let wanted = |number: u32| query.replica.is_none_or(|replica| replica == number);
    let logs = cluster.pods();
    let tail = i64::try_from(query.lines).unwrap_or(i64::MAX);
    if !query.follow {
        let parameters = LogParams {
            tail_lines: Some(tail),
            ..LogParams::default()
        };
        for (replica, name) in pods.into_iter().filter(|(number, _)| wanted(*number)) {
            let text = cluster.ask(&format!("read the log of pod `{name}`"), logs.logs(&name, &parameters))?;
            for line in text.lines() {
                let line = line.to_owned();
                if !sink(LogLine {
                    replica,
                    name: Some(name.clone()),
                    line,
                }) {
                    return Ok(());
                }
            }
        }
        return Ok(());
    }
    let (sender, mut receiver) = channel(WAITING);
    let mut heard: BTreeSet<String> = BTreeSet::new();
    let mut pods = pods;
    let mut tail = tail;
    loop {
        for (replica, name) in pods.into_iter().filter(|(number, _)| wanted(*number)) {
            if heard.insert(name.clone()) {
                cluster.block_on(async {
                    tokio::spawn(follow(logs.clone(), replica, name, tail, sender.clone()));
                });
            }
        }
        let goes_on = cluster.block_on(async {
            let end = tokio::time::Instant::now() + LOOK;
            while let Ok(Some(line)) = tokio::time::timeout_at(end, receiver.recv()).await {
                if !sink(line) {
                    return false;
                }
            }
            true
        });
        if !goes_on {
            return Ok(());
        }
        // A pod that comes later is heard from its beginning. Once a replica is chosen, it stays that pod.
        tail = i64::MAX;
        pods = match query.replica {
            Some(_) => Vec::new(),
            None => numbered(cluster, deployment)?,
        };
    }
}

/// The pods with their numbers, the oldest first.
fn numbered(cluster: &Cluster, deployment: &str) -> Result<Vec<(u32, String)>> {
    let rollout = Rollout::observe(cluster, deployment)?;
    let pods = rollout.map(|rollout| rollout.pods).unwrap_or_default();
    Ok((1..).zip(pods.iter().map(ResourceExt::name_any)).collect())
}

/// Hands on the lines of one pod until it has ended. One that has not started yet is tried again.
async fn follow(logs: Api<Pod>, replica: u32, name: String, tail: i64, sender: Sender<LogLine>) {
    let parameters = LogParams {
        follow: true,
        tail_lines: (tail < i64::MAX).then_some(tail),
        ..LogParams::default()
    };
    loop {
        match logs.log_stream(&name, &parameters).await {
            Ok(stream) => {
                let mut lines = std::pin::pin!(stream.lines());
                while let Some(Ok(line)) = lines.next().await {
                    let name = Some(name.clone());
                    if sender.send(LogLine { replica, name, line }).await.is_err() {
                        return;
                    }
                }
                return;
            }
            Err(kube::Error::Api(status)) if status.code == 400 => tokio::time::sleep(LOOK).await,
            Err(_) => return,
        }
    }
}
