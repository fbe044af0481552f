//! What an agent may reach: one host, a few paths, and the header that carries the key.
//!
//! Compiled once from a template and matched against every request; pure, no I/O. Nothing is decoded or tidied up before it is
//! matched: a path with a character that two parsers could read differently is refused, so there is nothing to disagree about.

use http::{HeaderName, Uri, header, uri::Authority, uri::Scheme};

use super::form;
use crate::config::{ApiForm, ModelApi};

/// Longest accepted model name, in bytes. It becomes part of events and spans.
const MODEL_MAX: usize = 128;

/// Why a template's model API can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The base URL isn't one.
    #[error("base_url {url:?} must be http:// or https://, a host, and nothing else but a path")]
    BaseUrl {
        /// As configured.
        url: String,
    },
    /// No path would be let through.
    #[error("paths is empty: the agent could call nothing")]
    NoPaths,
    /// A path pattern isn't one.
    #[error("path {pattern:?} must begin with '/', have at most one '*', and be plain letters, digits and -._~:@/")]
    Path {
        /// As configured.
        pattern: String,
    },
    /// The key's header isn't a header name.
    #[error("key_header {name:?} is not a header name")]
    KeyHeader {
        /// As configured.
        name: String,
    },
}

/// A model API, compiled.
#[derive(Debug, Clone)]
pub struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    base_path: String,
    patterns: Vec<Pattern>,
    key_header: HeaderName,
    form: ApiForm,
    max_output_tokens: u64,
}

/// `before*after`; without a `*` the whole path is `before`.
#[derive(Debug, Clone)]
struct Pattern {
    before: String,
    after: Option<String>,
}

/// Where an admitted request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The whole address.
    pub uri: Uri,
    /// What the pattern's `*` stood for; empty without one.
    pub model: String,
    /// Whether the answer costs tokens.
    pub metered: bool,
}

impl Endpoint {
    /// Compiles a template's model API. `base_url_override` takes the place of its base URL, for the stub and for tests.
    ///
    /// # Errors
    /// The first field that can't be used.
    pub fn compile(api: &ModelApi, base_url_override: Option<&str>) -> Result<Self, EndpointError> {
        let (scheme, authority, base_path) = parse_base(base_url_override.unwrap_or(&api.base_url))?;
        if api.paths.is_empty() {
            return Err(EndpointError::NoPaths);
        }
        let patterns = api.paths.iter().map(|pattern| Pattern::parse(pattern)).collect::<Result<_, _>>()?;
        let key_header = api.key_header.parse().ok().filter(may_carry_a_key);
        let key_header = key_header.ok_or_else(|| EndpointError::KeyHeader { name: api.key_header.clone() })?;
        let (form, max_output_tokens) = (api.api, api.max_output_tokens);
        Ok(Self { scheme, authority, base_path, patterns, key_header, form, max_output_tokens })
    }

    /// Whether keys would cross a network unencrypted: plain http to another machine. The caller should warn.
    #[must_use]
    pub fn sends_keys_in_the_clear(&self) -> bool {
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let on_this_machine =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.scheme == Scheme::HTTP && !on_this_machine
    }

    /// The address all requests go to.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.base_path)
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) fn key_header(&self) -> &HeaderName {
        &self.key_header
    }

    /// Whose API it is.
    pub(super) const fn form(&self) -> ApiForm {
        self.form
    }

    /// Tokens the model writes at most in a call that doesn't say so.
    pub(super) const fn max_output_tokens(&self) -> u64 {
        self.max_output_tokens
    }

    /// Finds where a request goes; none if it may not pass. Of the query only what the API needs is kept.
    pub(super) fn admit(&self, uri: &Uri) -> Option<Target> {
        // An absolute form names a host of its own. Ours is the only one; who names another is up to something.
        if uri.authority().is_some() || uri.scheme().is_some() {
            return None;
        }
        let path = uri.path();
        if !is_plain(path) {
            return None;
        }
        let model = self.patterns.iter().find_map(|pattern| pattern.model_in(path))?.to_owned();
        let kept = uri
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'))
            .find(|pair| form::passes_in_query(self.form, pair));
        let query = kept.map(|pair| format!("?{pair}")).unwrap_or_default();
        let metered = form::costs(self.form, path);
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}{query}", self.base_path))
            .build()
            .ok()?;
        Some(Target { uri, model, metered })
    }
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::Path { pattern: pattern.to_owned() };
        let (before, after) = match pattern.split_once('*') {
            Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
            None => (pattern.to_owned(), None),
        };
        // Checked with a stand-in for the model, so that a second `*` is found as well.
        let filled = format!("{before}{}{}", if after.is_some() { "m" } else { "" }, after.as_deref().unwrap_or(""));
        if is_plain(&filled) { Ok(Self { before, after }) } else { Err(wrong()) }
    }

    /// The part of one segment that `*` stands for.
    fn model_in<'path>(&self, path: &'path str) -> Option<&'path str> {
        let rest = path.strip_prefix(self.before.as_str())?;
        let Some(after) = &self.after else { return rest.is_empty().then_some("") };
        let model = rest.strip_suffix(after.as_str())?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._@".contains(&byte);
        let dots_only = model.bytes().all(|byte| byte == b'.');
        (!dots_only && model.len() <= MODEL_MAX && model.bytes().all(good)).then_some(model)
    }
}

/// Begins with `/`, has no empty, `.` or `..` segment, and no byte outside a small set: no `%`, `\`, `;`, space or control.
fn is_plain(path: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@/".contains(&byte);
    let Some(rest) = path.strip_prefix('/') else { return false };
    path.bytes().all(good) && rest.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

/// Headers that shape the connection or the body are ours to set.
fn may_carry_a_key(name: &HeaderName) -> bool {
    ![header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::TRANSFER_ENCODING]
        .contains(name)
}

fn parse_base(url: &str) -> Result<(Scheme, Authority, String), EndpointError> {
    let wrong = || EndpointError::BaseUrl { url: without_credentials(url) };
    let parts = url.parse::<Uri>().map_err(|_| wrong())?.into_parts();
    let scheme = parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS).ok_or_else(wrong)?;
    let authority = parts.authority.filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
    if authority.host().is_empty() || url.contains(['?', '#']) {
        return Err(wrong());
    }
    let path = parts.path_and_query.map(|path| path.path().trim_end_matches('/').to_owned()).unwrap_or_default();
    if !path.is_empty() && !is_plain(&path) {
        return Err(wrong());
    }
    Ok((scheme, authority, path))
}

/// A faulty URL is shown to whoever reads the log; a password or key in it isn't.
fn without_credentials(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://…{}", &url[..scheme], &url[at..]),
        (None, Some(at)) => format!("…{}", &url[at..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests;
