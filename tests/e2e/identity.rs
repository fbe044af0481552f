//! Who comes in with what: keys with scopes, tokens of a provider, and how long an open stream outlives them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    client::{Client, id},
    house::House,
    provider::{Provider, now},
    settings::Settings,
    stream::Events,
    wait::{until, within},
};

/// Streams end within this time of what they were begun with.
const PROMISE: Duration = Duration::from_secs(60);
const ROOT: &str = "root-token-for-tests-3";

/// A server with an administrator whose token is in the settings.
fn settings() -> Settings {
    let root = format!(r#"[{{user="root",token="{ROOT}",scopes=["admin"]}}]"#);
    Settings::new().shell().set("auth", "tokens", &root)
}

/// The same, and it takes this provider's tokens.
fn trusting(provider: &Provider, more: &str) -> Settings {
    let issuer = provider.setting("company");
    let issuer = format!("[{},{more}}}]", issuer.trim_end_matches('}'));
    settings().set("auth", "issuers", &issuer)
}

fn client(house: &House, token: &str) -> Client {
    Client::new(house.address, Some(token))
}

/// Makes a key over REST; gives back its id and who has it.
async fn key(house: &House, wish: Value) -> (String, Client) {
    let reply = client(house, ROOT).post("/v1/keys", &wish).await;
    assert_eq!(reply.header("cache-control"), "no-store");
    let key = reply.expect(StatusCode::CREATED);
    (id(&key).to_owned(), client(house, key["token"].as_str().expect("a token")))
}

/// Waits for the end of a stream, and says how long it took since then.
async fn ended(stream: Events, since: Instant) -> Duration {
    let (_, retry) = within("the stream ends", PROMISE, stream.rest_and_retry()).await;
    assert_eq!(retry, Some(1000), "clients are asked to come back");
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_provider_work_as_everybody_does_and_see_only_what_is_theirs() {
    let provider = Provider::start().await;
    let more =
        r#"user_prefix="co:",scope_claim="realm_access.roles",scopes={staff="sessions",boss="admin",guest="read"}"#;
    let house = House::start(trusting(&provider, more)).await;
    let token =
        |sub: &str, role: &str| provider.token(&json!({"sub": sub, "realm_access": {"roles": ["other", role]}}));
    let carol = client(&house, &token("carol", "staff"));
    assert_eq!(carol.get_json("/v1/me").await["user"], "co:carol");
    let session = carol.open(json!({"template": "shell"})).await;
    assert_eq!(carol.ask(&session, "echo mine").await.trim(), "mine");

    // Another token of hers is as good, whatever it is signed with.
    let claims = json!({"sub": "carol", "realm_access": {"roles": ["staff"]}});
    let path = format!("/v1/sessions/{}", id(&session));
    for algorithm in ["ES256", "EdDSA"] {
        let again = client(&house, &provider.signed(algorithm, &json!({}), &claims));
        assert_eq!(id(&again.get_json(&path).await), id(&session));
    }
    // Of others it is only found by who may manage.
    client(&house, &token("dave", "staff")).get(&path).await.problem(404, "NOT_FOUND");
    // A key for `carol` is somebody else's: the provider's users have a prefix.
    let (_, other) = key(&house, json!({"user": "carol"})).await;
    other.get(&path).await.problem(404, "NOT_FOUND");

    let guest = client(&house, &token("eve", "guest"));
    assert_eq!(guest.get("/v1/me").await.status, StatusCode::OK);
    guest.post("/v1/sessions", &json!({})).await.problem(403, "FORBIDDEN");
    client(&house, &token("eve", "stranger")).get("/v1/me").await.problem(403, "FORBIDDEN");
    carol.get("/v1/keys").await.problem(403, "FORBIDDEN");
    assert_eq!(client(&house, &token("eve", "boss")).get("/v1/keys").await.status, StatusCode::OK);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_soon_after_its_key_was_revoked_and_another_key_goes_on_where_it_ended() {
    let house = House::start(settings()).await;
    let (first, carol) = key(&house, json!({"user": "carol", "name": "first"})).await;
    let (_, again) = key(&house, json!({"user": "carol", "name": "second"})).await;
    let session = carol.open(json!({"template": "shell"})).await;
    let path = format!("/v1/sessions/{}/events", id(&session));
    let last = session["last_seq"].as_u64().expect("a number");
    let stream = carol.events(&session, 0).await;
    let other = again.events(&session, 0).await;
    let poll = format!("{path}?after={last}&wait_s=30");
    let poll = tokio::spawn({
        let carol = carol.clone();
        async move { carol.call(Method::GET, &poll, &[("accept", "application/json")], Bytes::new()).await }
    });
    // The poll waits as soon as it holds a stream, too; whenever it comes it is refused.
    let since = Instant::now();
    let revoked = client(&house, ROOT).delete(&format!("/v1/keys/{first}")).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    let took = ended(stream, since).await;
    assert!(took < PROMISE / 4, "{took:?}");
    within("the poll ends", PROMISE / 4, poll).await.expect("no panic").problem(401, "UNAUTHENTICATED");
    carol.get(&path).await.problem(401, "UNAUTHENTICATED");

    // Her other key knows nothing of it.
    assert_eq!(again.ask(&session, "echo on").await.trim(), "on");
    let mut other = other;
    other.up_to("turn.ended").await;
    let headers = [("last-event-id", "1"), ("accept", "text/event-stream")];
    let mut resumed = Events::of(again.send(Method::GET, &path, &headers, Bytes::new()).await);
    assert_eq!(resumed.next().await.expect("an event").seq, 2);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_beside_the_server_ends_its_streams_too() {
    let house = House::start(settings()).await;
    let (first, carol) = key(&house, json!({"user": "carol"})).await;
    let session = carol.open(json!({"template": "shell"})).await;
    let stream = carol.events(&session, 0).await;
    let since = Instant::now();
    let revoked = house.command(&["keys", "revoke", &first]).await;
    assert!(revoked.status.success(), "{revoked:?}");
    let took = ended(stream, since).await;
    assert!(took < PROMISE / 4, "{took:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_when_its_token_expires_or_its_provider_takes_the_key_back() {
    let provider = Provider::start().await;
    let house = House::start(trusting(&provider, r#"leeway="0s",jwks_refresh="10s""#)).await;
    let claims = json!({"sub": "carol", "scope": "sessions"});
    let carol = client(&house, &provider.token(&claims));
    let session = carol.open(json!({"template": "shell"})).await;
    let long = carol.events(&session, 0).await;

    let mut short = claims.clone();
    short["exp"] = json!(now() + 4);
    let expiring = client(&house, &provider.token(&short));
    let stream = expiring.events(&session, 0).await;
    let took = ended(stream, Instant::now()).await;
    assert!(took < PROMISE / 2, "{took:?}");
    expiring.get("/v1/me").await.problem(401, "UNAUTHENTICATED");
    assert_eq!(carol.get("/v1/me").await.status, StatusCode::OK);

    provider.publish(json!({"keys": []}));
    let took = ended(long, Instant::now()).await;
    assert!(took < PROMISE, "{took:?}");
    carol.get("/v1/me").await.problem(401, "UNAUTHENTICATED");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_away_keeps_no_server_from_starting_and_is_found_when_it_is_back() {
    let provider = Provider::start().await;
    provider.be_away(true);
    let house = House::start(trusting(&provider, "leeway=\"30s\"")).await;
    let carol = client(&house, &provider.token(&json!({"sub": "carol", "scope": "read"})));
    carol.get("/v1/me").await.problem(401, "UNAUTHENTICATED");
    provider.be_away(false);
    let known = async || (carol.get("/v1/me").await.status == StatusCode::OK).then_some(());
    until("the provider is found", PROMISE, known).await;
    // Its keys are new: that is found out by the first token that says so.
    provider.rotate();
    let rotated = client(&house, &provider.token(&json!({"sub": "carol", "scope": "read"})));
    let known = async || (rotated.get("/v1/me").await.status == StatusCode::OK).then_some(());
    until("the new key is found", PROMISE, known).await;
    carol.get("/v1/me").await.problem(401, "UNAUTHENTICATED");

    // Keys that somebody made up are not worth a question each.
    let (asked, since) = (provider.requests(), Instant::now());
    for number in 0..200 {
        let header = json!({"kid": format!("made-up-{number}")});
        let stranger = client(&house, &provider.signed("EdDSA", &header, &json!({"sub": "mallory", "scope": "admin"})));
        stranger.get("/v1/me").await.problem(401, "UNAUTHENTICATED");
    }
    let (asked, allowed) = (provider.requests() - asked, since.elapsed().as_secs() / 5 + 2);
    assert!(asked as u64 <= allowed, "{asked} questions in {:?}", since.elapsed());
    house.stop().await;
}
