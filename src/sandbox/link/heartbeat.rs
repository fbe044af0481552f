//! A link's heartbeat: who asked for a sign of life, and when its lack counts as the end. Pure.
//!
//! At most one ping is on its way. A pong has no number, so it answers that one ping, and whoever asked before it was sent; who asks later
//! waits for the next, which goes out as soon as the pong is here.
//!
//! ```text
//!          beat or question            sent               pong
//!   quiet ─────────────────▶ due ───────────────▶ sent ─────────▶ quiet, or due again for those who asked meanwhile
//!                             └────────────────────┴── not answered for the whole patience, over two beats: lost
//! ```
//! A beat that comes late shows that we ourselves did not run: a suspended machine, a stopped process. It says nothing about the supervisor,
//! whose time then begins anew. Times are monotonic; no clock that is set can end a sandbox.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use crate::supervisor::connection::PING_EVERY;

/// Beats in a row that must find the same ping open.
const MISSES: u32 = 2;
/// Shortest time between two beats, whatever the patience.
const PERIOD_MIN: Duration = Duration::from_millis(10);

/// Waits for a pong.
pub(super) type Asker = oneshot::Sender<()>;

/// Where the ping is. Both know since when the supervisor owes an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ping {
    Quiet,
    Due(Instant),
    Sent(Instant),
}

/// The heartbeat of one link.
#[derive(Debug)]
pub(super) struct Heartbeat {
    patience: Duration,
    ping: Ping,
    /// Those whom the ping on its way answers.
    answered: Vec<Asker>,
    /// Those who asked after it was sent.
    later: Vec<Asker>,
    beaten_at: Instant,
    misses: u32,
}

impl Heartbeat {
    /// Begins. A supervisor may owe an answer for `patience`.
    pub fn new(patience: Duration, now: Instant) -> Self {
        let (answered, later) = (Vec::new(), Vec::new());
        Self { patience, ping: Ping::Quiet, answered, later, beaten_at: now, misses: 0 }
    }

    /// Time between two beats.
    pub fn period(&self) -> Duration {
        (self.patience / MISSES).clamp(PERIOD_MIN, PING_EVERY)
    }

    /// Somebody wants to know. Those who have stopped waiting are forgotten here, so that a stuck supervisor doesn't collect them.
    pub fn ask(&mut self, asker: Asker, now: Instant) {
        match self.ping {
            Ping::Sent(_) => {
                self.later.retain(|asker| !asker.is_closed());
                self.later.push(asker);
            }
            Ping::Quiet | Ping::Due(_) => {
                self.answered.retain(|asker| !asker.is_closed());
                self.answered.push(asker);
                self.due(now);
            }
        }
    }

    /// Whether a ping is to be sent; it counts as sent then.
    pub fn send(&mut self) -> bool {
        let Ping::Due(since) = self.ping else { return false };
        self.ping = Ping::Sent(since);
        true
    }

    /// A pong came. One that nobody asked for is passed over.
    pub fn pong(&mut self, now: Instant) {
        if !matches!(self.ping, Ping::Sent(_)) {
            return;
        }
        for asker in self.answered.drain(..) {
            // Whoever stopped waiting needs no answer.
            let _stopped = asker.send(());
        }
        self.ping = Ping::Quiet;
        self.misses = 0;
        self.later.retain(|asker| !asker.is_closed());
        if !self.later.is_empty() {
            self.answered = std::mem::take(&mut self.later);
            self.due(now);
        }
    }

    /// Time for the next ping.
    ///
    /// # Errors
    /// The supervisor has left one unanswered for too long: for how long.
    pub fn beat(&mut self, now: Instant) -> Result<(), Duration> {
        self.forgive_if_late(now);
        self.beaten_at = now;
        match self.ping {
            Ping::Quiet => self.due(now),
            Ping::Due(since) | Ping::Sent(since) => {
                self.misses += 1;
                let silent = now - since;
                if self.misses >= MISSES && silent >= self.patience {
                    return Err(silent);
                }
            }
        }
        Ok(())
    }

    /// A new link: what was on its way is lost, and asked again.
    pub fn relinked(&mut self, now: Instant) {
        self.answered.append(&mut self.later);
        self.ping = Ping::Due(now);
        self.beaten_at = now;
        self.misses = 0;
    }

    /// Until when a link that has just broken may stay away. The time it already was silent counts, if we saw it.
    pub fn patience_ends(&mut self, silent: bool, now: Instant) -> Instant {
        self.forgive_if_late(now);
        match self.ping {
            Ping::Due(since) | Ping::Sent(since) if silent => since + self.patience,
            _ => now + self.patience,
        }
    }

    /// There will be no answer any more.
    pub fn end(&mut self) {
        self.answered.clear();
        self.later.clear();
    }

    fn due(&mut self, now: Instant) {
        if self.ping == Ping::Quiet {
            self.ping = Ping::Due(now);
        }
    }

    fn forgive_if_late(&mut self, now: Instant) {
        if now - self.beaten_at <= self.period() * 2 {
            return;
        }
        self.misses = 0;
        self.ping = match self.ping {
            Ping::Quiet => Ping::Quiet,
            Ping::Due(_) => Ping::Due(now),
            Ping::Sent(_) => Ping::Sent(now),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const PERIOD: Duration = Duration::from_secs(5);

    fn is_answered(asked: &mut oneshot::Receiver<()>) -> bool {
        asked.try_recv().is_ok()
    }

    #[test]
    fn a_pong_answers_only_those_who_asked_before_its_ping() {
        let now = Instant::now();
        let mut heart = Heartbeat::new(PATIENCE, now);
        let [(one, mut first), (two, mut second), (three, mut third)] = [(); 3].map(|()| oneshot::channel());
        heart.ask(one, now);
        heart.ask(two, now);
        assert!(heart.send() && !heart.send(), "one ping for both");
        heart.ask(three, now);
        assert!(!heart.send(), "one at a time");
        heart.pong(now);
        assert!(is_answered(&mut first) && is_answered(&mut second) && !is_answered(&mut third));
        heart.pong(now);
        assert!(!is_answered(&mut third), "a pong nobody asked for");
        assert!(heart.send());
        heart.pong(now);
        assert!(is_answered(&mut third));
        assert!(!heart.send(), "nobody asks any more");
    }

    #[test]
    fn two_beats_and_the_whole_patience_without_a_pong_are_the_end() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(PATIENCE, start);
        heart.beat(start).expect("the first");
        assert!(heart.send());
        heart.beat(start + PERIOD).expect("one miss");
        assert_eq!(heart.beat(start + PERIOD * 2), Err(PATIENCE));
    }

    #[test]
    fn a_ping_that_finds_no_room_counts_as_unanswered() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(PATIENCE, start);
        heart.beat(start).expect("the first");
        heart.beat(start + PERIOD).expect("one miss");
        assert!(heart.beat(start + PERIOD * 2).is_err());
    }

    #[test]
    fn a_jump_ends_nothing_and_the_supervisor_gets_its_whole_time_again() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(PATIENCE, start);
        heart.beat(start).expect("the first");
        assert!(heart.send());
        heart.beat(start + PERIOD).expect("one miss");
        let later = start + Duration::from_secs(3600);
        assert_eq!(heart.patience_ends(true, later), later + PATIENCE);
        heart.beat(later).expect("forgiven");
        heart.beat(later + PERIOD).expect("not long enough");
        assert!(heart.beat(later + PERIOD * 2).is_err(), "but a dead one is found");
    }

    #[test]
    fn silence_that_was_seen_counts_when_the_link_then_breaks() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(PATIENCE, start);
        heart.beat(start).expect("the first");
        assert!(heart.send());
        let now = start + PERIOD;
        assert_eq!(heart.patience_ends(true, now), start + PATIENCE);
        assert_eq!(heart.patience_ends(false, now), now + PATIENCE, "it hung up: it lives");
    }

    #[test]
    fn who_asked_on_a_link_that_broke_is_answered_on_the_next() {
        let now = Instant::now();
        let mut heart = Heartbeat::new(PATIENCE, now);
        let [(one, mut first), (two, mut second)] = [(); 2].map(|()| oneshot::channel());
        heart.ask(one, now);
        assert!(heart.send());
        heart.ask(two, now);
        heart.relinked(now);
        assert!(heart.send());
        heart.pong(now);
        assert!(is_answered(&mut first) && is_answered(&mut second));
    }

    #[test]
    fn those_who_stopped_waiting_are_not_collected() {
        let now = Instant::now();
        let mut heart = Heartbeat::new(PATIENCE, now);
        heart.ask(oneshot::channel().0, now);
        assert!(heart.send());
        for _ in 0..100 {
            heart.ask(oneshot::channel().0, now);
        }
        assert!(heart.answered.len() <= 1 && heart.later.len() <= 1);
    }

    #[test]
    fn the_beat_follows_the_patience_within_bounds() {
        let period = |patience| Heartbeat::new(patience, Instant::now()).period();
        assert_eq!(period(Duration::from_secs(3600)), PING_EVERY);
        assert_eq!(period(Duration::from_secs(4)), Duration::from_secs(2));
        assert_eq!(period(Duration::ZERO), PERIOD_MIN);
    }
}
