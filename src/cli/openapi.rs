//! `greenroom openapi`: prints the OpenAPI document. Needs neither settings nor an engine.

use std::io::Write as _;

/// Prints the document.
///
/// # Errors
/// stdout is closed.
pub(super) fn run() -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{}", crate::doors::rest::document())?;
    Ok(())
}
