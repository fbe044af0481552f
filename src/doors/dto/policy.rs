//! Permission policies: what becomes of an agent's requests without asking its user.

use poem_openapi::{Enum, Object, types::Example};

use crate::config::{self, ToolKind};

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum Verdict {
    /// It is granted, once.
    Allow,
    /// The user is asked.
    Ask,
    /// It is refused, once.
    Deny,
}

impl From<Verdict> for config::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Ask => Self::Ask,
            Verdict::Deny => Self::Deny,
        }
    }
}

impl From<config::Verdict> for Verdict {
    fn from(verdict: config::Verdict) -> Self {
        match verdict {
            config::Verdict::Allow => Self::Allow,
            config::Verdict::Ask => Self::Ask,
            config::Verdict::Deny => Self::Deny,
        }
    }
}

macro_rules! verdicts {
    ($($(#[$doc:meta])* $field:ident $(as $name:literal)?: $kind:ident;)*) => {
        /// Verdicts by the kind of tool call, in the words of the Agent Client Protocol. What the agent gives no kind is `other`.
        #[derive(Debug, Clone, Default, Object)]
        #[oai(deny_unknown_fields)]
        pub struct Verdicts {
            $($(#[$doc])* #[oai($(rename = $name,)? skip_serializing_if_is_none)] pub $field: Option<Verdict>,)*
        }

        impl Verdicts {
            fn named(&self) -> impl Iterator<Item = (ToolKind, Verdict)> {
                [$((ToolKind::$kind, self.$field)),*].into_iter().filter_map(|(kind, verdict)| Some((kind, verdict?)))
            }

            const fn of(&mut self, kind: ToolKind) -> &mut Option<Verdict> {
                match kind { $(ToolKind::$kind => &mut self.$field,)* }
            }
        }
    };
}

verdicts! {
    /// Reading files or data.
    read: Read;
    /// Changing files or content.
    edit: Edit;
    /// Removing files or data.
    delete: Delete;
    /// Moving or renaming files.
    r#move as "move": Move;
    /// Looking for something.
    search: Search;
    /// Running commands or code.
    execute: Execute;
    /// Thinking or planning.
    think: Think;
    /// Getting something from elsewhere.
    fetch: Fetch;
    /// Changing the agent's own mode.
    switch_mode: SwitchMode;
    /// Anything else.
    other: Other;
}

/// What becomes of an agent's requests for permission. What a template denies stays denied, whatever a user asks for.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields, example)]
pub struct PermissionPolicy {
    /// For kinds that aren't named; left out: `ask`.
    #[oai(skip_serializing_if_is_none)]
    pub default: Option<Verdict>,
    /// By kind.
    #[oai(skip_serializing_if_is_none)]
    pub kinds: Option<Verdicts>,
}

impl Example for PermissionPolicy {
    fn example() -> Self {
        let kinds = Verdicts { read: Some(Verdict::Allow), execute: Some(Verdict::Deny), ..Verdicts::default() };
        Self { default: Some(Verdict::Ask), kinds: Some(kinds) }
    }
}

impl From<PermissionPolicy> for config::PermissionPolicy {
    fn from(policy: PermissionPolicy) -> Self {
        let kinds = policy.kinds.unwrap_or_default();
        Self {
            default: policy.default.map(Into::into).unwrap_or_default(),
            kinds: kinds.named().map(|(kind, verdict)| (kind, verdict.into())).collect(),
        }
    }
}

impl From<config::PermissionPolicy> for PermissionPolicy {
    fn from(policy: config::PermissionPolicy) -> Self {
        let mut kinds = Verdicts::default();
        for (kind, verdict) in policy.kinds {
            *kinds.of(kind) = Some(verdict.into());
        }
        Self { default: Some(policy.default.into()), kinds: Some(kinds) }
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::{ParseFromJSON as _, ToJSON as _};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_policy_looks_the_same_in_settings_and_requests() {
        for policy in [
            json!({"default": "ask", "kinds": {}}),
            json!({"default": "deny", "kinds": {"read": "allow", "move": "ask", "switch_mode": "deny", "other": "allow"}}),
        ] {
            let asked = PermissionPolicy::parse_from_json(Some(policy.clone())).expect("a policy");
            let inside = config::PermissionPolicy::from(asked);
            assert_eq!(serde_json::to_value(&inside).expect("JSON"), policy);
            assert_eq!(PermissionPolicy::from(inside).to_json(), Some(policy));
        }
    }

    #[test]
    fn what_is_left_out_is_asked() {
        let asked = PermissionPolicy::parse_from_json(Some(json!({}))).expect("a policy");
        assert_eq!(config::PermissionPolicy::from(asked), config::PermissionPolicy::default());
    }

    #[test]
    fn unknown_kinds_and_verdicts_are_refused() {
        let bad: [Value; 4] = [
            json!({"kinds": {"run": "deny"}}),
            json!({"kinds": {"edit": "maybe"}}),
            json!({"all": "deny"}),
            json!("allow"),
        ];
        for policy in bad {
            assert!(PermissionPolicy::parse_from_json(Some(policy.clone())).is_err(), "{policy}");
        }
    }
}
