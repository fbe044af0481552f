//! Callers, by what they may do. A use case says in its signature whom it serves: who holds an [`Actor`] was found to have the scope
//! `sessions`, and there is no other way to get one.

use std::ops::Deref;

use super::{OutOfReach, Reach, Scope, Scopes, Standing, Whose};
use crate::{
    ids::{TierName, UserId},
    telemetry::Trail,
};

/// Names everybody, where an administrator may ask for the things of all.
const EVERYBODY: &str = "*";

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
    scopes: Scopes,
    reach: Reach,
    trail: Trail,
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
        let reach = if self.scopes.allow(Scope::Admin) { Reach::all() } else { Reach::own(self.user.clone()) };
        let Self { user, tier, credential, scopes, standing } = self;
        Ok(Caller { user, tier, credential, standing, scopes, reach, trail: Trail::default() })
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
    /// What their token allows.
    #[must_use]
    pub const fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// Whose things they can load.
    #[must_use]
    pub const fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Themselves, as those whose things are to be loaded.
    #[must_use]
    pub fn whose(&self) -> Whose {
        Whose::recorded(self.user.clone())
    }

    /// What they proved, for somebody who is to be as good as they are.
    pub(super) fn proven(&self) -> Proven {
        let Self { user, tier, credential, standing, scopes, .. } = self.clone();
        Proven { user, tier, credential, scopes, standing }
    }

    /// As far as their own things go.
    #[must_use]
    pub fn own(&self) -> Reach {
        Reach::own(self.user.clone())
    }

    /// Those whose things a client names; none: the caller.
    ///
    /// # Errors
    /// It isn't the caller, and they are no administrator. It makes no difference whether there is such a user.
    pub fn whose_named(&self, name: Option<&str>) -> Result<Whose, OutOfReach> {
        let Some(name) = name.filter(|name| *name != self.user.as_str()) else { return Ok(self.whose()) };
        let user = UserId::parse(name).map_err(|_| self.nobody())?;
        if self.reach.covers(&user) { Ok(Whose::recorded(user)) } else { Err(OutOfReach::Forbidden) }
    }

    /// As far as a client asks to see: the things of the user it names, or of everybody with `*`; none: the caller's own.
    ///
    /// # Errors
    /// As for [`Caller::whose_named`].
    pub fn reach_named(&self, name: Option<&str>) -> Result<Reach, OutOfReach> {
        if name == Some(EVERYBODY) {
            return if self.reach.only().is_none() { Ok(Reach::all()) } else { Err(OutOfReach::Forbidden) };
        }
        self.whose_named(name).map(|whose| whose.reach())
    }

    /// What cannot be a user is told to administrators alone.
    const fn nobody(&self) -> OutOfReach {
        match self.reach.only() {
            Some(_) => OutOfReach::Forbidden,
            None => OutOfReach::Nobody,
        }
    }

    /// Where what is found for this call is left, for the audit log.
    #[must_use]
    pub const fn trail(&self) -> &Trail {
        &self.trail
    }

    /// The caller in this call.
    #[must_use]
    pub fn on(self, trail: Trail) -> Self {
        Self { trail, ..self }
    }
}

impl Actor {
    /// The caller in this call.
    #[must_use]
    pub fn on(self, trail: Trail) -> Self {
        Self(self.0.on(trail))
    }
}

impl Administrator {
    /// The caller in this call.
    #[must_use]
    pub fn on(self, trail: Trail) -> Self {
        Self(self.0.on(trail))
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
        let own = Reach::own(UserId::parse("ada").expect("a good name"));
        assert_eq!(reach(Scope::Read), own);
        assert_eq!(reach(Scope::Sessions), own);
        assert_eq!(reach(Scope::Admin), Reach::all());
    }

    #[test]
    fn whoever_is_no_administrator_can_name_only_themselves_and_learns_nothing_of_others() {
        let ada = proven(&[Scope::Sessions]).reader().expect("may look");
        let own = Reach::own(ada.user.clone());
        for asked in [None, Some("ada")] {
            assert_eq!((ada.whose_named(asked), ada.reach_named(asked)), (Ok(ada.whose()), Ok(own.clone())));
        }
        for asked in ["bob", "*", "", "no name", &"x".repeat(1000)] {
            let refused = (ada.whose_named(Some(asked)), ada.reach_named(Some(asked)));
            assert_eq!(refused, (Err(OutOfReach::Forbidden), Err(OutOfReach::Forbidden)), "{asked}");
        }
    }

    #[test]
    fn an_administrator_sees_their_own_unless_they_ask_for_more() {
        let root = proven(&[Scope::Admin]).reader().expect("may look");
        let user = |name| UserId::parse(name).expect("a good name");
        assert_eq!(root.reach_named(None), Ok(Reach::own(user("ada"))));
        assert_eq!(root.reach_named(Some("bob")), Ok(Reach::own(user("bob"))));
        assert_eq!(root.whose_named(Some("bob")), Ok(Whose::recorded(user("bob"))));
        assert_eq!(root.reach_named(Some("*")), Ok(Reach::all()));
        assert_eq!(root.reach_named(Some("no name")), Err(OutOfReach::Nobody));
    }

    #[test]
    fn who_is_refused_learns_the_scope_that_was_needed() {
        assert_eq!(proven(&[]).actor().expect_err("refused"), MissingScope(Scope::Sessions));
        assert_eq!(proven(&[Scope::Sessions]).administrator().expect_err("refused"), MissingScope(Scope::Admin));
    }
}
