//! What a token allows.
//!
//! `admin` includes `sessions`, `sessions` includes `read`. A token without any of them proves who somebody is and allows nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at what is one's own.
    Read,
    /// Open, prompt, answer, change and close, too.
    Sessions,
    /// Do all of it with what is anybody's, and manage API keys.
    Admin,
}

impl Scope {
    /// Every scope, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Sessions, Self::Admin];

    /// Its name in settings, tokens and texts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Sessions => "sessions",
            Self::Admin => "admin",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What one token allows: its strongest scope says it all, as each includes those below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(Option<Scope>);

impl Scopes {
    /// Whether this is allowed.
    #[must_use]
    pub fn allow(self, scope: Scope) -> bool {
        self.0 >= Some(scope)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_includes_those_below_it_and_nothing_allows_nothing() {
        let allowed = |scopes: &[Scope]| {
            let scopes: Scopes = scopes.iter().copied().collect();
            Scope::ALL.map(|scope| scopes.allow(scope))
        };
        assert_eq!(allowed(&[]), [false, false, false]);
        assert_eq!(allowed(&[Scope::Read]), [true, false, false]);
        assert_eq!(allowed(&[Scope::Sessions]), [true, true, false]);
        assert_eq!(allowed(&[Scope::Read, Scope::Admin]), [true, true, true]);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::parse("Admin"), None);
    }
}
