//! Requests to change a session.

use std::collections::BTreeMap;

use poem_openapi::{Object, types::Example};

use super::{
    credential::Credential,
    open::{hosts, seconds, short_name},
    policy::PermissionPolicy,
};
use crate::{problem::Problem, service::view};

/// A request to change a session. What is left out stays as it is.
#[derive(Default, Object)]
#[oai(deny_unknown_fields, example)]
pub struct ChangeSession {
    /// All labels: those that aren't named are gone. At most 16, keys and values of at most 64 characters.
    pub labels: Option<BTreeMap<String, String>>,
    /// The agent's mode, in its own words. What it doesn't know it refuses.
    pub mode: Option<String>,
    /// The model, in the agent's own words. What it doesn't know it refuses.
    pub model: Option<String>,
    /// The session ends after this long without a turn, in seconds. Never longer than the server allows.
    #[oai(validator(minimum(value = "1")))]
    pub idle_timeout_s: Option<u32>,
    /// The session ends at this age, in seconds since it was opened. Never longer than the server allows.
    #[oai(validator(minimum(value = "1")))]
    pub max_age_s: Option<u32>,
    /// The whole policy: what isn't named in it is asked. A request that is open already still waits for its user.
    pub permissions: Option<PermissionPolicy>,
    /// All that its tools may reach beyond its template's list: hosts that aren't named are gone, and connections to them end. The forms are those
    /// of an open.
    pub egress: Option<Vec<String>>,
    /// The user's own access to the model API, from the next call on.
    pub credential: Option<Credential>,
}

impl Example for ChangeSession {
    fn example() -> Self {
        Self {
            labels: Some(BTreeMap::from([("team".to_owned(), "docs".to_owned())])),
            mode: Some("plan".to_owned()),
            max_age_s: Some(7_200),
            ..Self::default()
        }
    }
}

impl TryFrom<ChangeSession> for view::ChangeSession {
    type Error = Problem;

    fn try_from(request: ChangeSession) -> Result<Self, Problem> {
        Ok(Self {
            labels: request.labels,
            mode: short_name("mode", request.mode)?,
            model: short_name("model", request.model)?,
            idle_timeout: seconds(request.idle_timeout_s),
            max_age: seconds(request.max_age_s),
            permissions: request.permissions.map(Into::into),
            egress: request.egress.map(hosts).transpose()?,
            credential: request.credential.map(TryInto::try_into).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::ParseFromJSON as _;
    use serde_json::json;

    use super::{super::credential::ApiKey, *};

    fn refusal(request: ChangeSession) -> String {
        view::ChangeSession::try_from(request).map_or_else(|problem| problem.detail, |_| String::new())
    }

    #[test]
    fn nothing_and_the_example_are_fine() {
        assert_eq!(refusal(ChangeSession::default()), "");
        assert_eq!(refusal(ChangeSession::example()), "");
    }

    #[test]
    fn what_is_fixed_for_a_sessions_life_is_no_field() {
        for fixed in ["template", "workspace", "queue_timeout_s", "state", "lease"] {
            assert!(ChangeSession::parse_from_json(Some(json!({fixed: "x"}))).is_err(), "{fixed}");
        }
    }

    #[test]
    fn names_and_keys_are_held_to_the_rules_of_an_open() {
        let with = |mode: &str| ChangeSession { mode: Some(mode.to_owned()), ..ChangeSession::default() };
        assert!(refusal(with("")).starts_with("mode must"));
        assert!(refusal(with(&"x".repeat(129))).starts_with("mode must"));
        let credential = Some(Credential { api_key: Some(ApiKey::of("canary key")), name: None });
        let detail = refusal(ChangeSession { credential, ..ChangeSession::default() });
        assert!(detail.starts_with("credential.api_key must") && !detail.contains("canary"), "{detail}");
    }
}
