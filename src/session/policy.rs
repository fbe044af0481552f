//! What may be asked of a session when. Pure: state in, yes or a typed no out.

/// Where a session is, as far as requests care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Takes a prompt.
    Ready,
    /// A turn runs; permissions may be open.
    Turn {
        /// The turn was asked to end.
        cancelling: bool,
    },
    /// Over.
    Ended,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Start a turn.
    Prompt,
    /// End a turn; `current` says whether the named one is the one that runs.
    Cancel {
        /// The named turn is the running one.
        current: bool,
    },
    /// Answer a permission; `open` says whether it is still open.
    Answer {
        /// The permission is open.
        open: bool,
    },
    /// End the session because nobody used it.
    EndIdle,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The session is over.
    #[error("the session has ended")]
    Ended,
    /// One turn at a time.
    #[error("a turn is in progress; wait for its end or cancel it")]
    TurnInProgress,
    /// The turn is over already.
    #[error("the turn is over")]
    TurnOver,
    /// The permission has its answer.
    #[error("the permission was answered already")]
    PermissionAnswered,
    /// Work is under way.
    #[error("the session is not idle")]
    NotIdle,
    /// The server stops; the session goes on with the next one.
    #[error("the server is being restarted; try again in a moment")]
    HandedOver,
    /// The server stopped before it said whether it was done.
    #[error("the server is being restarted and did not say whether it is done; look again in a moment")]
    Unheard,
}

/// Decides.
///
/// # Errors
/// The reason why the request can't be granted now.
pub const fn decide(stage: Stage, request: Request) -> Result<(), Refusal> {
    match (request, stage) {
        (_, Stage::Ended) => Err(Refusal::Ended),
        (Request::Prompt | Request::EndIdle, Stage::Ready)
        | (Request::Cancel { current: true }, Stage::Turn { .. })
        | (Request::Answer { open: true }, Stage::Turn { cancelling: false }) => Ok(()),
        (Request::Prompt, Stage::Turn { .. }) => Err(Refusal::TurnInProgress),
        (Request::EndIdle, Stage::Turn { .. }) => Err(Refusal::NotIdle),
        (Request::Cancel { .. }, _) => Err(Refusal::TurnOver),
        (Request::Answer { .. }, _) => Err(Refusal::PermissionAnswered),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stages() -> impl Strategy<Value = Stage> {
        prop_oneof![
            Just(Stage::Ready),
            any::<bool>().prop_map(|cancelling| Stage::Turn { cancelling }),
            Just(Stage::Ended)
        ]
    }

    fn requests() -> impl Strategy<Value = Request> {
        prop_oneof![
            Just(Request::Prompt),
            any::<bool>().prop_map(|current| Request::Cancel { current }),
            any::<bool>().prop_map(|open| Request::Answer { open }),
            Just(Request::EndIdle),
        ]
    }

    /// What the session becomes when the request is granted; the turn may also end by itself (`None`).
    fn after(stage: Stage, granted: Option<Request>) -> Stage {
        match (granted, stage) {
            (Some(Request::Prompt), _) => Stage::Turn { cancelling: false },
            (Some(Request::Cancel { .. }), _) => Stage::Turn { cancelling: true },
            (Some(Request::EndIdle), _) | (None, Stage::Ended) => Stage::Ended,
            (None, _) => Stage::Ready,
            (Some(Request::Answer { .. }), stage) => stage,
        }
    }

    proptest! {
        #[test]
        fn nothing_is_granted_after_the_end(request in requests()) {
            prop_assert_eq!(decide(Stage::Ended, request), Err(Refusal::Ended));
        }

        #[test]
        fn an_idle_timer_never_ends_a_turn(cancelling in any::<bool>()) {
            prop_assert_eq!(decide(Stage::Turn { cancelling }, Request::EndIdle), Err(Refusal::NotIdle));
        }

        #[test]
        fn in_any_history_two_turns_never_overlap(history in prop::collection::vec(prop::option::of(requests()), 0..50)) {
            let mut stage = Stage::Ready;
            for request in history {
                let in_turn = matches!(stage, Stage::Turn { .. });
                match request {
                    None => stage = after(stage, None),
                    Some(request) => if decide(stage, request).is_ok() {
                        prop_assert!(!(in_turn && request == Request::Prompt));
                        stage = after(stage, Some(request));
                    },
                }
            }
        }

        #[test]
        fn every_refusal_fits_its_request(stage in stages(), request in requests()) {
            if let Err(refusal) = decide(stage, request) {
                let fits = match request {
                    _ if refusal == Refusal::Ended => stage == Stage::Ended,
                    Request::Prompt => refusal == Refusal::TurnInProgress,
                    Request::Cancel { .. } => refusal == Refusal::TurnOver,
                    Request::Answer { .. } => refusal == Refusal::PermissionAnswered,
                    Request::EndIdle => refusal == Refusal::NotIdle,
                };
                prop_assert!(fits);
            }
        }
    }
}
