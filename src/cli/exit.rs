//! Exit codes, after `sysexits.h` where it has one.

use std::process::ExitCode;

use crate::{app::StartError, config::ConfigError, telemetry::TelemetryError};

/// The server can't serve (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;
/// The settings are wrong (`EX_CONFIG`).
const CONFIGURATION: u8 = 78;

/// The exit code of a failed command.
#[must_use]
pub fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(number(error))
}

fn number(error: &anyhow::Error) -> u8 {
    let setting = matches!(error.downcast_ref(), Some(StartError::Setting(_) | StartError::Credentials(_)));
    if setting || error.is::<ConfigError>() || error.is::<TelemetryError>() {
        CONFIGURATION
    } else if error.is::<StartError>() {
        UNAVAILABLE
    } else {
        1
    }
}

/// The failure in one sentence, causes included. Causes that only repeat what was said are left out.
#[must_use]
pub fn sentence(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn faulty_settings_have_a_code_of_their_own() {
        let error = anyhow::Error::from(ConfigError { faults: Vec::new() });
        assert_eq!((number(&error), number(&error.context("more words"))), (78, 78));
        assert_eq!(number(&anyhow::anyhow!("anything else")), 1);
    }

    #[test]
    fn a_cause_is_told_once() {
        let told = Err::<(), _>(std::io::Error::other("disk is full")).context("can't write").expect_err("it is one");
        assert_eq!(sentence(&told), "can't write: disk is full");
        assert_eq!(sentence(&told.context("no: can't write: disk is full")), "no: can't write: disk is full");
    }
}
