//! The same service on Podman: its proof of the engine, the way of a prompt, ends of every kind, and what goes on after a crash.

mod service;

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use self::service::Service;
use crate::{
    house::{House, model},
    settings::{BUSYBOX, GEMINI, Settings},
    stream::{assert_gapless, text},
    wait::until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_podman_an_agent_lives_from_its_proof_to_its_end() {
    let Some((_service, engine)) = Service::start(&[BUSYBOX]).await else { return };
    // That it starts at all says that a sandbox was proven tight from inside.
    let house = House::start_on(Some(engine), Settings::new().shell()).await;
    let alice = house.alice();
    let before = house.engine().containers(&house.instance).await;
    assert_eq!(before.len(), 1, "{before:?}");

    let session = alice.open(json!({"template": "shell"})).await;
    assert_eq!(session["lease"]["start"], "warm", "{session}");
    let events = alice.prompt(&session, "for word in one two three; do echo $word; done").await.rest().await;
    let kinds = events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>();
    assert!(matches!(kinds[..], ["turn.started", .., "turn.ended"]), "{kinds:?}");
    assert_gapless(&events, events[0].seq);
    assert_eq!(text(&events).split_whitespace().collect::<Vec<_>>(), ["one", "two", "three"]);

    // What Podman would add by itself: names of the host, and places that take files without end.
    assert_eq!(alice.ask(&session, "cat /etc/hosts").await.matches("localhost").count(), 2);
    let written =
        alice.ask(&session, "for place in /run /var/tmp /etc /; do touch $place/x && echo $place; done").await;
    assert!(!written.lines().any(|line| line.starts_with('/')), "{written}");
    assert_eq!(alice.ask(&session, "echo kept >~/file && cat ~/file").await.trim(), "kept");

    alice.close(&session).await;
    until("the used container is gone", Duration::from_secs(10), async || {
        let now = house.engine().containers(&house.instance).await;
        now.iter().all(|one| one.id != before[0].id).then_some(())
    })
    .await;
    check_tells_the_truth(&house).await;
    let cgroup = format!("greenroom-{}", house.instance);
    house.stop().await;
    let controllers = std::fs::read_dir("/sys/fs/cgroup").expect("control groups can be seen").flatten();
    for place in controllers.map(|entry| entry.path().join(&cgroup)) {
        assert!(!place.exists(), "{} is left", place.display());
    }
}

/// `greenroom check` names the engine, what holds in its sandboxes, and what it can't.
async fn check_tells_the_truth(house: &House) {
    let output = house.command(&["check", "--json"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} {said}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["engine"].as_str().is_some_and(|name| name.starts_with("Podman ")), "{report}");
    let verdict = |about: &str| {
        let row = report["rows"].as_array().expect("rows").iter().find(|row| row["about"] == about);
        row.unwrap_or_else(|| panic!("no row on {about}: {report}"))["verdict"].clone()
    };
    let held = ["capabilities", "seccomp filter", "forbidden calls", "network", "root file system", "other mounts"];
    for about in held.iter().chain(&["temporary files", "home", "user", "memory", "processes", "open files"]) {
        assert_eq!(verdict(about), "ok", "{about}: {report}");
    }
    assert_eq!(verdict("files in tmpfs"), "unavailable", "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_podman_every_end_of_a_sandbox_is_told_truthfully() {
    let Some((_service, engine)) = Service::start(&[BUSYBOX]).await else { return };
    let mut settings =
        Settings::new().shell().lines("greedy", BUSYBOX, &["sh", "-c", "read -r l; exec tail /dev/zero"]);
    for (limit, mib) in [("memory_mib", "64"), ("tmp_mib", "8"), ("home_mib", "8")] {
        settings = settings.set("templates.greedy.limits", limit, mib);
    }
    let house = House::start_on(Some(engine), settings.set("sandbox", "relink_timeout", "\"1h\"")).await;
    let alice = house.alice();

    let greedy = alice.open(json!({"template": "greedy"})).await;
    alice.prompt(&greedy, "eat").await.rest().await;
    let last = alice.events(&greedy, 0).await.rest().await.pop().expect("there are events");
    assert_eq!((last.kind.as_str(), &last.content["reason"]), ("session.ended", &json!("out_of_memory")), "{last:?}");

    for paused in [false, true] {
        house.stocked().await;
        let before = house.engine().containers(&house.instance).await;
        let shell = alice.open(json!({"template": "shell"})).await;
        let events = alice.events(&shell, 0).await;
        // Of those that are there now, the one that was there before is leased.
        let leased = before.iter().find(|one| one.labels.values().any(|value| value == "shell")).expect("one was warm");
        let engine = house.engine();
        if paused {
            engine.pause(&leased.id).await
        } else {
            engine.remove(&leased.id).await
        }
        let last = events.rest().await.pop().expect("there are events");
        assert_eq!(
            (last.kind.as_str(), &last.content["reason"]),
            ("session.ended", &json!("sandbox_lost")),
            "{last:?}"
        );
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_of_the_server_everything_goes_on_on_podman() {
    let Some((_service, engine)) = Service::start(&[BUSYBOX]).await else { return };
    let settings = Settings::new().shell().set("pool", "size", "2").set("sandbox", "orphan_grace", "\"60s\"");
    let mut house = House::start_on(Some(engine), settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    alice.ask(&session, "echo survived >/sandbox/workspace/file").await;
    house.stocked().await;
    let ids = async |house: &House| {
        let ours = house.engine().containers(&house.instance).await;
        ours.into_iter().map(|one| one.id).collect::<std::collections::BTreeSet<_>>()
    };
    let ours = ids(&house).await;

    house.crash().await;
    assert!(!house.engine().running(&house.instance).await.is_empty(), "the agents outlive the server for a while");
    house.launch().await;
    house.stocked().await;
    until("the same ones", Duration::from_secs(10), async || (ids(&house).await == ours).then_some(())).await;
    assert_eq!(alice.ask(&session, "cat /sandbox/workspace/file").await.trim(), "survived");
    alice.close(&session).await;
    let again = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    assert_eq!(alice.ask(&again, "cat /sandbox/workspace/file").await.trim(), "survived");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_outlives_the_podman_service() {
    let Some((mut service, engine)) = Service::start(&[BUSYBOX]).await else { return };
    let settings = Settings::new().shell().set("pool", "sweep", "\"1s\"").set("pool", "backoff_max", "\"1s\"");
    let house = House::start_on(Some(engine), settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;

    service.crash().await;
    until("/readyz says no", Duration::from_secs(20), async || {
        (house.visitor().get("/readyz").await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    assert_eq!(alice.ask(&session, "echo without an engine").await.trim(), "without an engine");

    service.launch().await;
    house.stocked().await;
    assert_eq!(alice.ask(&session, "echo with one").await.trim(), "with one");
    alice.close(&session).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_gemini_answers_on_podman() {
    let Some((_service, engine)) = Service::start(&[GEMINI]).await else { return };
    let house = House::start_on(Some(engine), Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    assert_eq!(session["lease"]["start"], "warm", "{session}");
    assert_eq!(alice.ask(&session, "[words:from a podman]").await, "from a podman");
    alice.close(&session).await;
    house.stop().await;
}
