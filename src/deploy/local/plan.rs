//! What the supervisor does next, as a function of what is wanted and what there is: rolling, scaling, going back, and
//! how long to wait before a restart. It knows no process, no clock and no file.

use std::collections::BTreeSet;
use std::time::Duration;

use super::state::{Release, Spec};
use crate::deploy::Phase;

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs and has not said that it is ready.
    Starting,
    /// It answers.
    Ready,
    /// It died, and will be started again.
    Waiting,
    /// It was asked to end.
    Stopping,
}

/// A replica, as far as planning goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub id: u32,
    /// The revision that it is of.
    pub revision: u64,
    /// Where it is in its life.
    pub state: State,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The revision that all replicas should be of.
    pub revision: u64,
    /// How many.
    pub replicas: usize,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a replica of the goal's revision.
    Start,
    /// End a replica; one that waits for a restart is forgotten.
    Stop(u32),
}

/// The steps towards the goal that can be taken now.
///
/// One replica goes ahead of all the others: until it is ready no other is started and none is ended, so that what is
/// broken fails once and harms nothing. After it, replicas of other revisions are replaced one at a time, with one more
/// than wanted while it lasts, and an old one only ends when a new one has taken its place.
pub fn plan(goal: Goal, slots: &[Slot]) -> Vec<Action> {
    let (current, old): (Vec<Slot>, Vec<Slot>) = slots
        .iter()
        .copied()
        .filter(|slot| slot.state != State::Stopping)
        .partition(|slot| slot.revision == goal.revision);
    let ready = current.iter().filter(|slot| slot.state == State::Ready).count();
    let mut actions: Vec<Action> = surplus(&current, goal.replicas).map(Action::Stop).collect();

    if ready == 0 {
        actions.extend((current.len()..goal.replicas.min(1)).map(|_| Action::Start));
        return actions;
    }
    if old.is_empty() {
        actions.extend((current.len()..goal.replicas).map(|_| Action::Start));
        return actions;
    }

    let stopping = slots.iter().filter(|slot| slot.state == State::Stopping).count();
    let alive = |slots: &[Slot]| slots.iter().filter(|slot| slot.state != State::Waiting).count();
    let in_progress = current.len() > ready;
    if !in_progress && current.len() < goal.replicas && alive(&old) + ready + stopping <= goal.replicas {
        actions.push(Action::Start);
    }
    if stopping == 0 {
        let kept = goal.replicas.saturating_sub(ready);
        actions.extend(surplus(&old, kept).take(1).map(Action::Stop));
    }
    actions
}

/// Whether there is what is wanted, and nothing else.
pub fn converged(goal: Goal, slots: &[Slot]) -> bool {
    slots.len() == goal.replicas
        && slots
            .iter()
            .all(|slot| slot.revision == goal.revision && slot.state == State::Ready)
}

/// The replicas to end so that `kept` stay: first those that do not answer, then the newest.
fn surplus(slots: &[Slot], kept: usize) -> impl Iterator<Item = u32> {
    let mut order: Vec<Slot> = slots.to_vec();
    order.sort_by_key(|slot| (slot.state == State::Ready, std::cmp::Reverse(slot.id)));
    order
        .into_iter()
        .take(slots.len().saturating_sub(kept))
        .map(|slot| slot.id)
}

/// A release on its way: whether it has arrived, or has failed and its former one is the goal again.
#[derive(Clone, Debug)]
pub struct Rollout {
    spec: Spec,
    /// Revisions that have arrived once: a replica of these that dies is started again, however often.
    established: BTreeSet<u64>,
    failure: Option<String>,
}

impl Rollout {
    /// A release that is to arrive.
    pub fn new(spec: Spec) -> Self {
        let established = spec.former.iter().map(|release| release.revision).collect();
        Self {
            spec,
            established,
            failure: None,
        }
    }

    /// What is wanted has changed.
    pub fn change(&mut self, spec: Spec) {
        self.established
            .extend(spec.former.iter().map(|release| release.revision));
        self.spec = spec;
        self.failure = None;
    }

    /// What was asked for.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The release that is worked towards; none when the only one there is has failed.
    pub fn target(&self) -> Option<&Release> {
        match &self.failure {
            None => Some(&self.spec.release),
            Some(_) => self.spec.former.as_ref(),
        }
    }

    /// The same as numbers.
    pub fn goal(&self) -> Option<Goal> {
        self.target().map(|release| Goal {
            revision: release.revision,
            replicas: release.replicas,
        })
    }

    /// Why the release failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// A replica of `revision` died, was not ready in time, or could not be started. Says whether that fails the release:
    /// it does until the release has arrived.
    pub fn replica_failed(&mut self, revision: u64, reason: &str) -> bool {
        let fails =
            self.failure.is_none() && revision == self.spec.release.revision && !self.established.contains(&revision);
        if fails {
            self.failure = Some(reason.to_owned());
        }
        fails
    }

    /// Whether a replica of `revision` that died is started again.
    pub fn restarts(&self, revision: u64) -> bool {
        self.established.contains(&revision)
    }

    /// Looks at what there is. Says whether the release has arrived just now, for the first time.
    pub fn observe(&mut self, slots: &[Slot]) -> bool {
        self.phase(slots) == Phase::Ready && self.established.insert(self.spec.release.revision)
    }

    /// What a person is told.
    pub fn phase(&self, slots: &[Slot]) -> Phase {
        let arrived = self.goal().is_some_and(|goal| converged(goal, slots));
        match (&self.failure, &self.spec.former) {
            (None, _) if arrived => Phase::Ready,
            (None, _) => Phase::Progressing,
            (Some(_), Some(_)) if arrived => Phase::RolledBack,
            (Some(_), Some(_)) => Phase::RollingBack,
            (Some(_), None) => Phase::Failed,
        }
    }
}

/// How long a replica waits before it is started again: not at all, then 0.1 s doubling to 10 s, until it has been well
/// for 10 s.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// The wait after a death; `ready_for` is how long the replica had answered.
    pub fn after_death(&mut self, ready_for: Duration) -> Duration {
        if ready_for >= Self::LONGEST {
            self.deaths = 0;
        }
        let wait = match self.deaths {
            0 => Duration::ZERO,
            deaths => Duration::from_millis(100 << (deaths - 1).min(7)).min(Self::LONGEST),
        };
        self.deaths += 1;
        wait
    }

    const LONGEST: Duration = Duration::from_secs(10);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world in which replicas do at once what they are told.
    struct World {
        slots: Vec<Slot>,
        next: u32,
        /// The fewest that answered at any time.
        least_ready: usize,
        most: usize,
        log: Vec<Action>,
    }

    impl World {
        fn with(revision: u64, replicas: u32) -> Self {
            let slots = (1..=replicas).map(|id| slot(id, revision, State::Ready)).collect();
            Self {
                slots,
                next: replicas + 1,
                least_ready: replicas as usize,
                most: replicas as usize,
                log: Vec::new(),
            }
        }

        fn ready(&self) -> usize {
            self.slots.iter().filter(|slot| slot.state == State::Ready).count()
        }

        fn step(&mut self, goal: Goal, becomes: State) -> bool {
            let actions = plan(goal, &self.slots);
            for action in &actions {
                match action {
                    Action::Start => {
                        self.slots.push(slot(self.next, goal.revision, State::Starting));
                        self.next += 1;
                    }
                    Action::Stop(id) => {
                        let slot = self.slots.iter_mut().find(|slot| slot.id == *id).expect("a slot");
                        assert_ne!(slot.state, State::Stopping, "told to stop twice");
                        slot.state = State::Stopping;
                    }
                }
            }
            self.most = self.most.max(self.slots.len());
            self.least_ready = self.least_ready.min(self.ready());
            // Planning again before anything has happened changes nothing.
            assert_eq!(plan(goal, &self.slots), []);
            self.slots.retain(|slot| slot.state != State::Stopping);
            for slot in &mut self.slots {
                if slot.state == State::Starting {
                    slot.state = becomes;
                }
            }
            let moved = !actions.is_empty();
            self.log.extend(actions);
            moved
        }

        fn settle(&mut self, goal: Goal) {
            for _ in 0..100 {
                if !self.step(goal, State::Ready) {
                    assert!(converged(goal, &self.slots), "{:?}", self.slots);
                    return;
                }
            }
            panic!("never settles: {:?}", self.slots);
        }
    }

    fn slot(id: u32, revision: u64, state: State) -> Slot {
        Slot { id, revision, state }
    }

    fn goal(revision: u64, replicas: usize) -> Goal {
        Goal { revision, replicas }
    }

    fn release(revision: u64, replicas: usize) -> Release {
        Release {
            revision,
            version: format!("v{revision}"),
            bundle: format!("/bundles/v{revision}").into(),
            host: "127.0.0.1".into(),
            port: 5000,
            replicas,
            start_timeout_ms: 1000,
        }
    }

    fn spec(revision: u64, replicas: usize, former: Option<Release>) -> Spec {
        Spec {
            generation: revision,
            name: "digits".into(),
            release: release(revision, replicas),
            former,
        }
    }

    #[test]
    fn the_first_replica_goes_ahead_of_the_others() {
        let mut world = World::with(1, 0);
        world.step(goal(1, 3), State::Ready);
        assert_eq!(world.log, [Action::Start]);
        world.settle(goal(1, 3));
        assert_eq!(world.log, [Action::Start; 3]);
    }

    #[test]
    fn a_roll_never_has_fewer_ready_than_wanted_nor_more_than_one_extra() {
        for replicas in 1..6 {
            let mut world = World::with(1, replicas);
            world.settle(goal(2, replicas as usize));
            assert_eq!(world.least_ready, replicas as usize);
            assert_eq!(world.most, replicas as usize + 1);
        }
    }

    #[test]
    fn scaling_starts_and_stops_what_is_missing_or_too_much() {
        let mut world = World::with(1, 1);
        world.settle(goal(1, 3));
        assert_eq!(world.log, [Action::Start, Action::Start]);
        world.log.clear();
        world.settle(goal(1, 1));
        assert_eq!(world.log, [Action::Stop(3), Action::Stop(2)]);
        assert_eq!(world.least_ready, 1);
    }

    #[test]
    fn a_roll_that_also_scales_keeps_the_smaller_number_ready() {
        for (before, after) in [(1, 4), (4, 1), (2, 3)] {
            let mut world = World::with(1, before);
            world.step(goal(2, after), State::Ready);
            assert_eq!(world.log, [Action::Start], "the first goes ahead");
            world.settle(goal(2, after));
            assert_eq!(world.least_ready, (before as usize).min(after), "{before} to {after}");
            assert!(world.most <= (before as usize).max(after) + 1, "{before} to {after}");
        }
    }

    #[test]
    fn a_new_replica_that_never_becomes_ready_ends_no_old_one() {
        let mut world = World::with(1, 2);
        world.step(goal(2, 2), State::Starting);
        for _ in 0..5 {
            world.step(goal(2, 2), State::Starting);
        }
        assert_eq!(world.log, [Action::Start]);
        assert_eq!(world.ready(), 2);
    }

    #[test]
    fn an_old_replica_that_is_down_does_not_stop_the_roll_and_goes_first() {
        let mut world = World::with(1, 2);
        world.slots[0].state = State::Waiting;
        world.step(goal(2, 2), State::Ready);
        world.step(goal(2, 2), State::Ready);
        assert_eq!(world.log, [Action::Start, Action::Start, Action::Stop(1)]);
        world.settle(goal(2, 2));
    }

    #[test]
    fn going_back_in_the_middle_of_a_roll_keeps_what_is_wanted_ready() {
        let mut world = World::with(1, 3);
        for _ in 0..3 {
            world.step(goal(2, 3), State::Ready);
        }
        assert!(world.slots.iter().any(|slot| slot.revision == 2));
        world.settle(goal(1, 3));
        assert_eq!(world.least_ready, 3);
    }

    #[test]
    fn a_dead_replica_is_waited_for_and_not_doubled() {
        let slots = [slot(1, 1, State::Ready), slot(2, 1, State::Waiting)];
        assert_eq!(plan(goal(1, 2), &slots), []);
        assert!(!converged(goal(1, 2), &slots));
    }

    #[test]
    fn a_first_release_that_fails_leaves_nothing_to_work_towards() {
        let mut rollout = Rollout::new(spec(1, 2, None));
        assert_eq!(rollout.phase(&[]), Phase::Progressing);
        assert!(rollout.replica_failed(1, "golden case 0 is off"));
        assert_eq!(rollout.goal(), None);
        assert_eq!(rollout.phase(&[]), Phase::Failed);
    }

    #[test]
    fn a_later_release_that_fails_goes_back_to_the_former_with_its_number_of_replicas() {
        let mut rollout = Rollout::new(spec(2, 5, Some(release(1, 2))));
        assert!(rollout.replica_failed(2, "not ready"));
        assert!(!rollout.replica_failed(2, "again"), "it fails once");
        assert_eq!(rollout.failure(), Some("not ready"));
        assert_eq!(rollout.goal(), Some(goal(1, 2)));
        let mut back = vec![
            slot(1, 1, State::Ready),
            slot(2, 1, State::Ready),
            slot(3, 2, State::Waiting),
        ];
        assert_eq!(rollout.phase(&back), Phase::RollingBack);
        assert_eq!(plan(goal(1, 2), &back), [Action::Stop(3)]);
        back.pop();
        assert_eq!(rollout.phase(&back), Phase::RolledBack);
        assert!(!rollout.observe(&back), "the failed release has not arrived");
    }

    #[test]
    fn a_release_that_has_arrived_is_restarted_and_not_given_up() {
        let mut rollout = Rollout::new(spec(1, 1, None));
        assert!(!rollout.observe(&[slot(1, 1, State::Starting)]));
        assert!(rollout.observe(&[slot(1, 1, State::Ready)]));
        assert!(!rollout.observe(&[slot(1, 1, State::Ready)]), "it arrives once");
        assert!(!rollout.replica_failed(1, "killed"));
        assert!(rollout.restarts(1));
        // Scaling it is no new release.
        let mut scaled = spec(1, 3, None);
        scaled.generation = 2;
        rollout.change(scaled);
        assert!(!rollout.replica_failed(1, "killed"));
        assert_eq!(rollout.goal(), Some(goal(1, 3)));
    }

    #[test]
    fn an_old_replica_that_dies_does_not_fail_the_new_release() {
        let mut rollout = Rollout::new(spec(2, 1, Some(release(1, 1))));
        assert!(!rollout.replica_failed(1, "killed"));
        assert!(rollout.restarts(1) && !rollout.restarts(2));
        assert_eq!(rollout.phase(&[slot(1, 1, State::Ready)]), Phase::Progressing);
    }

    #[test]
    fn restarts_come_at_once_then_ever_later_until_the_replica_has_been_well() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10)
            .map(|_| backoff.after_death(Duration::from_secs(1)).as_millis())
            .collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.after_death(Duration::from_secs(11)), Duration::ZERO);
    }
}
