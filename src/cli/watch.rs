//! How a change goes, as a person sees it: on a terminal a line for each replica, elsewhere one for each change of what a
//! replica does, and an event for each look with `--progress json`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar};

use super::output::{Output, ProgressMode, columns, short};
use super::{Context, canary};
use crate::deploy::canary::Step;
use crate::deploy::{Events, Instance, Proof, Service, Stage};

/// Replicas that have a line of their own on a terminal; the rest is counted.
const MOST_LINES: usize = 12;
/// Letters of a reason.
const REASON: usize = 100;

/// Shows how a change goes, and stops waiting for it at Ctrl-C.
pub(super) struct Watch<'a> {
    output: &'a Output,
    screen: Option<Screen>,
    interrupted: Arc<AtomicBool>,
    told: RefCell<Told>,
}

/// The lines on a terminal.
struct Screen {
    all: MultiProgress,
    head: ProgressBar,
    lines: RefCell<Vec<ProgressBar>>,
}

/// What was told already, where there is no terminal.
#[derive(Default)]
struct Told {
    service: String,
    /// What each replica does, by its name.
    replicas: BTreeMap<String, (Stage, Option<String>)>,
    /// Whether there was a look before.
    has_begun: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(context: &'a Context) -> Result<Self> {
        let output = &context.output;
        let screen = (output.progress_mode() == ProgressMode::Tty).then(|| {
            let all = output.bars();
            let head = Output::spinner_among(&all, "looking at the service");
            Screen {
                all,
                head,
                lines: RefCell::default(),
            }
        });
        Ok(Self {
            output,
            screen,
            interrupted: context.interrupt()?,
            told: RefCell::default(),
        })
    }

    /// Writes a line that stays, above those that change.
    fn say(&self, write: impl FnOnce(&Output)) {
        match &self.screen {
            Some(screen) => screen.all.suspend(|| write(self.output)),
            None => write(self.output),
        }
    }
}

impl Events for Watch<'_> {
    fn progress(&self, service: &Service) {
        self.output.event(service);
        let head = format!(
            "revision {} (version {}) {}: {} of {} replicas ready",
            service.revision,
            service.version,
            service.phase.name(),
            updated(service),
            service.replicas.desired
        );
        match &self.screen {
            Some(screen) => screen.show(head, &service.instances),
            None => {
                for line in self.told.borrow_mut().news(head, &service.instances) {
                    self.output.note(&line);
                }
            }
        }
    }

    fn canary(&self, step: &Step) {
        self.output.event(step);
        let line = canary::told(step);
        match &self.screen {
            Some(screen) => screen.head.set_message(line),
            None => self.output.note(&line),
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn proved(&self, proof: &Result<Proof, String>, arrived: bool) {
        self.say(|output| match proof {
            Ok(proof) if proof.failed > 0 => output.warn(&format!("availability: {proof}")),
            // Otherwise the report says it.
            Ok(proof) if !arrived => output.note(&format!("availability: {proof}")),
            Ok(_) => {}
            Err(reason) => output.warn(&format!(
                "nothing proves that no request was lost, because the probe could not work: {reason}"
            )),
        });
    }
}

impl Screen {
    fn show(&self, head: String, instances: &[Instance]) {
        self.head.set_message(head);
        let texts = lines(instances);
        let mut lines = self.lines.borrow_mut();
        while lines.len() < texts.len() {
            let line = ProgressBar::no_length().with_style(Output::line_style());
            lines.push(self.all.add(line));
        }
        while lines.len() > texts.len() {
            if let Some(line) = lines.pop() {
                self.all.remove(&line);
            }
        }
        for (line, text) in lines.iter().zip(texts) {
            line.set_message(text);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        for line in self.lines.borrow().iter() {
            line.finish_and_clear();
        }
        self.head.finish_and_clear();
    }
}

impl Told {
    /// Lines of what has changed since the last look. What serves when it begins is no news.
    fn news(&mut self, service: String, instances: &[Instance]) -> Vec<String> {
        let mut news = Vec::new();
        let mut replicas = BTreeMap::new();
        for instance in instances {
            let name = name(instance);
            let now = (instance.stage, reason(instance).map(str::to_owned));
            let before = self.replicas.get(&name);
            let is_old = !self.has_begun && instance.stage == Stage::Ready;
            if before != Some(&now) && !is_old {
                let reason = now.1.as_ref().map(|reason| format!(": {}", short(reason, REASON)));
                news.push(format!(
                    "  {name} (version {}): {}{}",
                    instance.version,
                    instance.stage.name(),
                    reason.unwrap_or_default()
                ));
            }
            replicas.insert(name, now);
        }
        self.replicas = replicas;
        self.has_begun = true;
        if self.service != service {
            self.service.clone_from(&service);
            news.push(service);
        }
        news
    }
}

/// A line for each replica, as columns.
fn lines(instances: &[Instance]) -> Vec<String> {
    let rows = instances.iter().take(MOST_LINES).map(|instance| {
        vec![
            format!("  {}", name(instance)),
            instance.version.clone(),
            format!("revision {}", instance.revision),
            instance.stage.name().to_owned(),
            reason(instance).unwrap_or_default().to_owned(),
        ]
    });
    let text = columns(rows);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some(more) = instances.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
        let ready = instances[MOST_LINES..].iter().filter(|instance| instance.ready).count();
        lines.push(format!("  and {more} more, {ready} of them ready"));
    }
    lines
}

/// Why a replica does not answer, where its stage does not say it all.
fn reason(instance: &Instance) -> Option<&str> {
    let says = matches!(instance.stage, Stage::Waiting | Stage::Failing);
    let reason = instance.waiting.as_deref().filter(|_| says)?;
    // Its name stands before it already.
    let named = instance.name.as_ref().map(|name| format!("pod `{name}` "));
    Some(named.and_then(|named| reason.strip_prefix(&named)).unwrap_or(reason))
}

fn name(instance: &Instance) -> String {
    instance
        .name
        .clone()
        .unwrap_or_else(|| format!("replica {}", instance.replica))
}

/// Replicas of the revision that is wanted that answer.
pub(super) fn updated(service: &Service) -> usize {
    let updated = |instance: &&Instance| instance.ready && instance.revision == service.revision;
    service.instances.iter().filter(updated).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(replica: u32, stage: Stage, waiting: Option<&str>) -> Instance {
        Instance {
            replica,
            name: Some(format!("pod-{replica}")),
            pid: None,
            version: "v1".into(),
            revision: 1,
            ready: stage == Stage::Ready,
            stage,
            restarts: 0,
            since: 0,
            requests: None,
            waiting: waiting.map(str::to_owned),
        }
    }

    #[test]
    fn each_change_is_told_once_and_what_served_before_is_no_news() {
        let mut told = Told::default();
        let old = instance(1, Stage::Ready, None);
        assert_eq!(told.news("head".into(), std::slice::from_ref(&old)), ["head"]);
        let starting = [
            old.clone(),
            instance(2, Stage::GoldenCheck, Some("runs, and is not ready")),
        ];
        assert_eq!(
            told.news("head".into(), &starting),
            ["  pod-2 (version v1): golden check"]
        );
        assert!(told.news("head".into(), &starting).is_empty());
        let failing = [
            instance(1, Stage::Ending, None),
            instance(2, Stage::Failing, Some("pod `pod-2` ended with code 1")),
        ];
        assert_eq!(
            told.news("tail".into(), &failing),
            [
                "  pod-1 (version v1): ending",
                "  pod-2 (version v1): failing: ended with code 1",
                "tail"
            ]
        );
        // One that comes back ready after it was something else is news.
        assert_eq!(told.news("tail".into(), &[old]), ["  pod-1 (version v1): ready"]);
    }

    #[test]
    fn a_terminal_has_a_line_for_each_of_some_and_counts_the_rest() {
        let many: Vec<Instance> = (1..=15).map(|replica| instance(replica, Stage::Ready, None)).collect();
        let lines = lines(&many);
        assert_eq!(lines.len(), MOST_LINES + 1);
        assert_eq!(lines[0], "  pod-1   v1  revision 1  ready");
        assert_eq!(lines[MOST_LINES], "  and 3 more, 3 of them ready");
    }
}
