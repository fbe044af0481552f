//! Identifiers and checked names: the few values every room passes around.
//!
//! Ids are a prefix and 128 random bits, so one can't be guessed from another. Names come from people and are checked
//! once, at the edge; whoever holds a [`WorkspaceName`] may use it as one path component.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest accepted workspace, template and key name, in bytes.
pub const NAME_MAX: usize = 64;
/// Longest accepted user id, in bytes.
pub const USER_ID_MAX: usize = 128;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty or too long.
    #[error("must have 1 to {max} characters")]
    Length {
        /// Longest accepted length, in bytes.
        max: usize,
    },
    /// The name has a character outside the allowed set.
    #[error("must match {pattern}")]
    Pattern {
        /// The accepted pattern, as a regular expression.
        pattern: &'static str,
    },
}

/// Bytes from the kernel's random source.
#[must_use]
pub fn random_bytes<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0_u8; COUNT];
    getrandom::fill(&mut bytes).expect("the kernel's random source is always available on Linux");
    bytes
}

/// Bytes as lower-case hexadecimal text.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        use fmt::Write as _;
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Whether this can name a server on its engine: `[A-Za-z0-9_-]{1,64}`. It becomes a label and the name of a control group.
#[must_use]
pub fn names_an_instance(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    plain && (1..=NAME_MAX).contains(&text.len())
}

/// A number from 0 to 1, to spread what would otherwise happen all at once.
#[must_use]
pub fn random_fraction() -> f64 {
    f64::from(u32::from_le_bytes(random_bytes())) / f64::from(u32::MAX)
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new id from the kernel's random source.
            #[must_use]
            pub fn random() -> Self {
                Self(format!(concat!($prefix, "{}"), hex(&random_bytes::<16>())))
            }

            /// Takes an id that a client sent. Nothing is checked: an unknown id is simply not found.
            #[must_use]
            pub fn from_client(text: &str) -> Self {
                Self(text.to_owned())
            }

            /// Takes an id that a client sent, if it looks like one of ours: then it can't hold anything else.
            #[must_use]
            pub fn well_formed(text: &str) -> Option<Self> {
                let digits = text.strip_prefix($prefix)?;
                let ours = digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                ours.then(|| Self(text.to_owned()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

random_id!(
    /// Names one session.
    SessionId, "ses_"
);
random_id!(
    /// Names one turn of a session.
    TurnId, "turn_"
);
random_id!(
    /// Names one permission the agent asked for.
    PermissionId, "perm_"
);
random_id!(
    /// Names one sandbox and its slot folder. Never shown to users.
    SlotId, ""
);
random_id!(
    /// One run of the server; a container of another epoch is a leftover.
    Epoch, ""
);

fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > NAME_MAX {
        return Err(NameError::Length { max: NAME_MAX });
    }
    let mut bytes = text.bytes();
    let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let goes_on_well = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte));
    if starts_well && goes_on_well { Ok(()) } else { Err(NameError::Pattern { pattern: "[a-z0-9][a-z0-9._-]{0,63}" }) }
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// The name is not `[a-z0-9][a-z0-9._-]{0,63}`.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check_name(text).map(|()| Self(text.to_owned()))
            }

            /// The name as text; safe as one path component.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check_name(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

checked_name!(
    /// A user's name for one of their folders.
    WorkspaceName
);
checked_name!(
    /// The name of a template in the configuration.
    TemplateName
);
checked_name!(
    /// The name of a tier of users in the configuration.
    TierName
);
checked_name!(
    /// What an identity provider is called in the configuration.
    IssuerName
);
checked_name!(
    /// A user's name for one of their keys for a model API.
    CredentialName
);

/// Who a caller is, as the identity provider names them: 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

impl UserId {
    /// Checks and takes a user id.
    ///
    /// # Errors
    /// The id is empty, longer than 128 bytes or has a character that isn't visible ASCII.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > USER_ID_MAX {
            return Err(NameError::Length { max: USER_ID_MAX });
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NameError::Pattern { pattern: "[!-~]{1,128}" });
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text. Not safe as a path component.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<UserId> for String {
    fn from(user: UserId) -> Self {
        user.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for bad in ["", ".", "..", "a/b", "../a", "A", "-a", "_a", "a b", "a\0", "é", &"a".repeat(65)] {
            assert!(WorkspaceName::parse(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "0", "a..b", "my-notes_2.old", &"a".repeat(64)] {
            assert!(WorkspaceName::parse(good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn ids_carry_their_prefix_and_differ() {
        let (one, other) = (SessionId::random(), SessionId::random());
        assert!(one.as_str().starts_with("ses_") && one.as_str().len() == 36);
        assert_ne!(one, other);
        assert_eq!(SessionId::well_formed(one.as_str()), Some(one));
        for bad in ["", "ses_", "ses_1", &format!("turn_{}", "0".repeat(32)), &format!("ses_{}", "A".repeat(32))] {
            assert_eq!(SessionId::well_formed(bad), None, "{bad}");
        }
    }
}
