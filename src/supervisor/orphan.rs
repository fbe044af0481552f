//! When an agent has to go: the dead-man's switch, and the way from TERM to KILL. Pure: times in, decisions out.

use std::time::Duration;

use tokio::time::Instant;

/// Grace between TERM and KILL for an agent nobody listens to any more.
pub const ORPHAN_STOP_GRACE: Duration = Duration::from_secs(2);

/// Goes off when no server has been linked for the grace. Begins unlinked.
#[derive(Debug)]
pub struct DeadMansSwitch {
    grace: Duration,
    unlinked_since: Option<Instant>,
}

impl DeadMansSwitch {
    /// A switch that goes off `grace` after `now` unless a server links.
    #[must_use]
    pub const fn new(grace: Duration, now: Instant) -> Self {
        Self { grace, unlinked_since: Some(now) }
    }

    /// A server is there.
    pub const fn linked(&mut self) {
        self.unlinked_since = None;
    }

    /// The server went away. Said twice, the first time counts.
    pub fn unlinked(&mut self, now: Instant) {
        self.unlinked_since.get_or_insert(now);
    }

    /// When it goes off, unless a server links before.
    #[must_use]
    pub fn goes_off_at(&self) -> Option<Instant> {
        self.unlinked_since.map(|since| since + self.grace)
    }
}

/// How far the end of the agent has come. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// Nobody asked.
    No,
    /// TERM was sent; KILL follows.
    Asked {
        /// When KILL is sent.
        kill_at: Instant,
    },
    /// KILL was sent.
    Killed,
}

impl Stopping {
    /// Asks the agent to end. Says whether TERM has to be sent now: only the first time. A later, shorter grace is taken.
    #[must_use]
    pub fn ask(&mut self, kill_at: Instant) -> bool {
        match self {
            Self::No => {
                *self = Self::Asked { kill_at };
                true
            }
            Self::Asked { kill_at: before } => {
                *before = kill_at.min(*before);
                false
            }
            Self::Killed => false,
        }
    }

    /// Says whether KILL has to be sent now, once.
    #[must_use]
    pub fn kill_is_due(&mut self, now: Instant) -> bool {
        let due = matches!(self, Self::Asked { kill_at } if *kill_at <= now);
        if due {
            *self = Self::Killed;
        }
        due
    }

    /// The next time to look.
    #[must_use]
    pub const fn next(&self) -> Option<Instant> {
        match self {
            Self::Asked { kill_at } => Some(*kill_at),
            Self::No | Self::Killed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_switch_counts_from_the_last_moment_a_server_was_there() {
        let start = Instant::now();
        let mut switch = DeadMansSwitch::new(SECOND, start);
        assert_eq!(switch.goes_off_at(), Some(start + SECOND));
        switch.linked();
        assert_eq!(switch.goes_off_at(), None);
        switch.unlinked(start + 5 * SECOND);
        switch.unlinked(start + 9 * SECOND);
        assert_eq!(switch.goes_off_at(), Some(start + 6 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn term_and_kill_are_sent_once_and_a_shorter_grace_wins() {
        let start = Instant::now();
        let mut stopping = Stopping::No;
        assert!(!stopping.kill_is_due(start));
        assert!(stopping.ask(start + 10 * SECOND));
        assert!(!stopping.ask(start + 2 * SECOND) && !stopping.ask(start + 20 * SECOND));
        assert_eq!(stopping.next(), Some(start + 2 * SECOND));
        assert!(!stopping.kill_is_due(start + SECOND));
        assert!(stopping.kill_is_due(start + 2 * SECOND) && !stopping.kill_is_due(start + 3 * SECOND));
        assert!(!stopping.ask(start + 4 * SECOND));
    }
}
