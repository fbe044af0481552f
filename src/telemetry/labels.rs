//! The values metrics' labels can have: enums, so that their number is bounded.

use std::time::Duration;

use crate::problem::Code;

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// The label's text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

label! {
    /// What a sandbox is doing.
    SandboxState {
        /// Being started.
        Starting = "starting",
        /// In stock.
        Ready = "ready",
        /// Held by a session.
        Leased = "leased",
        /// Being destroyed.
        Ending = "ending",
    }
}

label! {
    /// A phase of a sandbox's start.
    Phase {
        /// The engine makes the container.
        Create = "create",
        /// The engine starts it.
        Start = "start",
        /// The supervisor dials us.
        Link = "link",
        /// The agent answers `initialize`.
        Initialize = "initialize",
        /// The agent authenticates and opens its session.
        Session = "session",
        /// All of it.
        Total = "total",
    }
}

label! {
    /// How an open came to its sandbox.
    OpenStart {
        /// A ready one was waiting and nothing had to be done.
        Warm = "warm",
        /// Something had to be started or waited for.
        Cold = "cold",
        /// It never got one.
        None = "none",
    }
}

label! {
    /// What became of an agent's model call.
    GatewayOutcome {
        /// The model answered with a success.
        Forwarded = "forwarded",
        /// The model answered with an error, or with something that isn't passed on.
        ModelError = "model_error",
        /// The model could not be reached, did not answer in time, or broke off.
        Unreachable = "unreachable",
        /// The slot isn't leased.
        Unleased = "unleased",
        /// The host, path or method isn't among the template's.
        Forbidden = "forbidden",
        /// The request broke a limit or HTTP itself, or came with a key that no key can be.
        Invalid = "invalid",
        /// The user may spend no more.
        OverBudget = "over_budget",
        /// The agent hung up, or its lease ended, before there was an answer.
        GivenUp = "given_up",
    }
}

label! {
    /// What became of a line for the audit log.
    AuditOutcome {
        /// It is in the file.
        Written = "written",
        /// The queue was full, or the file could not be written.
        Lost = "lost",
        /// Its cause set off too many in one second.
        LeftOut = "left_out",
    }
}

label! {
    /// What became of a tool's request for a host.
    EgressOutcome {
        /// It is connected.
        Allowed = "allowed",
        /// The slot isn't leased.
        Unleased = "unleased",
        /// It is no request to a proxy.
        Malformed = "malformed",
        /// Its `Host` header and its address don't agree.
        HostDiffers = "host_differs",
        /// It names an address.
        Address = "address",
        /// No rule lets it through.
        NotAllowed = "not_allowed",
        /// The name leads to an address that isn't public.
        NotPublic = "not_public",
        /// Nobody knows the name.
        Unresolved = "unresolved",
        /// The host can't be reached.
        Unreachable = "unreachable",
        /// The host, or whoever knows its name, did not answer in time.
        Deadline = "deadline",
        /// The tunnel, connected already, doesn't begin with TLS.
        NotTls = "not_tls",
        /// Its TLS greeting is for another host.
        WrongName = "wrong_name",
        /// The rule that let it through was taken away.
        Revoked = "revoked",
    }
}

label! {
    /// Why an open wasn't served from stock at once.
    MissReason {
        /// There should have been a sandbox in stock.
        Empty = "empty",
        /// An existing workspace needed a new agent session.
        Workspace = "workspace",
        /// The stock was being replaced because its template changed.
        TemplateChanged = "template_changed",
        /// The template keeps no stock at present.
        OverTarget = "over_target",
        /// Answered with an error.
        Refused = "refused",
        /// The caller hung up while waiting.
        GivenUp = "given_up",
    }
}

label! {
    /// Why a warm sandbox left the stock without ever having been leased.
    Discard {
        /// Its agent, its supervisor or its container ended.
        Dead = "dead",
        /// Its supervisor or its agent stopped answering.
        Silent = "silent",
        /// It used too much memory for one that waits.
        Memory = "memory",
        /// An operator destroyed, paused or drained it.
        Operator = "operator",
        /// It was too old, made before its template changed, or no longer wanted: others need the room, or demand fell.
        Retired = "retired",
    }
}

/// How an open ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenOutcome {
    /// With a session.
    Ok,
    /// With a problem.
    Failed(Code),
}

impl OpenOutcome {
    /// The label's text: `ok`, or the problem's code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(code) => code.as_str(),
        }
    }
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnOutcome {
    /// With a stop reason of the agent.
    Ended(&'static str),
    /// With a problem.
    Failed(Code),
}

impl TurnOutcome {
    /// From ACP's stop reason. One that ACP doesn't know is `other`: agents don't make labels.
    #[must_use]
    pub fn from_stop_reason(reason: &str) -> Self {
        const KNOWN: [&str; 5] = ["end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled"];
        Self::Ended(KNOWN.into_iter().find(|known| *known == reason).unwrap_or("other"))
    }

    /// The label's text: the stop reason, or the problem's code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended(reason) => reason,
            Self::Failed(code) => code.as_str(),
        }
    }
}

/// How long the phases of a sandbox's start took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartTimes {
    /// The engine made the container.
    pub create: Duration,
    /// The engine started it.
    pub start: Duration,
    /// The supervisor dialled us.
    pub link: Duration,
    /// The agent answered `initialize`.
    pub initialize: Duration,
    /// The agent authenticated and opened its session.
    pub session: Duration,
    /// All of it.
    pub total: Duration,
}

impl StartTimes {
    /// Every phase with its time.
    #[must_use]
    pub const fn each(&self) -> [(Phase, Duration); 6] {
        [
            (Phase::Create, self.create),
            (Phase::Start, self.start),
            (Phase::Link, self.link),
            (Phase::Initialize, self.initialize),
            (Phase::Session, self.session),
            (Phase::Total, self.total),
        ]
    }
}

/// A method's label: users can send any word as a method.
pub(super) fn method_label(method: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_choose_never_becomes_a_label() {
        assert_eq!(TurnOutcome::from_stop_reason("refusal").as_str(), "refusal");
        assert_eq!(TurnOutcome::from_stop_reason("made-up").as_str(), "other");
        assert_eq!(method_label("BREW"), "OTHER");
        assert_eq!(OpenOutcome::Failed(Code::PoolExhausted).as_str(), "POOL_EXHAUSTED");
    }
}
