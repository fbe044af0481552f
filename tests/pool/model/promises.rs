//! What has to be true after every step, and of every open that has ended.

use greenroom::{
    pool::{LeaseError, Misses, Pool, Tally},
    runtime::BoxState,
    sandbox::census::SandboxState,
};

use super::play::{Held, Open, Play};
use crate::{
    house::Plan,
    wait::{until, within},
};

impl Play {
    /// Waits for an open's end and takes in what came of it.
    pub(super) async fn ended(&mut self, open: Open) {
        let Open { user, template, asked, patience, task, may_be_refused } = open;
        match within("every waiter ends", task).await {
            Err(hung_up) => assert!(hung_up.is_cancelled(), "{hung_up}"),
            Ok(Ok(leased)) => {
                let slot = leased.lease.slot().id().clone();
                let dead = self.house.engine.dead_since(&slot);
                assert!(dead.is_none_or(|dead| dead > asked), "who asked after its death got {slot}");
                self.held.push(Held { user, leased, spoken: false });
            }
            Ok(Err(LeaseError::Exhausted { waited })) => assert!(waited >= patience, "{waited:?} of {patience:?}"),
            Ok(Err(LeaseError::Refused(refusal))) => {
                assert!(may_be_refused, "template {template} refused without a reason: {refusal:?}");
            }
            Ok(Err(LeaseError::Failing(failure))) => assert!(self.faults > 0, "no fault was made: {failure:?}"),
            Ok(Err(other)) => panic!("{other}"),
        }
    }

    /// Takes in what has ended, and holds everything against the promises.
    pub(super) async fn look(&mut self) {
        for index in (0..self.opens.len()).rev() {
            if self.opens[index].task.is_finished() {
                let open = self.opens.remove(index);
                self.ended(open).await;
            }
        }
        let total = self.house.counts().total();
        assert!(total <= self.bound, "{total} sandboxes where {} may be", self.bound);
        let most = self.house.engine.most_since();
        assert!(most <= self.bound, "{most} containers where {} may be", self.bound);
        self.bound = self.room.max(total);

        let seen = self.house.engine.seen();
        assert!(seen.most_starting <= Plan::default().start_limit, "{seen:?}");
        assert_eq!((seen.trespasses, seen.overlaps), (Vec::new(), Vec::new()));
        let strangers = self.house.strangers().into_iter().filter(|slot| !self.planted.contains(slot));
        assert_eq!(strangers.collect::<Vec<_>>(), [], "containers that nobody knows");

        let records = self.house.census.records();
        for held in &self.held {
            let slot = held.leased.lease.slot().id();
            assert_eq!(records.get(slot).map(|record| record.state), Some(SandboxState::Leased), "{slot}");
            let lives = self.house.engine.look(slot, |container| container.state == BoxState::Running);
            assert!(lives == Some(true) || self.is_ended(slot), "a leased sandbox was touched: {slot}");
        }
        for (slot, record) in &records {
            let idle = record.state < SandboxState::Leased;
            assert!(!idle || !self.house.was_leased(slot), "{slot} was leased and is {:?} again", record.state);
        }
        let waiting: usize = self.house.pools.all().iter().map(|pool| pool.figures().waiting).sum();
        assert!(waiting <= self.opens.len(), "{waiting} wait, {} asked", self.opens.len());
    }

    /// At rest everybody counts the same: the pools, the census and the engine.
    pub(super) async fn counts_agree(&self) {
        let house = &self.house;
        until("all counts are the same", || {
            let pools: usize = house.pools.all().iter().map(|pool| pool.figures().counts.total()).sum();
            let ours = house.engine.ours();
            pools == ours.len() && house.counts().total() == ours.len() && house.strangers().is_empty()
        })
        .await;
    }
}

/// Every open that is over is in exactly one of the figures.
pub fn every_open_is_counted_once(pool: &Pool) {
    let Tally { opens, hits, misses, .. } = pool.figures().tally;
    let Misses { empty, template_changed, over_target, refused, given_up, workspace } = misses;
    let counted = hits + empty + template_changed + over_target + refused + given_up + workspace;
    assert_eq!(opens, counted, "an open is over and in none of the figures, or in two");
}
