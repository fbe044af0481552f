//! Files of a session's workspace over HTTP, beside an agent that means no good.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::{
    client::{Client, Reply, id},
    house::House,
    settings::{ALICE, Settings},
    wait::{until, within},
};

/// How long the agent and its user are at each other.
const RACE: Duration = Duration::from_secs(4);
const SOON: Duration = Duration::from_secs(20);

impl Client {
    async fn put(&self, session: &Value, path: &str, content: impl Into<Bytes>) -> Reply {
        self.call(Method::PUT, &below(session, path), &[], content.into()).await
    }

    async fn read(&self, session: &Value, path: &str) -> Reply {
        self.get(&below(session, path)).await
    }

    async fn remove(&self, session: &Value, path: &str) -> Reply {
        self.delete(&below(session, path)).await
    }

    async fn put_archive(&self, session: &Value, archive: impl Into<Bytes>) -> Reply {
        let path = format!("/v1/sessions/{}/archive", id(session));
        self.call(Method::PUT, &path, &[("content-type", "application/x-tar")], archive.into()).await
    }

    async fn get_archive(&self, session: &Value) -> Reply {
        self.get(&format!("/v1/sessions/{}/archive", id(session))).await
    }

    async fn workspaces(&self) -> Vec<Value> {
        self.get_json("/v1/workspaces").await["items"].as_array().expect("a list").clone()
    }
}

fn below(session: &Value, path: &str) -> String {
    format!("/v1/sessions/{}/files/{path}", id(session))
}

/// Where the server keeps the workspace of the only session.
fn workspace(house: &House) -> PathBuf {
    let slots = fs::read_dir(house.state().join("slots")).expect("there are slots");
    let leased = slots.map(|slot| slot.expect("read").path()).find(|slot| slot.join("belongs-to").is_symlink());
    leased.expect("a slot is leased").join("box/workspace")
}

/// Sends the first half of a file.
async fn begin_put(house: &House, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(house.address).await.expect("the server listens");
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ALICE}\r\ncontent-length: 1000000\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("sent");
    socket.write_all(&[b'x'; 500_000]).await.expect("sent");
    socket
}

/// How many files below a folder somebody has open that have no name.
fn open_without_a_name(folder: &Path) -> usize {
    let processes = fs::read_dir("/proc").expect("there").filter_map(|process| Some(process.ok()?.path().join("fd")));
    let open = processes.filter_map(|files| fs::read_dir(files).ok()).flatten();
    let open = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    open.filter(|file| file.starts_with(folder) && file.to_string_lossy().ends_with(" (deleted)")).count()
}

/// Folders in one another, as an agent could make them.
fn nest(top: &Path, depth: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut folder = openat(CWD, top, flags, Mode::empty()).expect("opened");
    for _ in 0..depth {
        mkdirat(&folder, "d", Mode::RWXU).expect("made");
        folder = openat(&folder, "d", flags, Mode::empty()).expect("opened");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_writes_the_agent_reads_and_the_other_way_round() {
    let house = House::start(Settings::new().shell().set("limits", "file_bytes", "1000000")).await;
    let (alice, bob) = (house.alice(), house.bob());
    let session = alice.open(json!({"template": "shell"})).await;

    let large: Bytes = (0..250_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into();
    assert_eq!(alice.put(&session, "in/large%20file", large.clone()).await.status, StatusCode::CREATED);
    assert_eq!(alice.put(&session, "in/large%20file", large.clone()).await.status, StatusCode::NO_CONTENT);
    let seen =
        alice.ask(&session, "cd /sandbox/workspace; wc -c <'in/large file'; stat -c '%u %a' in 'in/large file'").await;
    let uid = fs::metadata(workspace(&house)).expect("there").uid();
    assert_eq!(
        seen.split_whitespace().collect::<Vec<_>>(),
        ["1000000", &uid.to_string(), "755", &uid.to_string(), "644"]
    );
    alice
        .ask(&session, "cd /sandbox/workspace; cat 'in/large file' >out; rm -r in; mkdir dir; ln -s ../out dir/link")
        .await;
    let read = alice.read(&session, "dir/link").await;
    assert_eq!((read.status, read.header("content-length"), read.body == large), (StatusCode::OK, "1000000", true));
    assert_eq!(read.header("content-type"), "application/octet-stream");

    let root = alice.read(&session, "").await.expect(StatusCode::OK);
    assert_eq!(root["next_cursor"], json!(null));
    let names: Vec<_> = root["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| (item["name"].clone(), item["type"].clone()))
        .collect();
    assert_eq!(names, [(json!("dir"), json!("folder")), (json!("out"), json!("file"))]);
    let page = alice.read(&session, "?limit=1").await.expect(StatusCode::OK);
    let cursor = page["next_cursor"].as_str().expect("there is more");
    let next = alice.read(&session, &format!("?cursor={cursor}")).await.expect(StatusCode::OK);
    assert_eq!((&next["items"][0]["name"], &next["items"][0]["size"]), (&json!("out"), &json!(1_000_000)));

    alice.remove(&session, "dir").await.problem(409, "CONFLICT");
    assert_eq!(alice.remove(&session, "dir?recursive=true").await.status, StatusCode::NO_CONTENT);
    assert_eq!(alice.remove(&session, "out").await.status, StatusCode::NO_CONTENT);
    alice.remove(&session, "out").await.problem(404, "NOT_FOUND");
    alice.put(&session, "big", vec![0; 1_000_001]).await.problem(413, "PAYLOAD_TOO_LARGE");
    for bad in [
        "..",
        "../x",
        "a/../x",
        "%2e%2e/x",
        "a%2f..%2fx",
        "/etc/passwd",
        "a//b",
        "a/",
        "a%00b",
        "%ff",
        &"a/".repeat(2100),
    ] {
        alice.read(&session, bad).await.problem(400, "INVALID_REQUEST");
        alice.put(&session, bad, "x").await.problem(400, "INVALID_REQUEST");
        alice.remove(&session, bad).await.problem(400, "INVALID_REQUEST");
    }
    assert_eq!(alice.read(&session, "").await.json()["items"], json!([]));

    // Another user's session is like none at all; one that is over has no files any more.
    let nobodys = |reply: Reply| reply.problem(404, "NOT_FOUND")["detail"].clone();
    let none = json!({"id": "ses_00000000000000000000000000000000"});
    assert_eq!(nobodys(bob.read(&session, "out").await), nobodys(bob.read(&none, "out").await));
    assert_eq!(nobodys(bob.put(&session, "out", "x").await), nobodys(bob.put(&none, "out", "x").await));
    assert_eq!(nobodys(bob.get_archive(&session).await), nobodys(bob.get_archive(&none).await));
    alice.close(&session).await;
    alice.read(&session, "out").await.problem(409, "SESSION_ENDED");
    alice.put(&session, "out", "x").await.problem(409, "SESSION_ENDED");
    alice.put_archive(&session, "x").await.problem(409, "SESSION_ENDED");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_goes_out_and_in_as_an_archive() {
    let settings =
        Settings::new().shell().set("limits", "archive_bytes", "5000000").set("limits", "archive_entries", "100");
    let house = House::start(settings).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "workspace": "from"})).await;
    alice
        .ask(
            &session,
            "cd /sandbox/workspace; mkdir -p a/b; echo text >a/b/file; ln -s ../a/b/file a/link; ln -s /etc/passwd out; mkfifo pipe; \
             echo 'echo runs' >script; chmod +x script; dd if=/dev/zero of=large bs=1M count=2 2>/dev/null; mkdir empty",
        )
        .await;
    let archive = alice.get_archive(&session).await;
    assert_eq!((archive.status, archive.header("content-type")), (StatusCode::OK, "application/x-tar"));
    alice.close(&session).await;

    let session = alice.open(json!({"template": "shell", "workspace": "to"})).await;
    assert_eq!(alice.put_archive(&session, archive.body.clone()).await.status, StatusCode::NO_CONTENT);
    let seen = alice
        .ask(
            &session,
            "cd /sandbox/workspace; ls; cat a/link; ./script; wc -c <large; tar c . | tar t >/dev/null && echo whole",
        )
        .await;
    assert_eq!(
        seen.split_whitespace().collect::<Vec<_>>(),
        ["a", "empty", "large", "script", "text", "runs", "2097152", "whole"]
    );
    // An archive that the agent's own tar made comes back too.
    alice.ask(&session, "cd /sandbox/workspace; tar cf /tmp/own.tar a script; mv /tmp/own.tar own.tar").await;
    let own = alice.read(&session, "own.tar").await.body;
    assert_eq!(alice.put_archive(&session, own).await.status, StatusCode::NO_CONTENT);

    alice.put_archive(&session, "no tar at all").await.problem(400, "INVALID_REQUEST");
    alice.put_archive(&session, vec![0; 5_000_001]).await.problem(413, "PAYLOAD_TOO_LARGE");
    let path = format!("/v1/sessions/{}/archive", id(&session));
    let zipped =
        alice.call(Method::PUT, &path, &[("content-type", "application/gzip")], Bytes::from_static(b"x")).await;
    zipped.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    alice.ask(&session, "cd /sandbox/workspace; truncate -s 1000G huge").await;
    alice.get_archive(&session).await.problem(413, "PAYLOAD_TOO_LARGE");
    alice.ask(&session, "cd /sandbox/workspace; rm huge; for n in $(seq 200); do : >f$n; done").await;
    alice.get_archive(&session).await.problem(413, "PAYLOAD_TOO_LARGE");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workspaces_are_listed_and_removed_however_deep_they_are() {
    let mut house = House::start(Settings::new().shell().set("pool", "size", "2")).await;
    let (alice, bob) = (house.alice(), house.bob());
    let deep = alice.open(json!({"template": "shell", "workspace": "deep"})).await;
    nest(&workspace(&house), 10_000);
    let kept = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    let listed = alice.workspaces().await;
    let seen: Vec<_> = listed.iter().map(|one| (one["name"].clone(), one["session"].clone())).collect();
    assert_eq!(seen, [(json!("deep"), deep["id"].clone()), (json!("kept"), kept["id"].clone())]);
    alice.delete("/v1/workspaces/deep").await.problem(409, "WORKSPACE_IN_USE");
    bob.delete("/v1/workspaces/deep").await.problem(404, "NOT_FOUND");
    assert_eq!(bob.workspaces().await, Vec::<Value>::new());
    alice.close(&deep).await;
    assert_eq!(alice.workspaces().await[0]["session"], json!(null));
    assert_eq!(alice.delete("/v1/workspaces/deep").await.status, StatusCode::NO_CONTENT);
    for gone in ["deep", "never", "..", "A", "a%2fb"] {
        alice.delete(&format!("/v1/workspaces/{gone}")).await.problem(404, "NOT_FOUND");
    }
    assert_eq!(alice.workspaces().await.len(), 1);
    let again = alice.open(json!({"template": "shell", "workspace": "deep"})).await;
    assert_eq!(alice.ask(&again, "ls -A /sandbox/workspace").await.trim(), "", "it is a new one");

    // A server that is killed before it came to its trash leaves that to the next.
    house.crash().await;
    house.launch().await;
    let trash = house.state().join("trash");
    let empty = async || (fs::read_dir(&trash).expect("there").count() == 0).then_some(());
    until("the trash is empty", Duration::from_secs(120), empty).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_swaps_folders_for_links_gets_nothing_outside_touched() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let workspace = workspace(&house);
    let outside = workspace.parent().expect("a box").join("outside");
    fs::create_dir(&outside).expect("made");
    fs::write(outside.join("canary"), "sings").expect("written");
    let canary = fs::metadata(outside.join("canary")).expect("there");

    let race = "cd /sandbox/workspace; mkdir real; echo inside >real/file; mkfifo pipe; \
        (while :; do rm -rf dir; ln -sfn ../outside dir; ln -sfn real dir; ln -sfn /sandbox/outside fresh; rm -f fresh; \
        mv fresh was; rm -rf was; mv real moved; mv moved real; done) >/dev/null 2>&1 & echo begun";
    assert_eq!(alice.ask(&session, race).await.trim(), "begun");
    let (begun, mut read, mut refused) = (Instant::now(), 0, 0);
    while begun.elapsed() < RACE {
        let reply = alice.read(&session, "dir/file").await;
        match reply.status.as_u16() {
            200 => {
                assert_eq!(reply.text(), "inside\n");
                read += 1;
            }
            400 | 404 | 409 => refused += 1,
            _ => panic!("{reply:?}"),
        }
        for path in ["dir/canary", "dir/../../outside/canary", "fresh/canary"] {
            let reply = alice.read(&session, path).await;
            assert!(reply.status.is_client_error(), "{reply:?}");
        }
        for path in ["dir/new", "fresh/new", "fresh/deeper/new"] {
            let reply = alice.put(&session, path, "x").await;
            assert!(!reply.status.is_server_error(), "{reply:?}");
        }
        for path in ["dir/canary", "fresh?recursive=true"] {
            let reply = alice.remove(&session, path).await;
            assert!(!reply.status.is_server_error(), "{reply:?}");
        }
        let archive = alice.get_archive(&session).await;
        assert!(!archive.body.windows(5).any(|bytes| bytes == b"sings"), "the outside was packed");
        within("a pipe is refused", SOON, alice.read(&session, "pipe")).await.problem(400, "INVALID_REQUEST");
        alice.put(&session, "pipe", "x").await.problem(400, "INVALID_REQUEST");
        assert_eq!(fs::read_dir(&outside).expect("there").count(), 1, "something was written outside");
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused: the two never met");
    let after = fs::metadata(outside.join("canary")).expect("there");
    assert_eq!((canary.uid(), canary.mode(), canary.mtime()), (after.uid(), after.mode(), after.mtime()));
    assert_eq!(fs::read_to_string(outside.join("canary")).expect("there"), "sings");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_no_half_file_and_the_next_one_has_the_whole_ones() {
    let mut house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    assert_eq!(alice.put(&session, "dir/file", "whole").await.status, StatusCode::CREATED);
    let mut socket = begin_put(&house, &below(&session, "dir/half")).await;
    let begun = async || (open_without_a_name(&workspace(&house)) > 0).then_some(());
    until("the half file is being written", SOON, begun).await;
    house.crash().await;
    let _reset = socket.shutdown().await;
    house.launch().await;

    assert_eq!(alice.read(&session, "dir/file").await.text(), "whole");
    assert_eq!(alice.ask(&session, "ls -A /sandbox/workspace/dir").await.trim(), "file");
    assert_eq!(alice.put(&session, "dir/file", "new").await.status, StatusCode::NO_CONTENT);
    assert_eq!(alice.workspaces().await[0]["session"], session["id"]);
    alice.close(&session).await;
    alice.read(&session, "dir/file").await.problem(409, "SESSION_ENDED");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_who_hangs_up_leaves_no_half_file() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    alice.put(&session, "file", "old").await;
    for path in [below(&session, "file"), below(&session, "new"), format!("/v1/sessions/{}/archive", id(&session))] {
        let mut socket = begin_put(&house, &path).await;
        socket.shutdown().await.expect("said");
        let mut answer = Vec::new();
        let _reset = within("the server is done with it", SOON, socket.read_to_end(&mut answer)).await;
    }
    assert_eq!(alice.ask(&session, "ls -A /sandbox/workspace").await.trim(), "file");
    assert_eq!(alice.read(&session, "file").await.text(), "old");

    // Who goes in the middle of a large answer ends it, and the session goes on.
    alice.ask(&session, "truncate -s 100G /sandbox/workspace/huge").await;
    for _ in 0..100 {
        let response = alice.send(Method::GET, &below(&session, "huge"), &[], Bytes::new()).await;
        assert_eq!(response.headers()["content-length"], (100_u64 << 30).to_string());
    }
    let free = async || (alice.read(&session, "file").await.status == StatusCode::OK).then_some(());
    until("the streams are given back", SOON, free).await;

    // Calls under way are cut when the session's workspace goes home.
    let mut response = alice.send(Method::GET, &below(&session, "huge"), &[], Bytes::new()).await;
    alice.close(&session).await;
    let cut = async {
        use http_body_util::BodyExt as _;
        while let Some(frame) = response.frame().await {
            if frame.is_err() {
                return true;
            }
        }
        false
    };
    assert!(within("the answer breaks off", SOON, cut).await, "half a file was sent for the whole");
    house.stop().await;
}
