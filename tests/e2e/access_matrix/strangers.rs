//! Everybody whose token proves nothing.

use serde_json::{Value, json};

use super::things::Things;
use crate::{client::Client, provider, settings::ALICE};

/// Clients, by what is wrong with them.
#[derive(Debug)]
pub struct Strangers(Vec<(&'static str, Client)>);

impl Strangers {
    pub fn of(things: &Things) -> Self {
        let address = things.house.address;
        let with = |token: &str| Client::new(address, Some(token));
        let provider = &things.provider;
        let claims = |wrong: Value| {
            let mut claims = json!({"sub": "alice", "scope": "sessions"});
            for (name, value) in wrong.as_object().expect("claims") {
                claims[name] = value.clone();
            }
            claims
        };
        let token = |wrong: Value| with(&provider.token(&claims(wrong)));
        let header = |wrong: Value| with(&provider.signed("RS256", &wrong, &claims(json!({}))));
        let good = provider.token(&claims(json!({})));
        let (signed, _signature) = good.rsplit_once('.').expect("a JWT has dots");
        let now = provider::now();
        Self(vec![
            ("no token", Client::new(address, None)),
            ("a token nobody gave out", with("a-token-that-nobody-gave-out")),
            ("the beginning of a good token", with(&ALICE[..ALICE.len() - 1])),
            ("a good token and more", with(&format!("{ALICE}x"))),
            ("an expired JWT", token(json!({"iat": now - 7200, "exp": now - 3600}))),
            ("a JWT that never expires", token(json!({"exp": null}))),
            ("a JWT that isn't good yet", token(json!({"nbf": now + 3600}))),
            ("a JWT for another audience", token(json!({"aud": "another-service"}))),
            ("a JWT for nobody in particular", token(json!({"aud": null}))),
            ("a JWT of another issuer", token(json!({"iss": "https://elsewhere.example"}))),
            ("a JWT about nobody", token(json!({"sub": null}))),
            ("a JWT that says it needs no signature", header(json!({"alg": "none"}))),
            ("a JWT that says its key is a secret", header(json!({"alg": "HS256"}))),
            ("a JWT with a key that nobody has", header(json!({"kid": "another"}))),
            ("a JWT that demands to be understood", header(json!({"crit": ["exp"]}))),
            ("a JWT without a signature", with(&format!("{signed}."))),
            ("a JWT with half a signature", with(&good[..good.len() - 20])),
        ])
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &(&'static str, Client)> {
        self.0.iter()
    }
}
