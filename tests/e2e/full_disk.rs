//! A full disk: new work is refused, running agents are held back, and everything goes on by itself once there is room.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hyper::StatusCode;
use rustix::mount::{UnmountFlags, unmount};
use serde_json::json;

use crate::{
    client::{Client, id},
    engine::Engine,
    follower::{Follower, assert_counts, log},
    house::House,
    settings::Settings,
    wait::until,
};

/// Lines of a turn, one every 10 ms.
const LINES: usize = 700;

/// Deadline for the server to notice.
const NOTICED: Duration = Duration::from_secs(15);

/// A small disk of a test's own, where a server keeps its state.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts it here.
    fn mount(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("the folder can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=96m,mode=0711", "greenroom-test"]).arg(folder);
        let mounted = mount.status().expect("there is `mount`");
        assert!(mounted.success(), "the tests are run as root");
        Self { folder: folder.to_owned() }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut ballast = fs::File::options().create(true).append(true).open(self.ballast()).expect("there is room");
        for size in [64 * 1024, 1] {
            while ballast.write_all(&vec![7; size]).is_ok() {}
        }
    }

    /// Gives the room back.
    fn free(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = unmount(&self.folder, UnmountFlags::DETACH);
    }
}

async fn begin(client: &Client, session: &serde_json::Value, name: &str) -> String {
    let prompt = format!("for n in $(seq 1 {LINES}); do echo {name}-$n; sleep 0.01; done");
    let path = format!("/v1/sessions/{}/turns", id(session));
    id(&client.post(&path, &json!({ "prompt": prompt })).await.expect(StatusCode::ACCEPTED)).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_everything_up_and_loses_nothing() {
    let settings = Settings::new().shell().stock("shell", 2, 2).set("sandbox", "orphan_grace", "\"60s\"");
    // No sandbox can be written down as ready meanwhile; the stock isn't to pause for long after that.
    let settings = settings.set("pool", "backoff", "\"200ms\"").set("pool", "backoff_max", "\"1s\"");
    let mut house = House::prepare(Some(Engine::of_machine().await), settings).await;
    let disk = SmallDisk::mount(&house.state());
    house.launch().await;
    let alice = house.alice();
    let (busy, idle) = (alice.open(json!({"template": "shell"})).await, alice.open(json!({"template": "shell"})).await);
    let idle_path = format!("/v1/sessions/{}", id(&idle));
    let mut follower = Follower::of(&alice, &busy);
    let turn = begin(&alice, &busy, "first").await;
    follower.until(|event| event.content["text"].as_str().is_some_and(|said| said.contains("first-60"))).await;

    disk.fill();
    let refused = until("an open is refused", NOTICED, async || {
        let reply = alice.post("/v1/sessions", &json!({"template": "shell", "queue_timeout_s": 1})).await;
        (reply.json()["code"] == "STORE_UNAVAILABLE").then_some(reply)
    });
    refused.await.problem(503, "STORE_UNAVAILABLE");
    alice.post(&format!("{idle_path}/turns"), &json!({"prompt": "true"})).await.problem(503, "STORE_UNAVAILABLE");
    alice.patch(&idle_path, &json!({"labels": {"a": "b"}})).await.problem(503, "STORE_UNAVAILABLE");
    let unready = house.visitor().get("/readyz").await;
    assert_eq!(unready.status, StatusCode::SERVICE_UNAVAILABLE, "{}", unready.text());
    assert!(unready.text().contains("store"), "it says why: {}", unready.text());
    assert!(!unready.text().contains("/var/"), "and nothing of the house: {}", unready.text());
    assert_eq!(house.visitor().get("/healthz").await.status, StatusCode::OK);

    // Nothing new comes, and what is there can be read.
    let read = log(&alice, id(&busy)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(log(&alice, id(&busy)).await, read, "held back");
    assert!(house.runs());

    disk.free();
    let ready = async || (house.visitor().get("/readyz").await.status == StatusCode::OK).then_some(());
    until("the server is ready again", NOTICED, ready).await;
    assert_eq!(follower.turn(&turn).await.kind, "turn.ended");
    assert_counts(&follower.read, "first", LINES);
    follower.assert_is_log().await;
    assert_eq!(alice.ask(&idle, "echo well").await.trim(), "well");
    let fresh = alice.open(json!({"template": "shell"})).await;
    assert_eq!(alice.ask(&fresh, "echo new").await.trim(), "new");

    // Killed while there is no room: what was read by anybody is in the log, and the rest is still to come.
    let turn = begin(&alice, &busy, "second").await;
    follower.until(|event| event.content["text"].as_str().is_some_and(|said| said.contains("second-60"))).await;
    disk.fill();
    until("the server has noticed", NOTICED, async || {
        (house.visitor().get("/readyz").await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    house.crash().await;
    disk.free();
    house.launch().await;
    assert_eq!(follower.turn(&turn).await.kind, "turn.ended");
    assert_counts(&follower.read, "second", LINES);
    follower.assert_is_log().await;

    house.terminate();
    assert_eq!(house.ended().await.code(), Some(0));
    assert_eq!(house.engine().containers(&house.instance).await, []);
    drop(disk);
}
