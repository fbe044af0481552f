//! Who comes in with a token of ours, and when no longer.

use std::{fs, time::Duration};

use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::*;
use crate::{
    identity::{KeyStore, Scope},
    ids::TierName,
};

struct Place {
    _folder: tempfile::TempDir,
    state: config::State,
    store: KeyStore,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let state = config::State { dir: folder.path().to_owned(), ..config::State::default() };
    let store = KeyStore::in_folder(&state.dir);
    Place { _folder: folder, state, store }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn auth(tokens: &[(&str, &str)]) -> config::Auth {
    let tokens = tokens.iter().map(|(name, token)| config::Token::new(user(name), (*token).into()));
    config::Auth { tokens: tokens.collect(), ..config::Auth::default() }
}

#[tokio::test]
async fn a_token_of_the_settings_names_its_user_and_no_other_does() {
    let place = place();
    let authenticator =
        Authenticator::load(&auth(&[("alice", "0123456789abcdef"), ("bob", "fedcba9876543210")]), &place.state)
            .unwrap();
    assert_eq!(authenticator.verify("fedcba9876543210").await.unwrap().user, user("bob"));
    for bad in ["", "0123456789abcde", "0123456789abcdef ", &"x".repeat(100_000)] {
        assert!(authenticator.verify(bad).await.is_none());
    }
}

#[tokio::test]
async fn short_and_ambiguous_tokens_are_refused() {
    let place = place();
    assert!(matches!(Authenticator::load(&auth(&[("a", "short")]), &place.state), Err(AuthError::Token { .. })));
    let twice = auth(&[("a", "0123456789abcdef"), ("b", "0123456789abcdef")]);
    assert!(matches!(Authenticator::load(&twice, &place.state), Err(AuthError::Ambiguous { .. })));
}

#[tokio::test]
async fn a_key_made_while_serving_works_and_stops_when_revoked() {
    let place = place();
    let authenticator = Authenticator::load(&auth(&[]), &place.state).unwrap();
    assert!(authenticator.is_empty());
    let (key, token) = place.store.create(NewKey::of(user("alice"))).unwrap();
    authenticator.register.look();
    assert_eq!(authenticator.verify(token.expose_secret()).await.unwrap().user, user("alice"));
    place.store.revoke(&key.id).unwrap();
    authenticator.register.look();
    assert!(authenticator.verify(token.expose_secret()).await.is_none());
}

#[tokio::test]
async fn a_broken_key_file_locks_nobody_out_but_stops_the_next_start() {
    let place = place();
    let (_, token) = place.store.create(NewKey::of(user("alice"))).unwrap();
    let authenticator = Authenticator::load(&auth(&[]), &place.state).unwrap();
    fs::write(place.store.path(), "not json").unwrap();
    authenticator.register.look();
    assert!(authenticator.verify(token.expose_secret()).await.is_some());
    assert!(matches!(Authenticator::load(&auth(&[]), &place.state), Err(AuthError::Keys(_))));
}

#[tokio::test]
async fn a_change_that_could_not_be_read_is_read_as_soon_as_it_can_be() {
    let place = place();
    let (key, token) = place.store.create(NewKey::of(user("alice"))).unwrap();
    let authenticator = Authenticator::load(&auth(&[]), &place.state).unwrap();
    place.store.revoke(&key.id).unwrap();
    let revoked = fs::read(place.store.path()).unwrap();
    let written = fs::metadata(place.store.path()).unwrap().modified().unwrap();
    // The same file to look at, whatever is in it: only reading tells.
    let hold = |content: &[u8]| {
        fs::write(place.store.path(), content).unwrap();
        fs::File::options().write(true).open(place.store.path()).unwrap().set_modified(written).unwrap();
    };
    hold(&vec![b'?'; revoked.len()]);
    authenticator.register.look();
    assert!(authenticator.verify(token.expose_secret()).await.is_some());
    hold(&revoked);
    authenticator.register.look();
    assert!(authenticator.verify(token.expose_secret()).await.is_none());
}

#[tokio::test]
async fn a_deleted_key_file_revokes_its_keys() {
    let place = place();
    let (_, token) = place.store.create(NewKey::of(user("alice"))).unwrap();
    let authenticator = Authenticator::load(&auth(&[]), &place.state).unwrap();
    fs::remove_file(place.store.path()).unwrap();
    authenticator.register.look();
    assert!(authenticator.verify(token.expose_secret()).await.is_none());
}

#[tokio::test]
async fn nothing_printed_shows_a_token() {
    let place = place();
    let authenticator = Authenticator::load(&auth(&[]), &place.state)
        .unwrap()
        .with_token(user("dev"), &SecretString::from("canary-token-0123456789"));
    assert!(!authenticator.is_empty());
    assert!(!format!("{authenticator:?}").contains("canary"));
}

#[tokio::test]
async fn what_a_token_allows_is_what_its_maker_said() {
    let place = place();
    let mut auth = auth(&[("alice", "0123456789abcdef"), ("bob", "fedcba9876543210")]);
    auth.tokens[1].scopes = vec![Scope::Read];
    auth.tokens[1].tier = TierName::parse("gold").ok();
    let authenticator = Authenticator::load(&auth, &place.state).unwrap();
    let alice = authenticator.verify("0123456789abcdef").await.unwrap();
    assert_eq!((alice.credential.as_str(), alice.tier.clone()), ("settings", None));
    assert!(alice.clone().actor().is_ok() && alice.administrator().is_err());
    let bob = authenticator.verify("fedcba9876543210").await.unwrap();
    assert_eq!(bob.tier, TierName::parse("gold").ok());
    assert!(bob.clone().reader().is_ok() && bob.actor().is_err());

    let wanted = NewKey { scopes: vec![Scope::Admin], ..NewKey::of(user("root")) };
    let (key, token) = authenticator.create_key(wanted).unwrap();
    let root = authenticator.verify(token.expose_secret()).await.unwrap();
    assert_eq!(root.credential, key.id);
    assert!(root.administrator().is_ok());
}

#[tokio::test]
async fn a_key_stops_working_when_its_time_comes() {
    let place = place();
    let authenticator = Authenticator::load(&auth(&[]), &place.state).unwrap();
    let lifetime = Some(Duration::from_millis(300));
    let (key, token) = authenticator.create_key(NewKey { lifetime, ..NewKey::of(user("alice")) }).unwrap();
    let alice = authenticator.verify(token.expose_secret()).await.unwrap();
    assert!(!authenticator.is_empty() && !alice.standing.has_ended());
    within(alice.standing.ended()).await;
    assert!(Timestamp::now() >= key.expires_at.unwrap());
    assert!(authenticator.verify(token.expose_secret()).await.is_none() && authenticator.is_empty());
    assert_eq!(authenticator.keys().unwrap().len(), 1, "it is still listed");
}

#[tokio::test]
async fn whoever_holds_a_key_learns_at_once_that_it_is_revoked_and_the_others_go_on() {
    let place = place();
    let authenticator = Authenticator::load(&auth(&[]), &place.state).unwrap();
    let (key, token) = authenticator.create_key(NewKey::of(user("alice"))).unwrap();
    let (_, other) = authenticator.create_key(NewKey::of(user("alice"))).unwrap();
    let alice = authenticator.verify(token.expose_secret()).await.unwrap();
    let other = authenticator.verify(other.expose_secret()).await.unwrap();
    let ended = tokio::spawn({
        let standing = alice.standing.clone();
        async move { standing.ended().await }
    });
    assert!(authenticator.revoke_key(&key.id).unwrap() && !authenticator.revoke_key(&key.id).unwrap());
    within(ended).await.unwrap();
    assert!(alice.standing.has_ended() && !other.standing.has_ended());
}

#[tokio::test]
async fn what_is_revoked_from_outside_is_found_without_being_asked_for() {
    let place = place();
    let (key, token) = place.store.create(NewKey::of(user("alice"))).unwrap();
    let authenticator = Arc::new(Authenticator::load(&auth(&[]), &place.state).unwrap());
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(Arc::clone(&authenticator).keep_house(stop.clone()));
    let alice = authenticator.verify(token.expose_secret()).await.unwrap();
    place.store.revoke(&key.id).unwrap();
    within(alice.standing.ended()).await;
    stop.cancel();
    within(keeping).await.unwrap();
}

#[tokio::test]
async fn tokens_of_the_settings_can_be_replaced_and_what_was_begun_with_a_former_one_ends() {
    let place = place();
    let two = auth(&[("alice", "0123456789abcdef"), ("bob", "fedcba9876543210")]);
    let run = SecretString::from("a-token-of-this-run");
    let authenticator = Authenticator::load(&two, &place.state).unwrap().with_token(user("dev"), &run);
    let standing = async |token| authenticator.verify(token).await.unwrap().standing;
    let (alice, bob, dev) =
        (standing("0123456789abcdef").await, standing("fedcba9876543210").await, standing("a-token-of-this-run").await);
    assert!(authenticator.replace_tokens(&auth(&[("bob", "short")])).is_err() && !alice.has_ended());
    authenticator.replace_tokens(&auth(&[("bob", "fedcba9876543210"), ("carol", "a-token-that-is-new")])).unwrap();
    within(alice.ended()).await;
    assert!(!bob.has_ended() && !dev.has_ended());
    assert!(authenticator.verify("0123456789abcdef").await.is_none());
    assert!(authenticator.verify("a-token-that-is-new").await.is_some());
}

#[tokio::test]
async fn what_looks_like_ours_is_never_taken_for_a_providers() {
    let place = place();
    let issuer = serde_json::json!({"name": "p", "issuer": "https://p.example", "audience": "x"});
    let issuers = vec![serde_json::from_value(issuer).unwrap()];
    let authenticator = Authenticator::load(&config::Auth { issuers, ..auth(&[]) }, &place.state).unwrap();
    assert!(!authenticator.is_empty());
    assert!(authenticator.verify("gr_a.b.c").await.is_none());
}

/// A deadline no test comes near.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("in time")
}
