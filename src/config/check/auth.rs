//! What must hold for tokens and identity providers.

use std::{collections::BTreeMap, time::Duration};

use http::Uri;
use secrecy::ExposeSecret as _;

use super::Rules;
use crate::{
    config::{Config, Issuer},
    fetch::is_private,
    ids::USER_ID_MAX,
};

/// The shortest token, in characters.
const TOKEN_MIN: usize = 16;
/// The most a provider's clock may be off: past it a token that expired is as good as one that didn't.
const LEEWAY_MAX: Duration = Duration::from_secs(60);
/// The least time between two looks at a provider's keys, in seconds: it has others to serve.
const REFRESH_MIN: Duration = Duration::from_secs(10);
/// The longest prefix of user ids: room must be left for the name.
const PREFIX_MAX: usize = USER_ID_MAX / 2;

pub(super) fn rules(config: &Config, rules: &mut Rules) {
    tokens(config, rules);
    let mut names = BTreeMap::new();
    let mut texts = BTreeMap::new();
    for (index, issuer) in config.auth.issuers.iter().enumerate() {
        let at = |field: &str| format!("auth.issuers[{index}].{field}");
        if let Some(first) = names.insert(&issuer.name, index) {
            rules.must(at("name"), false, format!("must not be the name of auth.issuers[{first}] again"));
        }
        if let Some(first) = texts.insert(&issuer.issuer, index) {
            rules.must(at("issuer"), false, format!("must not be the issuer of auth.issuers[{first}] again"));
        }
        provider(issuer, &at, rules);
    }
}

fn tokens(config: &Config, rules: &mut Rules) {
    let mut seen = BTreeMap::new();
    for (index, token) in config.auth.tokens.iter().enumerate() {
        let at = |field: &str| format!("auth.tokens[{index}].{field}");
        let (key, secret) = (at("token"), token.token.expose_secret());
        rules.must(&key, secret.len() >= TOKEN_MIN, format!("must have at least {TOKEN_MIN} characters"));
        rules.must(&key, secret.bytes().all(|byte| byte.is_ascii_graphic()), "must be visible ASCII without blanks");
        match seen.get(secret) {
            Some(first) => rules.must(&key, false, format!("must not be the token of auth.tokens[{first}] again")),
            None => drop(seen.insert(secret, index)),
        }
        rules.must(at("scopes"), !token.scopes.is_empty(), "must name a scope, or be left out");
        let known = token.tier.as_ref().is_none_or(|tier| config.tiers.contains_key(tier.as_str()));
        rules.must(at("tier"), known, "must be one of [tiers]");
    }
}

fn provider(issuer: &Issuer, at: &dyn Fn(&str) -> String, rules: &mut Rules) {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    rules.must(at("issuer"), plain(&issuer.issuer), "must be visible ASCII without blanks");
    let discovered = issuer.jwks_url.is_none() && issuer.jwks_file.is_none();
    let text = "must be an https address without a query, or http on this machine: its discovery document is fetched from there. \
                Or say where its keys are: jwks_url, jwks_file";
    let located = is_fetched_safely(&issuer.issuer) && !issuer.issuer.contains('?');
    rules.must(at("issuer"), !discovered || located, text);
    let text = "must be an https address, or http on this machine";
    rules.must(at("jwks_url"), issuer.jwks_url.as_deref().is_none_or(is_fetched_safely), text);
    let one = issuer.jwks_url.is_none() || issuer.jwks_file.is_none();
    rules.must(at("jwks_file"), one, "must not stand beside jwks_url");

    let audience = !issuer.audience.is_empty() && issuer.audience.iter().all(|one| plain(one));
    rules.must(at("audience"), audience, "must name whom tokens are for: else those made for others would be taken");
    rules.must(at("algorithms"), !issuer.algorithms.is_empty(), "must name an algorithm, or be left out");
    rules.must(at("user_claim"), !issuer.user_claim.is_empty(), "must name a claim");
    rules.must(at("scope_claim"), !issuer.scope_claim.is_empty(), "must name a claim");
    let named = issuer.tier_claim.as_deref().is_none_or(|claim| !claim.is_empty());
    rules.must(at("tier_claim"), named, "must name a claim, or be left out");
    let short = issuer.user_prefix.as_deref().is_none_or(|prefix| plain(prefix) && prefix.len() <= PREFIX_MAX);
    rules.must(at("user_prefix"), short, format!("must be 1 to {PREFIX_MAX} visible ASCII characters"));

    rules.must(at("leeway"), issuer.leeway <= LEEWAY_MAX, "must not be longer than 60 s");
    rules.must(at("jwks_refresh"), issuer.jwks_refresh >= REFRESH_MIN, "must be at least 10 s");
    let kept = issuer.jwks_keep >= issuer.jwks_refresh;
    rules.must(at("jwks_keep"), kept, "must not be shorter than jwks_refresh");
}

fn is_fetched_safely(text: &str) -> bool {
    let parsed = text.parse::<Uri>();
    // `Uri` drops a fragment without a word.
    parsed.is_ok_and(|url| is_private(&url)) && !text.contains(['#', '@'])
}
