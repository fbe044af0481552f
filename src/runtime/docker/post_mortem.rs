//! How a sandbox ended, as far as the engine knows.
//!
//! The kernel kills the biggest process of a sandbox without memory, which is the agent and not our supervisor: the container then
//! ends in order and the engine's `OOMKilled` stays false. The engine's `oom` event tells. Engines keep the last few hundred
//! events, so they are asked for when a sandbox died instead of being listened to all the time: nothing to reconnect, and nothing is
//! missed while we restart.

use std::{
    collections::HashMap,
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{Docker, errors::Error, models::ContainerState, query_parameters::EventsOptionsBuilder};
use futures_util::StreamExt as _;

use super::seconds;
use crate::runtime::PostMortem;

/// How far back a lack of memory is taken for the cause of the end.
const LOOK_BACK: Duration = Duration::from_secs(60);
/// How long the event may lag behind the death it tells of.
const LAG: Duration = Duration::from_millis(200);

/// Whether the engine saw the kernel kill something in this container for want of memory.
pub(super) async fn was_out_of_memory(client: &Docker, container: &str) -> Result<bool, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let filters = HashMap::from([("type", vec!["container"]), ("event", vec!["oom"]), ("container", vec![container])]);
    let options = EventsOptionsBuilder::default()
        .since(&seconds(now.saturating_sub(LOOK_BACK)))
        .until(&seconds(now + LAG))
        .filters(&filters)
        .build();
    let mut events = pin!(client.events(Some(options)));
    events.next().await.transpose().map(|event| event.is_some())
}

/// Puts together what the state says and what the events say.
pub(super) fn read(state: &ContainerState, out_of_memory_seen: bool) -> PostMortem {
    let runs = state.running.unwrap_or(false);
    PostMortem {
        exit_code: state.exit_code.filter(|_| !runs),
        out_of_memory: out_of_memory_seen || state.oom_killed.unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_container_has_no_exit_code_yet() {
        let state = ContainerState { running: Some(true), exit_code: Some(0), ..ContainerState::default() };
        assert_eq!(read(&state, false), PostMortem { exit_code: None, out_of_memory: false });
    }

    #[test]
    fn want_of_memory_is_told_whoever_saw_it() {
        let state = ContainerState { exit_code: Some(137), oom_killed: Some(true), ..ContainerState::default() };
        assert_eq!(read(&state, false), PostMortem { exit_code: Some(137), out_of_memory: true });
        let state = ContainerState { exit_code: Some(0), oom_killed: Some(false), ..ContainerState::default() };
        assert_eq!(read(&state, true), PostMortem { exit_code: Some(0), out_of_memory: true });
    }

    #[test]
    fn times_have_nine_digits_after_the_point() {
        assert_eq!(seconds(Duration::new(1_700_000_000, 5)), "1700000000.000000005");
    }
}
