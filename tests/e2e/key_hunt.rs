//! The user's key is nowhere but where it belongs: in the one header that the model gets.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;

use crate::{
    client::id,
    house::{House, model, model_that_repeats_keys},
    processes,
    secret::Canary,
    settings::Settings,
    wait::until,
};

/// How long a sandbox that was just made may take until its agent runs.
const STARTED: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_key_reaches_the_model_and_is_found_nowhere_else() {
    let canary = Canary::new();
    let settings = Settings::new().gemini(model(Some(&canary.key)).await).set("telemetry", "log", "\"trace\"");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini", "credential": {"api_key": canary.key}})).await;
    canary.assert_not_in("the session", session.to_string().as_bytes());

    // The stub lets nobody in without the key: an answer proves that the key was there.
    let mut events = alice.events(&session, 0).await;
    alice.prompt(&session, "[tool:list_directory path=.] [words:let in]").await.up_to("turn.ended").await;
    let seen = events.up_to("turn.ended").await;
    assert!(crate::stream::text(&seen).contains("let in"), "{seen:#?}");
    canary.assert_not_in("the events", format!("{seen:?}").as_bytes());

    let containers = house.engine().running(&house.instance).await;
    assert!(!containers.is_empty());
    for container in &containers {
        search_container(&house, container, &canary).await;
    }
    search_folder(&house.state(), &canary);
    for path in ["/v1/sessions", "/v1/pools", "/v1/me", "/v1/templates", &format!("/v1/sessions/{}", id(&session))] {
        canary.assert_not_in(path, &alice.get(path).await.body);
    }
    canary.assert_not_in("the metrics", &house.operator().get("/metrics").await.body);
    canary.assert_not_in("the log", &house.log());

    // A wrong key is told to the user without being repeated, and stays out of the log as well.
    let wrong = Canary::new();
    let other = alice.open(json!({"template": "gemini", "credential": {"api_key": wrong.key}})).await;
    let refused = alice.prompt(&other, "[words:never]").await.rest().await;
    assert_eq!(crate::stream::text(&refused), "");
    wrong.assert_not_in("the events", format!("{refused:?}").as_bytes());
    wrong.assert_not_in("the log", &house.log());
    alice.close(&session).await;
    search_folder(&house.state(), &canary);
    canary.assert_not_in("the log", &house.log());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_repeats_the_key_in_its_refusal_does_not_give_it_away() {
    let (own, shared) = (Canary::new(), Canary::new());
    let settings = Settings::new().gemini(model_that_repeats_keys().await).set("telemetry", "log", "\"trace\"");
    let house = House::start(settings.variable("GEMINI_API_KEY", &shared.key)).await;
    let alice = house.alice();
    for (canary, body) in [
        (&own, json!({"template": "gemini", "credential": {"api_key": own.key}})),
        (&shared, json!({"template": "gemini"})),
    ] {
        let session = alice.open(body).await;
        let mut events = alice.events(&session, 0).await;
        alice.prompt(&session, "[words:never]").await.rest().await;
        let seen = events.up_to("turn.failed").await;
        // Its user is told in our own words, the agent in the model's, but for the key.
        let told = format!("{seen:?}");
        assert!(told.contains("API_KEY_INVALID"), "{seen:#?}");
        canary.assert_not_in("the events", told.as_bytes());
        for container in &house.engine().running(&house.instance).await {
            search_container(&house, container, canary).await;
        }
        alice.close(&session).await;
        let path = format!("/v1/sessions/{}/events", id(&session));
        canary.assert_not_in("the events", &alice.get(&path).await.body);
        search_folder(&house.state(), canary);
        canary.assert_not_in("the log", &house.log());
    }
    let metrics = house.operator().get("/metrics").await.body;
    assert!(String::from_utf8_lossy(&metrics).contains("greenroom_gateway_requests_total{outcome=\"model_error\"} "));
    house.stop().await;
}

/// Everything of one container that can be seen from outside.
pub async fn search_container(house: &House, container: &str, canary: &Canary) {
    let engine = house.engine();
    let inspected = engine.inspect(container).await;
    canary.assert_not_in("docker inspect", format!("{inspected:?}").as_bytes());

    let init = engine.init(container).await.expect("the container runs");
    // One of the stock may be on its way.
    let all = until("there are a supervisor and an agent", STARTED, async || {
        let all = processes::beside(init);
        (all.len() >= 2).then_some(all)
    })
    .await;
    for pid in all {
        canary.assert_not_in("the environment or command line of a process", &processes::told(pid));
        let read = processes::memory(pid).map(|content| {
            canary.assert_not_in("the memory of a process", &content);
            content.len()
        });
        assert!(read.sum::<usize>() > 16 * 1024, "the memory of {pid} can't be read; are the tests run as root?");
    }

    // The image was made before the key. What differs from it lies in the mounts, for the root can't be written.
    let mounts = processes::mounts(init);
    for path in engine.changes(container).await {
        let seen = PathBuf::from(format!("/proc/{init}/root{path}"));
        let is_place = seen.is_dir() || mounts.contains(&seen);
        assert!(is_place, "{path} is in the container's own layer, and is no place for a mount");
    }
    assert!(mounts.iter().any(|mount| mount.ends_with("sandbox")), "no workspace in {mounts:?}");
    for mount in mounts {
        search_folder(&mount, canary);
    }
}

/// All files below a folder, or that file.
pub fn search_folder(folder: &Path, canary: &Canary) {
    for file in processes::files(folder) {
        let content = fs::read(&file).unwrap_or_default();
        canary.assert_not_in(&file.to_string_lossy(), &content);
    }
}
