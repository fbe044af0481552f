//! What browsers call this server and the pages that may use it, as the settings have it.

use std::fmt;

use http::uri::Authority;
use serde::{Deserialize, Serialize};

/// A name this server may be asked by: at any port, or at the one that is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebHost {
    name: String,
    port: Option<u16>,
}

/// Where a web page comes from: scheme, host and port, written as browsers write it (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebOrigin(String);

/// Why a name or an origin was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebNameError {
    /// Not the name of a host.
    #[error("must be the name of one host, such as chat.example or chat.example:8443")]
    Host,
    /// Not an origin.
    #[error(
        "must be the origin of a page: scheme, host and, unless it is the usual one, port, such as https://chat.example"
    )]
    Origin,
    /// `*`, which would let every page in.
    #[error("must be exact: `*` would let every page in")]
    Any,
}

impl WebHost {
    /// Whether a request for this host and port means it. Letters may be of either case.
    #[must_use]
    pub fn is(&self, host: &str, port: Option<u16>) -> bool {
        self.name.eq_ignore_ascii_case(host) && (self.port.is_none() || self.port == port)
    }
}

impl TryFrom<String> for WebHost {
    type Error = WebNameError;

    fn try_from(text: String) -> Result<Self, WebNameError> {
        let authority = authority(&text).ok_or(WebNameError::Host)?;
        let name = authority.host().to_ascii_lowercase();
        let named = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if named { Ok(Self { name, port: authority.port_u16() }) } else { Err(WebNameError::Host) }
    }
}

impl From<WebHost> for String {
    fn from(host: WebHost) -> Self {
        host.to_string()
    }
}

impl fmt::Display for WebHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(formatter, "{}:{port}", self.name),
            None => formatter.write_str(&self.name),
        }
    }
}

impl WebOrigin {
    /// As a browser sends it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for WebOrigin {
    type Error = WebNameError;

    fn try_from(text: String) -> Result<Self, WebNameError> {
        if text.contains('*') {
            return Err(WebNameError::Any);
        }
        let (scheme, rest) = text.split_once("://").ok_or(WebNameError::Origin)?;
        let scheme = scheme.to_ascii_lowercase();
        let named = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let authority = authority(rest).filter(|_| named).ok_or(WebNameError::Origin)?;
        let host = authority.host().to_ascii_lowercase();
        // Browsers leave out the usual port.
        let port = authority.port_u16().filter(|port| usual_port(&scheme) != Some(*port));
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self(format!("{scheme}://{host}{port}")))
    }
}

impl From<WebOrigin> for String {
    fn from(origin: WebOrigin) -> Self {
        origin.0
    }
}

/// The port that is meant when none is given.
#[must_use]
pub fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// A host, perhaps with a port, and nothing else.
fn authority(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let whole = match authority.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    (!host.is_empty() && whole == text).then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<WebHost, WebNameError> {
        WebHost::try_from(text.to_owned())
    }

    fn origin(text: &str) -> Result<String, WebNameError> {
        WebOrigin::try_from(text.to_owned()).map(String::from)
    }

    #[test]
    fn a_name_is_good_at_any_port_unless_it_has_one() {
        let any = host("Chat.Example").expect("a name");
        assert!(any.is("chat.example", None) && any.is("CHAT.example", Some(8443)));
        let one = host("chat.example:8443").expect("a name with a port");
        assert!(one.is("chat.example", Some(8443)));
        assert!(!one.is("chat.example", None) && !one.is("chat.example", Some(80)) && !one.is("example", Some(8443)));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in ["", "*", "*.example", "a b", "a/b", "https://a", "user@a", "a:", "a:x", "a:99999", "[::1]", "é"] {
            assert_eq!(host(bad), Err(WebNameError::Host), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_kept_as_browsers_write_it() {
        for (written, kept) in [
            ("https://chat.example", "https://chat.example"),
            ("HTTPS://Chat.Example:443", "https://chat.example"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("tauri://localhost", "tauri://localhost"),
        ] {
            assert_eq!(origin(written).as_deref(), Ok(kept));
        }
    }

    #[test]
    fn what_is_no_exact_origin_is_refused() {
        for bad in
            ["", "null", "chat.example", "https://", "https://a/", "https://a/b", "https://u@a", "https://a:", "1://a"]
        {
            assert_eq!(origin(bad), Err(WebNameError::Origin), "{bad}");
        }
        for bad in ["*", "https://*", "https://*.example", "*://a"] {
            assert_eq!(origin(bad), Err(WebNameError::Any), "{bad}");
        }
    }
}
