//! The engine's events about our containers, as they happen.
//!
//! The engine is asked for everything about containers with our label, and the actions are sorted out here: Podman filters by names of its
//! own. What happens between the question and its arrival at the engine comes too: it is asked for what is new since then.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use bollard::{
    Docker,
    models::EventMessage,
    query_parameters::{EventsOptions, EventsOptionsBuilder},
};
use futures_util::{StreamExt as _, future::ready, stream::BoxStream};

use super::{labels, seconds};
use crate::runtime::{EngineEvent, EventKind};

/// What to ask for: from this moment on.
pub(super) fn question(instance: &str) -> EventsOptions {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let label = format!("{}={instance}", labels::INSTANCE);
    let filters = HashMap::from([("type", vec!["container"]), ("label", vec![label.as_str()])]);
    EventsOptionsBuilder::default().since(&seconds(now)).filters(&filters).build()
}

/// Our events of the answer. It ends at the first trouble; dropping it closes the connection.
pub(super) fn answer(client: &Docker, question: EventsOptions, instance: String) -> BoxStream<'static, EngineEvent> {
    client
        .events(Some(question))
        .map(|message| message.inspect_err(|error| tracing::debug!(%error, "the engine's events end")))
        .take_while(|message| ready(message.is_ok()))
        .filter_map(move |message| ready(message.ok().and_then(|message| read(message, &instance))))
        .boxed()
}

/// None for what isn't about a container of ours, or of no interest.
fn read(message: EventMessage, instance: &str) -> Option<EngineEvent> {
    let kind = kind(message.action.as_deref()?)?;
    // The engine puts a container's labels among the attributes of its events.
    let marks = labels::read(&message.actor?.attributes?, instance)?;
    Some(EngineEvent { slot: marks.slot, kind })
}

/// Docker's name for it, or Podman's own.
fn kind(action: &str) -> Option<EventKind> {
    Some(match action {
        "die" | "died" => EventKind::Died,
        "oom" => EventKind::OutOfMemory,
        "kill" => EventKind::Signalled,
        "destroy" | "remove" => EventKind::Removed,
        "pause" => EventKind::Paused,
        "unpause" => EventKind::Resumed,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use bollard::models::EventActor;

    use super::*;
    use crate::runtime::docker::sample;

    fn message(action: &str, instance: &str) -> EventMessage {
        let attributes = labels::of(&sample::spec(), instance);
        let actor = EventActor { id: Some("0123".to_owned()), attributes: Some(attributes) };
        EventMessage { action: Some(action.to_owned()), actor: Some(actor), ..EventMessage::default() }
    }

    #[test]
    fn what_happens_to_our_containers_is_told_by_slot() {
        let told = read(message("pause", "one"), "one");
        assert_eq!(told, Some(EngineEvent { slot: sample::spec().slot, kind: EventKind::Paused }));
    }

    #[test]
    fn other_actions_and_other_peoples_containers_are_passed_over() {
        for action in ["create", "start", "exec_create: sh", ""] {
            assert_eq!(read(message(action, "one"), "one"), None, "{action}");
        }
        assert_eq!(read(message("die", "one-two"), "one"), None);
        assert_eq!(read(EventMessage { actor: None, ..message("die", "one") }, "one"), None);
        assert_eq!(read(EventMessage::default(), "one"), None);
    }
}
