//! One identity provider: its settings, its keys, and whether a token is one of its.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header, TokenData, Validation, decode, decode_header};

use super::{
    Refused,
    claims::{Claims, Meaning},
    header,
    keeper::{Keeper, Pace},
    keyset::{KeyPrint, KeySet, Missing},
    source::{self, Source},
};
use crate::{
    config,
    fetch::Fetcher,
    identity::{AuthError, Proven, Standing},
};

/// An issuer whose tokens are taken.
#[derive(Debug)]
pub(super) struct Issuer {
    settings: config::Issuer,
    algorithms: Vec<Algorithm>,
    keeper: Keeper,
}

impl Issuer {
    /// Takes its settings. Keys in a file are read now: without them the setting can't be meant.
    pub(super) fn load(settings: &config::Issuer, fetcher: &Fetcher) -> Result<Self, AuthError> {
        let failed = |source| AuthError::Issuer { name: settings.name.clone(), source };
        let source = Source::of(settings).map_err(failed)?;
        let keys = match &source {
            Source::File(path) => source::read(path).map_err(failed)?,
            Source::Address(_) | Source::Discovered { .. } => KeySet::default(),
        };
        let keeper = Keeper::new(settings.name.clone(), source, fetcher.clone(), Pace::of(settings), keys);
        Ok(Self::new(settings.clone(), keeper))
    }

    pub(super) fn new(settings: config::Issuer, keeper: Keeper) -> Self {
        let algorithms = settings.algorithms.iter().copied().map(header::algorithm).collect();
        Self { settings, algorithms, keeper }
    }

    /// Keeps its keys fresh. Ends by being dropped.
    pub(super) async fn keep(&self) {
        self.keeper.keep().await;
    }

    /// Who shows this token. Waits for newer keys if it was signed with one that isn't known.
    pub(super) async fn prove(&self, token: &str) -> Result<Proven, Refused> {
        let head = decode_header(token)?;
        let algorithm = header::check(&head, &self.algorithms)?;
        let (keys, print) = self.key(&head, algorithm).await?;
        let key = keys.get(&print).ok_or(Refused::Key)?;
        let TokenData { claims, .. } = decode::<Claims>(token, &key.key, &self.validation(algorithm))?;
        let Meaning { user, tier, scopes, ends_at } = Meaning::of(&claims, &self.settings, Timestamp::now())?;
        let standing = Standing::signed(self.keeper.watch(), print, ends_at);
        Ok(Proven { user, tier, credential: self.settings.name.to_string(), scopes, standing })
    }

    async fn key(&self, head: &Header, algorithm: Algorithm) -> Result<(Arc<KeySet>, KeyPrint), Refused> {
        let find = |keys: Arc<KeySet>| {
            let print = keys.find(head.kid.as_deref(), algorithm).map(|key| key.print);
            print.map(|print| (keys, print))
        };
        match find(self.keeper.keys()) {
            Ok(found) => return Ok(found),
            Err(Missing::Unknown) if self.keeper.look_again().await => {}
            Err(Missing::Unknown | Missing::Unfit) => return Err(Refused::Key),
        }
        find(self.keeper.keys()).map_err(|_missing| Refused::Key)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&self.settings.audience);
        validation.leeway = self.settings.leeway.as_secs();
        validation.validate_nbf = true;
        validation
    }
}
