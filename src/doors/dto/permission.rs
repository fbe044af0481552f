//! Permissions.

use poem_openapi::{Object, types::Example};
use serde_json::Value;

use super::Time;
use crate::{
    agent::PermissionOption as AgentOption,
    problem::{Code, Problem},
    service::view::{self, PermissionView},
};

/// One of the answers a permission offers.
#[derive(Debug, Clone, Object)]
pub struct PermissionOption {
    /// For the answer.
    pub option_id: String,
    /// For people.
    pub name: String,
    /// `allow_once`, `allow_always`, `reject_once` or `reject_always`.
    pub kind: String,
}

impl From<AgentOption> for PermissionOption {
    fn from(option: AgentOption) -> Self {
        Self { option_id: option.option_id, name: option.name, kind: option.kind }
    }
}

/// An open permission.
#[derive(Debug, Clone, Object)]
pub struct Permission {
    /// Its id.
    pub id: String,
    /// The turn that asks.
    pub turn_id: String,
    /// What the agent wants to do, in its own words.
    pub tool_call: Value,
    /// The answers on offer.
    pub options: Vec<PermissionOption>,
    /// When it was asked.
    pub requested_at: Time,
    /// When it is denied if nobody answers.
    pub expires_at: Time,
}

impl From<PermissionView> for Permission {
    fn from(permission: PermissionView) -> Self {
        Self {
            id: permission.id.to_string(),
            turn_id: permission.turn.to_string(),
            tool_call: permission.tool_call,
            options: permission.options.into_iter().map(Into::into).collect(),
            requested_at: Time(permission.requested_at),
            expires_at: Time(permission.expires_at),
        }
    }
}

/// The open permissions of a session.
#[derive(Debug, Clone, Object)]
pub struct PermissionList {
    /// The permissions.
    pub items: Vec<Permission>,
}

/// An answer to a permission: an option of it, or `cancelled`.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields, example)]
pub struct PermissionAnswer {
    /// One of its options.
    pub option_id: Option<String>,
    /// True: none of them.
    pub cancelled: Option<bool>,
}

impl Example for PermissionAnswer {
    fn example() -> Self {
        Self { option_id: Some("proceed_once".to_owned()), cancelled: None }
    }
}

impl TryFrom<PermissionAnswer> for view::PermissionAnswer {
    type Error = Problem;

    fn try_from(answer: PermissionAnswer) -> Result<Self, Problem> {
        match (answer.option_id, answer.cancelled) {
            (Some(option), None | Some(false)) if !option.is_empty() => Ok(Self::Option(option)),
            (None, Some(true)) => Ok(Self::Cancelled),
            _ => Err(Problem::new(Code::InvalidRequest, "say either option_id or cancelled: true")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_option_or_cancelled_and_never_both_or_neither() {
        let answer = |option: Option<&str>, cancelled| {
            view::PermissionAnswer::try_from(PermissionAnswer { option_id: option.map(str::to_owned), cancelled })
        };
        assert_eq!(answer(Some("a"), None).ok(), Some(view::PermissionAnswer::Option("a".to_owned())));
        assert_eq!(answer(None, Some(true)).ok(), Some(view::PermissionAnswer::Cancelled));
        for (option, cancelled) in [(None, None), (None, Some(false)), (Some("a"), Some(true)), (Some(""), None)] {
            assert!(answer(option, cancelled).is_err());
        }
    }
}
