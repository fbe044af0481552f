//! The rules of `[credentials]`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::{Rules, is_web_address};
use crate::{
    config::{CredentialStore, Credentials, Vault, VaultLogin},
    fetch::is_private,
};

/// A master key's bytes.
const MASTER_KEY_BYTES: usize = 32;

pub(super) fn credentials(credentials: &Credentials, rules: &mut Rules) {
    rules.lasting(&[
        ("credentials.refresh", credentials.refresh),
        ("credentials.outage", credentials.outage),
        ("credentials.vault.timeout", credentials.vault.timeout),
    ]);
    let Credentials { store, key, key_file, vault, .. } = credentials;
    if let Some(key) = key {
        let good = key.expose_secret().split([',', ' ', '\n']).filter(|key| !key.is_empty()).all(is_master_key);
        let text = "must be 32 bytes in base64, or several such keys; `greenroom credentials generate-key` makes one";
        rules.must("credentials.key", good, text);
        rules.must("credentials.key_file", key_file.is_none(), "must not be set beside credentials.key");
    }
    match store {
        CredentialStore::None => {}
        CredentialStore::File => {
            let text = "must be set for the store `file`, or credentials.key_file";
            rules.must("credentials.key", key.is_some() || key_file.is_some(), text);
        }
        CredentialStore::Vault => vault_is_complete(vault, rules),
    }
    path(&vault.path, rules);
    let name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    rules.must("credentials.vault.field", name(&vault.field), "must be the name of a field");
    rules.must("credentials.vault.mount", is_path(&vault.mount), PATH);
    rules.must("credentials.vault.login_mount", vault.login_mount.as_deref().is_none_or(is_path), PATH);
    let namespace = vault.namespace.as_deref().is_none_or(|name| is_path(name.trim_end_matches('/')));
    rules.must("credentials.vault.namespace", namespace, PATH);
}

fn is_master_key(text: &str) -> bool {
    STANDARD.decode(text).map(Zeroizing::new).is_ok_and(|bytes| bytes.len() == MASTER_KEY_BYTES)
}

fn vault_is_complete(vault: &Vault, rules: &mut Rules) {
    let private = |address: &str| {
        let bare = is_web_address(address);
        bare && address.parse().is_ok_and(|url| is_private(&url))
    };
    let text = "must be the vault's address: https://, or http:// on this machine";
    rules.must("credentials.vault.address", vault.address.as_deref().is_some_and(private), text);
    match vault.login {
        VaultLogin::Token => {
            let one = vault.token.is_some() != vault.token_file.is_some();
            rules.must("credentials.vault.token", one, "must be set, or credentials.vault.token_file; not both");
        }
        VaultLogin::Kubernetes => {
            rules.must("credentials.vault.role", vault.role.is_some(), "must be set for the login `kubernetes`");
        }
        VaultLogin::AppRole => {
            rules.must("credentials.vault.role_id", vault.role_id.is_some(), "must be set for the login `approle`");
            let one = vault.secret_id.is_some() != vault.secret_id_file.is_some();
            let text = "must be set, or credentials.vault.secret_id_file; not both";
            rules.must("credentials.vault.secret_id", one, text);
        }
    }
}

const PATH: &str = "must be a path of letters, digits, dots, dashes and underlines, without a slash at its ends";

fn is_path(text: &str) -> bool {
    text.split('/').all(is_plain)
}

fn is_plain(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(plain)
}

/// User and name are whole segments: in one segment, `a-b` and `c` could not be told from `a` and `b-c`.
fn path(template: &str, rules: &mut Rules) {
    let segments = || template.split('/');
    let places = ["{user}", "{name}"];
    let good = segments().all(|segment| places.contains(&segment) || is_plain(segment));
    let once = places.iter().all(|place| segments().filter(|segment| segment == place).count() == 1);
    let text = "must be a path with {user} and {name} once each, as whole segments, such as greenroom/{user}/{name}";
    rules.must("credentials.vault.path", good && once, text);
}
