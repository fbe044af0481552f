//! A failure's body.

use poem_openapi::Object;

use super::text::CodeText;
use crate::problem::Problem;

/// What went wrong (RFC 9457). Switch on `code`; show `detail` to people.
#[derive(Debug, Object)]
#[oai(rename = "Problem", skip_serializing_if_is_none)]
pub struct ProblemBody {
    /// A stable name of the code, as a URI.
    #[oai(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and what to do about it.
    pub detail: String,
    /// The path that was asked for.
    pub instance: String,
    /// The stable code.
    pub code: CodeText,
    /// Names the request, in `X-Request-Id` and in the server's log.
    pub request_id: String,
    /// For `EVENT_CURSOR_EXPIRED`: the number of the first event that is still kept.
    pub earliest_seq: Option<u64>,
}

impl ProblemBody {
    /// A problem as the answer to one request.
    #[must_use]
    pub fn new(problem: &Problem, instance: String, request_id: String) -> Self {
        Self {
            kind: problem.code.urn(),
            title: problem.code.title().to_owned(),
            status: problem.code.status(),
            detail: problem.detail.clone(),
            instance,
            code: CodeText(problem.code),
            request_id,
            earliest_seq: problem.earliest_seq,
        }
    }
}
