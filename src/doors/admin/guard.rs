//! Keeps web pages out: a page that is open in an operator's browser can reach whatever address the browser can reach.
//!
//! Browsers say who asks, and pages can't change that: `Origin` comes with every request that changes something or crosses an origin,
//! `Sec-Fetch-Site` with every request. Nothing is served to pages here, so neither `Origin` nor another site is ever right. What is left is a page
//! whose own host name was made to mean this address (DNS rebinding): to the browser it asks its own origin, but its name is in `Host`.
//! The address to listen at is an IP address in the settings, so no other name can be meant.
//!
//! `/metrics` and `/healthz` are watched by programs that know the server by a name of its network, such as `greenroom:8081`. They change
//! nothing and tell numbers only, so any `Host` may ask for them; pages of another origin may not, which costs no such program anything.

use std::sync::Arc;

use poem::{
    Endpoint, IntoResponse as _, Request, Response, Result,
    http::{HeaderMap, header},
};

use crate::{
    doors::http::{refusal::Refusal, web::host},
    problem::{Code, Problem},
};

const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// Paths that may be asked for by any name of this host.
const BY_ANY_NAME: [&str; 2] = ["/metrics", "/healthz"];

/// Lets a request pass, or answers in its place.
pub(super) async fn guard<E: Endpoint>(app: Arc<E>, request: Request) -> Result<Response> {
    match check(&request) {
        Ok(()) => Ok(app.get_response(request).await),
        Err(problem) => Ok(Refusal(problem).into_response()),
    }
}

fn check(request: &Request) -> Result<(), Problem> {
    let forbidden = |detail: &str| Err(Problem::new(Code::Forbidden, detail));
    if comes_from_a_page(request.headers()) {
        return forbidden("web pages may not use this address; use a program such as curl");
    }
    if !BY_ANY_NAME.contains(&request.uri().path()) && !names_an_address(request) {
        return forbidden("use the server's IP address, or localhost, in place of its name");
    }
    Ok(())
}

fn comes_from_a_page(headers: &HeaderMap) -> bool {
    let of_a_page = |site: &header::HeaderValue| !matches!(site.as_bytes(), b"none" | b"same-origin");
    headers.contains_key(header::ORIGIN) || headers.get_all(SEC_FETCH_SITE).iter().any(of_a_page)
}

/// Whether the name the request has for this host, and there must be one, is an address.
fn names_an_address(request: &Request) -> bool {
    host::asked(request.uri(), request.headers()).is_ok_and(|name| host::is_address(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(path: &str, headers: &[(&str, &str)]) -> bool {
        let request = Request::builder().uri_str(path);
        check(&headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).finish()).is_ok()
    }

    #[test]
    fn programs_pass_by_address_and_as_localhost() {
        for host in
            ["127.0.0.1:8081", "127.0.0.1", "[::1]:8081", "[fd00::7]", "10.0.0.7:80", "localhost:8081", "LocalHost"]
        {
            assert!(passes("/pools", &[("host", host)]), "{host}");
        }
        assert!(passes("http://127.0.0.1:8081/pools", &[]), "HTTP/2 has its host in the URI");
    }

    #[test]
    fn a_name_that_somebody_else_can_make_mean_this_address_is_refused() {
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a@evil.example", "", "::1", "[]", "["]
        {
            assert!(!passes("/pools", &[("host", host)]), "{host}");
        }
        assert!(!passes("/pools", &[]));
        assert!(!passes("/pools", &[("host", "127.0.0.1"), ("host", "evil.example")]));
        assert!(!passes("http://evil.example/pools", &[("host", "127.0.0.1")]));
    }

    #[test]
    fn monitoring_may_use_any_name_and_pages_may_not_read_even_that() {
        for path in BY_ANY_NAME {
            assert!(passes(path, &[("host", "greenroom:8081")]), "{path}");
            assert!(!passes(path, &[("host", "greenroom:8081"), ("origin", "https://evil.example")]), "{path}");
        }
    }

    #[test]
    fn pages_are_refused_whatever_they_say_of_their_origin() {
        let with = |name, value| passes("/pools", &[("host", "127.0.0.1"), (name, value)]);
        for origin in ["https://evil.example", "null", "http://127.0.0.1:8081", ""] {
            assert!(!with("origin", origin), "{origin}");
        }
        for site in ["cross-site", "same-site", "", "None"] {
            assert!(!with(SEC_FETCH_SITE, site), "{site}");
        }
        // Typed into the address bar.
        assert!(with(SEC_FETCH_SITE, "none"));
        assert!(with(SEC_FETCH_SITE, "same-origin"));
    }
}
