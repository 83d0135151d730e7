//! What is done next, as a function of what is wanted and what there is: one step at a time, each of which leaves the
//! service as able as it was. It knows no engine and no clock, and remembers nothing: whoever stops between two steps,
//! or in the middle of one, goes on from what is found then.

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Ready,
    /// It runs, or will again, and does not answer yet.
    Starting,
    /// It does not run, and nobody will start it.
    Dead,
}

/// A container, as far as planning goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The replica that it is.
    pub replica: u32,
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
    /// How many, at least 1.
    pub replicas: usize,
}

/// A step. Containers are named by their place among the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start this replica of the goal's revision, and wait until it answers.
    Start(u32),
    /// Wait until one that was started answers.
    Await(usize),
    /// Send no more requests to these, let them finish, and remove them.
    Retire(Vec<usize>),
}

/// The next step towards the goal; none when all is as wanted.
///
/// A new revision goes ahead with one replica, so that what is broken fails once and harms nothing. Then replicas of
/// other revisions are replaced one at a time, with one more than wanted while it lasts.
pub fn next(goal: Goal, slots: &[Slot]) -> Option<Step> {
    let (current, mut others): (Vec<usize>, Vec<usize>) =
        (0..slots.len()).partition(|&index| slots[index].revision == goal.revision);
    let in_state = |state| {
        current
            .iter()
            .copied()
            .filter(move |&index| slots[index].state == state)
    };

    let dead: Vec<usize> = in_state(State::Dead).collect();
    if !dead.is_empty() {
        return Some(Step::Retire(dead));
    }
    if let Some(starting) = in_state(State::Starting).next() {
        return Some(Step::Await(starting));
    }
    let surplus = slots.len().saturating_sub(goal.replicas);
    if !current.is_empty() && surplus > 0 && !others.is_empty() {
        // First those that answer nobody.
        others.sort_by_key(|&index| (slots[index].state == State::Ready, slots[index].replica));
        others.truncate(surplus);
        return Some(Step::Retire(others));
    }
    if current.len() < goal.replicas {
        let taken = |number: &u32| current.iter().any(|&index| slots[index].replica == *number);
        return (1..=u32::MAX).find(|number| !taken(number)).map(Step::Start);
    }
    if surplus > 0 {
        let mut newest = current;
        newest.sort_by_key(|&index| std::cmp::Reverse(slots[index].replica));
        newest.truncate(surplus);
        return Some(Step::Retire(newest));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(replica: u32, revision: u64, state: State) -> Slot {
        Slot {
            replica,
            revision,
            state,
        }
    }

    fn ready(revision: u64, replicas: u32) -> Vec<Slot> {
        (1..=replicas)
            .map(|replica| slot(replica, revision, State::Ready))
            .collect()
    }

    fn goal(revision: u64, replicas: usize) -> Goal {
        Goal { revision, replicas }
    }

    /// Takes a step in which everything goes well.
    fn take(step: Step, goal: Goal, slots: &mut Vec<Slot>) {
        match step {
            Step::Start(replica) => slots.push(slot(replica, goal.revision, State::Ready)),
            Step::Await(index) => slots[index].state = State::Ready,
            Step::Retire(gone) => {
                let mut index = 0..;
                slots.retain(|_| index.next().is_some_and(|index: usize| !gone.contains(&index)));
            }
        }
    }

    /// Takes all steps, and gives the fewest replicas that were ready, and the most containers that there were.
    fn run(goal: Goal, slots: &mut Vec<Slot>) -> (usize, usize) {
        let answer = |slots: &[Slot]| slots.iter().filter(|slot| slot.state == State::Ready).count();
        let (mut fewest, mut most) = (answer(slots), slots.len());
        for _ in 0..100 {
            let Some(step) = next(goal, slots) else {
                return (fewest, most);
            };
            take(step, goal, slots);
            fewest = fewest.min(answer(slots));
            most = most.max(slots.len());
        }
        panic!("no end: {slots:?}");
    }

    #[test]
    fn a_roll_never_has_fewer_ready_than_wanted_nor_more_than_one_extra() {
        for replicas in 1..=4 {
            let mut slots = ready(1, replicas);
            let (fewest, most) = run(goal(2, replicas as usize), &mut slots);
            assert_eq!((fewest, most), (replicas as usize, replicas as usize + 1));
            assert_eq!(slots, ready(2, replicas));
        }
    }

    #[test]
    fn a_roll_that_also_scales_keeps_the_smaller_number_ready() {
        for (before, after) in [(1, 3), (3, 1), (2, 5), (5, 2)] {
            let mut slots = ready(1, before);
            let (fewest, most) = run(goal(2, after as usize), &mut slots);
            assert!(fewest >= before.min(after) as usize, "{before} to {after}: {fewest}");
            assert!(most <= before.max(after) as usize + 1, "{before} to {after}: {most}");
            assert_eq!(slots, ready(2, after));
        }
    }

    #[test]
    fn one_new_replica_goes_ahead_and_until_it_answers_nothing_is_taken_away() {
        let mut slots = ready(1, 2);
        assert_eq!(next(goal(2, 2), &slots), Some(Step::Start(1)));
        slots.push(slot(1, 2, State::Starting));
        assert_eq!(next(goal(2, 2), &slots), Some(Step::Await(2)));
        slots[2].state = State::Dead;
        assert_eq!(next(goal(2, 2), &slots), Some(Step::Retire(vec![2])));
    }

    #[test]
    fn going_back_in_the_middle_of_a_roll_keeps_what_is_left_and_adds_what_is_missing() {
        // Two of three were replaced when the third one failed.
        let mut slots = vec![
            slot(3, 1, State::Ready),
            slot(1, 2, State::Ready),
            slot(2, 2, State::Ready),
        ];
        let (fewest, _) = run(goal(1, 3), &mut slots);
        assert_eq!(fewest, 3);
        let mut numbers: Vec<u32> = slots.iter().map(|slot| slot.replica).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
        assert!(slots.iter().all(|slot| slot.revision == 1));
    }

    #[test]
    fn what_is_as_wanted_is_left_alone() {
        assert_eq!(next(goal(1, 3), &ready(1, 3)), None);
    }

    #[test]
    fn only_what_is_missing_or_dead_is_replaced() {
        let mut slots = ready(1, 3);
        slots.remove(1);
        assert_eq!(next(goal(1, 3), &slots), Some(Step::Start(2)));
        slots.push(slot(2, 1, State::Dead));
        assert_eq!(next(goal(1, 3), &slots), Some(Step::Retire(vec![2])));
    }

    #[test]
    fn scaling_down_takes_the_newest_and_replacing_takes_first_who_answers_nobody() {
        assert_eq!(next(goal(1, 1), &ready(1, 3)), Some(Step::Retire(vec![2, 1])));
        let mut slots = ready(1, 2);
        slots[1].state = State::Dead;
        slots.push(slot(1, 2, State::Ready));
        assert_eq!(next(goal(2, 2), &slots), Some(Step::Retire(vec![1])));
    }

    #[test]
    fn a_former_revision_that_is_all_dead_is_replaced_once_the_new_one_answers() {
        let mut slots = vec![slot(1, 1, State::Dead)];
        assert_eq!(next(goal(2, 1), &slots), Some(Step::Start(1)));
        run(goal(2, 1), &mut slots);
        assert_eq!(slots, ready(2, 1));
    }
}
