//! `greenroom keys`: makes, lists and revokes the tokens users come in with. Works on the key file; a running server takes
//! notice within a second.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use humantime_serde::re::humantime::parse_duration;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use crate::{
    config::Config,
    identity::{Key, KeyStore, NewKey, Scope},
    ids::{TierName, UserId},
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
        /// What it allows: read, sessions or admin; each includes the one before. May be given several times [default: sessions]
        #[arg(long = "scope", value_parser = scope)]
        scopes: Vec<Scope>,
        /// The tier its user's limits and budgets are of, one of the settings'.
        #[arg(long)]
        tier: Option<String>,
        /// When it stops working, such as 12h or 90d [default: when it is revoked]
        #[arg(long, value_parser = parse_duration)]
        expires_in: Option<Duration>,
    },
    /// List the keys, without their tokens.
    List,
    /// Take a key away; its token stops working within a second.
    Revoke {
        /// The key's id, as `list` shows it.
        id: String,
    },
}

fn scope(text: &str) -> Result<Scope, &'static str> {
    Scope::parse(text).ok_or("must be read, sessions or admin")
}

fn tier_of(config: &Config, name: &str) -> anyhow::Result<TierName> {
    let known = TierName::parse(name).ok().filter(|tier| config.tiers.contains_key(tier.as_str()));
    known.with_context(|| format!("there is no tier {name:?} in the settings"))
}

/// Runs the command on the key file of this state folder.
///
/// # Errors
/// The key file can't be read or written, or there is no key or tier of that name.
pub fn run(arguments: KeysArgs, config: &Config) -> anyhow::Result<()> {
    let store = KeyStore::in_folder(&config.state.dir);
    let mut out = io::stdout().lock();
    match arguments.command {
        KeysCommand::Create { user, name, scopes, tier, expires_in: lifetime } => {
            let tier = tier.map(|tier| tier_of(config, &tier)).transpose()?;
            let (key, token) = store.create(NewKey { user, name, scopes, tier, lifetime })?;
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
    let Key { id, user, name, scopes, tier, created_at, expires_at, prefix, .. } = key;
    let scopes = scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",");
    let tier = tier.as_ref().map_or("-", TierName::as_str);
    let until = match expires_at {
        Some(at) if key.is_expired(Timestamp::now()) => format!("expired {at:.0}"),
        Some(at) => format!("until {at:.0}"),
        None => "-".to_owned(),
    };
    let name = name.as_deref().unwrap_or("-");
    format!("{id}  {prefix}…  {created_at:.0}  {user}  {scopes}  {tier}  {until}  {name}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        keys: KeysArgs,
    }

    fn run_line(line: &str, config: &Config) -> anyhow::Result<()> {
        run(Cli::try_parse_from(format!("keys {line}").split_whitespace())?.keys, config)
    }

    fn config(folder: &tempfile::TempDir) -> Config {
        let state = config::State { dir: folder.path().to_owned(), ..config::State::default() };
        Config { state, tiers: [("gold".to_owned(), config::Tier::default())].into(), ..Config::default() }
    }

    #[test]
    fn a_key_is_made_listed_and_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        run_line("create --user alice --name laptop", &config).unwrap();
        run_line("list", &config).unwrap();
        let key = KeyStore::in_folder(folder.path()).list().unwrap().remove(0);
        let shown = line(&key);
        assert!(shown.contains("alice  sessions  -  -  laptop"), "{shown}");
        run_line(&format!("revoke {}", key.id), &config).unwrap();
        assert!(run_line(&format!("revoke {}", key.id), &config).is_err());
    }

    #[test]
    fn a_key_allows_what_was_asked_for_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        run_line("create --user bob --scope read --scope admin --tier gold --expires-in 90d", &config).unwrap();
        let key = KeyStore::in_folder(folder.path()).list().unwrap().remove(0);
        assert_eq!(
            (key.scopes.as_slice(), key.tier.as_ref().map(TierName::as_str)),
            (&[Scope::Read, Scope::Admin][..], Some("gold"))
        );
        assert_eq!(key.expires_at, Some(key.created_at + Duration::from_hours(90 * 24)));
        let shown = line(&key);
        assert!(shown.contains("bob  read,admin  gold  until 20"), "{shown}");
        for bad in ["--scope all", "--tier silver", "--tier ../gold", "--expires-in soon"] {
            assert!(run_line(&format!("create --user bob {bad}"), &config).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_user_id_with_a_space_is_refused() {
        assert!(Cli::try_parse_from(["keys", "create", "--user", "a b"]).is_err());
    }
}
