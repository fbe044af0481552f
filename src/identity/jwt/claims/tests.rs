//! What claims mean, in the words of several providers.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

fn settings(more: Value) -> config::Issuer {
    let mut settings = json!({"name": "p", "issuer": "https://p.example", "audience": "x"});
    settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    serde_json::from_value(settings).expect("good settings")
}

fn meaning(claims: Value, more: Value) -> Result<Meaning, Refused> {
    let mut all = json!({"sub": "ada", "exp": NOW + 300});
    all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
    let now = Timestamp::from_second(NOW).expect("a time");
    Meaning::of(all.as_object().expect("an object"), &settings(more), now)
}

fn strongest(claims: Value, more: Value) -> Option<Scope> {
    let scopes = meaning(claims, more).expect("good claims").scopes;
    Scope::ALL.into_iter().rev().find(|scope| scopes.allow(*scope))
}

#[test]
fn scopes_are_a_text_or_a_list_and_words_without_a_meaning_allow_nothing() {
    for (claim, expected) in [
        (json!("openid read"), Some(Scope::Read)),
        (json!(" sessions  offline_access "), Some(Scope::Sessions)),
        (json!(["admin", "x"]), None),
        (json!(["admin", "sessions"]), Some(Scope::Sessions)),
        (json!(["read sessions"]), None),
        (json!([1, null, ["admin"], {"admin": true}]), None),
        (json!("Admin ADMIN administrator"), None),
        (json!(""), None),
        (json!(true), None),
        (json!({"admin": true}), None),
        (json!(null), None),
    ] {
        assert_eq!(strongest(json!({ "scope": claim }), json!({})), expected, "{claim}");
    }
    assert_eq!(strongest(json!({}), json!({})), None);
}

#[test]
fn a_map_gives_the_providers_words_a_meaning_and_ours_lose_theirs() {
    let more = json!({"scope_claim": "permissions", "scopes": {"rooms:use": "sessions", "rooms:look": "read", "boss": "admin"}});
    assert_eq!(strongest(json!({"permissions": ["rooms:look", "rooms:use"]}), more.clone()), Some(Scope::Sessions));
    assert_eq!(strongest(json!({"permissions": ["boss"]}), more.clone()), Some(Scope::Admin));
    assert_eq!(strongest(json!({"permissions": ["admin", "sessions"]}), more.clone()), None);
    assert_eq!(strongest(json!({"scope": "rooms:use"}), more), None, "another claim");
}

#[test]
fn claims_are_found_by_their_whole_name_or_along_its_dots() {
    let keycloak = json!({"realm_access": {"roles": ["sessions"]}});
    let nested = json!({"scope_claim": "realm_access.roles"});
    assert_eq!(strongest(keycloak.clone(), nested.clone()), Some(Scope::Sessions));
    assert_eq!(strongest(json!({"realm_access": ["roles"]}), nested.clone()), None);
    let both = json!({"realm_access": {"roles": ["sessions"]}, "realm_access.roles": ["read"]});
    assert_eq!(strongest(both, nested), Some(Scope::Read), "the whole name first");
    let named = json!({"scope_claim": "https://greenroom.example/roles"});
    assert_eq!(strongest(json!({"https://greenroom.example/roles": "sessions"}), named), Some(Scope::Sessions));
}

#[test]
fn users_have_the_claim_and_the_prefix_of_the_settings() {
    let user = |claims, more| meaning(claims, more).map(|meaning| meaning.user.to_string()).ok();
    assert_eq!(user(json!({}), json!({})).as_deref(), Some("ada"));
    assert_eq!(user(json!({}), json!({"user_prefix": "kc-"})).as_deref(), Some("kc-ada"));
    let mail = json!({"user_claim": "email"});
    assert_eq!(user(json!({"email": "ada@x.example"}), mail.clone()).as_deref(), Some("ada@x.example"));
    assert_eq!(user(json!({}), mail), None, "never another claim instead");
    assert_eq!(user(json!({"sub": ""}), json!({"user_prefix": "kc-"})), None, "a prefix is nobody's name");
}

#[test]
fn a_tier_that_can_be_none_of_ours_is_none() {
    let tier = |claim| meaning(json!({ "plan": claim }), json!({"tier_claim": "plan"})).expect("good claims").tier;
    assert_eq!(tier(json!("gold")), TierName::parse("gold").ok());
    for odd in [json!("Gold Plan"), json!(["gold"]), json!(1), json!(null), json!("../gold")] {
        assert_eq!(tier(odd.clone()), None, "{odd}");
    }
    assert_eq!(meaning(json!({"tier": "gold"}), json!({})).expect("good claims").tier, None, "nobody asked for it");
}

#[test]
fn a_token_is_good_until_it_expires_and_the_leeway_is_over() {
    let ends =
        |exp, leeway| meaning(json!({ "exp": exp }), json!({ "leeway": leeway })).map(|it| it.ends_at.as_second());
    assert_eq!(ends(json!(NOW + 1), "0s").ok(), Some(NOW + 1));
    assert!(
        ends(json!(NOW), "0s").is_err() && ends(json!(NOW - 60), "60s").is_err(),
        "not in the second it expires in either"
    );
    assert_eq!(ends(json!(NOW), "60s").ok(), Some(NOW + 60));
    assert_eq!(ends(json!(NOW as f64 + 0.6), "0s").ok(), Some(NOW + 1));
    assert_eq!(ends(json!(u64::MAX), "60s").ok(), Some(Timestamp::MAX.as_second()));
    for bad in [json!(null), json!("1"), json!(-1), json!(1e300)] {
        assert!(ends(bad.clone(), "0s").is_err(), "{bad}");
    }
}

#[test]
fn what_was_issued_in_the_future_is_refused() {
    let issued = |iat| meaning(json!({ "iat": iat }), json!({"leeway": "10s"})).is_ok();
    assert!(issued(json!(NOW + 10)) && issued(json!(0)) && !issued(json!(NOW + 11)) && !issued(json!("x")));
}

proptest! {
    #[test]
    fn whatever_the_claims_are_the_user_is_named_by_the_claim_and_scopes_by_their_words(
        sub in ".{0,140}", scope in "([a-z]{1,8} ?){0,4}", prefix in "[!-~]{1,8}",
    ) {
        let (more, whole) = (json!({ "user_prefix": prefix }), format!("{prefix}{sub}"));
        match meaning(json!({"sub": sub, "scope": scope}), more) {
            Ok(meaning) => {
                prop_assert_eq!(meaning.user.as_str(), &whole);
                for known in Scope::ALL {
                    let said = scope.split(' ').filter_map(Scope::parse).any(|said| said >= known);
                    prop_assert_eq!(meaning.scopes.allow(known), said);
                }
            }
            Err(_) => prop_assert!(sub.is_empty() || UserId::parse(&whole).is_err()),
        }
    }
}
