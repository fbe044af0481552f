//! Whose things a use case may load. Neither of these can be made of a name that a client sent: they come from a caller who proved who they are
//! ([`Caller`](super::Caller)), or from a thing that was found through one.

use crate::ids::UserId;

/// Whose things can be found. What isn't within reach isn't found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach(Option<UserId>);

impl Reach {
    pub(super) const fn own(user: UserId) -> Self {
        Self(Some(user))
    }

    pub(super) const fn all() -> Self {
        Self(None)
    }

    /// The one user whose things these are; none: everybody's.
    #[must_use]
    pub const fn only(&self) -> Option<&UserId> {
        self.0.as_ref()
    }

    /// Whether it goes as far as this user's things.
    pub(super) fn covers(&self, user: &UserId) -> bool {
        self.0.as_ref().is_none_or(|own| own == user)
    }
}

/// A user whose things may be loaded and changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Whose(UserId);

impl Whose {
    /// As a thing says that was found within reach, or that the server itself wrote down.
    #[must_use]
    pub const fn recorded(user: UserId) -> Self {
        Self(user)
    }

    /// As far as their things go.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::own(self.0.clone())
    }

    /// Who.
    #[must_use]
    pub const fn user(&self) -> &UserId {
        &self.0
    }
}

/// A caller asked for somebody's things and can't have them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    /// They are not the caller's, whether there are any or not.
    #[error("user: only an administrator may name somebody else")]
    Forbidden,
    /// Nobody can be called that.
    #[error("user: must be 1 to 128 visible ASCII characters")]
    Nobody,
}
