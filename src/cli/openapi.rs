//! `greenroom openapi`: prints an OpenAPI document. Needs neither settings nor an engine.

use std::io::Write as _;

use clap::Args;

use crate::doors::{admin, rest};

/// Arguments of `greenroom openapi`.
#[derive(Debug, Args)]
pub(super) struct OpenapiArgs {
    /// The document of the operators' address, in place of the users'.
    #[arg(long)]
    admin: bool,
}

/// Prints the document.
///
/// # Errors
/// stdout is closed.
pub(super) fn run(args: OpenapiArgs) -> anyhow::Result<()> {
    let document = if args.admin { admin::document() } else { rest::document() };
    writeln!(std::io::stdout().lock(), "{document}")?;
    Ok(())
}
