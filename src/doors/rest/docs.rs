//! The document's first words, and the page that shows it: made once, and without need of anything from another host.

use bytes::Bytes;
use poem::{
    Endpoint, Response,
    endpoint::make_sync,
    get,
    http::{
        HeaderName,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY},
    },
};
use poem_openapi::OpenApiService;

use super::Api;

/// The document's first words.
pub(super) const INTRODUCTION: &str = "\
Keeps AI agents booted, logged in and waiting, each in its own sandbox, and leases one in milliseconds.

Every call under `/v1` needs `Authorization: Bearer <token>`. Times are RFC 3339 in UTC; durations in seconds end in `_s`, in \
milliseconds in `_ms`. Unknown fields are refused. Failures are `application/problem+json` (RFC 9457) with a stable `code` and the `request_id` \
of the answer's `X-Request-Id` header.

A request's head may have 16 KiB (431), its body 1 MiB (413), its JSON 64 levels (400). It must be for an IP address, for `localhost` or for a name \
the server knows as its own (421), and may come from a web page only if the server lists that page's origin (403).";

/// The page brings its script and style along; the browser is told to fetch nothing else but this server's answers.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
    connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

pub(super) fn page_endpoint(api: &OpenApiService<Api, ()>) -> impl Endpoint<Output = Response> + use<> {
    let page = Bytes::from(api.swagger_ui_html());
    get(make_sync(move |_| {
        Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(CACHE_CONTROL, "no-cache")
            .header(CONTENT_SECURITY_POLICY, POLICY)
            // A token may be typed into it: the page that led here gets no hold on its window.
            .header(OPENER_POLICY, "same-origin")
            .body(page.clone())
    }))
}
