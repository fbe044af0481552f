//! Clocks go on over a restart: idle time and age are neither lost nor counted twice.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{now, settings, start};
use crate::{client::id, follower::Follower, house::House};

fn time(session: &Value, field: &str) -> Timestamp {
    session[field].as_str().unwrap_or_else(|| panic!("no {field}: {session}")).parse().expect("a time")
}

/// How long after `from` something was, in seconds.
fn after(from: Timestamp, then: Timestamp) -> f64 {
    then.duration_since(from).as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_time_and_age_go_on_over_a_restart() {
    let mut house = House::start(settings().shell().stock("shell", 4, 4)).await;
    let alice = house.alice();
    let idle = alice.open(json!({"template": "shell", "idle_timeout_s": 9})).await;
    let old = alice.open(json!({"template": "shell", "max_age_s": 10})).await;
    // Both of these are over before the next server is there.
    let gone = alice.open(json!({"template": "shell", "idle_timeout_s": 3})).await;
    // A turn is no idle time, however long it takes.
    let busy = alice.open(json!({"template": "shell", "idle_timeout_s": 2})).await;
    let turn = start(&alice, &busy, "sleep 9; echo done").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let before = now(&alice, &idle).await;
    let expires = time(&now(&alice, &old).await, "expires_at");

    house.crash().await;
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    house.launch().await;
    let up = Timestamp::now();
    let mut ends = Vec::new();
    for session in [&idle, &old, &gone, &busy] {
        let mut follower = Follower::of(&alice, session);
        ends.push((follower.end().await, follower));
    }
    let [(idle_end, _), (old_end, _), (gone_end, _), (busy_end, busy_log)] = &ends[..] else { panic!("four ends") };
    let reasons = [idle_end, old_end, gone_end, busy_end].map(|end| end.content["reason"].clone());
    assert_eq!(reasons, ["idle", "expired", "idle", "idle"].map(Value::from));

    let taken = after(time(&before, "last_active_at"), idle_end.time);
    assert!((8.8..12.0).contains(&taken), "idle for {taken} s instead of 9");
    assert_eq!(time(&now(&alice, &old).await, "expires_at"), expires, "the same end as before");
    let late = after(expires, old_end.time);
    assert!((-0.2..2.0).contains(&late), "ended {late} s after its time");
    let late = after(up, gone_end.time);
    assert!(late < 2.0, "what was over already ended {late} s after the start");
    let turn_end =
        busy_log.read.iter().find(|event| event.kind == "turn.ended" && event.turn.as_deref() == Some(&turn));
    let taken =
        after(turn_end.unwrap_or_else(|| panic!("the turn was killed: {:?}", busy_log.read)).time, busy_end.time);
    assert!((1.8..4.0).contains(&taken), "idle for {taken} s after its turn instead of 2");
    for session in [&idle, &old, &gone, &busy] {
        assert_eq!(alice.get_json(&format!("/v1/sessions/{}", id(session))).await["state"], "ended");
    }
    house.stop().await;
}
