//! The one place that knows what a failure looks like outside: a stable code, its HTTP status, its public text.
//!
//! Rooms inside have error enums of their own; the service turns them into a [`Problem`]. The text of a problem is public:
//! it never holds a container id, a path, a key or another error's `Display`. The private cause travels beside it, for the log.

use std::time::Duration;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, in the words clients can rely on (API version 1).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable text, such as `POOL_EXHAUSTED`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that goes with the code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// A short human title.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The request is malformed or breaks a stated rule.
    InvalidRequest = "INVALID_REQUEST", 400, "The request is not valid";
    /// No token, or one that names nobody.
    Unauthenticated = "UNAUTHENTICATED", 401, "Authentication is required";
    /// The model API refused the user's key.
    ApiKeyInvalid = "API_KEY_INVALID", 401, "The model API refused the key";
    /// The caller is known but may not do this.
    Forbidden = "FORBIDDEN", 403, "Not allowed";
    /// It doesn't exist, or belongs to somebody else.
    NotFound = "NOT_FOUND", 404, "Not found";
    /// The HTTP method isn't offered here.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, "Method not allowed";
    /// The request can't be combined with the present state.
    Conflict = "CONFLICT", 409, "Conflict with the current state";
    /// A turn is running; one at a time.
    TurnInProgress = "TURN_IN_PROGRESS", 409, "A turn is in progress";
    /// Another session holds the workspace.
    WorkspaceInUse = "WORKSPACE_IN_USE", 409, "The workspace is in use";
    /// The permission has its answer already.
    PermissionAnswered = "PERMISSION_ANSWERED", 409, "The permission was answered";
    /// The session is over.
    SessionEnded = "SESSION_ENDED", 409, "The session has ended";
    /// The events after this cursor are no longer kept.
    EventCursorExpired = "EVENT_CURSOR_EXPIRED", 410, "The event cursor has expired";
    /// `If-Match` named another version.
    PreconditionFailed = "PRECONDITION_FAILED", 412, "Precondition failed";
    /// The body is larger than the limit.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", 413, "The request is too large";
    /// The body isn't of a media type this call takes.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, "Unsupported media type";
    /// The request names a host that this server isn't.
    MisdirectedRequest = "MISDIRECTED_REQUEST", 421, "The request is for another host";
    /// The same idempotency key came with another body.
    IdempotencyMismatch = "IDEMPOTENCY_MISMATCH", 422, "The idempotency key was used for another request";
    /// The caller is too fast.
    RateLimited = "RATE_LIMITED", 429, "Too many requests";
    /// The caller holds as much as they may.
    ResourceLimit = "RESOURCE_LIMIT", 429, "A resource limit is reached";
    /// The caller's token budget is spent.
    BudgetExhausted = "BUDGET_EXHAUSTED", 429, "The budget is exhausted";
    /// A fault of ours.
    Internal = "INTERNAL_ERROR", 500, "Internal error";
    /// The agent broke its protocol or died.
    AgentFailed = "AGENT_FAILED", 502, "The agent failed";
    /// No sandbox became free in time.
    PoolExhausted = "POOL_EXHAUSTED", 503, "No sandbox is free";
    /// The engine could not start a sandbox.
    ContainerStartFailed = "CONTAINER_START_FAILED", 503, "A sandbox could not be started";
    /// The container engine doesn't answer.
    EngineUnavailable = "ENGINE_UNAVAILABLE", 503, "The container engine is unavailable";
    /// What happens can't be written down at present, so nothing new may happen.
    StoreUnavailable = "STORE_UNAVAILABLE", 503, "The store is unavailable";
    /// A named key can't be looked up where it is kept.
    CredentialUnavailable = "CREDENTIAL_UNAVAILABLE", 503, "The credential can't be had at present";
    /// The server is stopping.
    ShuttingDown = "SHUTTING_DOWN", 503, "The server is shutting down";
    /// The agent didn't answer in time.
    AgentTimeout = "AGENT_TIMEOUT", 504, "The agent did not answer in time";
}

impl Code {
    /// A stable name of the code as a URI, such as `urn:greenroom:problem:pool-exhausted`; the `type` of RFC 9457.
    #[must_use]
    pub fn urn(self) -> String {
        format!("urn:greenroom:problem:{}", self.as_str().to_ascii_lowercase().replace('_', "-"))
    }

    /// `Retry-After` is owed on these; what is sent when the problem itself knows no better.
    #[must_use]
    pub const fn default_retry_after(self) -> Option<Duration> {
        match self.status() {
            429 | 503 => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// Where a caller stands with one of their limits; what the `RateLimit` fields of a 429 are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateState {
    /// The limit's name, such as `open`.
    pub policy: &'static str,
    /// How many are granted in one window, or at the same time when there is no window.
    pub quota: u32,
    /// The time in which a whole quota comes back; none: the limit counts what is held, not what passes.
    pub window: Option<Duration>,
    /// How many are left now.
    pub remaining: u32,
    /// When the next one is granted, if time alone brings it.
    pub reset: Option<Duration>,
}

/// A failure as a caller sees it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Problem {
    /// What kind of failure.
    pub code: Code,
    /// Public text: what happened and what to do about it.
    pub detail: String,
    /// When to try again, where that is known.
    pub retry_after: Option<Duration>,
    /// For `EVENT_CURSOR_EXPIRED`: the earliest number that is still kept.
    pub earliest_seq: Option<u64>,
    /// For 429: the limit that was met.
    pub rate: Option<Box<RateState>>,
    /// The private cause. Logged once, where the answer is made; never sent.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Problem {
    /// A problem with a public text.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after: code.default_retry_after(),
            earliest_seq: None,
            rate: None,
            cause: None,
        }
    }

    /// A fault of ours: the caller learns nothing but that.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Code::Internal, "something went wrong on our side; the request id helps us find it").because(cause)
    }

    /// The one answer for no token, a wrong one, and one that isn't good any more: whoever tries tokens learns nothing.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(Code::Unauthenticated, "this call needs `Authorization: Bearer <token>` with a valid token")
    }

    /// The one answer for what isn't there and for what is somebody else's.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "there is nothing here under that id")
    }

    /// Adds the private cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Says which limit was met.
    #[must_use]
    pub fn rate(mut self, state: RateState) -> Self {
        self.rate = Some(Box::new(state));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_429_and_503_says_when_to_retry() {
        for code in Code::ALL {
            let owes = matches!(code.status(), 429 | 503);
            assert_eq!(Problem::new(*code, "x").retry_after.is_some(), owes, "{}", code.as_str());
        }
    }
}
