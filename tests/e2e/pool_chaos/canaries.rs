//! What one user leaves behind, wherever it can be left, nobody ever finds.
//!
//! Every tenth lease is alice's. She writes a mark into every folder that lets her, into a segment of shared memory, and into the arguments
//! of processes in the background, and goes. In each of the other leases a user looks everywhere for any such mark. In `make test` there are 100
//! looks, about 20 s of two processors; in `make chaos` there are 500.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    client::Client,
    house::House,
    pools::{at_rest, no_orphans},
    settings::Settings,
};

/// Leases under way at the same time.
const AT_ONCE: usize = 6;

/// Leaves the mark wherever it can be left, and says where. The second line: processes, one with a pipe and a port of its own.
const LEAVE: &str = concat!(
    r#"for d in $(find / -type d ! -path '/proc/*' ! -path '/sys/*' 2>/dev/null); do f=$d/canary-file; "#,
    r#"(echo canary-bird >$f) 2>/dev/null && echo "$d, "; done; "#,
    "(setsid sh -c 'sleep 300; : canary-process' >/dev/null 2>&1 &); ",
    "(setsid sh -c 'nc -l -p 4444 127.0.0.1 >/tmp/canary-heard; : canary-listener' >/dev/null 2>&1 &); ",
    "mkfifo /tmp/canary-pipe; ln -s / $HOME/canary-link"
);

/// Looks for marks: names of files, their contents, processes, ports, and says what it looked at. Its own words are no marks.
const LOOK: &str = concat!(
    r#"m='[c]anary-'; find / ! -path '/proc/*' ! -path '/sys/*' 2>/dev/null | grep "$m"; "#,
    r#"find / -type f ! -path '/proc/*' ! -path '/sys/*' ! -path '/bin/*' 2>/dev/null | xargs grep -l "$m" 2>/dev/null; "#,
    r#"for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline | grep "$m"; done 2>/dev/null; "#,
    "grep -i ':115C ' /proc/net/tcp; tail -n +2 /proc/sysvipc/shm; ls /dev/mqueue; ",
    "echo looked at $(ls -d /proc/[0-9]* | wc -l) processes"
);

/// The same marks where the image has a tool for segments of shared memory and message queues.
const LEAVE_SEGMENTS: &str =
    "ipcmk -M 4096 -p 666; ipcmk -Q -p 666; ipcmk -S 1 -p 666; echo canary-shm >/dev/shm/canary";
const LOOK_FOR_SEGMENTS: &str =
    "cat /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem | grep -v key; ls -A /dev/shm; echo looked";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_leaves_is_not_found_in_a_hundred_later_leases() {
    nothing_is_found_in(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes more than a minute; `make chaos` runs it"]
async fn what_a_user_leaves_is_not_found_in_five_hundred_later_leases() {
    nothing_is_found_in(500).await;
}

async fn nothing_is_found_in(looks: usize) {
    let settings = Settings::new().unlimited().shell().stock("shell", 4, 4);
    let house = House::start(settings.set("pool", "cap", "8").set("runtime", "start_limit", "4")).await;
    let (begun, next) = (Instant::now(), Arc::<AtomicUsize>::default());
    let total = looks + looks / 10;
    let workers = (0..AT_ONCE).map(|_| {
        let (alice, bob, next) = (house.alice(), house.bob(), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                match next.fetch_add(1, Ordering::Relaxed) {
                    number if number >= total => return,
                    number if number % 11 == 0 => leave(&alice).await,
                    _ => look(&bob).await,
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("nobody finds anything");
    }
    println!("canaries: {looks} looks, nothing found, {:.1} s", begun.elapsed().as_secs_f64());
    at_rest(&house, "shell").await;
    no_orphans(&house).await;
    house.stop().await;
}

async fn leave(alice: &Client) {
    let session = alice.open(json!({"template": "shell", "queue_timeout_s": 40})).await;
    let places = alice.ask(&session, LEAVE).await;
    for place in ["/tmp", "/home/agent", "/sandbox/workspace", "/dev/shm"] {
        assert!(places.contains(&format!("{place},")), "no mark could be left in {place}: {places}");
    }
    // She would find it herself: the search works.
    let found = alice.ask(&session, LOOK).await;
    for mark in ["/tmp/canary-file", "canary-process", "canary-pipe", "canary-link"] {
        assert!(found.contains(mark), "the search misses {mark}: {found}");
    }
    alice.close(&session).await;
}

async fn look(bob: &Client) {
    let session = bob.open(json!({"template": "shell", "queue_timeout_s": 40})).await;
    let found = bob.ask(&session, LOOK).await;
    let found = found.trim();
    assert!(found.starts_with("looked at ") && found.ends_with(" processes"), "somebody left something: {found}");
    bob.close(&session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_of_shared_memory_end_with_their_lease() {
    let house = House::start(Settings::new().unlimited().shell_with_node().stock("shell", 2, 2)).await;
    let (alice, bob) = (house.alice(), house.bob());
    for _ in 0..3 {
        let session = alice.open(json!({"template": "shell"})).await;
        alice.ask(&session, LEAVE_SEGMENTS).await;
        let found = alice.ask(&session, LOOK_FOR_SEGMENTS).await;
        assert!(found.contains("canary") && found.matches(" 666 ").count() >= 3, "the search works: {found}");
        alice.close(&session).await;
        for _ in 0..3 {
            let session = bob.open(json!({"template": "shell"})).await;
            assert_eq!(bob.ask(&session, LOOK_FOR_SEGMENTS).await.trim(), "looked");
            bob.close(&session).await;
        }
    }
    at_rest_within_a_minute(&house).await;
    house.stop().await;
}

async fn at_rest_within_a_minute(house: &House) {
    crate::pools::at_rest_within(house, "shell", Duration::from_secs(60)).await;
}
