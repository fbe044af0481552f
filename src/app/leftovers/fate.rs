//! What becomes of what a former run left: a pure function of what engine, disk and store say.
//!
//! | slot | container | session in the store | becomes |
//! |---|---|---|---|
//! | any, its recipe can be had | one that runs | lives in it | the session's again |
//! | ready, never leased, as its template would be made now | one that runs | none | stock again |
//! | anything else | whatever there is | | cleared: container, then workspace home, then folder |
//!
//! A session whose slot isn't in the answer, or is cleared, has lost its sandbox.

use std::collections::HashMap;

use crate::{
    ids::SlotId,
    runtime::{BoxState, ContainerId, Found},
};

/// What is known of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotFacts {
    pub(super) id: SlotId,
    /// Its sandbox was ready, and is what its template would be made of now.
    pub(super) fresh: bool,
    /// Somebody leased it, or may have.
    pub(super) used: bool,
    /// It is known how to talk with its agent.
    pub(super) known: bool,
}

/// What becomes of a slot and its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its session goes on in it.
    Session(ContainerId),
    /// It waits for a user, as before.
    Stock(ContainerId),
    /// All of it goes.
    Clear,
}

/// Decides. `inhabited` are the slots that sessions live in, as the store says.
pub(super) fn decide(slots: &[SlotFacts], containers: &[Found], inhabited: &[SlotId]) -> HashMap<SlotId, Fate> {
    let fate = |slot: &SlotFacts| {
        let Some(container) = running(containers, &slot.id) else { return Fate::Clear };
        match inhabited.iter().filter(|inhabited| **inhabited == slot.id).count() {
            1 if slot.known => Fate::Session(container),
            0 if slot.fresh && !slot.used => Fate::Stock(container),
            _ => Fate::Clear,
        }
    };
    slots.iter().map(|slot| (slot.id.clone(), fate(slot))).collect()
}

/// The slot's container, if exactly one runs: of two nobody knows which one the folder belongs to.
fn running(containers: &[Found], slot: &SlotId) -> Option<ContainerId> {
    let mut running = containers.iter().filter(|found| found.slot == *slot && found.state == BoxState::Running);
    let one = running.next()?;
    running.next().is_none().then(|| one.container.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, TemplateName};

    const ALL_STATES: [BoxState; 4] = [BoxState::Created, BoxState::Running, BoxState::Paused, BoxState::Ended];

    fn slot(fresh: bool, used: bool, known: bool) -> SlotFacts {
        SlotFacts { id: SlotId::from_client("one"), fresh, used, known }
    }

    fn found(slot: &str, name: &str, state: BoxState) -> Found {
        Found {
            container: ContainerId(name.to_owned()),
            slot: SlotId::from_client(slot),
            epoch: Epoch::from_client("a former one"),
            template: TemplateName::parse("gemini").expect("a good name"),
            state,
        }
    }

    fn fate(slot: &SlotFacts, containers: &[Found], inhabited: &[&str]) -> Fate {
        let inhabited: Vec<_> = inhabited.iter().map(|id| SlotId::from_client(id)).collect();
        decide(std::slice::from_ref(slot), containers, &inhabited).remove(&slot.id).expect("every slot has a fate")
    }

    #[test]
    fn every_slot_that_a_session_lives_in_goes_on_if_its_container_runs_and_its_recipe_is_known() {
        for (fresh, used) in [(false, false), (false, true), (true, false), (true, true)] {
            for state in ALL_STATES {
                let here = [found("one", "c", state)];
                let goes_on = Fate::Session(ContainerId("c".to_owned()));
                let expected = if state == BoxState::Running { goes_on } else { Fate::Clear };
                assert_eq!(
                    fate(&slot(fresh, used, true), &here, &["other", "one"]),
                    expected,
                    "{fresh} {used} {state:?}"
                );
                assert_eq!(fate(&slot(fresh, used, false), &here, &["one"]), Fate::Clear);
            }
            assert_eq!(fate(&slot(fresh, used, true), &[], &["one"]), Fate::Clear);
        }
    }

    #[test]
    fn only_what_is_fresh_and_was_never_leased_is_stock_again() {
        for (fresh, used) in [(false, false), (false, true), (true, false), (true, true)] {
            for state in ALL_STATES {
                let expected = match (fresh, used, state) {
                    (true, false, BoxState::Running) => Fate::Stock(ContainerId("c".to_owned())),
                    _ => Fate::Clear,
                };
                let here = [found("one", "c", state), found("other", "d", BoxState::Running)];
                assert_eq!(fate(&slot(fresh, used, true), &here, &["other"]), expected, "{fresh} {used} {state:?}");
            }
        }
    }

    #[test]
    fn of_two_that_run_in_one_slot_none_is_trusted_and_one_that_ended_doesnt_count() {
        let (one, two) = (found("one", "c", BoxState::Running), found("one", "d", BoxState::Running));
        assert_eq!(fate(&slot(true, false, true), &[one.clone(), two.clone()], &[]), Fate::Clear);
        assert_eq!(fate(&slot(true, true, true), &[one.clone(), two], &["one"]), Fate::Clear);
        let ended = found("one", "e", BoxState::Ended);
        assert_eq!(fate(&slot(true, false, true), &[ended, one], &[]), Fate::Stock(ContainerId("c".to_owned())));
    }

    #[test]
    fn a_slot_that_two_sessions_claim_is_nobodys() {
        let here = [found("one", "c", BoxState::Running)];
        assert_eq!(fate(&slot(true, false, true), &here, &["one", "one"]), Fate::Clear);
    }
}
