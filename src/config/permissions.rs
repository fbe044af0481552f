//! What an agent may do without its user being asked, and what it may not do at all.
//!
//! A policy is part of a template, and users may give one of their own for a session. What becomes of the two, and of a policy and an agent's
//! request, is decided in `session::permission`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What becomes of requests for permission, by the kind of tool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PermissionPolicy {
    /// For kinds that aren't named. Default `ask`.
    pub default: Verdict,
    /// By kind.
    pub kinds: BTreeMap<ToolKind, Verdict>,
}

impl PermissionPolicy {
    /// What becomes of this kind.
    #[must_use]
    pub fn verdict(&self, kind: ToolKind) -> Verdict {
        self.kinds.get(&kind).copied().unwrap_or(self.default)
    }
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is granted, once.
    Allow,
    /// The user is asked.
    #[default]
    Ask,
    /// It is refused, once.
    Deny,
}

/// What a tool does, in the words of the Agent Client Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// Reads files or data.
    Read,
    /// Changes files or content.
    Edit,
    /// Removes files or data.
    Delete,
    /// Moves or renames files.
    Move,
    /// Looks for something.
    Search,
    /// Runs commands or code.
    Execute,
    /// Thinks or plans.
    Think,
    /// Gets something from elsewhere.
    Fetch,
    /// Changes the agent's own mode.
    SwitchMode,
    /// Anything else, and whatever says no kind.
    Other,
}

impl ToolKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Read,
        Self::Edit,
        Self::Delete,
        Self::Move,
        Self::Search,
        Self::Execute,
        Self::Think,
        Self::Fetch,
        Self::SwitchMode,
        Self::Other,
    ];

    /// Its name in settings, requests and the agent protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Move => "move",
            Self::Search => "search",
            Self::Execute => "execute",
            Self::Think => "think",
            Self::Fetch => "fetch",
            Self::SwitchMode => "switch_mode",
            Self::Other => "other",
        }
    }

    /// The kind an agent names; a word nobody knows is [`ToolKind::Other`].
    #[must_use]
    pub fn of_agent(word: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_says_nothing_asks() {
        let policy: PermissionPolicy = serde_json::from_str("{}").expect("everything may be left out");
        assert!(ToolKind::ALL.into_iter().all(|kind| policy.verdict(kind) == Verdict::Ask));
    }

    #[test]
    fn every_kind_has_the_name_serde_gives_it_and_is_found_by_it() {
        for kind in ToolKind::ALL {
            assert_eq!(serde_json::to_value(kind).expect("a text"), kind.as_str());
            assert_eq!(ToolKind::of_agent(kind.as_str()), kind);
        }
        assert_eq!(ToolKind::of_agent("teleport"), ToolKind::Other);
    }

    #[test]
    fn a_typing_error_is_not_taken_for_left_out() {
        for bad in [r#"{"defualt": "deny"}"#, r#"{"kinds": {"exec": "deny"}}"#, r#"{"default": "maybe"}"#] {
            serde_json::from_str::<PermissionPolicy>(bad).expect_err("it names nothing there is");
        }
    }
}
