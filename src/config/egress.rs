//! What the agents' tools may reach beside the model: host names, patterns of them, and who may have them.
//!
//! Pure: what is a name and what matches it. Names are looked up, and addresses judged, in `gateway::egress`.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name, in bytes, and longest label of it (RFC 1035).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// The ports of a pattern that names none: https and http.
const USUAL_PORTS: [u16; 2] = [443, 80];

/// What holds for all sandboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Names with an address of their own, as in `/etc/hosts`: they are never looked up. The only way to an address that isn't public, such as an
    /// internal registry's. Default: none.
    pub hosts: BTreeMap<String, IpAddr>,
}

/// What the sessions of one template may reach beside the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TemplateEgress {
    /// What every session may reach, such as `registry.example`, `registry.example:8443` or `*.example.com:443`. Without a port: 443 and 80.
    /// Default: nothing.
    pub allow: Vec<HostPattern>,
    /// What a session may have beyond that if it asks for it. Default: nothing.
    pub offer: Vec<HostPattern>,
}

impl TemplateEgress {
    /// Whether every session may reach it.
    #[must_use]
    pub fn allows(&self, host: &HostName, port: u16) -> bool {
        self.allow.iter().any(|pattern| pattern.matches(host, port))
    }

    /// Whether a session may have it.
    #[must_use]
    pub fn grants(&self, host: &HostName, port: u16) -> bool {
        self.allow.iter().chain(&self.offer).any(|pattern| pattern.matches(host, port))
    }

    /// Whether a session may have all that this pattern stands for.
    #[must_use]
    pub fn covers(&self, asked: &HostPattern) -> bool {
        let covered = |port: &u16| self.allow.iter().chain(&self.offer).any(|pattern| pattern.covers(asked, *port));
        asked.ports().iter().all(covered)
    }
}

/// Why a text is no name of a host, or no pattern of names. Says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Not a name.
    #[error(
        "must be a host name of letters, digits, '-' and '.' (other alphabets as punycode), with '*.' before it for all names below it, \
         and ':PORT' after it for another port than 443 and 80"
    )]
    Name,
    /// An address, in whatever spelling.
    #[error("must be a host name, not an address")]
    Address,
    /// Not a port.
    #[error("must have a port from 1 to 65535 after ':'")]
    Port,
}

/// The name of a host: lower case, without a dot at its end. Never an address, in no spelling that any parser knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// Takes a name.
    ///
    /// # Errors
    /// [`HostError::Address`] for what some parser would read as an address, [`HostError::Name`] for all else that is no name.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.starts_with('[') || name.parse::<IpAddr>().is_ok() {
            return Err(HostError::Address);
        }
        if name.len() > NAME_MAX || !name.split('.').all(is_label) {
            return Err(HostError::Name);
        }
        // Whatever ends in a number is an address to browsers' parsers and to `inet_aton`: 127.1, 0x7f000001, 017700000001.
        let last = name.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if digits(last) || hexadecimal.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Err(HostError::Address);
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    // Underscores are in no host name by the book, and in many by use.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let hyphens = label.starts_with('-') || label.ends_with('-');
    !label.is_empty() && label.len() <= LABEL_MAX && !hyphens && label.bytes().all(plain)
}

/// A name, or all names below one, and a port or the usual two: `registry.example`, `registry.example:8443`, `*.example.com:443`.
///
/// `*.` stands for one label or more, and never for none: `*.example.com` is `a.example.com` and `a.b.example.com`, but not `example.com`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    name: HostName,
    below: bool,
    port: Option<u16>,
}

impl HostPattern {
    /// Whether this host and port are meant.
    #[must_use]
    pub fn matches(&self, host: &HostName, port: u16) -> bool {
        let named = if self.below { self.is_above(host) } else { self.name == *host };
        named && self.ports().contains(&port)
    }

    /// Whether it stands for all names of `other`, with this port.
    fn covers(&self, other: &Self, port: u16) -> bool {
        let named = match (self.below, other.below) {
            (false, false) => self.name == other.name,
            (false, true) => false,
            (true, false) => self.is_above(&other.name),
            (true, true) => self.name == other.name || self.is_above(&other.name),
        };
        named && self.ports().contains(&port)
    }

    fn is_above(&self, host: &HostName) -> bool {
        host.0.strip_suffix(&self.name.0).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }

    fn ports(&self) -> &[u16] {
        self.port.as_ref().map_or(&USUAL_PORTS, std::slice::from_ref)
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        // With more than one colon it is a form of IPv6, and no port is meant.
        let (name, port) = match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(HostError::Address),
            Some((name, port)) => (name, Some(parse_port(port).ok_or(HostError::Port)?)),
            None => (text, None),
        };
        let (name, below) = name.strip_prefix("*.").map_or((name, false), |rest| (rest, true));
        Ok(Self { name: HostName::parse(name)?, below, port })
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.below { "*." } else { "" };
        write!(formatter, "{below}{}", self.name)?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

/// A port from 1 on, in plain digits: no sign, no blank.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port != 0)
}

#[cfg(test)]
mod tests;
