//! Rooms' errors as callers see them.

use crate::{
    agent::AgentError,
    pool::{Failure, FailureKind, LeaseError},
    problem::{Code, Problem},
    session::policy::Refusal,
    workspace::WorkspaceError,
};

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
            LeaseError::Closed => Self::new(Code::ShuttingDown, "the server is shutting down; try again in a moment"),
        }
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

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Ended => Code::SessionEnded,
            Refusal::TurnInProgress => Code::TurnInProgress,
            Refusal::PermissionAnswered => Code::PermissionAnswered,
            Refusal::TurnOver | Refusal::NotIdle => Code::Conflict,
        };
        Self::new(code, refusal.to_string())
    }
}
