//! Which requests of an agent are answered without its user. Pure.
//!
//! The kind of a tool call is what the agent says it is: a policy spares a user questions, and it is no wall. The wall is the sandbox.

use serde_json::Value;

use crate::{
    agent::PermissionOption,
    config::{PermissionPolicy, ToolKind, Verdict},
};

/// What becomes of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The user is asked.
    Ask,
    /// It is answered with this option; none cancels it.
    Answer(Option<String>),
}

/// The policy in force where a user asks for one: what the template denies stays denied, all else is the user's.
#[must_use]
pub fn within(user: &PermissionPolicy, template: &PermissionPolicy) -> PermissionPolicy {
    let bounded = |own: Verdict, bound: Verdict| if bound == Verdict::Deny { bound } else { own };
    let default = bounded(user.default, template.default);
    let kinds = ToolKind::ALL.into_iter().filter_map(|kind| {
        let verdict = bounded(user.verdict(kind), template.verdict(kind));
        // What the user named stays named, so that they read what they wrote.
        (verdict != default || user.kinds.contains_key(&kind)).then_some((kind, verdict))
    });
    PermissionPolicy { default, kinds: kinds.collect() }
}

/// What becomes of a request for this tool call. A policy says yes or no to this one request: it never picks an option that holds for ever.
#[must_use]
pub fn decide(policy: &PermissionPolicy, tool_call: &Value, options: &[PermissionOption]) -> Decision {
    let option = |kind: &str| {
        let option = options.iter().find(|option| option.kind == kind);
        option.map(|option| option.option_id.clone())
    };
    let kind = tool_call.get("kind").and_then(Value::as_str).map_or(ToolKind::Other, ToolKind::of_agent);
    match policy.verdict(kind) {
        Verdict::Allow => option("allow_once").map_or(Decision::Ask, |chosen| Decision::Answer(Some(chosen))),
        Verdict::Ask => Decision::Ask,
        Verdict::Deny => Decision::Answer(option("reject_once")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn verdicts() -> impl Strategy<Value = Verdict> {
        prop_oneof![Just(Verdict::Allow), Just(Verdict::Ask), Just(Verdict::Deny)]
    }

    fn kinds() -> impl Strategy<Value = ToolKind> {
        prop::sample::select(&ToolKind::ALL[..])
    }

    fn policies() -> impl Strategy<Value = PermissionPolicy> {
        (verdicts(), prop::collection::btree_map(kinds(), verdicts(), 0..10))
            .prop_map(|(default, kinds)| PermissionPolicy { default, kinds })
    }

    fn options(kinds: &[&str]) -> Vec<PermissionOption> {
        let option = |kind: &&str| PermissionOption {
            option_id: format!("the {kind}"),
            name: "for people".to_owned(),
            kind: (*kind).to_owned(),
        };
        kinds.iter().map(option).collect()
    }

    fn offers() -> impl Strategy<Value = Vec<PermissionOption>> {
        let all = ["allow_always", "allow_once", "reject_once", "reject_always", "something_new"];
        prop::sample::subsequence(all.to_vec(), 0..=all.len()).prop_shuffle().prop_map(|kinds| options(&kinds))
    }

    fn only(verdict: Verdict) -> PermissionPolicy {
        PermissionPolicy { default: verdict, ..PermissionPolicy::default() }
    }

    proptest! {
        #[test]
        fn what_a_template_denies_stays_denied_and_the_rest_is_the_users(user in policies(), template in policies()) {
            let policy = within(&user, &template);
            for kind in ToolKind::ALL {
                let denied = template.verdict(kind) == Verdict::Deny;
                prop_assert_eq!(policy.verdict(kind), if denied { Verdict::Deny } else { user.verdict(kind) });
            }
            prop_assert!(user.kinds.keys().all(|kind| policy.kinds.contains_key(kind)));
        }

        #[test]
        fn a_policy_in_force_stays_what_it_is_when_it_is_asked_for_again(user in policies(), template in policies()) {
            let policy = within(&user, &template);
            prop_assert_eq!(within(&policy, &template), policy);
        }

        #[test]
        fn a_policy_answers_as_it_says_for_once_only_and_with_what_was_offered(
            policy in policies(), kind in kinds(), offered in offers()
        ) {
            let decision = decide(&policy, &json!({"kind": kind.as_str()}), &offered);
            match (policy.verdict(kind), decision) {
                (Verdict::Ask, decision) => prop_assert_eq!(decision, Decision::Ask),
                (Verdict::Allow, Decision::Ask) => prop_assert!(offered.iter().all(|option| option.kind != "allow_once")),
                (Verdict::Deny, Decision::Answer(None)) => {
                    prop_assert!(offered.iter().all(|option| option.kind != "reject_once"));
                }
                (verdict, Decision::Answer(Some(chosen))) => {
                    let side = if verdict == Verdict::Allow { "allow_once" } else { "reject_once" };
                    let option = offered.iter().find(|option| option.option_id == chosen);
                    prop_assert_eq!(option.map(|option| option.kind.as_str()), Some(side));
                }
                (verdict, decision) => prop_assert!(false, "{:?} became {:?}", verdict, decision),
            }
        }
    }

    #[test]
    fn a_call_without_a_kind_or_of_a_new_one_counts_as_other() {
        let policy = PermissionPolicy { kinds: [(ToolKind::Other, Verdict::Deny)].into(), ..only(Verdict::Allow) };
        let offered = options(&["allow_once", "reject_once"]);
        for call in [json!({}), json!({"kind": null}), json!({"kind": 7}), json!({"kind": "teleport"}), json!(null)] {
            assert_eq!(
                decide(&policy, &call, &offered),
                Decision::Answer(Some("the reject_once".to_owned())),
                "{call}"
            );
        }
        assert_eq!(
            decide(&policy, &json!({"kind": "read"}), &offered),
            Decision::Answer(Some("the allow_once".to_owned()))
        );
    }

    #[test]
    fn an_allowed_call_that_could_only_be_allowed_for_ever_is_asked_about_and_a_denied_one_is_cancelled() {
        let for_ever = options(&["allow_always", "reject_always"]);
        assert_eq!(decide(&only(Verdict::Allow), &json!({"kind": "edit"}), &for_ever), Decision::Ask);
        assert_eq!(decide(&only(Verdict::Deny), &json!({"kind": "edit"}), &for_ever), Decision::Answer(None));
    }
}
