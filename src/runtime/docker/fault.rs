//! Turns what went wrong with an engine call into what the caller can decide about. Pure; the log is written elsewhere.

use std::{error::Error as _, time::Duration};

use bollard::errors::Error;

use crate::runtime::RuntimeError;

/// Longest text of the engine's that is passed on, in bytes; its stories of mounts and shims can go on for pages.
const REASON_MAX: usize = 300;

/// A failed call, before it is known whether its status code means something to this call.
#[derive(Debug)]
pub(super) enum Fault {
    /// The engine answered with a status code.
    Status {
        /// The status code.
        code: u16,
        /// The engine's words, shortened.
        message: String,
    },
    /// The engine answered with something that the client library can't read.
    Unreadable {
        /// The whole answer.
        contents: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else: no engine, no answer, no time.
    Trouble(RuntimeError),
}

impl Fault {
    /// Sorts an error of the client library.
    pub(super) fn sort(error: Error, call: &'static str, address: &str, limit: Duration) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self::Status { code: status_code, message: shorten(&message) }
            }
            Error::RequestTimeoutError => Self::late(call, limit),
            Error::HyperLegacyError { .. }
            | Error::HyperResponseError { .. }
            | Error::IOError { .. }
            | Error::SocketNotFoundError(_)
            | Error::UnsupportedURISchemeError { .. } => {
                Self::Trouble(RuntimeError::Unreachable { reason: format!("{address}: {}", whole_story(&error)) })
            }
            Error::JsonDataError { message, contents, .. } => Self::Unreadable { contents, reason: shorten(&message) },
            other => Self::Trouble(RuntimeError::Refused { call, reason: unusable(&whole_story(&other)) }),
        }
    }

    /// The call's deadline passed.
    pub(super) const fn late(call: &'static str, limit: Duration) -> Self {
        Self::Trouble(RuntimeError::Deadline { call, seconds: limit.as_secs() })
    }

    /// The error for callers to whom no status code means anything special.
    pub(super) fn refused(self, call: &'static str) -> RuntimeError {
        match self {
            Self::Status { message, .. } => RuntimeError::Refused { call, reason: message },
            Self::Unreadable { reason, .. } => RuntimeError::Refused { call, reason: unusable(&reason) },
            Self::Trouble(error) => error,
        }
    }

    /// Whether the connection has to be made anew: the engine went away, or came back speaking another version.
    pub(super) fn breaks_connection(&self) -> bool {
        match self {
            Self::Status { code, message } => *code == 400 && message.contains("client version"),
            Self::Unreadable { .. } => false,
            Self::Trouble(error) => matches!(error, RuntimeError::Unreachable { .. }),
        }
    }
}

fn unusable(reason: &str) -> String {
    format!("its answer can't be used: {reason}")
}

/// The error and everything below it: "client error (Connect)" alone tells nobody that the socket is missing.
fn whole_story(error: &Error) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !story.contains(&text) {
            story.push_str(": ");
            story.push_str(&text);
        }
        cause = inner.source();
    }
    shorten(&story)
}

fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= REASON_MAX {
        return line;
    }
    let end = (0..=REASON_MAX).rev().find(|&index| line.is_char_boundary(index)).unwrap_or(0);
    format!("{}…", &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn sort(error: Error) -> Fault {
        Fault::sort(error, "inspect", "unix:///nowhere", LIMIT)
    }

    #[test]
    fn an_engine_that_is_not_there_is_unreachable_and_the_address_is_told() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let fault = sort(Error::IOError { err: refused });
        assert!(fault.breaks_connection());
        let text = fault.refused("inspect").to_string();
        assert!(text.contains("unix:///nowhere") && text.contains("refused"), "{text}");
    }

    #[test]
    fn an_engine_of_another_version_is_asked_again_who_it_is() {
        let message = "client version 1.53 is too new. Maximum supported API version is 1.41".to_owned();
        assert!(sort(Error::DockerResponseServerError { status_code: 400, message }).breaks_connection());
        let message = "no such container".to_owned();
        assert!(!sort(Error::DockerResponseServerError { status_code: 404, message }).breaks_connection());
    }

    #[test]
    fn the_engines_words_become_one_short_line() {
        let message = format!("OCI runtime create failed:\n\t{}", "ä".repeat(1_000));
        let fault = sort(Error::DockerResponseServerError { status_code: 500, message });
        let RuntimeError::Refused { reason, .. } = fault.refused("start") else { panic!("not a refusal") };
        assert!(reason.starts_with("OCI runtime create failed: ää"), "{reason}");
        assert!(reason.len() <= REASON_MAX + '…'.len_utf8(), "{}", reason.len());
    }

    #[test]
    fn a_deadline_says_which_call_and_how_long() {
        let error = sort(Error::RequestTimeoutError).refused("inspect");
        assert!(matches!(error, RuntimeError::Deadline { call: "inspect", seconds: 5 }), "{error}");
    }
}
