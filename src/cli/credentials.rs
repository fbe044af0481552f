//! `greenroom credentials`: users' keys for model APIs in the encrypted file, and the master keys it is sealed with. A running server takes notice
//! within seconds.

use std::io::{self, Read as _, Write as _};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{core_dumps, settings::SettingsArgs};
use crate::{
    config::{Config, CredentialStore},
    credentials::{FileStore, KEY_MAX, Listed, seal::MasterKeys},
    ids::{CredentialName, UserId},
};

/// Arguments of `greenroom credentials`.
#[derive(Debug, Args)]
pub struct CredentialsArgs {
    #[command(subcommand)]
    command: CredentialsCommand,
}

#[derive(Debug, Subcommand)]
enum CredentialsCommand {
    /// Put a key under a name; the key comes on standard input.
    Set {
        /// Whose key it is.
        #[arg(long, value_parser = |text: &str| UserId::parse(text))]
        user: UserId,
        /// The name it is asked for by.
        #[arg(value_parser = |text: &str| CredentialName::parse(text))]
        name: CredentialName,
    },
    /// List names and times, never keys.
    List {
        /// Of this user only.
        #[arg(long, value_parser = |text: &str| UserId::parse(text))]
        user: Option<UserId>,
    },
    /// Take a key away; sessions that use it go on without.
    Remove {
        /// Whose key it is.
        #[arg(long, value_parser = |text: &str| UserId::parse(text))]
        user: UserId,
        /// Its name.
        #[arg(value_parser = |text: &str| CredentialName::parse(text))]
        name: CredentialName,
    },
    /// Seal every key anew with the first master key.
    Rekey,
    /// Make a master key and print it, this once.
    GenerateKey,
}

/// Runs the command on the file of the state folder that the settings name.
///
/// # Errors
/// The settings are wrong or keep keys elsewhere, or the file can't be read or written.
pub fn run(arguments: CredentialsArgs, settings: SettingsArgs) -> anyhow::Result<()> {
    core_dumps::forbid()?;
    let mut out = io::stdout().lock();
    match arguments.command {
        CredentialsCommand::GenerateKey => writeln!(out, "{}", MasterKeys::generate().expose_secret())?,
        CredentialsCommand::Set { user, name } => {
            let store = open(&settings.load()?)?;
            store.put(&user, &name, &key_from(io::stdin().lock())?)?;
            writeln!(out, "{name} of {user} is set")?;
        }
        CredentialsCommand::List { user } => {
            for entry in open(&settings.load()?)?.list(user.as_ref())? {
                writeln!(out, "{}", line(&entry))?;
            }
        }
        CredentialsCommand::Remove { user, name } => {
            if !open(&settings.load()?)?.remove(&user, &name)? {
                bail!("{user} has no key {name}; `greenroom credentials list` shows what there is");
            }
            writeln!(out, "{name} of {user} is removed")?;
        }
        CredentialsCommand::Rekey => {
            let count = open(&settings.load()?)?.rekey()?;
            writeln!(out, "{count} keys are sealed anew")?;
        }
    }
    Ok(())
}

fn open(config: &Config) -> anyhow::Result<FileStore> {
    let store = config.credentials.store;
    if store != CredentialStore::File {
        bail!("credentials.store is `{}`: there is no file of keys; set it to `file`", store.as_str());
    }
    Ok(FileStore::open(&config.credentials, &config.state.dir)?)
}

/// One key, with or without the end of a line behind it.
fn key_from(input: impl io::Read) -> anyhow::Result<SecretString> {
    // In one piece from the beginning: a text that grew would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * KEY_MAX));
    input.take(KEY_MAX as u64 + 2).read_to_end(&mut text).context("the key can't be read from standard input")?;
    let key = std::str::from_utf8(&text).context("the key on standard input is not a text")?;
    Ok(SecretString::from(key.trim_end_matches(['\n', '\r'])))
}

fn line(entry: &Listed) -> String {
    let Listed { user, name, created_at, updated_at } = entry;
    format!("{user}  {name}  set {created_at:.0}  changed {updated_at:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_without_the_end_of_its_line() {
        let read = |text: &str| key_from(text.as_bytes()).expect("a text").expose_secret().to_owned();
        assert_eq!(read("canary\n"), "canary");
        assert_eq!(read("canary\r\n"), "canary");
        assert_eq!(read("canary"), "canary");
        assert_eq!(read(&"x".repeat(10_000)).len(), KEY_MAX + 2, "no more is read than a key may have");
        assert!(key_from(&b"\xff"[..]).is_err());
    }
}
