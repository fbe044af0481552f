//! Callers, by what they may do. A use case says in its signature whom it serves: who holds an [`Actor`] was found to have the scope
//! `sessions`, and there is no other way to get one.

use std::ops::Deref;

use super::{Scope, Scopes, Standing};
use crate::ids::{TierName, UserId};

/// Whose things a caller can load. What isn't within reach isn't found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Their own.
    Own(UserId),
    /// Everybody's.
    All,
}

/// Somebody who proved who they are, whatever they may do.
#[derive(Debug, Clone)]
pub struct Proven {
    /// Who.
    pub user: UserId,
    /// The tier their limits and budgets are of; none: the usual ones.
    pub tier: Option<TierName>,
    /// What proved it, as far as it may be told: a key's id, or the name of an issuer.
    pub credential: String,
    /// What the token allows.
    pub scopes: Scopes,
    /// How long it is good for.
    pub standing: Standing,
}

/// Somebody who may look.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Their id.
    pub user: UserId,
    /// The tier their limits and budgets are of; none: the usual ones.
    pub tier: Option<TierName>,
    /// What proved who they are, as far as it may be told.
    pub credential: String,
    /// How long what they were given may go on.
    pub standing: Standing,
    reach: Reach,
}

/// Somebody who may do, too.
#[derive(Debug, Clone)]
pub struct Actor(Caller);

/// Somebody who may manage.
#[derive(Debug, Clone)]
pub struct Administrator(Actor);

/// A token that doesn't allow what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this call needs a token with the scope `{0}`")]
pub struct MissingScope(pub Scope);

impl Proven {
    /// The caller, if they may look.
    ///
    /// # Errors
    /// The token lacks the scope `read`.
    pub fn reader(self) -> Result<Caller, MissingScope> {
        if !self.scopes.allow(Scope::Read) {
            return Err(MissingScope(Scope::Read));
        }
        let reach = if self.scopes.allow(Scope::Admin) { Reach::All } else { Reach::Own(self.user.clone()) };
        let Self { user, tier, credential, standing, .. } = self;
        Ok(Caller { user, tier, credential, standing, reach })
    }

    /// The caller, if they may do.
    ///
    /// # Errors
    /// The token lacks the scope `sessions`.
    pub fn actor(self) -> Result<Actor, MissingScope> {
        let missing = MissingScope(Scope::Sessions);
        if self.scopes.allow(Scope::Sessions) { self.reader().map(Actor).map_err(|_| missing) } else { Err(missing) }
    }

    /// The caller, if they may manage.
    ///
    /// # Errors
    /// The token lacks the scope `admin`.
    pub fn administrator(self) -> Result<Administrator, MissingScope> {
        let missing = MissingScope(Scope::Admin);
        if self.scopes.allow(Scope::Admin) {
            self.actor().map(Administrator).map_err(|_| missing)
        } else {
            Err(missing)
        }
    }
}

impl Caller {
    /// Whose things they can load.
    #[must_use]
    pub const fn reach(&self) -> &Reach {
        &self.reach
    }
}

impl Deref for Actor {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

impl Deref for Administrator {
    type Target = Actor;

    fn deref(&self) -> &Actor {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven(scopes: &[Scope]) -> Proven {
        Proven {
            user: UserId::parse("ada").expect("a good name"),
            tier: None,
            credential: "key_1".to_owned(),
            scopes: scopes.iter().copied().collect(),
            standing: Standing::for_ever(),
        }
    }

    #[test]
    fn nobody_gets_further_than_their_scope() {
        let levels = |scopes: &[Scope]| {
            let proven = proven(scopes);
            [proven.clone().reader().is_ok(), proven.clone().actor().is_ok(), proven.administrator().is_ok()]
        };
        assert_eq!(levels(&[]), [false, false, false]);
        assert_eq!(levels(&[Scope::Read]), [true, false, false]);
        assert_eq!(levels(&[Scope::Sessions]), [true, true, false]);
        assert_eq!(levels(&[Scope::Admin]), [true, true, true]);
    }

    #[test]
    fn only_an_administrator_reaches_what_is_of_others() {
        let reach = |scope| proven(&[scope]).reader().expect("may look").reach().clone();
        let own = Reach::Own(UserId::parse("ada").expect("a good name"));
        assert_eq!(reach(Scope::Read), own);
        assert_eq!(reach(Scope::Sessions), own);
        assert_eq!(reach(Scope::Admin), Reach::All);
    }

    #[test]
    fn who_is_refused_learns_the_scope_that_was_needed() {
        assert_eq!(proven(&[]).actor().expect_err("refused"), MissingScope(Scope::Sessions));
        assert_eq!(proven(&[Scope::Sessions]).administrator().expect_err("refused"), MissingScope(Scope::Admin));
    }
}
