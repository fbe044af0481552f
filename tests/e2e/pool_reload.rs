//! New settings for a running server, by signal and by call: stock is replaced gradually, leases go on.

use std::time::Duration;

use hyper::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    client::Client,
    house::House,
    pools::{at_rest, no_orphans, pool, sandboxes, tell},
    settings::{BUSYBOX, SHELL, Settings},
    wait::until,
};

/// Settings whose template `shell` has this version in its environment.
fn version(version: u32) -> Settings {
    let settings = Settings::new().unlimited().shell().stock("shell", 3, 3).set("pool", "cap", "6");
    settings.set("templates.shell", "env", &format!("{{ VERSION = \"{version}\" }}"))
}

/// Opens, asks for the version and closes.
async fn version_of_a_fresh_session(client: &Client) -> String {
    let session = client.open(json!({"template": "shell", "queue_timeout_s": 20})).await;
    let said = client.ask(&session, "echo $VERSION").await;
    client.close(&session).await;
    said.trim().to_owned()
}

/// Looks at the stock all the time; the fewest that were ready at one moment.
fn watch_stock(operator: Client) -> (oneshot::Sender<()>, tokio::task::JoinHandle<usize>) {
    let (stop, mut stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let mut fewest = usize::MAX;
        while stopped.try_recv().is_err() {
            let ready = sandboxes(&operator).await.iter().filter(|sandbox| sandbox.state == "ready").count();
            fewest = fewest.min(ready);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fewest
    });
    (stop, task)
}

async fn reload(house: &House) -> Value {
    house.operator().post("/reload", &json!({})).await.expect(StatusCode::OK)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_of_a_changed_template_is_replaced_one_by_one_and_leases_go_on() {
    let mut house = House::start(version(1)).await;
    at_rest(&house, "shell").await;
    let alice = house.alice();
    let held = alice.open(json!({"template": "shell"})).await;
    until("the stock is full", Duration::from_secs(20), async || {
        (pool(&house, "shell").await["warm"] == 3).then_some(())
    })
    .await;

    for (next, by_signal) in [(2, true), (3, false)] {
        let old = sandboxes(&house.operator()).await;
        let (stop, watching) = watch_stock(house.operator());
        house.rewrite(version(next));
        if by_signal {
            house.signal(Signal::HUP);
        } else {
            let told = reload(&house).await;
            assert_eq!(
                (&told["added"], &told["changed"], &told["removed"]),
                (&json!([]), &json!(["shell"]), &json!([]))
            );
        }
        until("all stock is fresh", Duration::from_secs(20), async || {
            let now = sandboxes(&house.operator()).await;
            let fresh = |one: &crate::pools::Sandbox| old.iter().all(|before| before.id != one.id) && !one.stale;
            let ready = now.iter().filter(|one| one.state == "ready").collect::<Vec<_>>();
            (ready.len() == 3 && ready.into_iter().all(fresh) && pool(&house, "shell").await["stale"] == 0)
                .then_some(())
        })
        .await;
        stop.send(()).expect("the watcher watches");
        let fewest = watching.await.expect("the stock could be watched");
        tell(&format!("reload to {next}: never fewer than {fewest} ready"));
        assert!(fewest >= 3, "an old one went before a new one was ready: {fewest}");
        assert_eq!(version_of_a_fresh_session(&alice).await, next.to_string());
        assert_eq!(alice.ask(&held, "echo $VERSION").await.trim(), "1", "leases aren't touched");
        at_stock(&house).await;
    }
    alice.close(&held).await;
    at_rest(&house, "shell").await;
    no_orphans(&house).await;
    house.stop().await;
}

async fn at_stock(house: &House) {
    until("the stock is full", Duration::from_secs(20), async || {
        let pool = pool(house, "shell").await;
        (pool["warm"] == 3 && pool["starting"] == 0 && pool["ending"] == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_are_added_and_removed_while_the_server_runs() {
    let mut house = House::start(version(1)).await;
    let alice = house.alice();
    let held = alice.open(json!({"template": "shell"})).await;
    assert_ne!(alice.post("/v1/sessions", &json!({"template": "added"})).await.status, StatusCode::CREATED);

    let both = version(1).lines("added", BUSYBOX, &["sh", "-c", SHELL]).stock("added", 1, 1);
    house.rewrite(both.clone());
    let told = reload(&house).await;
    assert_eq!(
        (&told["added"], &told["changed"], &told["removed"]),
        (&json!(["added"]), &json!([]), &json!([])),
        "{told}"
    );
    until("the added one has stock", Duration::from_secs(20), async || {
        (pool(&house, "added").await["warm"] == 1).then_some(())
    })
    .await;
    let session = alice.open(json!({"template": "added"})).await;
    assert_eq!(session["lease"]["start"], "warm", "{session}");
    alice.close(&session).await;
    let known = alice.get_json("/v1/templates").await.to_string();
    assert!(known.contains("added") && known.contains("shell"), "{known}");

    house.rewrite(both.without("shell"));
    let told = reload(&house).await;
    assert_eq!(
        (&told["added"], &told["changed"], &told["removed"]),
        (&json!([]), &json!([]), &json!(["shell"])),
        "{told}"
    );
    let refused = alice.post("/v1/sessions", &json!({"template": "shell"})).await;
    assert!(refused.status.is_client_error(), "{refused:?}");
    assert!(!alice.get_json("/v1/templates").await.to_string().contains("shell"));
    assert_eq!(alice.ask(&held, "echo still here").await.trim(), "still here", "leases aren't touched");
    alice.close(&held).await;
    until("only the added one's sandboxes are left", Duration::from_secs(20), async || {
        let left = house.engine().containers(&house.instance).await;
        (left.len() == 1 && left[0].labels.values().any(|value| value == "added")).then_some(())
    })
    .await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_settings_change_nothing_and_all_their_faults_are_told() {
    let mut house = House::start(version(1)).await;
    at_rest(&house, "shell").await;
    let before = sandboxes(&house.operator()).await;
    let bad = version(2).set("pool", "no_such_setting", "1").set("templates.shell.limits", "cpus", "-3.0");
    house.rewrite(bad);
    let refused = house.operator().post("/reload", &json!({})).await;
    let detail = refused.problem(400, "INVALID_REQUEST")["detail"].to_string();
    assert!(detail.contains("no_such_setting") && detail.contains("cpus"), "{detail}");
    house.signal(Signal::HUP);
    until("the log tells the faults", Duration::from_secs(10), async || {
        let log = String::from_utf8_lossy(&house.log()).into_owned();
        (log.contains("no_such_setting") && log.contains("cpus")).then_some(())
    })
    .await;
    assert_eq!(sandboxes(&house.operator()).await, before, "nothing was changed");
    assert_eq!(version_of_a_fresh_session(&house.alice()).await, "1");
    assert!(house.runs());

    // Some settings need a restart: they are named, and the others are applied.
    house.rewrite(version(3).set("server", "body_bytes", "2000000"));
    let told = reload(&house).await;
    assert_eq!(
        (&told["changed"], &told["restart_needed"]),
        (&json!(["shell"]), &json!(["server.body_bytes"])),
        "{told}"
    );
    until("the new version is served", Duration::from_secs(20), async || {
        (version_of_a_fresh_session(&house.alice()).await == "3").then_some(())
    })
    .await;
    // Not the file: whatever else, nobody else's token.
    assert!(!told.to_string().contains(crate::settings::ALICE), "{told}");
    house.stop().await;
}
