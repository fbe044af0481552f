//! `greenroom backup`: a consistent copy of the store, also while a server works with it.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Args;

use super::settings::SettingsArgs;
use crate::store::sqlite::{self, FILE_NAME};

/// Arguments of `greenroom backup`.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The copy to make. It must not exist. Workspaces and keys are not in it.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Makes the copy.
pub(super) fn run(args: BackupArgs) -> anyhow::Result<()> {
    let config = args.settings.load()?;
    let copied = sqlite::backup(&config.state.dir.join(FILE_NAME), &args.to)?;
    let (to, bytes, took) = (args.to.display(), copied.bytes, copied.took);
    writeln!(io::stderr(), "{to}: {bytes} bytes in {:.1} s, checked", took.as_secs_f64())?;
    Ok(())
}
