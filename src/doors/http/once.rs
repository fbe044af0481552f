//! Requests that may be sent twice: the `Idempotency-Key` and the body it belongs to.

use poem::{Body, Request, RequestBody, Result, http::HeaderName};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions, impl_apirequest_for_payload,
    payload::{ParsePayload, Payload},
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef, Registry},
};

use super::{body::bounded, confidential::wipe_value, refusal::Refusal};
use crate::{
    problem::{Code, Problem},
    service::idempotency::{Keyed, digest},
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest key, in bytes.
const KEY_MAX: usize = 255;

/// The key of a request, if it has one.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::doors) struct OnceKey(Option<String>);

/// Whether a request has a key, good or bad.
pub(in crate::doors) fn has_key(request: &Request) -> bool {
    request.headers().contains_key(KEY)
}

impl<'a> ApiExtractor<'a> for OnceKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];

    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        let text = MetaSchema { min_length: Some(1), max_length: Some(KEY_MAX), ..MetaSchema::new("string") };
        Some(MetaSchemaRef::Inline(Box::new(text)))
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> Result<Self> {
        let mut lines = request.headers().get_all(KEY).iter();
        let key = lines.next().map(|line| line.as_bytes());
        let good = |key: &[u8]| (1..=KEY_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
        if lines.next().is_some() || !key.is_none_or(good) {
            let detail = format!("Idempotency-Key: must be one key of 1 to {KEY_MAX} visible ASCII characters");
            return Err(Refusal(Problem::new(Code::InvalidRequest, detail)).into());
        }
        Ok(Self(key.map(|key| String::from_utf8_lossy(key).into_owned())))
    }
}

impl OnceKey {
    /// The key with what it came with.
    pub(in crate::doors) fn on<P>(self, route: impl Into<String>, body: &Digested<P>) -> Option<Keyed> {
        let (key, body) = (self.0?, body.digest?);
        Some(Keyed { key, route: route.into(), body })
    }
}

/// A payload whose body is read within the server's limits, with its digest if the request has a key.
pub(in crate::doors) struct Digested<P> {
    pub(in crate::doors) payload: P,
    digest: Option<[u8; 32]>,
}

impl<P: Payload> Payload for Digested<P> {
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

impl<P: Payload + ParsePayload> ParsePayload for Digested<P> {
    const IS_REQUIRED: bool = P::IS_REQUIRED;

    async fn from_request(request: &Request, body: &mut RequestBody) -> Result<Self> {
        let bytes = bounded::<P>(request, body).await?;
        let keyed = has_key(request);
        // What can't be read here can't be read there either, and is refused.
        let digest = keyed.then(|| {
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            let digest = digest(&body);
            wipe_value(body);
            digest
        });
        let payload = P::from_request(request, &mut RequestBody::new(Body::from(bytes))).await?;
        Ok(Self { payload, digest })
    }
}

impl_apirequest_for_payload!(Digested<P>, P: Payload + ParsePayload);
