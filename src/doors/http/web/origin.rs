//! Which page asks, if one does.
//!
//! A browser puts `Origin` to whatever crosses an origin and could be read or change something, and `Sec-Fetch-Site` to everything. Pages can forge
//! neither. Programs send none of them.

use std::collections::HashSet;

use poem::http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::ORIGIN,
    uri::{Authority, Uri},
};

use crate::{
    config::usual_port,
    problem::{Code, Problem},
};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doors) enum Visitor {
    /// A program, a person who typed the address or followed a link, or a page of this server's own.
    Own,
    /// A page of this origin, which is listed.
    Listed(HeaderValue),
}

impl Visitor {
    /// The page's origin, if it has to be told that it may read the answer.
    pub(super) const fn listed_origin(&self) -> Option<&HeaderValue> {
        match self {
            Self::Own => None,
            Self::Listed(origin) => Some(origin),
        }
    }
}

/// Who asks, if they may. `own`: the host that is asked for, where that is clear.
///
/// # Errors
/// It is a page of an origin that isn't listed.
pub(in crate::doors) fn visitor(
    method: &Method,
    headers: &HeaderMap,
    own: Option<&Authority>,
    listed: &HashSet<String>,
) -> Result<Visitor, Problem> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let good = match (origins.next(), origins.next()) {
        (None, _) => site_is_own(headers) || is_visit(method, headers),
        (Some(origin), None) if origin.to_str().is_ok_and(|origin| listed.contains(origin)) => {
            return Ok(Visitor::Listed(origin.clone()));
        }
        (Some(origin), None) => own.is_some_and(|own| is_origin_of(origin, own)) && site_is_own(headers),
        (Some(_), Some(_)) => false,
    };
    if good { Ok(Visitor::Own) } else { Err(refused()) }
}

fn refused() -> Problem {
    let detail = "web pages of this origin may not use this server; an operator can list the origin in server.origins";
    Problem::new(Code::Forbidden, detail)
}

/// Whether the browser, if it is one, asks for the person before it or for a page of this very origin.
fn site_is_own(headers: &HeaderMap) -> bool {
    headers.get_all(SITE).iter().all(|site| matches!(site.as_bytes(), b"none" | b"same-origin"))
}

/// Whether somebody follows a link: what comes of it is shown in a window of its own, and the page with the link can't read it.
fn is_visit(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name, value: &str| headers.get_all(name).iter().all(|given| given == value);
    let reads = matches!(*method, Method::GET | Method::HEAD);
    reads && headers.contains_key(MODE) && is(MODE, "navigate") && is(DESTINATION, "document")
}

/// Whether this is the origin of pages of this host. Its scheme isn't known here: in front there may be a proxy that speaks TLS. What
/// comes of the other scheme is of another origin to the browser too, which says so in `Sec-Fetch-Site` and doesn't let it read the answer.
fn is_origin_of(origin: &HeaderValue, host: &Authority) -> bool {
    let Ok(uri) = Uri::try_from(origin.as_bytes()) else { return false };
    let (Some(scheme @ ("http" | "https")), Some(page)) = (uri.scheme_str(), uri.authority()) else { return false };
    let port = |authority: &Authority| authority.port_u16().or_else(|| usual_port(scheme));
    page.host().eq_ignore_ascii_case(host.host()) && port(page) == port(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(method: &Method, headers: &[(&str, &str)]) -> Result<Visitor, Problem> {
        let map = headers.iter().fold(HeaderMap::new(), |mut map, (name, value)| {
            let name = HeaderName::try_from(*name).expect("a name");
            map.append(name, HeaderValue::from_str(value).expect("a value"));
            map
        });
        let host = Authority::from_static("127.0.0.1:8080");
        visitor(method, &map, Some(&host), &HashSet::from(["https://chat.example".to_owned()]))
    }

    fn passes(headers: &[(&str, &str)]) -> bool {
        visit(&Method::POST, headers).is_ok()
    }

    #[test]
    fn programs_and_pages_of_our_own_pass() {
        assert!(passes(&[]));
        assert!(passes(&[("sec-fetch-site", "none")]));
        assert!(passes(&[("sec-fetch-site", "same-origin")]));
        assert!(passes(&[("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-origin")]));
        // A browser from before `Sec-Fetch-Site`.
        assert!(passes(&[("origin", "http://127.0.0.1:8080")]));
    }

    #[test]
    fn a_listed_page_passes_from_wherever_it_is_and_is_told_so() {
        for site in ["cross-site", "same-site"] {
            let seen = visit(&Method::POST, &[("origin", "https://chat.example"), ("sec-fetch-site", site)]);
            assert_eq!(seen.expect("listed"), Visitor::Listed(HeaderValue::from_static("https://chat.example")));
        }
    }

    #[test]
    fn every_other_page_is_refused() {
        for origin in [
            "https://evil.example",
            "http://chat.example",
            "https://chat.example:8443",
            "https://chat.example.evil.example",
            "https://chat.example/",
            "HTTPS://CHAT.EXAMPLE",
            "http://127.0.0.1",
            "http://127.0.0.1:3000",
            "ftp://127.0.0.1:8080",
            "null",
            "",
        ] {
            assert!(!passes(&[("origin", origin)]), "{origin}");
        }
        assert!(!passes(&[("origin", "https://chat.example"), ("origin", "https://evil.example")]));
        assert!(!passes(&[("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "cross-site")]));
        for site in ["cross-site", "same-site", "", "None"] {
            assert!(!passes(&[("sec-fetch-site", site)]), "{site}");
        }
        assert!(!passes(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn a_link_may_be_followed_and_nothing_else_may_be_brought_in() {
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert!(visit(&Method::GET, &link).is_ok());
        assert!(visit(&Method::POST, &link).is_err(), "a form");
        for (mode, destination) in
            [("no-cors", "image"), ("navigate", "iframe"), ("cors", "empty"), ("websocket", "websocket")]
        {
            let brought = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", mode), ("sec-fetch-dest", destination)];
            assert!(visit(&Method::GET, &brought).is_err(), "{mode} {destination}");
        }
    }

    #[test]
    fn the_usual_port_may_be_named_or_not() {
        let own = |origin: &'static str, host: &str| {
            is_origin_of(&HeaderValue::from_static(origin), &host.parse().expect("a host"))
        };
        assert!(own("https://chat.example", "chat.example") && own("https://chat.example", "chat.example:443"));
        assert!(own("http://chat.example:80", "Chat.example"));
        assert!(!own("https://chat.example", "chat.example:80") && !own("https://chat.example:8443", "chat.example"));
    }
}
