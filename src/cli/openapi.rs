//! `greenroom openapi`: prints the OpenAPI document. Needs neither settings nor an engine.

/// Prints the document.
///
/// # Errors
/// stdout is closed.
pub(super) fn run() -> anyhow::Result<()> {
    // wire: writeln!(std::io::stdout().lock(), "{}", crate::doors::rest::document())?;
    Ok(())
}
