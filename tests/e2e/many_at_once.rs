//! Many users and requests at the same time.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use crate::{client::id, house::House, settings::Settings, wait::until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_who_come_at_once_are_all_served_from_four_sandboxes() {
    let settings = Settings::new().shell().set("pool", "size", "2").set("pool", "cap", "4");
    let settings = settings.set("limits", "sessions", "20").set("limits", "waiting", "20");
    let house = House::start(settings).await;
    let visits = (0..12).map(|number| {
        let alice = house.alice();
        tokio::spawn(async move {
            let session = alice.open(json!({"template": "shell", "queue_timeout_s": 40})).await;
            assert_eq!(alice.ask(&session, &format!("echo {number}")).await.trim(), number.to_string());
            alice.close(&session).await;
        })
    });
    for visit in visits.collect::<Vec<_>>() {
        visit.await.expect("every visit is a good one");
    }
    let settled = async || {
        let pool = house.alice().get_json("/v1/pools").await["items"][0].clone();
        (pool["leased"] == 0 && pool["warm"] == 2 && pool["ending"] == 0).then_some(())
    };
    until("the pool is as it was", Duration::from_secs(20), settled).await;
    assert_eq!(house.engine().containers(&house.instance).await.len(), 2);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_prompts_sent_at_once_one_is_taken() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let path = format!("/v1/sessions/{}/turns", id(&session));
    let body = json!({"prompt": "sleep 0.5; echo once >>/tmp/count"});
    let replies = tokio::join!(alice.post(&path, &body), alice.post(&path, &body), alice.post(&path, &body));
    let (taken, refused): (Vec<_>, Vec<_>) =
        [replies.0, replies.1, replies.2].into_iter().partition(|reply| reply.status == StatusCode::ACCEPTED);
    assert_eq!(taken.len(), 1, "{refused:?}");
    for reply in refused {
        reply.problem(409, "TURN_IN_PROGRESS");
    }
    alice.events(&session, 0).await.up_to("turn.ended").await;
    assert_eq!(alice.ask(&session, "wc -l </tmp/count").await.trim(), "1");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_listed_by_label_and_page_by_page() {
    let house = House::start(Settings::new().shell().set("pool", "size", "3")).await;
    let alice = house.alice();
    for number in 0..3 {
        let parity = if number % 2 == 0 { "even" } else { "odd" };
        alice.open(json!({"template": "shell", "labels": {"parity": parity}})).await;
    }
    let even = alice.get_json("/v1/sessions?label=parity:even").await;
    assert_eq!(even["items"].as_array().map(Vec::len), Some(2), "{even}");
    assert_eq!(alice.get_json("/v1/sessions?state=ended").await["items"], json!([]));

    let mut seen = Vec::new();
    let mut path = "/v1/sessions?limit=1".to_owned();
    for _ in 0..3 {
        let page = alice.get_json(&path).await;
        let items = page["items"].as_array().expect("a page").clone();
        assert_eq!(items.len(), 1, "{page}");
        seen.push(id(&items[0]).to_owned());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/sessions?limit=1&cursor={cursor}"),
            None => break,
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 3);
    alice.get("/v1/sessions?limit=0").await.problem(400, "INVALID_REQUEST");
    alice.get("/v1/sessions?cursor=nonsense!").await.problem(400, "INVALID_REQUEST");
    alice.get("/v1/sessions?state=sleeping").await.problem(400, "INVALID_REQUEST");
    house.stop().await;
}
