//! Which host a request is for.
//!
//! To a browser a page belongs to the name in its address bar. Whoever owns a name can make it mean any address, also this server's, after the page
//! was loaded: what the page asks here is then asked of its own origin, and it may read every answer. Its name is all that tells. So a request
//! must be for an IP address, for `localhost`, or for a name of the settings. An IP address is nobody's to redefine: a page that asks for
//! one either comes from that very address, which is this server, or is of another origin and known as such ([`super::origin`]).

use std::net::IpAddr;

use poem::http::{HeaderMap, Uri, header, uri::Authority};

use crate::{
    config::WebHost,
    problem::{Code, Problem},
};

/// Why nobody can say which host a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::doors) enum Unclear {
    /// HTTP/1.1 and later must have one.
    #[error("Host: the request has none")]
    Missing,
    /// Several, or `Host` says something else than the request's target.
    #[error("Host: the request names several hosts")]
    Several,
    /// Not a host.
    #[error("Host: it can't be understood")]
    Malformed,
}

impl From<Unclear> for Problem {
    fn from(unclear: Unclear) -> Self {
        Self::new(Code::InvalidRequest, unclear.to_string())
    }
}

/// The one host that the request is for: in `Host`, in the target (HTTP/2 always has it there), or the same in both.
pub(in crate::doors) fn asked(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Unclear> {
    let mut lines = headers.get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Unclear::Several);
    }
    let in_header =
        line.map(|line| Authority::try_from(line.as_bytes()).map_err(|_| Unclear::Malformed)).transpose()?;
    let host = match (in_header, uri.authority().cloned()) {
        (Some(one), Some(other)) if one != other => return Err(Unclear::Several),
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => return Err(Unclear::Missing),
    };
    if host.as_str().contains('@') || host.host().is_empty() { Err(Unclear::Malformed) } else { Ok(host) }
}

/// Whether this server is meant.
///
/// # Errors
/// Another one is.
pub(super) fn check(asked: &Authority, names: &[WebHost]) -> Result<(), Problem> {
    let listed = || names.iter().any(|name| name.is(asked.host(), asked.port_u16()));
    if is_address(asked) || listed() {
        return Ok(());
    }
    let detail = "this server isn't known by the name it was asked for; an operator can list it in server.hosts";
    Err(Problem::new(Code::MisdirectedRequest, detail))
}

/// Whether nobody can make this name mean another machine: an IP address, or `localhost`.
pub(in crate::doors) fn is_address(name: &Authority) -> bool {
    let host = name.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use poem::Request;

    use super::*;

    fn asked_by(target: &str, hosts: &[&str]) -> Result<Authority, Unclear> {
        let request = Request::builder().uri_str(target);
        let request = hosts.iter().fold(request, |request, host| request.header(header::HOST, *host)).finish();
        asked(request.uri(), request.headers())
    }

    fn meant(host: &str, names: &[&str]) -> bool {
        let names: Vec<_> =
            names.iter().map(|name| WebHost::try_from((*name).to_owned()).expect("a good name")).collect();
        check(&asked_by("/", &[host]).expect("a host"), &names).is_ok()
    }

    #[test]
    fn addresses_and_localhost_are_always_meant() {
        for host in
            ["127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "[fd00::7]", "10.0.0.7:80", "localhost:8080", "LocalHost"]
        {
            assert!(meant(host, &[]), "{host}");
        }
    }

    #[test]
    fn a_name_is_meant_only_when_it_is_listed_exactly() {
        assert!(meant("chat.example", &["other.example", "chat.example"]));
        assert!(meant("CHAT.example:8443", &["chat.example"]));
        assert!(meant("chat.example:8443", &["chat.example:8443"]));
        for host in [
            "evil.example",
            "chat.example",
            "a.chat.example:8443",
            "chat.example.:8443",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.1",
        ] {
            assert!(!meant(host, &["chat.example:8443"]), "{host}");
        }
    }

    #[test]
    fn target_and_header_must_name_one_host() {
        assert!(asked_by("http://127.0.0.1:8080/x", &[]).is_ok());
        assert!(asked_by("http://127.0.0.1:8080/x", &["127.0.0.1:8080"]).is_ok());
        assert!(asked_by("http://Chat.example/x", &["chat.example"]).is_ok());
        assert_eq!(asked_by("http://evil.example/x", &["127.0.0.1:8080"]), Err(Unclear::Several));
        assert_eq!(asked_by("/", &["127.0.0.1", "127.0.0.1"]), Err(Unclear::Several));
        assert_eq!(asked_by("/", &[]), Err(Unclear::Missing));
        for rubbish in ["", "a b", "a/b", "user@127.0.0.1", ":80", "[", "::1"] {
            assert_eq!(asked_by("/", &[rubbish]), Err(Unclear::Malformed), "{rubbish}");
        }
    }
}
