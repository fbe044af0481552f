//! The answers that are ours and not the model's, in the form of the API the agent speaks, so that it understands them.
//!
//! Their text is public: it names no host, no path and no key. Why it happened is in the log.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::{
    budget::Exhausted,
    form::{self, Words},
};
use crate::{config::ApiForm, telemetry::labels::GatewayOutcome};

/// Why a request gets no answer from the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Nobody leases the slot.
    #[error("this sandbox is not in use: it may send nothing")]
    Unleased,
    /// Not one of the calls that are let through.
    #[error("this call is not allowed from a sandbox")]
    NotAllowed,
    /// Not JSON, or not in the plain.
    #[error("the body must be application/json, without an encoding")]
    MediaType,
    /// What says it is JSON isn't, and its costs have to be known.
    #[error("the body is not a JSON object")]
    NotUnderstood,
    /// The request's body is over the limit.
    #[error("the request is larger than {} MiB", super::body::UPLOAD_BYTES / 1024 / 1024)]
    TooLarge,
    /// The agent stopped sending in the middle of its request.
    #[error("the request was not sent in time")]
    Unfinished,
    /// The user's key can't be a header's value.
    #[error("the API key has a character that no key has")]
    Key,
    /// The session's own key was known to a former server only.
    #[error(
        "the session's API key is missing: it was lost with a restart or removed, and has to be sent again, or it can't be looked up at present"
    )]
    KeyMissing,
    /// The user may spend no more.
    #[error("{0}")]
    Budget(Exhausted),
    /// The model couldn't be reached, or broke off.
    #[error("the model can't be reached at the moment")]
    Unreachable,
    /// The model sent us elsewhere; we don't go.
    #[error("the model gave an answer that can't be passed on")]
    Elsewhere,
    /// The model didn't answer.
    #[error("the model did not answer in time")]
    Deadline,
}

impl Refusal {
    /// The status, and its name in the Gemini API.
    const fn status(self) -> (StatusCode, &'static str) {
        match self {
            Self::Unleased | Self::NotAllowed => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "INVALID_ARGUMENT"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "INVALID_ARGUMENT"),
            Self::Unfinished => (StatusCode::REQUEST_TIMEOUT, "DEADLINE_EXCEEDED"),
            Self::KeyMissing => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
            Self::Key | Self::NotUnderstood => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
            Self::Budget(_) => (StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
            Self::Unreachable | Self::Elsewhere => (StatusCode::BAD_GATEWAY, "UNAVAILABLE"),
            Self::Deadline => (StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
        }
    }

    /// What to count it as.
    pub const fn outcome(self) -> GatewayOutcome {
        match self {
            Self::Unleased => GatewayOutcome::Unleased,
            Self::NotAllowed => GatewayOutcome::Forbidden,
            Self::MediaType
            | Self::NotUnderstood
            | Self::TooLarge
            | Self::Unfinished
            | Self::Key
            | Self::KeyMissing => GatewayOutcome::Invalid,
            Self::Budget(_) => GatewayOutcome::OverBudget,
            Self::Unreachable | Self::Deadline => GatewayOutcome::Unreachable,
            Self::Elsewhere => GatewayOutcome::ModelError,
        }
    }

    /// The whole answer.
    pub fn answer(self, form: ApiForm) -> Response<Bytes> {
        let (code, status) = self.status();
        // Whoever comes again comes to the same: only the end of the window, or another key, changes anything.
        let hopeless = matches!(self, Self::Budget(_));
        form::refusal(form, Words { code, status, message: &self.to_string(), hopeless })
    }
}
