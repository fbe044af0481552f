//! Why a tool doesn't get where it wants. The answers are text for people and agents; they name no address.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::telemetry::labels::EgressOutcome;

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Nobody leases the slot.
    #[error("this sandbox is not in use: it may reach nothing")]
    Unleased,
    /// Not a request to a proxy, or not to a host that can be.
    #[error("this is a proxy: it takes CONNECT host:port, and http:// addresses of hosts by name")]
    Malformed,
    /// The `Host` header and the address don't agree.
    #[error("the Host header must name the host of the address, once")]
    HostDiffers,
    /// An address instead of a name.
    #[error("hosts are reached by name only, not by address")]
    Address,
    /// No rule lets it through.
    #[error("this host and port are not among those the session may reach")]
    NotAllowed,
    /// The name leads to this machine or its networks, or may.
    #[error("this name does not lead to a public address")]
    NotPublic,
    /// Nobody knows the name.
    #[error("this name can't be found")]
    Unresolved,
    /// The host can't be reached, or broke off.
    #[error("this host can't be reached at the moment")]
    Unreachable,
    /// It took too long.
    #[error("this host did not answer in time")]
    Deadline,
    /// The tunnel doesn't begin as TLS does.
    #[error("a tunnel must begin with TLS")]
    NotTls,
    /// The greeting is for another host, or doesn't say for which.
    #[error("the TLS greeting must name the host of the tunnel")]
    WrongName,
}

impl Refusal {
    const fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::HostDiffers => StatusCode::BAD_REQUEST,
            // Those of a tunnel have no answer any more.
            Self::Unleased | Self::Address | Self::NotAllowed | Self::NotPublic | Self::NotTls | Self::WrongName => {
                StatusCode::FORBIDDEN
            }
            Self::Unresolved | Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What to count it as, and its word in the log.
    pub const fn outcome(self) -> EgressOutcome {
        match self {
            Self::Unleased => EgressOutcome::Unleased,
            Self::Malformed => EgressOutcome::Malformed,
            Self::HostDiffers => EgressOutcome::HostDiffers,
            Self::Address => EgressOutcome::Address,
            Self::NotAllowed => EgressOutcome::NotAllowed,
            Self::NotPublic => EgressOutcome::NotPublic,
            Self::Unresolved => EgressOutcome::Unresolved,
            Self::Unreachable => EgressOutcome::Unreachable,
            Self::Deadline => EgressOutcome::Deadline,
            Self::NotTls => EgressOutcome::NotTls,
            Self::WrongName => EgressOutcome::WrongName,
        }
    }

    /// The whole answer.
    pub fn answer(self) -> Response<Bytes> {
        let mut answer = Response::new(Bytes::from(format!("greenroom: {self}\n")));
        *answer.status_mut() = self.status();
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        answer
    }
}
