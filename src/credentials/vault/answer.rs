//! What a vault answers, and what is left of it: the key or token in it, or why there is none. The rest is wiped.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroize as _;

use super::super::KeySourceError;
use crate::{
    fetch::{Document, FetchError},
    private_file::PrivateFileError,
};

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    LogIn,
    LookAtToken,
    Renew,
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Read => "the reading of a key",
            Self::LogIn => "a login",
            Self::LookAtToken => "a look at our token",
            Self::Renew => "a renewal of our token",
        })
    }
}

/// What went wrong. Nothing of the vault's own words is in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum VaultError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the vault did not answer in time")]
    Deadline,
    #[error("the vault answered {call} with status {}", status.as_u16())]
    Status { call: Call, status: StatusCode },
    #[error("the vault's answer to {call} can't be read")]
    Form { call: Call },
    #[error("the path of a key is no address")]
    Address,
    #[error("what the vault has in the field is no key")]
    NotAKey,
    #[error("the secret has no field of the name that is set")]
    NoField,
    #[error("the login can't be made: {0}")]
    Secret(#[from] PrivateFileError),
    #[error("the token can't be a header's value")]
    Token,
}

impl From<VaultError> for KeySourceError {
    fn from(error: VaultError) -> Self {
        match &error {
            VaultError::Status { status, .. } if status.is_client_error() && !is_passing(*status) => {
                Self::Refused(error.into())
            }
            VaultError::Secret(_) | VaultError::Token | VaultError::Address => Self::Refused(error.into()),
            VaultError::NotAKey | VaultError::NoField => Self::Broken(error.into()),
            VaultError::Fetch(_) | VaultError::Deadline | VaultError::Status { .. } | VaultError::Form { .. } => {
                Self::Unreachable(error.into())
            }
        }
    }
}

/// A vault that isn't up to date, is a standby or busy.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 412 | 429 | 472 | 473)
}

/// A token, and how long it is good for.
#[derive(Debug)]
pub(super) struct Granted {
    /// The token; none: it is the one that we have.
    pub token: Option<SecretString>,
    /// In seconds; zero: for ever.
    pub seconds: u64,
    /// It can be prolonged.
    pub renewable: bool,
}

/// An answer. Wiped when it is dropped, as far as it is in one piece.
pub(super) struct Gathered {
    call: Call,
    pub status: StatusCode,
    body: Bytes,
}

impl fmt::Debug for Gathered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Gathered")
            .field("call", &self.call)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Gathered {
    pub fn new(call: Call, document: Document) -> Self {
        Self { call, status: document.status, body: document.body }
    }

    /// A key, of an answer to a reading.
    pub fn key(&self, field: &str) -> Result<SecretString, KeySourceError> {
        #[derive(Deserialize)]
        struct Answer {
            data: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            data: Option<BTreeMap<String, Text>>,
        }
        // What isn't there is 404 without errors, what was deleted 404 with its metadata. With errors, the path itself is wrong.
        if self.status == StatusCode::NOT_FOUND && self.has_no_errors() {
            return Err(KeySourceError::NotThere);
        }
        let Answer { data } = self.read()?;
        let mut fields = data.data.ok_or(KeySourceError::NotThere)?;
        match fields.remove(field) {
            Some(Text(Some(key))) => Ok(SecretString::from(key.expose_secret().trim())),
            Some(Text(None)) => Err(VaultError::NotAKey.into()),
            None => Err(VaultError::NoField.into()),
        }
    }

    /// A token, of an answer to a login or a renewal.
    pub fn granted(&self) -> Result<Granted, VaultError> {
        #[derive(Deserialize)]
        struct Answer {
            auth: Auth,
        }
        #[derive(Deserialize)]
        struct Auth {
            client_token: Text,
            lease_duration: u64,
            #[serde(default)]
            renewable: bool,
        }
        let Answer { auth } = self.read()?;
        Ok(Granted { token: auth.client_token.0, seconds: auth.lease_duration, renewable: auth.renewable })
    }

    /// How long our token is good for, of an answer to a look at it.
    pub fn standing(&self) -> Result<Granted, VaultError> {
        #[derive(Deserialize)]
        struct Answer {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            ttl: u64,
            #[serde(default)]
            renewable: bool,
        }
        let Answer { data } = self.read()?;
        Ok(Granted { token: None, seconds: data.ttl, renewable: data.renewable })
    }

    fn read<'body, T: Deserialize<'body>>(&'body self) -> Result<T, VaultError> {
        if self.status != StatusCode::OK {
            return Err(VaultError::Status { call: self.call, status: self.status });
        }
        // The parser's words would repeat what it found.
        serde_json::from_slice(&self.body).map_err(|_| VaultError::Form { call: self.call })
    }

    fn has_no_errors(&self) -> bool {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            errors: Vec<de::IgnoredAny>,
        }
        serde_json::from_slice::<Answer>(&self.body).is_ok_and(|answer| answer.errors.is_empty())
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if let Ok(mut body) = std::mem::take(&mut self.body).try_into_mut() {
            body.zeroize();
        }
    }
}

/// A text, or none for anything else.
struct Text(Option<SecretString>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(SecretString::from(text))))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
                while items.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Text, A::Error> {
                while entries.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
