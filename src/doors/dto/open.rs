//! Requests to open a session, and what is checked of them here: the form of names. Labels, and what exists and what is allowed,
//! are the service's.

use std::{collections::BTreeMap, time::Duration};

use poem_openapi::{Object, types::Example};

use super::{credential::Credential, policy::PermissionPolicy};
use crate::{
    config::HostPattern,
    ids::{NameError, TemplateName, WorkspaceName},
    problem::{Code, Problem},
    service::view,
};

/// The longest name of a mode or model, in bytes.
const NAME_LENGTH_MAX: usize = 128;
/// As much of a host that is none as the refusal repeats, in characters.
const HOSTS_SHOWN: usize = 64;

/// A request to open a session. Everything may be left out.
#[derive(Default, Object)]
#[oai(deny_unknown_fields, example)]
pub struct OpenSession {
    /// Which template; left out: the only one, or `gemini`.
    #[oai(validator(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$"))]
    pub template: Option<String>,
    /// Which of the user's workspaces; left out: a new one. Held by one session at a time.
    #[oai(validator(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$"))]
    pub workspace: Option<String>,
    /// The user's own access to the model API; left out: the server's.
    pub credential: Option<Credential>,
    /// The agent's mode, in its own words, such as `yolo` or `plan`.
    pub mode: Option<String>,
    /// The model, in the agent's own words.
    pub model: Option<String>,
    /// The user's labels: at most 16, keys and values of at most 64 characters.
    pub labels: Option<BTreeMap<String, String>>,
    /// The session ends after this long without a turn, in seconds. Never longer than the server allows.
    #[oai(validator(minimum(value = "1")))]
    pub idle_timeout_s: Option<u32>,
    /// The session ends at this age, in seconds. Never longer than the server allows.
    #[oai(validator(minimum(value = "1")))]
    pub max_age_s: Option<u32>,
    /// How long to wait for a sandbox when none is free, in seconds; 0: not at all. Never longer than the server allows.
    pub queue_timeout_s: Option<u32>,
    /// What becomes of the agent's requests for permission; left out: as the template says.
    pub permissions: Option<PermissionPolicy>,
    /// What its tools may reach beyond its template's list, as `host`, `host:port` or `*.domain:port`; without a port: 443 and 80. Each has to be
    /// within what the template offers. At most 64.
    pub egress: Option<Vec<String>>,
}

impl Example for OpenSession {
    fn example() -> Self {
        Self {
            template: Some("gemini".to_owned()),
            workspace: Some("notes".to_owned()),
            labels: Some(BTreeMap::from([("team".to_owned(), "docs".to_owned())])),
            idle_timeout_s: Some(600),
            ..Self::default()
        }
    }
}

impl TryFrom<OpenSession> for view::OpenSession {
    type Error = Problem;

    fn try_from(request: OpenSession) -> Result<Self, Problem> {
        Ok(Self {
            template: checked("template", request.template, TemplateName::parse)?,
            workspace: checked("workspace", request.workspace, WorkspaceName::parse)?,
            credential: request.credential.map(TryInto::try_into).transpose()?,
            mode: short_name("mode", request.mode)?,
            model: short_name("model", request.model)?,
            labels: request.labels.unwrap_or_default(),
            idle_timeout: seconds(request.idle_timeout_s),
            max_age: seconds(request.max_age_s),
            queue_timeout: seconds(request.queue_timeout_s),
            permissions: request.permissions.map(Into::into),
            egress: request.egress.map(hosts).transpose()?.unwrap_or_default(),
            default: false,
        })
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

fn checked<T>(
    field: &str,
    text: Option<String>,
    parse: impl Fn(&str) -> Result<T, NameError>,
) -> Result<Option<T>, Problem> {
    text.map(|text| parse(&text).map_err(|fault| invalid(format!("{field} {fault}")))).transpose()
}

pub(super) fn seconds(value: Option<u32>) -> Option<Duration> {
    value.map(|value| Duration::from_secs(value.into()))
}

pub(super) fn short_name(field: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.is_empty() || text.len() > NAME_LENGTH_MAX || text.contains(char::is_control) => {
            Err(invalid(format!("{field} must have 1 to {NAME_LENGTH_MAX} bytes and no control characters")))
        }
        text => Ok(text),
    }
}

/// Hosts and patterns, each once.
pub(super) fn hosts(texts: Vec<String>) -> Result<Vec<HostPattern>, Problem> {
    let mut patterns = Vec::with_capacity(texts.len().min(HOSTS_SHOWN));
    for text in texts {
        let pattern = text.parse::<HostPattern>().map_err(|fault| {
            let shown: String = text.chars().filter(|char| !char.is_control()).take(HOSTS_SHOWN).collect();
            invalid(format!("egress: {shown:?} {fault}"))
        })?;
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(request: OpenSession) -> String {
        match view::OpenSession::try_from(request) {
            Ok(_) => String::new(),
            Err(problem) => problem.detail,
        }
    }

    #[test]
    fn an_empty_request_and_the_example_are_fine() {
        assert_eq!(refusal(OpenSession::default()), "");
        assert_eq!(refusal(OpenSession::example()), "");
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused_by_field() {
        for bad in ["", "..", "a/b", "A", "a\0"] {
            let workspace = OpenSession { workspace: Some(bad.to_owned()), ..OpenSession::default() };
            assert!(refusal(workspace).starts_with("workspace must"), "{bad}");
            let template = OpenSession { template: Some(bad.to_owned()), ..OpenSession::default() };
            assert!(refusal(template).starts_with("template must"), "{bad}");
        }
    }
}
