//! What is done when the system has no room for another connection: it is said, and the idle ones are closed for it.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::time::{Instant, sleep};

use super::event_loop::Loops;

/// How long to wait before another connection is let in.
const BREATH: Duration = Duration::from_millis(50);
/// Between two lines about it, and two rounds of closing.
const EVERY: Duration = Duration::from_secs(5);

/// Raises the limit of open files as far as this process may: each connection is one.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // It goes on with what it has.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The last time that there was no room.
#[derive(Debug, Default)]
pub struct Shortage(Option<Instant>);

impl Shortage {
    /// Waits a little after `error`, and from time to time says so and closes the connections that are idle.
    pub async fn cope(&mut self, error: &io::Error, loops: &Loops, log: &dyn Fn(&str)) {
        if self.0.is_none_or(|last| last.elapsed() >= EVERY) {
            self.0 = Some(Instant::now());
            let most = getrlimit(Resource::Nofile).current;
            let most = most.map_or_else(String::new, |most| format!(" of at most {most} open files"));
            log(&format!(
                "no room for another connection: {error}; {} are open{most}, and those without a request are closed",
                loops.count()
            ));
            loops.relieve();
        }
        sleep(BREATH).await;
    }
}
