//! How many lines that cost their cause nothing are written: refused calls of one user, of those who are nobody, and what one session's agent
//! sets off. Past that they are counted, and one line tells how many were left out: whoever makes noise doesn't push others' lines out of the
//! files that are kept.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::ids::{SessionId, UserId};

/// Lines of one cause in one window.
pub(super) const LINES: u32 = 20;
/// A window.
pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// Causes that are told apart at the same time; those past it count as one.
const CAUSES_MAX: usize = 10_000;

/// Who or what a line comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// People who did not prove who they are.
    Nobody,
    /// A user.
    User(UserId),
    /// A session's agent, and what it does: refusals must not hide what was let through.
    Session(SessionId, &'static str),
    /// Operators.
    Operators,
    /// One of too many.
    Other,
}

/// Causes and their windows.
#[derive(Debug, Default)]
pub(super) struct Pace {
    windows: HashMap<Cause, Window>,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    lines: u32,
    left_out: u64,
}

impl Pace {
    /// Whether one more line of this cause is written. If not, it is counted.
    pub fn allows(&mut self, cause: Cause, now: Instant) -> bool {
        let known = self.windows.contains_key(&cause) || self.windows.len() < CAUSES_MAX;
        let cause = if known { cause } else { Cause::Other };
        let window = self.windows.entry(cause).or_insert(Window { begun: now, lines: 0, left_out: 0 });
        // What was left out is told by the sweep; until then its window goes on being told apart.
        if window.left_out == 0 && now.saturating_duration_since(window.begun) >= WINDOW {
            *window = Window { begun: now, lines: 0, left_out: 0 };
        }
        if window.lines < LINES {
            window.lines += 1;
            return true;
        }
        window.left_out += 1;
        false
    }

    /// Forgets windows that are over, and says of whom how many lines were left out in them.
    pub fn sweep(&mut self, now: Instant) -> Vec<(Cause, u64)> {
        let over = |window: &Window| now.saturating_duration_since(window.begun) >= WINDOW;
        let over = self.windows.extract_if(|_, window| over(window));
        over.filter(|(_, window)| window.left_out > 0).map(|(cause, window)| (cause, window.left_out)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Cause {
        Cause::User(UserId::parse(name).expect("a good name"))
    }

    #[test]
    fn a_noisy_cause_is_cut_short_and_counted_and_a_quiet_one_is_not() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let written = (0..100).filter(|_| pace.allows(user("noisy"), now)).count();
        assert_eq!(written, LINES as usize);
        assert!(pace.allows(user("quiet"), now) && pace.allows(Cause::Nobody, now));
        assert_eq!(pace.sweep(now), [], "the window isn't over");
        assert_eq!(pace.sweep(now + WINDOW), [(user("noisy"), 100 - u64::from(LINES))]);
        assert!(pace.windows.is_empty());
        assert!(pace.allows(user("noisy"), now + WINDOW));
    }

    #[test]
    fn a_window_that_nobody_swept_gives_way_to_the_next() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        (0..LINES).for_each(|_| assert!(pace.allows(Cause::Nobody, now)));
        assert!(pace.allows(Cause::Nobody, now + WINDOW));
    }

    #[test]
    fn endless_causes_take_no_endless_memory() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let written = (0..2 * CAUSES_MAX).filter(|number| pace.allows(user(&number.to_string()), now)).count();
        assert_eq!(written, CAUSES_MAX + LINES as usize);
        assert_eq!(pace.windows.len(), CAUSES_MAX + 1);
        assert_eq!(pace.sweep(now + WINDOW), [(Cause::Other, (CAUSES_MAX - LINES as usize) as u64)]);
    }
}
