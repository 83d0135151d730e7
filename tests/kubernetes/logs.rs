//! What the replicas say, as it comes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::service::Service;
use crate::setup::cluster;

/// The pod of a line in which a server says that it listens.
fn listens(line: &str) -> &str {
    let (pod, said) = line.split_once(" | ").expect("a pod and its line");
    assert!(said.contains("listening"), "{line}");
    pod
}

#[test]
fn logs_are_followed_into_pods_that_start_later_and_to_the_end_of_those_that_go() {
    let Some(cluster) = cluster() else { return };
    let service = Service::new(&cluster);
    let version = service.bundle();
    service.deploy(&version, &[]);
    let mut follower = service
        .command(&["logs", "-f", "--lines", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a follower");
    let mut lines = BufReader::new(follower.stdout.take().expect("its stdout")).lines();
    let mut next = || lines.next().expect("a line").expect("read");
    let first = next();
    assert_eq!([listens(&first)], service.pods()[..]);
    service.ok(&["scale", "--replicas", "2", "--no-probe"]);
    let second = next();
    let mut told = [listens(&first), listens(&second)];
    told.sort_unstable();
    assert_eq!(told, service.pods()[..]);
    // A pod that goes says so, and is followed to its last line.
    service.ok(&["scale", "--replicas", "1", "--no-probe"]);
    let last = std::iter::from_fn(|| Some(next())).find(|line| line.contains("all connections are closed"));
    let (gone, _) = last.as_deref().expect("a line").split_once(" | ").expect("a pod");
    assert!(
        told.contains(&gone) && !service.pods().contains(&gone.to_owned()),
        "{gone}"
    );
    follower.kill().expect("killed");
    follower.wait().expect("its end");
}
