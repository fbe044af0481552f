//! Where a request to the proxy wants to go: `CONNECT host:port`, or `GET http://host/path`. Pure; nothing is tidied up before it is looked at.

use http::{
    HeaderMap, Method, Request, Version, header,
    uri::{Authority, Scheme},
};

use super::refusal::Refusal;
use crate::config::{HostError, HostName, parse_port};

/// The port of plain http.
const HTTP: u16 = 80;

/// What kind of way is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One plain request.
    Request,
    /// A tunnel for TLS.
    Tunnel,
}

/// A wish that can be decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// For what.
    pub kind: Kind,
    /// To whom.
    pub host: HostName,
    /// At which port.
    pub port: u16,
}

impl Asked {
    /// Reads a request's head.
    pub fn of<B>(request: &Request<B>) -> Result<Self, Refusal> {
        let (method, uri) = (request.method(), request.uri());
        let (kind, usual_port) = if method == Method::CONNECT && uri.scheme().is_none() {
            (Kind::Tunnel, None)
        } else if method != Method::CONNECT && uri.scheme() == Some(&Scheme::HTTP) {
            (Kind::Request, Some(HTTP))
        } else {
            // Also https:// without a tunnel: it would have to be unwrapped here.
            return Err(Refusal::Malformed);
        };
        let authority = uri.authority().ok_or(Refusal::Malformed)?;
        let (host, port) = target(authority, usual_port)?;
        let asked = Self { kind, host, port };
        asked.check_host(request.headers(), request.version())?;
        Ok(asked)
    }

    /// Its authority as it is sent to the host.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if self.kind == Kind::Request && *port == HTTP { host.to_string() } else { format!("{host}:{port}") }
    }

    /// Whoever says two different hosts is up to something. In `CONNECT` some leave the port out.
    fn check_host(&self, headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
        let mut named = headers.get_all(header::HOST).iter();
        let Some(host) = named.next() else {
            return if version < Version::HTTP_11 { Ok(()) } else { Err(Refusal::Malformed) };
        };
        let authority =
            host.to_str().ok().and_then(|text| text.parse::<Authority>().ok()).ok_or(Refusal::HostDiffers)?;
        let usual_port = if self.kind == Kind::Request { HTTP } else { self.port };
        let same = target(&authority, Some(usual_port)).is_ok_and(|named| named == (self.host.clone(), self.port));
        if same && named.next().is_none() { Ok(()) } else { Err(Refusal::HostDiffers) }
    }
}

fn target(authority: &Authority, usual_port: Option<u16>) -> Result<(HostName, u16), Refusal> {
    if authority.as_str().contains('@') {
        return Err(Refusal::Malformed);
    }
    let host = HostName::parse(authority.host()).map_err(|error| match error {
        HostError::Address => Refusal::Address,
        HostError::Name | HostError::Port => Refusal::Malformed,
    })?;
    let rest = &authority.as_str()[authority.host().len()..];
    let port = match rest.strip_prefix(':') {
        Some(digits) => parse_port(digits),
        None => usual_port,
    };
    Ok((host, port.ok_or(Refusal::Malformed)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, uri: &str, hosts: &[&str]) -> Result<String, Refusal> {
        let mut request = Request::builder().method(method).uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let asked = Asked::of(&request.body(()).map_err(|_| Refusal::Malformed)?)?;
        Ok(format!("{:?} {}:{}", asked.kind, asked.host, asked.port))
    }

    #[test]
    fn a_request_and_a_tunnel_say_where_they_go() {
        for (method, uri, host, expected) in [
            ("GET", "http://A.example/path?query", "a.example", "Request a.example:80"),
            ("POST", "http://a.example:8080/", "a.example:8080", "Request a.example:8080"),
            ("GET", "http://a.example./", "a.example", "Request a.example:80"),
            ("GET", "http://a.example:80/", "A.EXAMPLE.", "Request a.example:80"),
            ("CONNECT", "a.example:443", "a.example:443", "Tunnel a.example:443"),
            ("CONNECT", "a.example:443", "a.example", "Tunnel a.example:443"),
        ] {
            assert_eq!(asked(method, uri, &[host]).as_deref(), Ok(expected), "{uri} {host}");
        }
    }

    #[test]
    fn addresses_are_told_apart_from_nonsense() {
        for address in ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"] {
            assert_eq!(asked("CONNECT", &format!("{address}:443"), &[]), Err(Refusal::Address), "{address}");
            assert_eq!(asked("GET", &format!("http://{address}/"), &[address]), Err(Refusal::Address), "{address}");
        }
        for (method, uri) in [
            ("GET", "/"),
            ("GET", "https://a.example/"),
            ("GET", "ftp://a.example/"),
            ("GET", "http://user:secret@a.example/"),
            ("GET", "http://a.example:0/"),
            ("GET", "http://a.example:/"),
            ("GET", "http://a_b-.example/"),
            ("OPTIONS", "*"),
            ("CONNECT", "a.example"),
            ("CONNECT", "user@a.example:443"),
            ("CONNECT", "a.example:0"),
            ("CONNECT", "a.example:+443"),
            ("CONNECT", "http://a.example:443/"),
            ("GET", "http://a.example:+80/"),
            ("GET", "http://a.example:65536/"),
        ] {
            assert_eq!(asked(method, uri, &["a.example"]), Err(Refusal::Malformed), "{method} {uri}");
        }
    }

    #[test]
    fn who_names_two_hosts_is_refused() {
        for (method, uri, hosts) in [
            ("GET", "http://a.example/", &["b.example"][..]),
            ("GET", "http://a.example/", &["a.example:8080"]),
            ("GET", "http://a.example:8080/", &["a.example"]),
            ("GET", "http://a.example/", &["a.example", "a.example"]),
            ("GET", "http://a.example/", &["a.example", "b.example"]),
            ("GET", "http://a.example/", &["a.example, b.example"]),
            ("GET", "http://a.example/", &["user@a.example"]),
            ("GET", "http://a.example/", &[""]),
            ("CONNECT", "a.example:443", &["b.example:443"]),
            ("CONNECT", "a.example:443", &["a.example:80"]),
        ] {
            assert_eq!(asked(method, uri, hosts), Err(Refusal::HostDiffers), "{method} {uri} {hosts:?}");
        }
        assert_eq!(asked("GET", "http://a.example/", &[]), Err(Refusal::Malformed), "HTTP/1.1 says its host");
    }
}
