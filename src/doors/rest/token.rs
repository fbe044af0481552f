//! The token of a request, and what it has to allow. Each call names one of the three in its signature, and so in the document.

use std::sync::Arc;

use poem::{Request, Result};
use poem_openapi::{SecurityScheme, auth};

use super::audit::trail;
use super::refusal::{Refusal, forbidden, given, unauthenticated};
use crate::identity::{Actor, Administrator, Authenticator, Caller, MissingScope, Proven};

/// A token with the scope `read`.
#[derive(SecurityScheme)]
#[oai(rename = "read", ty = "bearer", checker = "may_read")]
pub(super) struct MayRead(pub(super) Caller);

/// A token with the scope `sessions`, which includes `read`.
#[derive(SecurityScheme)]
#[oai(rename = "sessions", ty = "bearer", checker = "may_act")]
pub(super) struct MayAct(pub(super) Actor);

/// A token with the scope `admin`, which includes both others.
#[derive(SecurityScheme)]
#[oai(rename = "admin", ty = "bearer", checker = "may_administer")]
pub(super) struct MayAdminister(pub(super) Administrator);

async fn may_read(request: &Request, bearer: auth::Bearer) -> Result<Caller> {
    allowed(prove(request, &bearer).await?.reader()).map(|caller| caller.on(trail(request)))
}

async fn may_act(request: &Request, bearer: auth::Bearer) -> Result<Actor> {
    allowed(prove(request, &bearer).await?.actor()).map(|actor| actor.on(trail(request)))
}

async fn may_administer(request: &Request, bearer: auth::Bearer) -> Result<Administrator> {
    allowed(prove(request, &bearer).await?.administrator()).map(|administrator| administrator.on(trail(request)))
}

async fn prove(request: &Request, bearer: &auth::Bearer) -> Result<Proven> {
    let proven = given::<Arc<Authenticator>>(request)?.verify(&bearer.token).await;
    let proven = proven.ok_or_else(|| Refusal(unauthenticated()))?;
    Ok(known(request, proven))
}

/// Somebody proved who they are. Also who may not do what they ask for is written down.
pub(super) fn known(request: &Request, proven: Proven) -> Proven {
    trail(request).caller(&proven.user, &proven.credential);
    proven
}

pub(super) fn allowed<T>(caller: Result<T, MissingScope>) -> Result<T> {
    Ok(caller.map_err(|missing| Refusal(forbidden(missing)))?)
}
