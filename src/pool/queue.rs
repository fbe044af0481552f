//! The line of callers who wait for a sandbox: first come first served within a user, in turns between users.
//!
//! ```text
//!   users in turn:   ada ──► bob ──► eve          ada's 500 requests and bob's one:
//!                     │       │       │            ada 1, bob 1, ada 2, ada 3, …
//!                    1,2,3…   1      1,2
//! ```
//!
//! Plain data without a clock or a lock: the stock, which owns it, has both. A place in the line is named by its [`Ticket`], so that leaving
//! it, from wherever in the line, is the holder's own business.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::ids::UserId;

/// Names one place in the line. Later tickets are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(i64);

/// Callers in line, each with something to reach them by.
#[derive(Debug)]
pub struct Queue<T> {
    /// Users who have somebody in line, whose turn it is first.
    turns: VecDeque<UserId>,
    lines: HashMap<UserId, BTreeMap<Ticket, T>>,
    waiting: usize,
    newest: i64,
    oldest: i64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), lines: HashMap::new(), waiting: 0, newest: 0, oldest: 0 }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Joins at the end of the user's own line.
    pub fn join(&mut self, user: &UserId, caller: T) -> Ticket {
        self.newest += 1;
        if !self.lines.contains_key(user) {
            self.turns.push_back(user.clone());
        }
        self.stand(user, Ticket(self.newest), caller)
    }

    /// Joins before everybody else: for who had a turn and came away with nothing, through no fault of theirs.
    pub fn rejoin(&mut self, user: &UserId, caller: T) -> Ticket {
        self.oldest -= 1;
        self.turns.retain(|other| other != user);
        self.turns.push_front(user.clone());
        self.stand(user, Ticket(self.oldest), caller)
    }

    /// Leaves the line; false if the ticket isn't in it (any more).
    pub fn leave(&mut self, user: &UserId, ticket: Ticket) -> bool {
        let Some(line) = self.lines.get_mut(user) else { return false };
        let left = line.remove(&ticket).is_some();
        self.waiting -= usize::from(left);
        if line.is_empty() {
            self.lines.remove(user);
            self.turns.retain(|other| other != user);
        }
        left
    }

    /// Takes out whoever's turn it is; their user goes to the end of the turns.
    pub fn call_next(&mut self) -> Option<(Ticket, T)> {
        let user = self.turns.pop_front()?;
        let line = self.lines.get_mut(&user)?;
        let first = line.pop_first();
        self.waiting -= usize::from(first.is_some());
        if line.is_empty() {
            self.lines.remove(&user);
        } else {
            self.turns.push_back(user);
        }
        first
    }

    fn stand(&mut self, user: &UserId, ticket: Ticket, caller: T) -> Ticket {
        self.lines.entry(user.clone()).or_default().insert(ticket, caller);
        self.waiting += 1;
        ticket
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(number: usize) -> UserId {
        UserId::parse(&format!("user-{number}")).expect("a good name")
    }

    #[test]
    fn one_request_does_not_wait_behind_anothers_five_hundred() {
        let mut queue = Queue::default();
        for number in 0..500 {
            queue.join(&user(0), (0, number));
        }
        queue.join(&user(1), (1, 0));
        let served: Vec<_> = std::iter::from_fn(|| queue.call_next().map(|(_, caller)| caller)).collect();
        assert_eq!(&served[..3], &[(0, 0), (1, 0), (0, 1)]);
        assert_eq!(served.len(), 501);
        assert!(queue.is_empty());
    }

    #[test]
    fn who_came_away_with_nothing_is_next() {
        let mut queue = Queue::default();
        queue.join(&user(0), "first");
        queue.join(&user(1), "second");
        let (_, unlucky) = queue.call_next().expect("somebody waits");
        queue.rejoin(&user(0), unlucky);
        assert_eq!(queue.call_next().map(|(_, caller)| caller), Some("first"));
    }

    proptest! {
        /// Steps: join (user), leave (pick), next. A model with plain lists says who must come.
        #[test]
        fn everybody_is_served_once_in_order_and_nobody_waits_for_more_than_one_of_each_other_user(
            steps in prop::collection::vec((0_u8..4, 0_usize..5), 0..200)
        ) {
            let mut queue = Queue::default();
            let mut inside: Vec<(usize, Ticket)> = Vec::new();
            // How many of another user were served since this user last was, while they waited.
            let mut passed: HashMap<(usize, usize), usize> = HashMap::new();
            for (step, pick) in steps {
                match step {
                    0 | 1 => {
                        if !inside.iter().any(|(number, _)| *number == pick) {
                            passed.retain(|(waiter, _), _| *waiter != pick);
                        }
                        inside.push((pick, queue.join(&user(pick), pick)));
                    }
                    2 if !inside.is_empty() => {
                        let (number, ticket) = inside.remove(pick % inside.len());
                        prop_assert!(queue.leave(&user(number), ticket));
                        prop_assert!(!queue.leave(&user(number), ticket));
                    }
                    _ => {
                        let next = queue.call_next();
                        prop_assert_eq!(next.is_some(), !inside.is_empty());
                        let Some((ticket, number)) = next else { continue };
                        let first = inside.iter().filter(|(other, _)| *other == number).map(|(_, ticket)| *ticket).min();
                        prop_assert_eq!(first, Some(ticket), "first come first served within a user");
                        inside.retain(|(_, other)| *other != ticket);
                        passed.retain(|(waiter, _), _| *waiter != number);
                        let others: std::collections::BTreeSet<_> = inside.iter().map(|(other, _)| *other).collect();
                        for other in others.into_iter().filter(|other| *other != number) {
                            let times = passed.entry((other, number)).or_default();
                            *times += 1;
                            prop_assert!(*times <= 1, "served twice while another user waited");
                        }
                    }
                }
                prop_assert_eq!(queue.len(), inside.len());
            }
        }
    }
}
