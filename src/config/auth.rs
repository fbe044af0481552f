//! Who may come in: tokens of the settings, and identity providers whose tokens are taken.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};

use super::secret;
use crate::{
    identity::Scope,
    ids::{IssuerName, TierName, UserId},
};

/// Who may come in.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Bearer tokens, beside those made with `greenroom keys create`.
    pub tokens: Vec<Token>,
    /// Identity providers (OpenID Connect) whose tokens are taken.
    pub issuers: Vec<Issuer>,
}

/// One bearer token.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The user it names.
    pub user: UserId,
    /// The token itself, at least 16 characters.
    #[serde(serialize_with = "secret::digest")]
    pub token: SecretString,
    /// What it allows. Default `["sessions"]`.
    #[serde(default = "usual_scopes")]
    pub scopes: Vec<Scope>,
    /// The tier its user's limits and budgets are of. Default: the usual ones.
    #[serde(default)]
    pub tier: Option<TierName>,
}

impl Token {
    /// A token that allows what most do.
    #[must_use]
    pub fn new(user: UserId, token: SecretString) -> Self {
        Self { user, token, scopes: usual_scopes(), tier: None }
    }
}

fn usual_scopes() -> Vec<Scope> {
    vec![Scope::Sessions]
}

/// One identity provider. Its keys come from `jwks_url`, from `jwks_file`, or, without either, from where its discovery document says.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What it is called in logs and audit records.
    pub name: IssuerName,
    /// What its tokens say as `iss`, to the letter.
    pub issuer: String,
    /// What its tokens must say as `aud`: a text, or a list of which one is enough.
    #[serde(deserialize_with = "text_or_list")]
    pub audience: Vec<String>,
    /// Where its keys are (a JWKS): https, or http on this machine.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// The file its keys are in. Read again when it changes.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// How its tokens may be signed. Default RS256, ES256 and `EdDSA`.
    #[serde(default = "usual_algorithms")]
    pub algorithms: Vec<SigningAlgorithm>,
    /// The claim that names the user. Default `sub`.
    #[serde(default = "user_claim")]
    pub user_claim: String,
    /// Put before the name, so that no other issuer and no key can name the same user. Default none.
    #[serde(default)]
    pub user_prefix: Option<String>,
    /// The claim that says what the token allows: a text with spaces, or a list. Default `scope`.
    #[serde(default = "scope_claim")]
    pub scope_claim: String,
    /// What the provider's scopes mean here. Default: those that are called as ours are, but `admin`.
    #[serde(default)]
    pub scopes: BTreeMap<String, Scope>,
    /// The claim that names the user's tier. Default: nobody has one.
    #[serde(default)]
    pub tier_claim: Option<String>,
    /// How far the provider's clock may be off. Default 30 s, 60 s at most.
    #[serde(default = "leeway", with = "humantime_serde")]
    pub leeway: Duration,
    /// How often its keys are fetched. Default 40 s, at least 10 s.
    #[serde(default = "jwks_refresh", with = "humantime_serde")]
    pub jwks_refresh: Duration,
    /// How long the keys last fetched stay in force while it is away. Default 4 h.
    #[serde(default = "jwks_keep", with = "humantime_serde")]
    pub jwks_keep: Duration,
}

/// How a token may be signed. Secrets that both sides share (HS256 and its kin) are not among them, and neither is no signature at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// ECDSA with P-384 and SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

fn usual_algorithms() -> Vec<SigningAlgorithm> {
    vec![SigningAlgorithm::RS256, SigningAlgorithm::ES256, SigningAlgorithm::EdDSA]
}

fn user_claim() -> String {
    "sub".to_owned()
}

fn scope_claim() -> String {
    "scope".to_owned()
}

const fn leeway() -> Duration {
    Duration::from_secs(30)
}

const fn jwks_refresh() -> Duration {
    Duration::from_secs(40)
}

const fn jwks_keep() -> Duration {
    Duration::from_hours(4)
}

/// Reads one text as a list of it.
fn text_or_list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    struct TextOrList;

    impl<'de> Visitor<'de> for TextOrList {
        type Value = Vec<String>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("a text or a list of texts")
        }

        fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
            std::iter::from_fn(|| items.next_element().transpose()).collect()
        }
    }

    from.deserialize_any(TextOrList)
}
