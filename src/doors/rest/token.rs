//! The token of a request.

use std::sync::Arc;

use poem::{Request, Result};
use poem_openapi::{SecurityScheme, auth};

use super::refusal::{Refusal, given, unauthenticated};
use crate::identity::{Authenticator, Caller};

/// A token from the server's settings or from `greenroom keys create`; it names the user.
#[derive(SecurityScheme)]
#[oai(rename = "token", ty = "bearer", checker = "verify")]
pub(super) struct Token(pub(super) Caller);

async fn verify(request: &Request, bearer: auth::Bearer) -> Result<Caller> {
    let caller = given::<Arc<Authenticator>>(request)?.verify(&bearer.token);
    Ok(caller.ok_or_else(|| Refusal(unauthenticated()))?)
}
