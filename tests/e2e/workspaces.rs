//! Named folders that outlive sandboxes, one session at a time.

use hyper::StatusCode;
use serde_json::json;

use crate::{
    client::Reply,
    house::{House, model},
    settings::Settings,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_workspace_survives_its_sessions_and_is_held_by_one() {
    let house = House::start(Settings::new().shell().set("pool", "size", "2")).await;
    let (alice, bob) = (house.alice(), house.bob());
    let wish = json!({"template": "shell", "workspace": "my-notes_2.old"});

    let first = alice.open(wish.clone()).await;
    assert_eq!(first["workspace"], "my-notes_2.old");
    alice.ask(&first, "mkdir -p /sandbox/workspace/deep && echo kept >/sandbox/workspace/deep/file").await;
    let refused = alice.post("/v1/sessions", &wish).await;
    refused.problem(409, "WORKSPACE_IN_USE");

    // Another user's folder of the same name is another folder.
    let bobs = bob.open(wish.clone()).await;
    assert_eq!(bob.ask(&bobs, "ls -A /sandbox/workspace").await.trim(), "");
    bob.close(&bobs).await;
    alice.close(&first).await;

    for _ in 0..3 {
        let again = alice.open(wish.clone()).await;
        assert_eq!(alice.ask(&again, "cat /sandbox/workspace/deep/file").await.trim(), "kept");
        alice.close(&again).await;
    }

    // Links in a workspace lead nowhere: it is moved, never walked.
    let again = alice.open(wish.clone()).await;
    alice.ask(&again, "ln -s /etc/passwd /sandbox/workspace/passwd; ln -s / /sandbox/workspace/root").await;
    alice.close(&again).await;
    let again = alice.open(wish.clone()).await;
    assert_eq!(alice.ask(&again, "readlink /sandbox/workspace/root").await.trim(), "/");
    alice.close(&again).await;

    for name in ["", ".", "..", "a/b", "../a", "-a", "_a", "A", "a b", "é", &"a".repeat(65)] {
        let reply = alice.post("/v1/sessions", &json!({"template": "shell", "workspace": name})).await;
        reply.problem(400, "INVALID_REQUEST");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_cannot_be_swapped_for_something_else() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let wish = json!({"template": "shell", "workspace": "swapped"});
    let session = alice.open(wish.clone()).await;
    alice.ask(&session, "echo mine >/sandbox/workspace/file; chmod 000 /sandbox/workspace").await;
    alice
        .ask(&session, "mv /sandbox/workspace /sandbox/away; rm -rf /sandbox/workspace; ln -s /etc /sandbox/workspace")
        .await;
    alice.close(&session).await;

    // Whatever became of it: it can be opened again, and is a folder in which one can write.
    let again = alice.open(wish).await;
    let kind = alice.ask(&again, "[ -d /sandbox/workspace ] && [ ! -L /sandbox/workspace ] && echo folder").await;
    assert_eq!(kind.trim(), "folder");
    alice.ask(&again, "chmod 755 /sandbox/workspace").await;
    assert_eq!(alice.ask(&again, "cat /sandbox/workspace/file").await.trim(), "mine");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_one_workspace_at_once_one_gets_it() {
    let settings = Settings::new().shell().set("pool", "size", "4").set("limits", "waiting", "16");
    let house = House::start(settings).await;
    let alice = house.alice();
    let wish = json!({"template": "shell", "workspace": "wanted"});
    let open = || alice.post("/v1/sessions", &wish);
    let (one, two, three, four) = tokio::join!(open(), open(), open(), open());
    let (won, lost): (Vec<Reply>, Vec<Reply>) =
        [one, two, three, four].into_iter().partition(|reply| reply.status == StatusCode::CREATED);
    assert_eq!(won.len(), 1, "{lost:?}");
    for reply in lost {
        reply.problem(409, "WORKSPACE_IN_USE");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gemini_moves_into_a_kept_workspace_without_being_booted_again() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let alice = house.alice();
    for reason in [json!(null), json!("workspace"), json!("workspace")] {
        house.stocked().await;
        let session = alice.open(json!({"template": "gemini", "workspace": "project"})).await;
        // What is there already needs a new agent session, hence not quite warm; booting would take a second and more.
        assert_eq!(session["lease"]["reason"], reason, "{session}");
        assert!(session["lease"]["total_ms"].as_f64().is_some_and(|taken| taken < 700.0), "{session}");
        assert_eq!(alice.ask(&session, "[words:ready to work]").await, "ready to work");
        alice.close(&session).await;
    }
    house.stop().await;
}
