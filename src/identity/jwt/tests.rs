//! Tokens of a provider against its settings: which are taken, and all the ways in which one isn't.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::*;
use crate::{
    identity::provider::{Provider, now},
    ids::{TierName, UserId},
};

/// An hour, in seconds: more than any leeway.
const HOUR: u64 = 3600;

struct Stage {
    provider: Provider,
    issuers: Arc<Issuers>,
    /// Ends with the stage.
    keeping: tokio::task::JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// A provider, and a server that takes its tokens with these settings beside the usual ones.
async fn stage(more: Value) -> Stage {
    let provider = Provider::start().await;
    let issuers = Arc::new(Issuers::load(&[settings(&provider, more)]).expect("good settings"));
    let keeping = tokio::spawn({
        let issuers = Arc::clone(&issuers);
        async move { issuers.keep().await }
    });
    Stage { provider, issuers, keeping }
}

pub(super) fn settings(provider: &Provider, more: Value) -> config::Issuer {
    let text = format!("issuer = {}", provider.setting("company"));
    let mut settings: Value = toml::from_str::<Value>(&text).expect("TOML")["issuer"].take();
    settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    serde_json::from_value(settings).expect("good settings")
}

impl Stage {
    async fn take(&self, token: &str) -> Proven {
        let proven = self.issuers.prove(token).await;
        proven.unwrap_or_else(|refused| panic!("refused: {refused}"))
    }

    async fn refuse(&self, token: &str) -> Refused {
        let Err(refused) = self.issuers.prove(token).await else { panic!("taken: {token}") };
        refused
    }
}

#[tokio::test]
async fn a_good_token_names_its_user_and_says_what_they_may() {
    let stage = stage(json!({"tier_claim": "plan"})).await;
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let claims = json!({"sub": "auth0|123", "scope": "openid read profile", "plan": "gold"});
        let proven = stage.take(&stage.provider.signed(algorithm, &json!({}), &claims)).await;
        assert_eq!(proven.user, UserId::parse("auth0|123").expect("a user"));
        assert_eq!((proven.credential.as_str(), &proven.tier), ("company", &TierName::parse("gold").ok()));
        assert!(proven.clone().reader().is_ok() && proven.actor().is_err());
    }
    let nothing = stage.take(&stage.provider.token(&json!({"sub": "a"}))).await;
    assert!(nothing.reader().is_err(), "who is known may still be allowed nothing");
}

#[tokio::test]
async fn what_providers_do_differently_is_taken_too() {
    let stage = stage(json!({"audience": ["greenroom", "other"]})).await;
    let headers = [
        json!({"typ": null}),
        json!({"typ": "at+jwt"}),
        json!({"typ": "application/AT+JWT"}),
        json!({"kid": null}),
        json!({"x5t": "abc", "nonce": "x", "jku": "https://elsewhere.example/keys"}),
    ];
    for header in headers {
        stage.take(&stage.provider.signed("RS256", &header, &json!({"sub": "a"}))).await;
    }
    let claims = [
        json!({"aud": ["unknown", "other"]}),
        json!({"exp": now() - 20}),
        json!({"nbf": now() + 20, "iat": now() + 20}),
        json!({"exp": (now() + HOUR) as f64 + 0.5}),
        json!({"exp": u64::MAX}),
        json!({"iat": null}),
    ];
    for mut claims in claims {
        claims["sub"] = json!("a");
        stage.take(&stage.provider.token(&claims)).await;
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_whatever_is_bad_about_it() {
    let stage = stage(json!({"algorithms": ["RS256", "PS256", "ES256", "EdDSA"]})).await;
    let (good, provider) = (json!({"sub": "a"}), &stage.provider);
    stage.take(&provider.token(&good)).await;

    let header = |header: Value| provider.signed("RS256", &header, &good);
    let claims = |mut claims: Value| {
        if claims.get("sub").is_none() {
            claims["sub"] = json!("a");
        }
        provider.token(&claims)
    };
    let token = provider.token(&good);
    let parts: Vec<&str> = token.split('.').collect();
    let claims_text = provider.claims(&good).to_string();
    let kid = |algorithm: &str| json!({"kid": format!("{algorithm}-0")});
    let long = "x".repeat(TOKEN_MAX);

    let cases = [
        ("nothing", String::new()),
        ("two parts", parts[..2].join(".")),
        ("four parts", format!("{token}.x")),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("another signature", format!("{}.{}.{}", parts[0], parts[1], parts[0])),
        (
            "other claims",
            format!(
                "{}.{}.{}",
                parts[0],
                URL_SAFE_NO_PAD.encode(provider.claims(&json!({"sub": "root"})).to_string()),
                parts[2]
            ),
        ),
        ("a blank", format!("{token} ")),
        ("padding", format!("{token}=")),
        ("no JSON", provider.signed_text("RS256", "{", "{")),
        ("a list", provider.signed_text("RS256", r#"{"alg":"RS256"}"#, "[]")),
        ("nested without end", provider.signed_text("RS256", r#"{"alg":"RS256"}"#, &"[".repeat(5000))),
        ("too long", claims(json!({"more": long}))),
        // How it says it is signed.
        ("alg none", header(json!({"alg": "none"}))),
        ("alg None without a signature", format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), parts[1])),
        ("no alg", header(json!({"alg": null}))),
        ("an algorithm of another case", header(json!({"alg": "rs256"}))),
        ("an algorithm that isn't allowed", header(json!({"alg": "RS384"}))),
        ("an algorithm that isn't the key's", header(json!({"alg": "PS256"}))),
        ("an algorithm of another family", header(json!({"alg": "ES256"}))),
        (
            "two algorithms",
            provider.signed_text("RS256", r#"{"alg":"RS256","kid":"RS256-0","alg":"HS256"}"#, &claims_text),
        ),
        ("a kid that nobody knows", header(json!({"kid": "other"}))),
        ("an empty kid", header(json!({"kid": ""}))),
        ("a kid that is a path", header(json!({"kid": "../../../dev/null"}))),
        ("a key of another type", provider.signed("ES256", &kid("RS256"), &good)),
        ("its own key's name for another", provider.signed("RS256", &kid("EdDSA"), &good)),
        ("crit", header(json!({"crit": ["b64"], "b64": false}))),
        ("an empty crit", header(json!({"crit": []}))),
        ("another kind", header(json!({"typ": "logout+jwt"}))),
        ("an empty kind", header(json!({"typ": ""}))),
        // When, for whom, from whom, about whom.
        ("expired", claims(json!({"exp": now() - 60}))),
        ("expired long ago", claims(json!({"exp": 0}))),
        ("no exp", claims(json!({"exp": null}))),
        ("exp as a text", claims(json!({"exp": "9999999999"}))),
        ("exp below nothing", claims(json!({"exp": -1}))),
        (
            "two exps",
            provider.signed_text(
                "RS256",
                r#"{"alg":"RS256","kid":"RS256-0"}"#,
                &claims_text.replacen('{', r#"{"exp":1,"#, 1),
            ),
        ),
        ("not yet", claims(json!({"nbf": now() + HOUR}))),
        ("nbf as a text", claims(json!({"nbf": "now"}))),
        ("issued in the future", claims(json!({"iat": now() + HOUR}))),
        ("iat as a text", claims(json!({"iat": "now"}))),
        ("another issuer", claims(json!({"iss": "https://elsewhere.example"}))),
        ("the issuer with a slash", claims(json!({"iss": format!("{}/", provider.issuer())}))),
        ("several issuers", claims(json!({"iss": [provider.issuer()]}))),
        ("no issuer", claims(json!({"iss": null}))),
        ("for somebody else", claims(json!({"aud": "other"}))),
        ("for several others", claims(json!({"aud": ["other", "greenroom2"]}))),
        ("for nobody", claims(json!({"aud": []}))),
        ("no audience", claims(json!({"aud": null}))),
        ("an audience that is no text", claims(json!({"aud": 1}))),
        ("no user", provider.token(&json!({}))),
        ("an empty user", claims(json!({"sub": ""}))),
        ("a user who is no text", claims(json!({"sub": 1}))),
        ("a user with a blank", claims(json!({"sub": "a b"}))),
        ("a user with a line break", claims(json!({"sub": "a\nb"}))),
        ("a user who isn't ASCII", claims(json!({"sub": "ä"}))),
        ("a user who is too long", claims(json!({"sub": "x".repeat(129)}))),
    ];
    for (what, token) in &cases {
        assert!(stage.issuers.verify(token).await.is_none(), "{what}");
    }
    assert!(provider.requests() <= 2, "{} requests for {} tokens", provider.requests(), cases.len());
    stage.take(&provider.token(&good)).await;
}

#[tokio::test]
async fn a_public_key_is_not_taken_for_a_secret() {
    let stage = stage(json!({})).await;
    let keys = stage.provider.key_set();
    let modulus = keys["keys"][0]["n"].as_str().expect("a modulus");
    let secrets = [
        modulus.as_bytes().to_vec(),
        URL_SAFE_NO_PAD.decode(modulus).expect("base64"),
        keys.to_string().into_bytes(),
        Vec::new(),
    ];
    for secret in secrets {
        for kid in [json!("RS256-0"), json!(null)] {
            let header = json!({"alg": "HS256", "typ": "JWT", "kid": kid}).to_string();
            let claims = stage.provider.claims(&json!({"sub": "a"})).to_string();
            let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let signature = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(&secret), Algorithm::HS256);
            let token = format!("{message}.{}", signature.expect("HMAC signs"));
            assert!(matches!(stage.refuse(&token).await, Refused::Algorithm));
        }
    }
}

#[tokio::test]
async fn a_key_that_comes_with_its_token_is_read_over() {
    let (stage, stranger) = (stage(json!({})).await, Provider::start().await);
    let jwk = stranger.key_set()["keys"][0].clone();
    let claims = stage.provider.claims(&json!({"sub": "a"}));
    let keys = format!("{}/keys", stranger.issuer());
    for header in [
        json!({}),
        json!({"jwk": jwk}),
        json!({"jku": keys, "kid": "unknown"}),
        json!({"x5u": keys, "kid": "unknown"}),
        json!({"jku": keys, "jwk": jwk, "kid": null}),
    ] {
        stage.refuse(&stranger.signed("RS256", &header, &claims)).await;
    }
    assert_eq!(stranger.requests(), 0, "nothing in a token is followed");
}

#[tokio::test]
async fn two_issuers_speak_for_their_own_users_only() {
    let (first, second) = (Provider::start().await, Provider::start().await);
    let issuers = [
        settings(&first, json!({"name": "first", "user_prefix": "one:"})),
        settings(&second, json!({"name": "second", "user_prefix": "two:"})),
    ];
    let issuers = Issuers::load(&issuers).expect("good settings");
    let verified = async {
        let user = async |token: String| issuers.verify(&token).await.map(|proven| proven.user.to_string());
        assert_eq!(user(first.token(&json!({"sub": "a"}))).await.as_deref(), Some("one:a"));
        assert_eq!(user(second.token(&json!({"sub": "a"}))).await.as_deref(), Some("two:a"));
        // Its own signature under the other's name.
        assert_eq!(user(first.token(&json!({"sub": "a", "iss": second.issuer()}))).await, None);
        // A prefix fills the room of a name.
        assert_eq!(user(first.token(&json!({"sub": "x".repeat(125)}))).await, None);
    };
    tokio::select! {
        () = verified => {}
        () = issuers.keep() => {}
    }
}

#[tokio::test]
async fn a_token_ends_when_its_time_is_up_and_when_its_key_is_taken_back() {
    let mut settings = settings(&Provider::start().await, json!({"leeway": "0s"}));
    let provider = Provider::start().await;
    settings.issuer = provider.issuer();
    settings.jwks_refresh = Duration::from_millis(50);
    let issuers = Issuers::load(&[settings]).expect("good settings");
    let held = async {
        let short = issuers.verify(&provider.token(&json!({"sub": "a", "exp": now() + 2}))).await.expect("good");
        let long = issuers.verify(&provider.token(&json!({"sub": "a"}))).await.expect("good");
        assert!(!short.standing.has_ended() && !long.standing.has_ended());
        short.standing.ended().await;
        assert!(!long.standing.has_ended());
        provider.rotate();
        long.standing.ended().await;
        assert!(long.standing.has_ended());
        assert!(issuers.verify(&provider.token(&json!({"sub": "a"}))).await.is_some(), "with the new key");
    };
    let held = tokio::time::timeout(Duration::from_secs(60), held);
    tokio::select! {
        held = held => held.expect("in time"),
        () = issuers.keep() => {}
    }
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_gives_no_keys() {
    let provider = Provider::start().await;
    // The same server under another name: what it says of itself isn't what the settings say.
    let mut settings = settings(&provider, json!({}));
    settings.issuer = format!("http://localhost:{}", provider.address.port());
    let issuer = settings.issuer.clone();
    let issuers = Issuers::load(&[settings]).expect("good settings");
    let refused = async { issuers.prove(&provider.token(&json!({"sub": "a", "iss": issuer}))).await.is_err() };
    tokio::select! {
        refused = refused => assert!(refused),
        () = issuers.keep() => {}
    }
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn keys_in_a_file_are_read_at_the_start_and_must_be_there() {
    let (provider, folder) = (Provider::start().await, tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("keys.json");
    let settings = settings(&provider, json!({"jwks_file": file}));
    for bad in [None, Some("no JSON"), Some("[]"), Some("{}")] {
        if let Some(text) = bad {
            std::fs::write(&file, text).expect("written");
        }
        assert!(matches!(Issuers::load(std::slice::from_ref(&settings)), Err(AuthError::Issuer { .. })), "{bad:?}");
    }
    std::fs::write(&file, provider.key_set().to_string()).expect("written");
    let issuers = Issuers::load(&[settings]).expect("good settings");
    assert!(issuers.verify(&provider.token(&json!({"sub": "a"}))).await.is_some(), "without a fetch");
    assert_eq!(provider.requests(), 0);
}
