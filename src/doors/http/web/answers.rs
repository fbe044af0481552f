//! What answers tell a browser: what it may do with them, and which pages may read them.

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
};

use crate::doors::http::routes::Routes;

const SAME_ORIGIN_ONLY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// On every answer that hasn't something of its own: nothing is guessed, framed, told on, or run.
const ALWAYS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    // Also for pages that are listed: what they fetch is let through by the fields below, and what they only show (an image, a script) is not for them.
    (SAME_ORIGIN_ONLY, HeaderValue::from_static("same-origin")),
];

/// What a listed page may send, beside what every page may.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, accept, if-match, idempotency-key, last-event-id, traceparent, tracestate, x-request-id",
);
/// What it may read, beside what every page may.
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "etag, location, retry-after, ratelimit, ratelimit-policy, idempotent-replayed, x-request-id, www-authenticate, allow, content-disposition",
);
/// Seconds a browser may remember that a page may ask: as long as the most patient of them does.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Puts to an answer what the browser is to know. `page`: the origin of the listed page that asked, if one did.
pub(super) fn furnish(headers: &mut HeaderMap, page: Option<HeaderValue>, of_the_api: bool) {
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(value);
    }
    if of_the_api {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    // Of every answer: a cache that gave a page the answer to another would give it that one's leave, or its refusal.
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = page {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
    }
}

/// Whether a browser asks in a page's name whether the page may ask.
pub(super) fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What the page may ask here. It has shown no token, and learns nothing that isn't in the document.
pub(super) fn preflight(routes: &Routes, request: &Request) -> Response {
    let methods = routes.methods_at(request.uri().path());
    Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, methods)
        .header(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS)
        .header(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE)
        .finish()
}
