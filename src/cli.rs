//! The command line: what can be asked for, and with which exit code it ends.
//!
//! Commands read settings, call one room and end. They don't know how anything is done.

mod backup;
mod check;
mod core_dumps;
mod credentials;
pub mod exit;
mod healthcheck;
mod keys;
pub mod model_stub;
mod openapi;
mod serve;
pub mod settings;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  greenroom serve --dev                       a server to try out, with a token and a curl to paste
  greenroom serve --config greenroom.toml     a server to keep
  greenroom check                             what this engine really enforces
  greenroom keys create --user ada            a token for a user
  greenroom backup --to greenroom.backup      a copy of what the server keeps, while it serves

Exit codes:
  0   done
  1   failed
  2   wrong arguments
  69  the server can't serve: no engine, no image, address in use
  78  the settings are wrong; every fault is listed";

/// Keeps AI agents booted, logged in and waiting, each in its own sandbox, and leases one in milliseconds.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::ServeArgs),
    /// Print the OpenAPI document.
    Openapi(openapi::OpenapiArgs),
    /// Say what this engine really enforces.
    Check(check::CheckArgs),
    /// Make, list and revoke tokens.
    Keys {
        #[command(flatten)]
        settings: settings::SettingsArgs,
        #[command(flatten)]
        keys: keys::KeysArgs,
    },
    /// Put, list and remove users' keys for model APIs, which are kept encrypted.
    Credentials {
        #[command(flatten)]
        settings: settings::SettingsArgs,
        #[command(flatten)]
        credentials: credentials::CredentialsArgs,
    },
    /// Copy the store (sessions, their events, tokens spent) while a server works with it.
    Backup(backup::BackupArgs),
    /// Run a model without a model: scripted answers, for trying out and testing.
    ModelStub(model_stub::ModelStubArgs),
    /// Ask a running server whether it is alive; for container health checks.
    Healthcheck(healthcheck::HealthcheckArgs),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// Whatever went wrong; [`exit::code`] has the exit code.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Openapi(args) => openapi::run(args),
            Command::Check(args) => block_on(check::run(args)),
            Command::Keys { settings, keys } => keys::run(keys, &settings.load()?),
            Command::Credentials { settings, credentials } => credentials::run(credentials, settings),
            Command::Backup(args) => backup::run(args),
            Command::ModelStub(args) => block_on(model_stub::run(args)),
            Command::Healthcheck(args) => block_on(healthcheck::run(args)),
        }
    }
}

/// Runs a future on a runtime with at least two workers: one may be held up for a moment (by a flush at the end, say) without
/// stopping the rest.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let workers = std::thread::available_parallelism().map_or(2, |count| count.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let result = runtime.block_on(work);
    // What still blocks a thread now is past its own deadline: it isn't waited for.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_has_a_word_of_help() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                let id = argument.get_id();
                assert!(argument.get_help().is_some(), "{} {id} has no help", command.get_name());
            }
        }
    }
}
