//! The token of a request, and what it has to allow. Each call names one of these in its signature, and so in the document.
//!
//! The token stands before the body among a call's parameters: who has none, or is too fast, is refused before any of the body is read.

use std::sync::Arc;

use poem::{Request, Result, http::header::AUTHORIZATION};
use poem_openapi::{SecurityScheme, auth};

use super::{
    audit::trail,
    once,
    refusal::{Refusal, forbidden, given},
};
use crate::{
    identity::{Actor, Administrator, Authenticator, Caller, MissingScope, Proven},
    problem::Problem,
    service::admission::{Admission, Call},
};

/// A token with the scope `read`.
#[derive(SecurityScheme)]
#[oai(rename = "read", ty = "bearer", checker = "may_read")]
pub(super) struct MayRead(pub(super) Caller);

/// A token with the scope `sessions`, which includes `read`.
#[derive(SecurityScheme)]
#[oai(rename = "sessions", ty = "bearer", checker = "may_act")]
pub(super) struct MayAct(pub(super) Actor);

// One of a user who may open a session now. To clients it is the same, and the document says of each name one thing.
/// A token with the scope `sessions`, which includes `read`.
#[derive(SecurityScheme)]
#[oai(rename = "sessions", ty = "bearer", checker = "may_open")]
pub(super) struct MayOpen(pub(super) Actor);

// One of a user who may start a turn now.
/// A token with the scope `sessions`, which includes `read`.
#[derive(SecurityScheme)]
#[oai(rename = "sessions", ty = "bearer", checker = "may_prompt")]
pub(super) struct MayPrompt(pub(super) Actor);

/// A token with the scope `admin`, which includes both others.
#[derive(SecurityScheme)]
#[oai(rename = "admin", ty = "bearer", checker = "may_administer")]
pub(super) struct MayAdminister(pub(super) Administrator);

async fn may_read(request: &Request, bearer: auth::Bearer) -> Result<Caller> {
    allowed(prove(request, &bearer, Call::Other).await?.reader()).map(|caller| caller.on(trail(request)))
}

async fn may_act(request: &Request, bearer: auth::Bearer) -> Result<Actor> {
    act(request, &bearer, Call::Other).await
}

async fn may_open(request: &Request, bearer: auth::Bearer) -> Result<Actor> {
    act(request, &bearer, unless_again(request, Call::Open)).await
}

async fn may_prompt(request: &Request, bearer: auth::Bearer) -> Result<Actor> {
    act(request, &bearer, unless_again(request, Call::Prompt)).await
}

async fn may_administer(request: &Request, bearer: auth::Bearer) -> Result<Administrator> {
    let administrator = allowed(prove(request, &bearer, Call::Other).await?.administrator())?;
    Ok(administrator.on(trail(request)))
}

async fn act(request: &Request, bearer: &auth::Bearer, call: Call) -> Result<Actor> {
    allowed(prove(request, bearer, call).await?.actor()).map(|actor| actor.on(trail(request)))
}

fn unless_again(request: &Request, call: Call) -> Call {
    if once::has_key(request) { Call::Again } else { call }
}

/// Who calls, if they may call now.
async fn prove(request: &Request, bearer: &auth::Bearer, call: Call) -> Result<Proven> {
    // Of two fields, whoever stands before us may have believed the other one.
    let single = request.headers().get_all(AUTHORIZATION).iter().count() == 1;
    let proven = match single {
        true => given::<Arc<Authenticator>>(request)?.verify(&bearer.token).await,
        false => None,
    };
    let proven = proven.ok_or_else(|| Refusal(Problem::unauthenticated()))?;
    known(request, proven, call)
}

/// Lets somebody in who proved who they are, if they may call now. Also whoever may not is written down.
pub(super) fn known(request: &Request, proven: Proven, call: Call) -> Result<Proven> {
    trail(request).caller(&proven.user, &proven.credential);
    given::<Admission>(request)?.admit(&proven, call).map_err(Refusal)?;
    Ok(proven)
}

pub(super) fn allowed<T>(caller: Result<T, MissingScope>) -> Result<T> {
    Ok(caller.map_err(|missing| Refusal(forbidden(missing)))?)
}
