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
    pools::{at_rest, at_rest_within, no_orphans, tell},
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
    "mkfifo /tmp/canary-pipe; ln -s / $HOME/canary-link; ",
    "until cat /proc/[0-9]*/cmdline | grep -q '[c]anary-process'; do sleep 0.05; done"
);

/// Looks for marks: names of files, their contents, processes, ports, and says what it looked at. Its own words are no marks.
const LOOK: &str = concat!(
    "find / -path /proc -prune -o -path /sys -prune -o -name '*[c]anary-*' -print 2>/dev/null; ",
    // Regular files only: a pipe that somebody left would never answer.
    "find /tmp /home /sandbox /dev/shm -type f -exec grep -l '[c]anary-' {} + 2>/dev/null; ",
    r"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -o '[c]anary-[a-z]*'; ",
    "grep -i ':115C ' /proc/net/tcp; tail -n +2 /proc/sysvipc/shm; ls /dev/mqueue; ",
    "set -- /proc/[0-9]*; echo looked at $# processes"
);

/// What System V has for sharing memory, where the image has a tool for it. The sandbox's system-call filter refuses it at present.
const LEAVE_SEGMENTS: &str = "ipcmk -M 4096 -p 666; ipcmk -Q -p 666; ipcmk -S 1 -p 666; echo canary >/dev/shm/canary";
const LOOK_FOR_SEGMENTS: &str =
    "cat /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem | grep -v key; ls -A /dev/shm";

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
    tell(&format!("canaries: {looks} looks, nothing found, {:.1} s", begun.elapsed().as_secs_f64()));
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
async fn shared_memory_ends_with_its_lease() {
    let house = House::start(Settings::new().unlimited().shell_with_node().stock("shell", 2, 2)).await;
    let (alice, bob) = (house.alice(), house.bob());
    for _ in 0..2 {
        let session = alice.open(json!({"template": "shell"})).await;
        alice.ask(&session, LEAVE_SEGMENTS).await;
        assert_eq!(
            alice.ask(&session, LOOK_FOR_SEGMENTS).await.trim(),
            "canary",
            "segments can be made now: look for them"
        );
        alice.close(&session).await;
        for _ in 0..3 {
            let session = bob.open(json!({"template": "shell"})).await;
            assert_eq!(bob.ask(&session, LOOK_FOR_SEGMENTS).await.trim(), "");
            bob.close(&session).await;
        }
    }
    at_rest_within(&house, "shell", Duration::from_secs(60)).await;
    house.stop().await;
}
