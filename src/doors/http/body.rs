//! Request bodies within their limits: size, time and JSON depth.
//!
//! Reading begins after the token was checked. A body that says it is too large is refused before a byte of it is read; one that
//! doesn't say is read up to the limit. What is left unread closes the connection.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited, combinators::BoxBody};
use poem::{Body, Request, RequestBody, Result, http::header::CONTENT_LENGTH};
use poem_openapi::{
    impl_apirequest_for_payload,
    payload::{ParsePayload, Payload},
    registry::{MetaSchemaRef, Registry},
};

use super::{
    depth::{DEPTH_MAX, is_too_deep},
    refusal::{Refusal, given},
};
use crate::{
    config::{Config, Server},
    problem::{Code, Problem},
};

/// A payload whose body is read within the server's limits.
pub(in crate::doors) struct Bounded<P>(pub(in crate::doors) P);

impl<P: Payload> Payload for Bounded<P> {
    const CONTENT_TYPE: &'static str = P::CONTENT_TYPE;

    fn check_content_type(content_type: &str) -> bool {
        P::check_content_type(content_type)
    }

    fn schema_ref() -> MetaSchemaRef {
        P::schema_ref()
    }

    fn register(registry: &mut Registry) {
        P::register(registry);
    }
}

impl<P: Payload + ParsePayload> ParsePayload for Bounded<P> {
    const IS_REQUIRED: bool = P::IS_REQUIRED;

    async fn from_request(request: &Request, body: &mut RequestBody) -> Result<Self> {
        let bytes = bounded::<P>(request, body).await?;
        P::from_request(request, &mut RequestBody::new(Body::from(bytes))).await.map(Self)
    }
}

impl_apirequest_for_payload!(Bounded<P>, P: Payload + ParsePayload);

/// The whole body, within all limits.
pub(super) async fn bounded<P: Payload>(request: &Request, body: &mut RequestBody) -> Result<Bytes> {
    let config = given::<Arc<Config>>(request)?;
    let bytes = read(request, body.take()?, &config.server).await.map_err(Refusal)?;
    if P::CONTENT_TYPE.starts_with("application/json") && is_too_deep(&bytes) {
        let detail = format!("the JSON is nested more than {DEPTH_MAX} levels deep");
        return Err(Refusal(Problem::new(Code::InvalidRequest, detail)).into());
    }
    Ok(bytes)
}

async fn read(request: &Request, body: Body, settings: &Server) -> Result<Bytes, Problem> {
    let limit = settings.body_bytes;
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let collect = Limited::new(BoxBody::from(body), limit).collect();
    match tokio::time::timeout(settings.body_timeout, collect).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(fault)) if fault.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(fault)) => Err(Problem::new(Code::InvalidRequest, "the body broke off").because(fault)),
        Err(_elapsed) => {
            let detail = format!("the body was not complete within {} s", settings.body_timeout.as_secs());
            Err(Problem::new(Code::InvalidRequest, detail))
        }
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("the body may have {limit} bytes"))
}
