//! API keys, and the wish for one.

use std::time::Duration;

use jiff::Timestamp;
use poem_openapi::{Enum, Object, types::Example};
use secrecy::{ExposeSecret as _, SecretString};

use super::Time;
use crate::{
    identity::{self, NewKey},
    ids::{TierName, UserId},
    problem::{Code, Problem},
    service::view::Page,
};

/// What a token allows. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum Scope {
    /// Look at what is one's own.
    Read,
    /// Open, prompt, answer, change and close, too.
    Sessions,
    /// Do all of it with what is anybody's, and manage API keys.
    Admin,
}

impl From<Scope> for identity::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Read => Self::Read,
            Scope::Sessions => Self::Sessions,
            Scope::Admin => Self::Admin,
        }
    }
}

impl From<identity::Scope> for Scope {
    fn from(scope: identity::Scope) -> Self {
        match scope {
            identity::Scope::Read => Self::Read,
            identity::Scope::Sessions => Self::Sessions,
            identity::Scope::Admin => Self::Admin,
        }
    }
}

/// A key that is to be made.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields, example)]
pub struct CreateKey {
    /// The user it stands for: 1 to 128 visible ASCII characters.
    pub user: String,
    /// What it is for, in your own words: 1 to 128 characters.
    pub name: Option<String>,
    /// What it allows. Left out: `sessions`.
    #[oai(validator(max_items = 3))]
    pub scopes: Option<Vec<Scope>>,
    /// The tier its user's limits and budgets are of, one of the settings'. Left out: the usual ones.
    pub tier: Option<String>,
    /// Seconds until it stops working. Left out: it works until it is revoked.
    #[oai(validator(minimum(value = "1")))]
    pub expires_in_s: Option<u64>,
}

impl Example for CreateKey {
    fn example() -> Self {
        Self {
            user: "ada".to_owned(),
            name: Some("laptop".to_owned()),
            scopes: Some(vec![Scope::Sessions]),
            tier: None,
            expires_in_s: Some(90 * 24 * 3600),
        }
    }
}

impl CreateKey {
    /// Checks what was asked for. A tier must be one of those there are.
    pub fn into_key(self, is_tier: impl Fn(&str) -> bool) -> Result<NewKey, Problem> {
        let invalid = |text: String| Problem::new(Code::InvalidRequest, text);
        let user = UserId::parse(&self.user).map_err(|why| invalid(format!("user: {why}")))?;
        let tier = match self.tier {
            None => None,
            Some(name) => {
                let tier = TierName::parse(&name).ok().filter(|tier| is_tier(tier.as_str()));
                Some(tier.ok_or_else(|| invalid("tier: must be one of the settings'".to_owned()))?)
            }
        };
        let scopes = self.scopes.unwrap_or_default().into_iter().map(Into::into).collect();
        Ok(NewKey { user, name: self.name, scopes, tier, lifetime: self.expires_in_s.map(Duration::from_secs) })
    }
}

/// An API key, without its token.
#[derive(Debug, Clone, Object)]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// The user it stands for.
    pub user: String,
    /// What it is for, in its maker's words.
    #[oai(nullable)]
    pub name: Option<String>,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The tier its user's limits and budgets are of; null: the usual ones.
    #[oai(nullable)]
    pub tier: Option<String>,
    /// The first characters of its token.
    pub prefix: String,
    /// When it was made.
    pub created_at: Time,
    /// When it stops working, or did; null: when it is revoked.
    #[oai(nullable)]
    pub expires_at: Option<Time>,
    /// Whether it stopped working.
    pub expired: bool,
}

impl From<identity::Key> for ApiKey {
    fn from(key: identity::Key) -> Self {
        Self {
            expired: key.is_expired(Timestamp::now()),
            scopes: key.scopes.into_iter().map(Into::into).collect(),
            id: key.id,
            user: key.user.to_string(),
            name: key.name,
            tier: key.tier.map(|tier| tier.to_string()),
            prefix: key.prefix,
            created_at: Time(key.created_at),
            expires_at: key.expires_at.map(Time),
        }
    }
}

/// A key that was just made.
#[derive(Object)]
pub struct CreatedKey {
    /// The token, this once: it is kept nowhere.
    pub token: String,
    #[oai(flatten)]
    key: ApiKey,
}

impl CreatedKey {
    /// Takes the token out of its wrap: this answer is what it was made for.
    pub fn new(key: identity::Key, token: &SecretString) -> Self {
        Self { token: token.expose_secret().to_owned(), key: key.into() }
    }
}

/// A page of keys.
#[derive(Debug, Clone, Object)]
pub struct KeyPage {
    /// The keys, oldest first.
    pub items: Vec<ApiKey>,
    /// For the next page; null: this was the last.
    #[oai(nullable)]
    pub next_cursor: Option<String>,
}

impl From<Page<identity::Key>> for KeyPage {
    fn from(page: Page<identity::Key>) -> Self {
        Self { items: page.items.into_iter().map(Into::into).collect(), next_cursor: page.next_cursor }
    }
}
