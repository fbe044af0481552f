//! Who comes in with what: keys with scopes, tokens of a provider, and how long an open stream outlives them.

use serde_json::json;

use crate::provider::Provider;

#[tokio::test]
async fn the_provider_signs_tokens_in_three_ways() {
    let provider = Provider::start().await;
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = provider.signed(algorithm, &json!({}), &json!({"sub": "carol"}));
        assert_eq!(token.split('.').count(), 3);
    }
    let before = provider.key_set();
    provider.rotate();
    assert_ne!(before, provider.key_set());
    assert_eq!(provider.requests(), 0);
}
