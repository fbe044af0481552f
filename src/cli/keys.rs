//! `greenroom keys`: makes, lists and revokes the tokens users come in with. Works on the key file; a running server takes
//! notice within a second.

use std::io::{self, Write as _};

use anyhow::bail;
use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;

use crate::{
    config,
    identity::{Key, KeyStore, NewKey},
    ids::UserId,
};

/// Arguments of `greenroom keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a token and print it, this once.
    Create {
        /// The user it names.
        #[arg(long, value_parser = |text: &str| UserId::parse(text))]
        user: UserId,
        /// What it is for, in your words.
        #[arg(long)]
        name: Option<String>,
    },
    /// List the keys, without their tokens.
    List,
    /// Take a key away; its token stops working within a second.
    Revoke {
        /// The key's id, as `list` shows it.
        id: String,
    },
}

/// Runs the command on the key file of this state folder.
///
/// # Errors
/// The key file can't be read or written, or there is no key of that id.
pub fn run(arguments: KeysArgs, state: &config::State) -> anyhow::Result<()> {
    let store = KeyStore::in_folder(&state.dir);
    let mut out = io::stdout().lock();
    match arguments.command {
        KeysCommand::Create { user, name } => {
            let (key, token) = store.create(NewKey { name, ..NewKey::of(user) })?;
            // The token alone on stdout, so that a script can take it.
            writeln!(out, "{}", token.expose_secret())?;
            writeln!(io::stderr(), "{} for {}; the token is not shown again", key.id, key.user)?;
        }
        KeysCommand::List => {
            for key in store.list()? {
                writeln!(out, "{}", line(&key))?;
            }
        }
        KeysCommand::Revoke { id } => {
            if !store.revoke(&id)? {
                bail!("there is no key {id}; `greenroom keys list` shows them");
            }
            writeln!(out, "{id} is revoked")?;
        }
    }
    Ok(())
}

fn line(key: &Key) -> String {
    let name = key.name.as_deref().unwrap_or("-");
    format!("{}  {}…  {:.0}  {}  {name}", key.id, key.prefix, key.created_at, key.user)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        keys: KeysArgs,
    }

    fn run_line(line: &str, state: &config::State) -> anyhow::Result<()> {
        run(Cli::try_parse_from(format!("keys {line}").split_whitespace())?.keys, state)
    }

    #[test]
    fn a_key_is_made_listed_and_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let state = config::State { dir: folder.path().to_owned(), ..config::State::default() };
        run_line("create --user alice --name laptop", &state).unwrap();
        run_line("list", &state).unwrap();
        let key = KeyStore::in_folder(&state.dir).list().unwrap().remove(0);
        assert!(line(&key).contains("alice") && line(&key).contains("laptop"));
        run_line(&format!("revoke {}", key.id), &state).unwrap();
        assert!(run_line(&format!("revoke {}", key.id), &state).is_err());
    }

    #[test]
    fn a_user_id_with_a_space_is_refused() {
        assert!(Cli::try_parse_from(["keys", "create", "--user", "a b"]).is_err());
    }
}
