//! Users' keys that are kept: in a file or a vault, used by sessions that name them, changed and taken away under them, and seen by nobody else.

mod away;
mod hunted;
mod rotation;

use greenroom::credentials::seal::MasterKeys;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::{
    client::{Client, id},
    gateway::{CALL, PORT},
    recorder::Recorder,
    settings::{Settings, quoted},
    vault::{ROOT, Vault},
};

/// Settings of a server that keeps keys in its file.
fn file(settings: Settings) -> Settings {
    settings
        .set("credentials", "store", "\"file\"")
        .variable("GREENROOM__CREDENTIALS__KEY", MasterKeys::generate().expose_secret())
}

/// Settings of a server that reads keys from a vault.
fn vault(settings: Settings, vault: &Vault) -> Settings {
    settings
        .set("credentials", "store", "\"vault\"")
        .set("credentials", "refresh", "\"1s\"")
        .set("credentials.vault", "address", &quoted(&vault.url()))
        .variable("GREENROOM__CREDENTIALS__VAULT__TOKEN", ROOT)
}

/// A wish for a session with a key that is kept.
fn with(name: &str) -> Value {
    json!({"template": "shell", "credential": { "name": name }})
}

/// Lets a session call the model, and gives back the key that came with it; none: it did not come through.
async fn call(client: &Client, session: &Value, model: &Recorder) -> Option<String> {
    let before = model.received().len();
    // A call that is refused for want of a key fails its turn.
    client.prompt(session, &format!("{PORT}; {CALL}")).await.rest().await;
    let received = model.received();
    let last = received.get(before)?;
    Some(last.headers.get("x-goog-api-key").map_or("no key", |key| key.to_str().expect("ASCII")).to_owned())
}

/// The session as it is now.
async fn now(client: &Client, session: &Value) -> Value {
    client.get_json(&format!("/v1/sessions/{}", id(session))).await
}
