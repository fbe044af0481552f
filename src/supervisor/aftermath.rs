//! From the agent's end to our own. Pure: times in, decisions out.
//!
//! What the agent started may outlive it and hold its pipes open. It gets [`LEFTOVER_GRACE`], then is killed round by round until
//! no child is left; the pipes then reach their end and every byte in them is read, however slow the server is. Then the server is told, and we wait
//! for its `Goodbye`, as long as it goes on taking output.

use std::time::Duration;

use tokio::time::Instant;

use super::frames::Ending;

/// How long what the agent started may go on after the agent itself has ended.
pub const LEFTOVER_GRACE: Duration = Duration::from_millis(250);
/// Between two rounds of killing.
pub const KILL_ROUND: Duration = Duration::from_millis(20);
/// How long after a KILL its effect is waited for.
pub const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// The state after the agent's end.
#[derive(Debug)]
pub struct Aftermath {
    /// How the agent ended.
    pub ending: Ending,
    since: Instant,
    progress_at: Instant,
    patience: Duration,
    next_kill: Option<Instant>,
    told: bool,
    goodbye: bool,
}

impl Aftermath {
    /// Begins when the agent has ended. A server that takes nothing for `patience` is given up.
    #[must_use]
    pub fn new(ending: Ending, patience: Duration, now: Instant) -> Self {
        let next_kill = Some(now + LEFTOVER_GRACE);
        Self { ending, since: now, progress_at: now, patience, next_kill, told: false, goodbye: false }
    }

    /// Whether a round of killing is due; the next one is then set.
    #[must_use]
    pub fn kill_is_due(&mut self, now: Instant) -> bool {
        let due = self.next_kill.is_some_and(|at| at <= now);
        if due {
            self.next_kill = Some(now + KILL_ROUND);
        }
        due
    }

    /// No child is left: nothing more to kill.
    pub const fn childless(&mut self) {
        self.next_kill = None;
    }

    /// Whether the pipes' end is waited for too long: somebody holds them whom we can't kill.
    #[must_use]
    pub fn pipes_are_stuck(&self, now: Instant) -> bool {
        self.stuck_at() <= now
    }

    /// The server took output.
    pub const fn progress(&mut self, now: Instant) {
        self.progress_at = now;
    }

    /// A new link: the end has to be told again.
    pub const fn relinked(&mut self) {
        self.told = false;
    }

    /// Whether the end has to be told on this link; says so once.
    #[must_use]
    pub const fn telling_is_due(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }

    /// The server said `Goodbye`. Said before it was told the end, it belongs to nothing.
    pub const fn goodbye(&mut self) {
        self.goodbye = self.told;
    }

    /// Whether nothing is left to wait for.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.goodbye || self.given_up_at() <= now
    }

    /// The next time to look, after `now`.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let times = [self.next_kill, Some(self.stuck_at()).filter(|at| *at > now), Some(self.given_up_at())];
        times.into_iter().flatten().min()
    }

    fn stuck_at(&self) -> Instant {
        self.since + LEFTOVER_GRACE + KILL_PATIENCE
    }

    fn given_up_at(&self) -> Instant {
        self.progress_at + self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn leftovers_are_killed_in_rounds_until_there_are_none() {
        let now = Instant::now();
        let mut aftermath = Aftermath::new(Ending::Code(0), 60 * SECOND, now);
        assert!(!aftermath.kill_is_due(now));
        assert!(aftermath.kill_is_due(now + LEFTOVER_GRACE) && !aftermath.kill_is_due(now + LEFTOVER_GRACE));
        assert!(aftermath.kill_is_due(now + LEFTOVER_GRACE + KILL_ROUND));
        aftermath.childless();
        assert!(!aftermath.kill_is_due(now + 60 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_goes_on_taking_output_is_waited_for() {
        let now = Instant::now();
        let mut aftermath = Aftermath::new(Ending::Code(0), 2 * SECOND, now);
        aftermath.progress(now + SECOND);
        assert!(!aftermath.is_over(now + 2 * SECOND) && aftermath.is_over(now + 3 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_goodbye_after_the_end_was_told_counts() {
        let now = Instant::now();
        let mut aftermath = Aftermath::new(Ending::Signal(9), 60 * SECOND, now);
        aftermath.goodbye();
        assert!(!aftermath.is_over(now));
        assert!(aftermath.telling_is_due() && !aftermath.telling_is_due());
        aftermath.relinked();
        assert!(aftermath.telling_is_due());
        aftermath.goodbye();
        assert!(aftermath.is_over(now));
    }
}
