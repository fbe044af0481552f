//! Budgets at a real socket: what goes out, what is charged, and who hears of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{model::ModelBody, *};
use crate::{
    config::Budget,
    gateway::{Budgets, CallRefused, Cost, Window},
};

/// What each call asks for.
const TOKENS: u64 = 5;

fn hourly(input: Option<u64>, output: Option<u64>) -> Budgets {
    let budget = Budget { input_tokens_per_hour: input, output_tokens_per_hour: output, ..Budget::default() };
    Budgets::new(&budget, &BTreeMap::new())
}

impl House {
    /// A session of Ada's who has this budget.
    async fn of_budget(base_url: &str, budgets: &Budgets) -> Self {
        let mut house = Self::new(base_url);
        let Binding { user, session, .. } = house.binding.clone();
        let load = |_hour| std::future::ready(Ok::<_, ()>(Vec::new()));
        let account = budgets.account(&user, None, &session, Cost::default(), load).await;
        house.binding.account = account.expect("it loads");
        house.slot.bind(house.binding.clone());
        house
    }

    /// What is spent of the hour, and what is held.
    async fn standing(&self, budgets: &Budgets) -> (Cost, Cost) {
        let load = |_hour| std::future::ready(Ok::<_, ()>(Vec::new()));
        let standings = budgets.standings(&self.binding.user, None, load).await.expect("it loads");
        (standings[0].spent, standings[0].reserved)
    }
}

fn asking(tokens: u64) -> Request<Full<Bytes>> {
    json_request(PATH, &json!({"generationConfig": {"maxOutputTokens": tokens}}).to_string())
}

async fn asked(request: Request<hyper::body::Incoming>) -> Value {
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

/// Writes as much as it may, and says so; counts that in `sent`.
async fn write_all(request: Request<hyper::body::Incoming>, seen: Arc<model::Seen>) -> Response<ModelBody> {
    let limit = asked(request).await["generationConfig"]["maxOutputTokens"].as_u64().expect("a limit");
    seen.sent.fetch_add(usize::try_from(limit).expect("small"), Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let counts = json!({"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": limit}});
    Response::builder()
        .header("content-type", "application/json")
        .body(model::whole(counts.to_string()))
        .expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_calls_at_once_spend_a_budget_for_ten_exactly() {
    let model = Model::start(write_all).await;
    let budgets = hourly(None, Some(10 * TOKENS));
    let mut houses = Vec::new();
    for _ in 0..4 {
        houses.push(Arc::new(House::of_budget(&model.url(), &budgets).await));
    }
    let mut calls = JoinSet::new();
    for number in 0..64 {
        let house = Arc::clone(&houses[number % 4]);
        calls.spawn(async move { house.ask(asking(TOKENS)).await });
    }
    let answers = calls.join_all().await;
    let good = answers.iter().filter(|(status, _)| *status == StatusCode::OK).count();
    assert_eq!(good, 10);
    assert_eq!(model.sent.load(Ordering::SeqCst), 50, "the model wrote the budget, to the token");
    assert_eq!(model.requests.load(Ordering::SeqCst), 10, "what was refused never left the house");
    for refusal in answers.into_iter().filter(|(status, _)| *status != StatusCode::OK) {
        assert!(refusal.1.contains("the token budget of this hour is used up"), "{}", refusal.1);
        assert_refused(refusal, 403, "PERMISSION_DENIED");
    }
    let (spent, reserved) = houses[0].standing(&budgets).await;
    assert_eq!((spent.output, reserved), (50, Cost::default()));
}

#[tokio::test]
async fn the_last_call_is_told_to_write_what_is_left() {
    let model = Model::start(write_all).await;
    let budgets = hourly(None, Some(12));
    let mut house = House::of_budget(&model.url(), &budgets).await;
    for (wanted, written) in [(10, 10), (10, 2)] {
        let (status, text) = house.ask(asking(wanted)).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let Ok(Report::Usage(usage)) = house.reports.try_recv() else { panic!("not reported") };
        assert_eq!((usage.output_tokens, usage.estimated), (written, false));
    }
    assert_refused(house.ask(asking(10)).await, 403, "PERMISSION_DENIED");
    let Ok(Report::Refused(CallRefused::Budget(why))) = house.reports.try_recv() else { panic!("not told") };
    assert_eq!(why.window, Window::Hour);
    assert!(house.counted("over_budget"));
    // Counting tokens costs none.
    let count = PATH.replace("streamGenerateContent", "countTokens");
    assert_ne!(
        house.ask(json_request(&count, "{\"generationConfig\":{\"maxOutputTokens\":1}}")).await.0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn a_request_that_may_be_too_large_to_read_is_refused_before_it_goes_out() {
    let model = Model::start(write_all).await;
    let budgets = hourly(Some(100), None);
    let house = House::of_budget(&model.url(), &budgets).await;
    let long = json!({"text": "x".repeat(100), "generationConfig": {"maxOutputTokens": 1}}).to_string();
    assert_refused(house.ask(json_request(PATH, &long)).await, 403, "PERMISSION_DENIED");
    assert_eq!(model.requests.load(Ordering::SeqCst), 0);
    assert_eq!(house.ask(asking(1)).await.0, StatusCode::OK);
    assert_eq!(house.standing(&budgets).await.0.input, 3, "what the model counted is less than the bytes");
}

#[tokio::test]
async fn what_cannot_be_read_cannot_be_paid() {
    let model = Model::start(write_all).await;
    let house = House::of_budget(&model.url(), &hourly(None, Some(100))).await;
    assert_refused(house.ask(json_request(PATH, "not JSON")).await, 400, "INVALID_ARGUMENT");
    let mut encoded = asking(1);
    encoded.headers_mut().insert("content-encoding", "gzip".parse().expect("a value"));
    assert_refused(house.ask(encoded).await, 415, "INVALID_ARGUMENT");
    assert_eq!(model.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_error_of_the_model_costs_nothing_and_a_success_without_counts_what_passed() {
    let budgets = hourly(Some(10_000), Some(1000));
    let failing =
        Model::start(|_, _| async { Response::builder().status(503).body(model::whole("{}")).expect("an answer") })
            .await;
    let house = House::of_budget(&failing.url(), &budgets).await;
    assert_eq!(house.ask(asking(5)).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(house.standing(&budgets).await, (Cost::default(), Cost::default()));

    let silent = Model::start(|_, _| async { Response::new(model::whole("1234567")) }).await;
    let mut house = House::of_budget(&silent.url(), &budgets).await;
    let request = asking(100);
    let bytes = http_body::Body::size_hint(request.body()).lower();
    assert_eq!(house.ask(request).await.0, StatusCode::OK);
    let Ok(Report::Usage(usage)) = house.reports.try_recv() else { panic!("not reported") };
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.estimated), (bytes, 7, true));
    assert_eq!(house.standing(&budgets).await, (Cost { input: bytes, output: 7 }, Cost::default()));
}

#[tokio::test]
async fn who_hangs_up_pays_what_was_counted_or_what_went_out() {
    let budgets = hourly(Some(10_000), Some(1000));
    let model = Model::start(model::one_piece_then_silence).await;
    let house = House::of_budget(&model.url(), &budgets).await;
    let mut answer = house.agent().await.send(asking(100)).await.expect("a head").into_body();
    answer.frame().await.expect("a piece").expect("a good one");
    assert_eq!(house.standing(&budgets).await.1.output, 100);
    drop(answer);
    eventually("the model's side was closed", || model.open_answers.load(Ordering::SeqCst) == 0).await;
    let counted = Cost { input: 5, output: 1 };
    while house.standing(&budgets).await != (counted, Cost::default()) {
        tokio::task::yield_now().await;
    }

    let deaf = Model::start(|_, _| std::future::pending()).await;
    let house = House::of_budget(&deaf.url(), &budgets).await;
    let mut agent = house.agent().await;
    let request = asking(100);
    let bytes = http_body::Body::size_hint(request.body()).lower();
    let call = tokio::spawn(async move { agent.send(request).await.map(drop) });
    eventually("the model is asked", || deaf.requests.load(Ordering::SeqCst) == 1).await;
    call.abort();
    let charged = Cost { input: 5 + bytes, output: 1 };
    while house.standing(&budgets).await != (charged, Cost::default()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn large_requests_of_a_session_are_held_one_at_a_time() {
    let model = Model::start(|request, seen| model::read_all_then_send(request, seen, 1, 1)).await;
    let house = House::of_budget(&model.url(), &hourly(Some(1 << 40), None)).await;
    let large = |size: usize| json_request(PATH, &format!("{{\"x\":\"{}\"}}", "y".repeat(size)));
    let mut calls = JoinSet::new();
    for _ in 0..2 {
        let mut agent = house.agent().await;
        let request = large(4 * 1024 * 1024);
        calls.spawn(async move { agent.send(request).await.map(|answer| answer.status()) });
    }
    eventually("one is sent", || model.requests.load(Ordering::SeqCst) == 1).await;
    // A small one goes past them.
    let mut agent = house.agent().await;
    let small = tokio::spawn(async move { agent.send(asking(1)).await.map(|answer| answer.status()) });
    eventually("the small one is sent", || model.requests.load(Ordering::SeqCst) == 2).await;
    for _ in 0..2 {
        model.go_on.notify_one();
        tokio::task::yield_now().await;
    }
    assert_eq!(small.await.expect("no panic").expect("an answer"), StatusCode::OK);
    eventually("the other large one is sent", || model.requests.load(Ordering::SeqCst) == 3).await;
    model.go_on.notify_one();
    for status in calls.join_all().await {
        assert_eq!(status.expect("an answer"), StatusCode::OK);
    }
}
