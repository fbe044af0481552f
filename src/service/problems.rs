//! Rooms' errors as callers see them.

use std::{io, time::Duration};

use crate::{
    agent::AgentError,
    identity::OutOfReach,
    log::LogError,
    pool::{Failure, FailureKind, LeaseError, Refusal},
    problem::{Code, Problem},
    session::{ChangeError, policy},
    store::StoreError,
    workspace::{FileError, WorkspaceError},
};

/// When to ask again while another change is being made.
const CHANGES_PACE: Duration = Duration::from_secs(1);
/// When to ask again while the store can't write.
const STORES_PACE: Duration = Duration::from_secs(5);
/// When to ask again for what an operator has to change first.
const OPERATORS_PACE: Duration = Duration::from_secs(30);

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Exhausted { waited } => Self::new(
                Code::PoolExhausted,
                format!("no sandbox became free within {} ms; try again, or wait longer", waited.as_millis()),
            ),
            LeaseError::QueueFull { waiting } => {
                Self::new(Code::PoolExhausted, format!("no sandbox is free and {waiting} others wait already"))
            }
            LeaseError::Failing(failure) => {
                let pause = failure.pause();
                let Failure { kind, phase, detail, .. } = failure;
                let code = match kind {
                    FailureKind::Engine => Code::EngineUnavailable,
                    FailureKind::Container | FailureKind::Agent | FailureKind::AgentTimeout => {
                        Code::ContainerStartFailed
                    }
                };
                Self::new(code, format!("sandboxes can't be started (phase {phase}): {detail}")).retry_after(pause)
            }
            LeaseError::Refused(refusal) => match refusal {
                Refusal::Closed => Self::new(Code::ShuttingDown, "the server is shutting down; try again in a moment"),
                Refusal::Draining => {
                    Self::new(Code::PoolExhausted, "this template is being drained: it takes no new sessions")
                        .retry_after(OPERATORS_PACE)
                }
                Refusal::Paused => Self::new(
                    Code::PoolExhausted,
                    "no sandbox of this template is left, and its operator lets none be started at present",
                )
                .retry_after(OPERATORS_PACE),
                Refusal::TooBig => Self::new(
                    Code::PoolExhausted,
                    "a sandbox of this template may use more memory than there is for all sandboxes together",
                )
                .retry_after(OPERATORS_PACE),
            },
            error @ LeaseError::NotWritten(_) => {
                Self::new(Code::ContainerStartFailed, "the lease could not be written down").because(error)
            }
        }
    }
}

impl From<OutOfReach> for Problem {
    fn from(error: OutOfReach) -> Self {
        let code = match error {
            OutOfReach::Forbidden => Code::Forbidden,
            OutOfReach::Nobody => Code::InvalidRequest,
        };
        Self::new(code, error.to_string())
    }
}

impl From<WorkspaceError> for Problem {
    fn from(error: WorkspaceError) -> Self {
        match error {
            WorkspaceError::InUse(name) => Self::new(
                Code::WorkspaceInUse,
                format!("another session of yours holds workspace {name}; close it first, or use another name"),
            ),
            error @ WorkspaceError::Io { .. } => Self::internal(error),
        }
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        let code = match &error {
            FileError::Invalid(_) | FileError::Outside | FileError::Special => Code::InvalidRequest,
            FileError::NotFound => Code::NotFound,
            FileError::Conflict(_) => Code::Conflict,
            FileError::TooLarge(_) => Code::PayloadTooLarge,
            FileError::Ended => return policy::Refusal::Ended.into(),
            FileError::Io { source, .. } if is_full(source) => {
                return Self::new(Code::StoreUnavailable, "there is no room for it at the moment").because(error);
            }
            FileError::Io { .. } => return Self::internal(error),
        };
        Self::new(code, error.to_string())
    }
}

/// No room, on the disk or in its quota.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<AgentError> for Problem {
    fn from(error: AgentError) -> Self {
        match &error {
            AgentError::Deadline { .. } => Self::new(Code::AgentTimeout, error.to_string()),
            // The text of a lost link is for the log.
            AgentError::Lost(_) => Self::new(Code::AgentFailed, "the sandbox was lost").because(error),
            AgentError::Condemned(_) | AgentError::Exited(_) | AgentError::Refused { .. } | AgentError::Protocol(_) => {
                Self::new(Code::AgentFailed, error.to_string())
            }
        }
    }
}

impl From<policy::Refusal> for Problem {
    fn from(refusal: policy::Refusal) -> Self {
        let code = match refusal {
            policy::Refusal::Ended => Code::SessionEnded,
            policy::Refusal::TurnInProgress => Code::TurnInProgress,
            policy::Refusal::PermissionAnswered => Code::PermissionAnswered,
            policy::Refusal::TurnOver | policy::Refusal::NotIdle => Code::Conflict,
            policy::Refusal::HandedOver | policy::Refusal::Unheard => Code::ShuttingDown,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refusal) => refusal.into(),
            ChangeError::Stale => Self::new(Code::PreconditionFailed, "If-Match: the session has another version"),
            ChangeError::OverAlready => {
                Self::new(Code::InvalidRequest, "max_age_s: the session is older than that; close it instead")
            }
            ChangeError::Busy => Self::new(Code::Conflict, error.to_string()).retry_after(CHANGES_PACE),
            ChangeError::Agent { field, error } => unfit(field, error),
        }
    }
}

/// An agent that refuses what the caller chose has been asked for the wrong thing; anything else is its own failure.
pub(super) fn unfit(field: &str, error: AgentError) -> Problem {
    match error {
        AgentError::Refused { message, .. } => {
            Problem::new(Code::InvalidRequest, format!("{field}: the agent refused it: {message}"))
        }
        error => error.into(),
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        store_unavailable().because(error)
    }
}

/// Nothing new may happen while nothing can be written down.
pub(super) fn store_unavailable() -> Problem {
    Problem::new(Code::StoreUnavailable, "what happens can't be written down at present; try again in a moment")
        .retry_after(STORES_PACE)
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Expired(expired) => expired.into(),
            LogError::Store(error) => error.into(),
        }
    }
}
