//! Users' keys for model APIs. A key comes in and never goes out: the type that takes it can't be written.

use std::borrow::Cow;

use poem_openapi::{
    Object,
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromJSON, ParseResult, Type},
};
use secrecy::SecretString;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Time;
use crate::{
    credentials::{KEY_MAX, is_key},
    ids::CredentialName,
    problem::{Code, Problem},
    service::view,
};

/// A key as it was sent. Can't be printed; wiped at its end, and so is the text it came in.
#[derive(Debug)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// A key for tests and examples.
    #[cfg(test)]
    pub fn of(text: &str) -> Self {
        Self(text.into())
    }

    /// The key, if it can be one.
    pub fn checked(self, field: &str) -> Result<SecretString, Problem> {
        use secrecy::ExposeSecret as _;
        if is_key(self.0.expose_secret()) {
            Ok(self.0)
        } else {
            let detail = format!("{field} must have 1 to {KEY_MAX} visible ASCII characters");
            Err(Problem::new(Code::InvalidRequest, detail))
        }
    }
}

impl Type for ApiKey {
    const IS_REQUIRED: bool = true;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "string_password".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "password")))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(self.as_raw_value().into_iter())
    }
}

impl ParseFromJSON for ApiKey {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::String(text)) => {
                let text = Zeroizing::new(text);
                Ok(Self(SecretString::from(text.as_str())))
            }
            // Without what was found: it may be the key, in the wrong brackets.
            _ => Err(ParseError::custom("must be a text")),
        }
    }
}

/// The user's own access to the model API: exactly one of both.
#[derive(Default, Object)]
#[oai(deny_unknown_fields)]
pub struct Credential {
    /// The API key. Kept in memory while the session lives, sent to the model API only.
    #[oai(write_only)]
    pub api_key: Option<ApiKey>,
    /// The name of a key that is kept on the server. What is kept under it later, the session uses later.
    #[oai(validator(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$"))]
    pub name: Option<String>,
}

impl TryFrom<Credential> for view::Credential {
    type Error = Problem;

    fn try_from(credential: Credential) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::new(Code::InvalidRequest, detail);
        match (credential.api_key, credential.name) {
            (Some(key), None) => key.checked("credential.api_key").map(Self::ApiKey),
            (None, Some(name)) => {
                let name = CredentialName::parse(&name);
                name.map(Self::Named).map_err(|fault| invalid(format!("credential.name {fault}")))
            }
            (Some(_), Some(_)) | (None, None) => Err(invalid("credential must have either api_key or name".to_owned())),
        }
    }
}

/// Which of the user's keys a session uses.
#[derive(Debug, Clone, Object)]
pub struct SessionCredential {
    /// Its name.
    pub name: String,
}

/// A key to be kept.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub struct PutCredential {
    /// The API key. Kept encrypted, shown to nobody, sent to the model API only.
    #[oai(write_only)]
    pub api_key: ApiKey,
}

/// A key that is kept. The key itself is never shown.
#[derive(Debug, Clone, Object)]
#[oai(rename = "KeptCredential")]
pub struct KeptCredential {
    /// Its name.
    pub name: String,
    /// When it was first put there.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

impl From<view::CredentialView> for KeptCredential {
    fn from(kept: view::CredentialView) -> Self {
        let (created_at, updated_at) = (Time(kept.created_at), Time(kept.updated_at));
        Self { name: kept.name.to_string(), created_at, updated_at }
    }
}

/// The caller's keys, by name.
#[derive(Debug, Clone, Object)]
pub struct CredentialList {
    /// The keys.
    pub items: Vec<KeptCredential>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;
    use crate::{
        config,
        gateway::ModelKey,
        session::{ChosenKey, Command, FoundKey},
    };

    fn parsed(body: Value) -> Result<view::Credential, String> {
        let credential =
            Credential::parse_from_json(Some(body)).map_err(poem_openapi::types::ParseError::into_message)?;
        credential.try_into().map_err(|problem: Problem| problem.detail)
    }

    #[test]
    fn a_credential_is_a_key_or_a_name() {
        let key = parsed(json!({"api_key": "canary"}));
        assert!(matches!(key, Ok(view::Credential::ApiKey(key)) if key.expose_secret() == "canary"));
        let name = parsed(json!({"name": "work"}));
        assert!(matches!(name, Ok(view::Credential::Named(name)) if name.as_str() == "work"));
        for bad in [json!({}), json!({"api_key": "canary", "name": "work"}), json!({"api_key": null, "name": null})] {
            assert_eq!(parsed(bad).err().as_deref(), Some("credential must have either api_key or name"));
        }
    }

    #[test]
    fn what_can_be_no_key_is_refused_without_being_repeated() {
        for bad in [json!(""), json!("canary key"), json!("canary\n"), json!(["canary"]), json!({"canary": 1})] {
            let refused = parsed(json!({"api_key": bad})).expect_err("no key");
            assert!(!refused.contains("canary"), "{refused}");
        }
    }

    /// A panic prints what the code around it prints. Whatever has a key in it, on its way from the door to the gateway, has no words for it.
    #[test]
    fn nothing_that_holds_a_key_prints_it_not_even_in_a_panic() {
        let key = || ModelKey(Arc::new("canary".into()));
        let name = CredentialName::parse("work").expect("a good name");
        let vault = config::Vault {
            token: Some("canary".into()),
            secret_id: Some("canary".into()),
            ..config::Vault::default()
        };
        let credentials = config::Credentials { key: Some("canary".into()), vault, ..config::Credentials::default() };
        let wish = view::OpenSession {
            credential: Some(view::Credential::ApiKey("canary".into())),
            ..view::OpenSession::default()
        };
        let holders: [Box<dyn std::fmt::Debug>; 6] = [
            Box::new(ApiKey::of("canary")),
            Box::new(wish),
            Box::new(ChosenKey { key: key(), name: Some(name.clone()) }),
            Box::new(Command::Key { name, found: FoundKey::Key(key()) }),
            Box::new(credentials),
            Box::new(key()),
        ];
        for holder in holders {
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panic!("with {holder:?} in hand")));
            let payload = panicked.expect_err("it panics");
            let said = payload.downcast_ref::<String>().expect("a panic with words");
            assert!(said.starts_with("with ") && !said.contains("canary"), "{said}");
        }
    }
}
