//! Too fast, too many, and nothing left: the answers say how long to wait.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    client::id,
    house::House,
    settings::{ALICE, BOB, Settings},
    wait::until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_prompts_too_fast_is_slowed_down_and_no_one_else() {
    let settings = Settings::new().shell().set("pool", "size", "2");
    let settings = settings.set("limits", "prompts_per_minute", "2").set("limits", "prompts_burst", "2");
    let house = House::start(settings).await;
    let (alice, bob) = (house.alice(), house.bob());
    let session = alice.open(json!({"template": "shell"})).await;
    for _ in 0..2 {
        alice.ask(&session, "true").await;
    }
    let turns = format!("/v1/sessions/{}/turns", id(&session));
    let reply = alice.post(&turns, &json!({"prompt": "true"})).await;
    reply.problem(429, "RATE_LIMITED");
    let seconds = reply.header("retry-after").parse::<u64>().expect("whole seconds");
    // Half a minute, and up to a quarter more by chance.
    assert!((1..=38).contains(&seconds), "{reply:?}");
    assert!(!reply.header("ratelimit").is_empty() && !reply.header("ratelimit-policy").is_empty(), "{reply:?}");

    let others = bob.open(json!({"template": "shell"})).await;
    assert_eq!(bob.ask(&others, "echo fast").await.trim(), "fast");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opens_are_limited_in_pace_and_in_number() {
    let settings = Settings::new().shell().set("limits", "sessions", "2").set("pool", "size", "2");
    let house = House::start(settings.set("limits", "opens_per_minute", "1").set("limits", "opens_burst", "3")).await;
    let alice = house.alice();
    let first = alice.open(json!({"template": "shell"})).await;
    alice.open(json!({"template": "shell"})).await;
    let third = alice.post("/v1/sessions", &json!({"template": "shell"})).await;
    third.problem(429, "RESOURCE_LIMIT");
    alice.close(&first).await;
    let too_fast = alice.post("/v1/sessions", &json!({"template": "shell"})).await;
    too_fast.problem(429, "RATE_LIMITED");
    assert!(!too_fast.header("ratelimit").is_empty(), "{too_fast:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_past_the_last_sandbox_waits_its_time_and_is_refused() {
    let house = House::start(Settings::new().shell().set("pool", "cap", "1").set("limits", "waiting", "8")).await;
    let (alice, bob) = (house.alice(), house.bob());
    let held = alice.open(json!({"template": "shell"})).await;

    let asked = Instant::now();
    let refused = bob.post("/v1/sessions", &json!({"template": "shell", "queue_timeout_s": 1})).await;
    refused.problem(503, "POOL_EXHAUSTED");
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&asked.elapsed()), "{:?}", asked.elapsed());

    // Someone who waits long enough gets the next one.
    let body = json!({"template": "shell", "queue_timeout_s": 30});
    let (waited, ()) = tokio::join!(bob.post("/v1/sessions", &body), alice.close(&held));
    let waited = waited.expect(StatusCode::CREATED);
    assert_eq!(bob.ask(&waited, "echo mine").await.trim(), "mine");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_while_waiting_takes_no_sandbox() {
    let house = House::start(Settings::new().shell().set("pool", "cap", "1")).await;
    let (alice, bob) = (house.alice(), house.bob());
    let held = alice.open(json!({"template": "shell"})).await;
    let pool = async || house.alice().get_json("/v1/pools").await["items"][0].clone();

    let impatient = tokio::spawn(async move { bob.open(json!({"template": "shell"})).await });
    let waits = async || (pool().await["waiting"] == 1).then_some(());
    until("bob is in the queue", Duration::from_secs(5), waits).await;
    impatient.abort();
    let left = async || (pool().await["waiting"] == 0).then_some(());
    until("bob has left the queue", Duration::from_secs(5), left).await;

    alice.close(&held).await;
    let warm = async || {
        let now = pool().await;
        (now["warm"] == 1 && now["leased"] == 0).then_some(())
    };
    until("the next sandbox is in stock", Duration::from_secs(20), warm).await;
    assert_eq!(house.bob().get_json("/v1/sessions").await["items"], json!([]));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_has_limits_of_its_own_and_the_rest_from_the_usual_ones() {
    let tokens = format!(r#"[{{user="alice",token="{ALICE}",tier="gold"}},{{user="bob",token="{BOB}"}}]"#);
    let settings = Settings::new().set("runtime", "kind", "\"process\"").shell().set("auth", "tokens", &tokens);
    let settings = settings.set("pool", "size", "2").set("limits", "sessions", "1").set("limits", "streams", "5");
    let settings = settings.set("limits", "reads_per_minute", "6").set("limits", "reads_burst", "3");
    let settings = settings.set("tiers.gold.limits", "sessions", "2").set("tiers.gold.limits", "reads_burst", "100");
    let house = House::start(settings).await;
    let (alice, bob) = (house.alice(), house.bob());

    let me = alice.get_json("/v1/me").await;
    assert_eq!((&me["tier"], &me["sessions"]["limit"]), (&json!("gold"), &json!(2)));
    assert_eq!((&me["streams"]["limit"], &me["reads"]["burst"]), (&json!(5), &json!(100)));
    for _ in 0..2 {
        alice.open(json!({"template": "shell"})).await;
    }
    alice.post("/v1/sessions", &json!({"template": "shell"})).await.problem(429, "RESOURCE_LIMIT");
    bob.open(json!({"template": "shell"})).await;
    bob.post("/v1/sessions", &json!({"template": "shell"})).await.problem(429, "RESOURCE_LIMIT");

    for _ in 0..3 {
        assert_eq!(bob.get("/v1/sessions").await.status, StatusCode::OK);
    }
    for path in ["/v1/sessions", "/v1/me", "/v1/workspaces", "/v1/pools"] {
        let reply = bob.get(path).await;
        reply.problem(429, "RATE_LIMITED");
        assert!(reply.header("ratelimit").starts_with("\"read\";r=0;t="), "{reply:?}");
    }
    for _ in 0..20 {
        assert_eq!(alice.get("/v1/sessions").await.status, StatusCode::OK);
    }
    house.stop().await;
}

/// The size of a workspace is nobody's to keep but ours: an engine doesn't.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_that_is_too_large_takes_nothing_more_and_can_be_made_smaller() {
    const LIMIT: usize = 4 * 1024 * 1024;
    let settings = Settings::new().shell();
    let house = House::start(settings.set("limits", "workspace_bytes", &LIMIT.to_string())).await;
    let alice = house.alice();
    let open = async || alice.open(json!({"template": "shell", "workspace": "heavy"})).await;
    let session = open().await;
    let put = async |session: &Value, name: &str, bytes: usize| {
        let path = format!("/v1/sessions/{}/files/{name}", id(session));
        alice.call(Method::PUT, &path, &[], Bytes::from(vec![7; bytes])).await
    };
    assert_eq!(put(&session, "half", LIMIT / 2).await.status, StatusCode::CREATED);
    put(&session, "more", LIMIT / 2 + 1).await.problem(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(put(&session, "little", 1000).await.status, StatusCode::CREATED);

    // The agent isn't asked. Its turn ends well if it is faster than the scales.
    let turn = alice
        .prompt(&session, "head -c 6000000 /dev/zero | tr '\\0' x >/sandbox/workspace/agents; echo done")
        .await
        .rest()
        .await;
    assert!(turn.last().is_some_and(|end| end.kind.starts_with("turn.")), "{turn:?}");
    let prompt = async |session: &Value| {
        alice.post(&format!("/v1/sessions/{}/turns", id(session)), &json!({"prompt": "true"})).await
    };
    put(&session, "another", 1_000_000).await.problem(413, "PAYLOAD_TOO_LARGE");
    alice.close(&session).await;

    // Its user gets in all the same, and no agent is let loose on it before there is room.
    let session = open().await;
    let refused = prompt(&session).await;
    let problem = refused.problem(429, "RESOURCE_LIMIT");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("may take 4194304")), "{problem}");
    put(&session, "more", 10).await.problem(413, "PAYLOAD_TOO_LARGE");
    let agents = format!("/v1/sessions/{}/files/agents", id(&session));
    assert_eq!(alice.get(&agents).await.body.len(), 6_000_000);
    assert_eq!(alice.delete(&agents).await.status, StatusCode::NO_CONTENT);
    assert_eq!(prompt(&session).await.status, StatusCode::ACCEPTED);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_fills_the_disk_ends() {
    let settings = Settings::new().shell();
    let house = House::start(settings.set("limits", "workspace_bytes", "1000000")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let turn = alice
        .prompt(&session, "head -c 3000000 /dev/zero | tr '\\0' x >/sandbox/workspace/large; sleep 600")
        .await
        .rest()
        .await;
    let end = turn.last().expect("a turn ends");
    // An agent that can't be asked to end its turn is killed for it, and its session ends.
    assert!(["turn.failed", "session.ended"].contains(&end.kind.as_str()), "{turn:?}");
    let failed = turn.iter().find(|event| event.kind == "turn.failed").expect("it fails");
    assert_eq!(failed.content["code"], "RESOURCE_LIMIT", "{failed:?}");
    house.stop().await;
}
