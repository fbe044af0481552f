//! How often a provider is asked, and what holds while it is away.

use std::sync::Arc;

use futures_util::future::join_all;
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;
use crate::identity::{jwt::tests::settings, provider::Provider};

const MOMENT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3600);
/// No test comes near it.
const DEADLINE: Duration = Duration::from_secs(30);

fn pace() -> Pace {
    Pace { refresh: LONG, keep: LONG, rest: LONG, patience: DEADLINE }
}

fn keeper(provider: &Provider, pace: Pace) -> Arc<Keeper> {
    let settings = settings(provider, json!({}));
    let source = Source::of(&settings).expect("an address");
    let fetcher = Fetcher::new().expect("a client");
    Arc::new(Keeper::new(settings.name, source, fetcher, pace, KeySet::default()))
}

/// Runs the keeper while the test does this.
async fn while_kept<T>(keeper: &Keeper, test: impl Future<Output = T>) -> T {
    tokio::select! {
        done = timeout(DEADLINE, test) => done.expect("in time"),
        () = keeper.keep() => panic!("it never ends"),
    }
}

/// Waits until the keys are such.
async fn until(keeper: &Keeper, such: impl Fn(&KeySet) -> bool) {
    keeper.watch().wait_for(|keys| such(keys)).await.expect("the keeper lives");
}

#[tokio::test]
async fn however_many_ask_for_unknown_keys_there_is_one_fetch_and_then_none_for_a_while() {
    let provider = Provider::start().await;
    let keeper = keeper(&provider, pace());
    while_kept(&keeper, async {
        let fetched = join_all((0..1000).map(|_| keeper.look_again())).await;
        assert!(fetched.iter().all(|fetched| *fetched) && keeper.keys().len() == 3);
        assert_eq!(provider.requests(), 1);
        for _ in 0..1000 {
            assert!(!keeper.look_again().await, "the issuer rests");
        }
        assert_eq!(provider.requests(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_new_is_found_as_soon_as_the_issuer_has_rested() {
    let provider = Provider::start().await;
    let keeper = keeper(&provider, Pace { rest: Duration::ZERO, ..pace() });
    while_kept(&keeper, async {
        assert!(keeper.look_again().await);
        provider.rotate();
        assert!(keeper.keys().find(Some("ES256-1"), Algorithm::ES256).is_err());
        assert!(keeper.look_again().await);
        assert!(keeper.keys().find(Some("ES256-1"), Algorithm::ES256).is_ok());
        assert!(keeper.keys().find(Some("ES256-0"), Algorithm::ES256).is_err(), "the old one is gone");
    })
    .await;
}

#[tokio::test]
async fn keys_are_fetched_again_without_being_asked_for() {
    let provider = Provider::start().await;
    let keeper = keeper(&provider, Pace { refresh: MOMENT, ..pace() });
    while_kept(&keeper, async {
        until(&keeper, |keys| keys.find(Some("EdDSA-0"), Algorithm::EdDSA).is_ok()).await;
        provider.rotate();
        until(&keeper, |keys| keys.find(Some("EdDSA-1"), Algorithm::EdDSA).is_ok()).await;
    })
    .await;
}

#[tokio::test]
async fn while_the_provider_is_away_its_last_keys_hold_for_a_while_and_then_no_more() {
    let provider = Provider::start().await;
    let keeper = keeper(&provider, Pace { refresh: MOMENT, keep: MOMENT * 20, ..pace() });
    while_kept(&keeper, async {
        until(&keeper, |keys| keys.len() == 3).await;
        provider.be_away(true);
        let asked = provider.requests();
        let mut rounds = keeper.rounds.subscribe();
        let round = rounds.borrow().number;
        rounds.wait_for(|now| now.number > round + 2).await.expect("the keeper lives");
        assert_eq!((keeper.keys().len(), provider.requests()), (3, asked), "it can't even be discovered");
        until(&keeper, |keys| keys.len() == 0).await;
        provider.be_away(false);
        until(&keeper, |keys| keys.len() == 3).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_no_key_set_takes_no_key_away_and_an_empty_one_takes_all() {
    let provider = Provider::start().await;
    let keeper = keeper(&provider, Pace { refresh: MOMENT, ..pace() });
    while_kept(&keeper, async {
        until(&keeper, |keys| keys.len() == 3).await;
        provider.publish(json!("maintenance"));
        let mut rounds = keeper.rounds.subscribe();
        let round = rounds.borrow().number;
        rounds.wait_for(|now| now.number > round + 1).await.expect("the keeper lives");
        assert_eq!(keeper.keys().len(), 3);
        provider.publish(json!({"keys": []}));
        until(&keeper, |keys| keys.len() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn who_waits_for_a_provider_that_does_not_answer_is_let_go() {
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut settings = settings(&Provider::start().await, json!({}));
    settings.issuer = format!("http://{}", silent.local_addr().expect("bound"));
    let source = Source::of(&settings).expect("an address");
    let fetcher = Fetcher::new().expect("a client");
    let pace = Pace { patience: MOMENT, ..pace() };
    let keeper = Keeper::new(settings.name, source, fetcher, pace, KeySet::default());
    while_kept(&keeper, async { assert!(!keeper.look_again().await) }).await;
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let (provider, folder) = (Provider::start().await, tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("keys.json");
    std::fs::write(&file, provider.key_set().to_string()).expect("written");
    let settings = settings(&provider, json!({ "jwks_file": file }));
    assert_eq!(Pace::of(&settings).refresh, FILE_REFRESH);
    let source = Source::of(&settings).expect("a file");
    let pace = Pace { refresh: MOMENT, ..pace() };
    let keeper = Keeper::new(settings.name, source, Fetcher::new().expect("a client"), pace, KeySet::default());
    while_kept(&keeper, async {
        until(&keeper, |keys| keys.find(Some("RS256-0"), Algorithm::RS256).is_ok()).await;
        provider.rotate();
        std::fs::write(&file, provider.key_set().to_string()).expect("written");
        until(&keeper, |keys| keys.find(Some("RS256-1"), Algorithm::RS256).is_ok()).await;
        std::fs::remove_file(&file).expect("removed");
        let mut rounds = keeper.rounds.subscribe();
        let round = rounds.borrow().number;
        rounds.wait_for(|now| now.number > round + 1).await.expect("the keeper lives");
        assert_eq!(keeper.keys().len(), 3, "a file that is being replaced takes no key away");
    })
    .await;
    assert_eq!(provider.requests(), 0);
}
