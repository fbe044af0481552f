//! A budget for ten calls, and 64 of them at once from two sandboxes: exactly the budget is spent.
//!
//! The model is in this process and counts by itself, so what is compared is what it gave, what callers got and what the server says.

mod teller;

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use self::teller::Teller;
use crate::{
    client::{Client, id},
    gateway::PORT,
    house::{House, model},
    settings::Settings,
    stream::Event,
    wait::until,
};

/// Tokens that each call may write.
const TOKENS: u64 = 50;
/// Calls that there is a budget for.
const PAID: u64 = 10;
/// Calls at once, from each of two sandboxes.
const CALLS: usize = 32;

/// What came of calls: how often each status, and the body of one that was refused.
#[derive(Debug, Default)]
struct Outcome {
    good: usize,
    refused: usize,
    others: Vec<String>,
    refusal: Value,
    /// How the turn ended in which they were made.
    end: Option<Event>,
}

async fn open(client: &Client) -> Value {
    let session = client.open(json!({"template": "shell", "credential": {"api_key": "key-of-this-session"}})).await;
    let path = format!("/v1/sessions/{}/files/calls.pl", id(&session));
    let put = client.call(Method::PUT, &path, &[], include_str!("budget_parallel/calls.pl").into()).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    session
}

/// Calls the model from inside, all at once.
async fn call(client: &Client, session: &Value, count: usize) -> Outcome {
    let command = format!("{PORT}; perl /sandbox/workspace/calls.pl $port {count} {TOKENS}");
    let events = client.prompt(session, &command).await.rest().await;
    let mut outcome = Outcome { end: events.last().cloned(), ..Outcome::default() };
    for line in crate::stream::text(&events).lines() {
        match line.split_once(' ') {
            Some(("200", _)) => outcome.good += 1,
            Some(("403", body)) => {
                outcome.refused += 1;
                outcome.refusal = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
            }
            _ if line.trim().is_empty() => {}
            _ => outcome.others.push(line.to_owned()),
        }
    }
    outcome
}

/// Both sandboxes at once.
async fn call_from_two(client: &Client) -> Outcome {
    let (first, second) = tokio::join!(open(client), open(client));
    let (one, other) = tokio::join!(call(client, &first, CALLS), call(client, &second, CALLS));
    for half in [&one, &other] {
        assert!(half.others.is_empty(), "{half:?}");
        // A turn with a call that was refused says why, whatever its agent made of it.
        let end = half.end.as_ref().expect("a turn has an end");
        let expected =
            if half.refused > 0 { ("turn.failed", json!("BUDGET_EXHAUSTED")) } else { ("turn.ended", json!(null)) };
        assert_eq!((end.kind.as_str(), end.content.get("code").cloned().unwrap_or_default()), expected, "{end:?}");
    }
    let refusal = if one.refusal.is_null() { other.refusal } else { one.refusal };
    let (good, refused) = (one.good + other.good, one.refused + other.refused);
    assert_eq!(good + refused, 2 * CALLS);
    Outcome { good, refused, refusal, ..Outcome::default() }
}

fn settings(teller: &Teller, budget: &str, tokens: u64) -> Settings {
    let settings = Settings::new().shell_with_node().stock("shell", 2, 2).model(teller.address);
    settings.set("budget", budget, &tokens.to_string())
}

/// What the server says was written today.
async fn written_today(client: &Client) -> u64 {
    let me = client.get_json("/v1/me").await;
    let day = me["budgets"].as_array().and_then(|all| all.iter().find(|one| one["window"] == "day"));
    let day = day.unwrap_or_else(|| panic!("no budget of a day: {me}"));
    day["output_tokens"]["used"].as_u64().unwrap_or_else(|| panic!("nothing was counted: {day}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_calls_at_once_spend_a_budget_for_ten_to_the_token() {
    let teller = Teller::start(TOKENS).await;
    let house = House::start(settings(&teller, "output_tokens_per_day", PAID * TOKENS)).await;
    let (alice, bob) = (house.alice(), house.bob());
    let outcome = call_from_two(&alice).await;
    assert_eq!(outcome.good as u64, PAID, "{outcome:?}");
    assert_eq!((teller.calls() as u64, teller.written()), (PAID, PAID * TOKENS), "refused calls never left the house");
    assert!(teller.at_once() > 1, "calls that are paid for don't wait for one another");
    // In the words of the model's own API; not with its 429, after which its clients come again and again.
    assert_eq!(outcome.refusal["error"]["status"], "PERMISSION_DENIED", "{outcome:?}");
    assert_eq!(outcome.refusal["error"]["details"][0]["reason"], "BUDGET_EXHAUSTED", "{outcome:?}");

    let counted = async || (written_today(&alice).await == PAID * TOKENS).then_some(());
    until("the server counts what the model counted", Duration::from_secs(5), counted).await;
    // One user's budget is no other's.
    let session = open(&bob).await;
    assert_eq!(call(&bob, &session, 3).await.good, 3);
    assert_eq!(written_today(&alice).await, PAID * TOKENS);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_calls_cost_less_than_they_might_is_there_for_others_and_never_twice() {
    // Each writes a third of what it may.
    let teller = Teller::start(TOKENS / 3).await;
    let budget = PAID * TOKENS;
    let house = House::start(settings(&teller, "output_tokens_per_day", budget)).await;
    let alice = house.alice();
    let outcome = call_from_two(&alice).await;
    assert!(outcome.good as u64 > PAID, "what was given back is used again: {outcome:?}");
    assert!(teller.written() <= budget, "{} of {budget}", teller.written());
    assert_eq!(teller.calls(), outcome.good);
    let counted = async || (written_today(&alice).await == teller.written()).then_some(());
    until("the server counts what the model counted", Duration::from_secs(5), counted).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_nothing_left_is_told_before_a_turn_begins() {
    let settings = Settings::new().gemini(model(None).await).set("budget", "output_tokens_per_day", "1");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    // The last token is spent, and the turn ends one way or the other.
    let events = alice.prompt(&session, "[words:one two three]").await.rest().await;
    let last = events.last().expect("a turn has an end");
    assert!(["turn.ended", "turn.failed"].contains(&last.kind.as_str()), "{events:#?}");
    let path = format!("/v1/sessions/{}", id(&session));
    alice.post(&format!("{path}/turns"), &json!({"prompt": "more"})).await.problem(429, "BUDGET_EXHAUSTED");
    assert_eq!(alice.get_json(&path).await["state"], "ready");
    house.stop().await;
}
