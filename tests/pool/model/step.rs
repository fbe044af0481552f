//! One step of a sequence.

use std::time::Duration;

use proptest::{prelude::*, sample::Index};

use crate::engine::{
    script::{Call, Way},
    supervisor::Death,
};
use greenroom::pool::Mode;

/// What happens next. An index picks among what is there; where nothing is, nothing happens.
#[derive(Debug, Clone)]
pub enum Step {
    /// A user asks for a sandbox.
    Open { user: u64, template: usize, patience: Duration },
    /// One who waits hangs up.
    HangUp(Index),
    /// One who has a sandbox says something to it.
    Speak(Index),
    /// One who has a sandbox leaves.
    Leave(Index),
    /// A sandbox dies: one in stock or one that starts.
    KillIdle(Index, Death),
    /// A sandbox dies under its user.
    KillLeased(Index, Death),
    /// An operator destroys a sandbox, whatever it is doing.
    Destroy(Index),
    /// The next calls of this kind go these ways.
    Trouble(Call, Vec<Way>),
    /// The template changes.
    Reload(usize),
    /// The template is taken out of the settings, or put back.
    Toggle(usize),
    /// The template's stock changes in size.
    Resize { template: usize, min: usize, max: usize },
    /// There is another amount of room.
    Room(usize),
    /// The operator drains, pauses or resumes.
    Mode(usize, Mode),
    /// A container with our label appears that nobody knows.
    Plant,
    /// The engine's list is compared with our own.
    Sweep,
    /// Time passes.
    Wait(Duration),
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Error), Just(Way::Slow), Just(Way::Never), Just(Way::Twice)]
}

fn call() -> impl Strategy<Value = Call> {
    use Call::{Authenticate, Create, Initialize, Link, List, Ping, Probe, Remove, Session, Start};
    prop::sample::select(vec![Create, Start, Link, Initialize, Authenticate, Session, Ping, Probe, Remove, List])
}

fn death() -> impl Strategy<Value = Death> {
    prop::sample::select(vec![Death::Agent, Death::Killed, Death::Removed, Death::Paused, Death::Silent])
}

fn patience() -> impl Strategy<Value = Duration> {
    prop_oneof![2 => Just(Duration::from_secs(60)), 1 => (0_u64..60).prop_map(Duration::from_millis)]
}

/// Any step. Opens and time are the most frequent.
pub fn any() -> impl Strategy<Value = Step> {
    let template = 0_usize..2;
    prop_oneof![
        12 => (0_u64..4, template.clone(), patience())
            .prop_map(|(user, template, patience)| Step::Open { user, template, patience }),
        4 => prop::arbitrary::any::<Index>().prop_map(Step::HangUp),
        4 => prop::arbitrary::any::<Index>().prop_map(Step::Speak),
        7 => prop::arbitrary::any::<Index>().prop_map(Step::Leave),
        2 => (prop::arbitrary::any::<Index>(), death()).prop_map(|(pick, death)| Step::KillIdle(pick, death)),
        2 => (prop::arbitrary::any::<Index>(), death()).prop_map(|(pick, death)| Step::KillLeased(pick, death)),
        1 => prop::arbitrary::any::<Index>().prop_map(Step::Destroy),
        4 => (call(), prop::collection::vec(way(), 1..3)).prop_map(|(call, ways)| Step::Trouble(call, ways)),
        2 => template.clone().prop_map(Step::Reload),
        1 => template.clone().prop_map(Step::Toggle),
        2 => (template.clone(), 0_usize..3, 0_usize..3)
            .prop_map(|(template, min, more)| Step::Resize { template, min, max: min + more }),
        2 => (1_usize..6).prop_map(Step::Room),
        2 => (template, prop::sample::select(vec![Mode::Active, Mode::Active, Mode::Paused, Mode::Draining]))
            .prop_map(|(template, mode)| Step::Mode(template, mode)),
        1 => Just(Step::Plant),
        3 => Just(Step::Sweep),
        12 => (0_u64..30).prop_map(|pause| Step::Wait(Duration::from_millis(pause))),
    ]
}
