//! Which keys are taken from a set, and which is used for a token.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn rsa(bits: usize) -> Value {
    let mut n = vec![0xff; bits.div_ceil(8)];
    n[0] = 0xff >> (n.len() * 8 - bits);
    json!({"kty": "RSA", "kid": "r", "n": URL_SAFE_NO_PAD.encode(n), "e": "AQAB"})
}

fn ec(curve: &str, size: usize) -> Value {
    let text = URL_SAFE_NO_PAD.encode(vec![7; size]);
    json!({"kty": "EC", "kid": "e", "crv": curve, "x": text, "y": text})
}

fn ed() -> Value {
    json!({"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 32])})
}

fn with(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).expect("a key set")
}

#[test]
fn weak_and_odd_keys_are_passed_over_and_the_others_stay() {
    let bad = [
        rsa(1024),
        rsa(2047),
        rsa(8193),
        with(rsa(2048), "e", json!("AQ")),
        with(rsa(2048), "e", json!("AQAA")),
        with(rsa(2048), "n", json!("")),
        with(rsa(2048), "n", json!("not base64!")),
        with(rsa(2048), "use", json!("enc")),
        with(rsa(2048), "key_ops", json!(["sign"])),
        with(rsa(2048), "alg", json!("HS256")),
        with(rsa(2048), "alg", json!("ES256")),
        with(rsa(2048), "alg", json!("RSA-OAEP")),
        with(rsa(2048), "alg", json!("unheard-of")),
        with(rsa(2048), "alg", json!(5)),
        ec("P-521", 66),
        ec("secp256k1", 32),
        ec("P-256", 31),
        with(ed(), "crv", json!("X25519")),
        with(ed(), "x", json!("AA")),
        json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}),
        json!({"kty": "AKP", "kid": "new"}),
        json!({}),
        json!("key"),
        json!(null),
    ];
    for key in &bad {
        assert_eq!(set(std::slice::from_ref(key)).len(), 0, "{key}");
    }
    let good =
        [rsa(2048), rsa(8192), with(rsa(4096), "key_ops", json!(["verify"])), ec("P-256", 32), ec("P-384", 48), ed()];
    assert_eq!(set(&[&bad[..], &good[..]].concat()).len(), good.len());
    assert_eq!(set(&vec![ed(); 1000]).len(), KEYS_MAX);
}

#[test]
fn a_key_is_used_for_what_it_is_for_only() {
    let set = set(&[with(rsa(2048), "alg", json!("PS256")), ec("P-256", 32), ed()]);
    assert!(set.find(Some("r"), Algorithm::PS256).is_ok());
    for (id, algorithm) in [
        ("r", Algorithm::RS256),
        ("r", Algorithm::ES256),
        ("r", Algorithm::HS256),
        ("e", Algorithm::ES384),
        ("e", Algorithm::EdDSA),
        ("d", Algorithm::ES256),
    ] {
        assert_eq!(set.find(Some(id), algorithm).err(), Some(Missing::Unfit), "{id} {algorithm:?}");
    }
    assert_eq!(set.find(Some("R"), Algorithm::PS256).err(), Some(Missing::Unknown));
}

#[test]
fn a_token_that_names_no_key_is_checked_with_the_only_one_there_is() {
    let one = set(&[rsa(2048), ed()]);
    assert!(one.find(None, Algorithm::RS256).is_ok());
    assert_eq!(one.find(None, Algorithm::ES256).err(), Some(Missing::Unknown));
    let two = set(&[rsa(2048), rsa(3072)]);
    assert_eq!(two.find(None, Algorithm::RS256).err(), Some(Missing::Unfit));
}

#[test]
fn two_keys_of_one_name_are_told_apart_by_their_type() {
    let set = set(&[with(rsa(2048), "kid", json!("same")), with(ed(), "kid", json!("same"))]);
    let (one, other) = (set.find(Some("same"), Algorithm::RS256), set.find(Some("same"), Algorithm::EdDSA));
    assert_ne!(one.expect("there").print, other.expect("there").print);
}

#[test]
fn sets_are_the_same_in_any_order_and_not_when_a_key_has_another_name_or_use() {
    let (one, other) = (set(&[rsa(2048), ed()]), set(&[ed(), rsa(2048)]));
    assert!(one.same(&other));
    assert!(!one.same(&set(&[rsa(2048)])));
    assert!(!one.same(&set(&[with(rsa(2048), "kid", json!("new")), ed()])));
    assert!(!one.same(&set(&[with(rsa(2048), "alg", json!("RS256")), ed()])));
    let print = one.find(None, Algorithm::EdDSA).expect("there").print;
    assert!(other.has(&print) && !set(&[rsa(2048)]).has(&print));
}

#[test]
fn what_is_no_set_is_an_error() {
    for bad in ["", "[]", "{}", r#"{"keys": {}}"#, r#"{"keys": "x"}"#, "<html>"] {
        assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn whatever_a_provider_serves_is_read_without_trouble(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _whatever = KeySet::parse(&bytes);
        let _whatever = KeySet::parse(text.as_bytes());
        let odd = json!({"keys": [{"kty": text, "n": text, "e": text}, {"kty": "RSA", "n": text, "e": text}, {"kty": "EC", "crv": "P-256", "x": text, "y": text}]});
        prop_assert_eq!(KeySet::parse(odd.to_string().as_bytes()).map(|set| set.len()).unwrap_or(usize::MAX), 0);
    }
}
