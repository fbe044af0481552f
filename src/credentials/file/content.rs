//! The file's text. Entries are in the order of user and name.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{super::seal::Sealed, Listed};
use crate::ids::{CredentialName, UserId};

/// What this program writes.
pub(super) const VERSION: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    pub(super) version: u32,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) user: UserId,
    pub(super) name: CredentialName,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) seal: Sealed,
}

impl Default for Content {
    fn default() -> Self {
        Self { version: VERSION, entries: Vec::new() }
    }
}

impl Content {
    pub(super) fn from_text(text: &[u8]) -> Result<Self, serde_json::Error> {
        /// Told first: a later version may have other fields.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(text)?;
        if version != VERSION {
            return Ok(Self { version, entries: Vec::new() });
        }
        let mut content: Self = serde_json::from_slice(text)?;
        content.entries.sort_by(|one, other| (&one.user, &one.name).cmp(&(&other.user, &other.name)));
        Ok(content)
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain text fields always serialise");
        text.push('\n');
        text
    }

    /// Where an entry is, or where it would be.
    pub(super) fn find(&self, user: &UserId, name: &CredentialName) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| (&entry.user, &entry.name).cmp(&(user, name)))
    }
}

impl Entry {
    pub(super) fn listed(&self) -> Listed {
        let Self { user, name, created_at, updated_at, .. } = self.clone();
        Listed { user, name, created_at, updated_at }
    }
}

/// What a sealed key is bound to. Neither of both names can have a zero byte, so no two pairs are written alike.
pub(super) fn beside(user: &UserId, name: &CredentialName) -> Vec<u8> {
    format!("greenroom credential {VERSION}\0{user}\0{name}").into_bytes()
}
