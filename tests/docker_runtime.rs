//! The container runtime against the real engine. Needs an engine and `greenroom/busybox:test` (`scripts/test-image`); without
//! them these tests fail, they are never skipped.

mod docker_runtime {
    pub mod bench;
    pub mod proxy;
}

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use docker_runtime::{
    bench::{Bench, docker, until},
    proxy::{Proxy, Withhold},
};
use futures_util::StreamExt as _;
use greenroom::{
    ids::SlotId,
    runtime::{BoxState, ContainerId, EngineEvent, EventKind, Runtime as _, RuntimeError},
    sandbox::spec::{Limits, SandboxSpec},
};
use tokio::time::timeout;

#[tokio::test]
async fn the_engine_applies_everything_that_was_asked() {
    let bench = Bench::new();
    let spec = bench.spec("sleep 60").await;
    let container = bench.runtime.create(&spec).await.expect("made");
    assert_eq!(bench.runtime.verify(&container, &spec).await.expect("compared"), Vec::<String>::new());
    bench.runtime.start(&container).await.expect("started");
    assert_eq!(bench.runtime.verify(&container, &spec).await.expect("compared"), Vec::<String>::new());
}

#[tokio::test]
async fn a_weaker_container_is_told_apart() {
    let bench = Bench::new();
    let spec = bench.spec("sleep 60").await;
    let container = bench.runtime.create(&spec).await.expect("made");
    let asked = SandboxSpec { limits: Limits { memory_mib: 64, ..spec.limits.clone() }, ..spec };
    let lines = bench.runtime.verify(&container, &asked).await.expect("compared");
    assert!(lines.iter().any(|line| line.starts_with("Memory:")), "{lines:?}");
}

#[tokio::test]
async fn from_inside_nothing_can_be_reached_or_changed_but_the_sandboxs_own() {
    let bench = Bench::new();
    let script = r#"
        echo $(id -u) $(id -g) $(id -G)
        echo pid $$
        grep -E "^(Cap|NoNewPrivs|Seccomp:)" /proc/self/status | tr "\t" " "
        echo networks: $(ls /sys/class/net)
        touch /x 2>&1 | sed "s/.*: //"
        echo writable: $(awk '{ print $2 }' /proc/mounts | sort -u | while read place; do
            [ -d $place ] && touch $place/x && echo $place; done 2>/dev/null)
        echo tmpfs: $(grep -cE "^[^ ]+ (/tmp|/home/agent) tmpfs .*nosuid,nodev" /proc/mounts)
        echo $(ulimit -n) $(ulimit -c) $(ulimit -l)
        cat /proc/self/oom_score_adj
        unshare -U true 2>&1 | sed "s/.*: //"
        mount -t tmpfs x /tmp 2>&1 | sed "s/.*: //"
        echo engine sockets: $(ls /var/run/docker.sock /run/docker.sock 2>/dev/null | wc -l)
    "#;
    let told = bench.told(script).await;
    let nothing = "0000000000000000";
    let expected = [
        "10001 10001 10001",
        "pid 1",
        &format!("CapInh: {nothing}"),
        &format!("CapPrm: {nothing}"),
        &format!("CapEff: {nothing}"),
        &format!("CapBnd: {nothing}"),
        &format!("CapAmb: {nothing}"),
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "networks: lo",
        "Read-only file system",
        "writable: /dev/mqueue /dev/shm /home/agent /sandbox /tmp",
        "tmpfs: 2",
        "4096 0 64",
        "500",
        "Operation not permitted",
        "permission denied (are you root?)",
        "engine sockets: 0",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_fork_bomb_stays_within_its_sandbox() {
    let bench = Bench::new();
    let mut spec = bench
        .spec("for n in $(seq 100); do sleep 60 & done 2>&1 | head -1 > /sandbox/part; exec mv /sandbox/part /sandbox/told")
        .await;
    spec.limits.pids = 32;
    let container = bench.runtime.create(&spec).await.expect("made");
    let _may_have_ended_already = bench.runtime.start(&container).await;
    let told = bench.wait_told(&spec).await;
    assert!(told.contains("can't fork"), "{told}");
}

#[tokio::test]
async fn only_containers_with_every_label_are_ours() {
    let bench = Bench::new();
    let spec = bench.spec("sleep 60").await;
    let ours = bench.runtime.create(&spec).await.expect("made");
    let instance = bench.instance.as_str();
    let look_alike = |name: &str, labels: &[String]| {
        let name = format!("greenroom-{instance}-{name}");
        let labels = labels.iter().flat_map(|label| ["--label", label.as_str()]);
        let arguments =
            ["create", "--name", name.as_str()].into_iter().chain(labels).chain(["greenroom/busybox:test", "true"]);
        docker(&arguments.collect::<Vec<_>>());
        name
    };
    let strangers = [
        look_alike("name-only", &[]),
        look_alike("longer", &[format!("greenroom.instance={instance}2")]),
        look_alike("incomplete", &[format!("greenroom.instance={instance}")]),
    ];
    let found = bench.runtime.list().await.expect("listed");
    let kept: Vec<String> =
        strangers.iter().map(|name| docker(&["inspect", "--format", "{{.State.Status}}", name])).collect();
    for name in &strangers {
        docker(&["rm", name]);
    }
    assert_eq!(found.iter().map(|found| &found.container).collect::<Vec<_>>(), [&ours]);
    assert_eq!((&found[0].slot, &found[0].epoch, &found[0].template), (&spec.slot, &spec.epoch, &spec.template));
    assert_eq!(kept, ["created\n"; 3]);
}

#[tokio::test]
async fn a_container_is_listed_in_every_state() {
    let bench = Bench::new();
    let (created, running, ended) =
        (bench.spec("true").await, bench.spec("sleep 60").await, bench.spec("exit 7").await);
    let paused = bench.spec("sleep 60").await;
    bench.runtime.create(&created).await.expect("made");
    bench.start(&running).await;
    docker(&["pause", &bench.start(&paused).await.0]);
    let ended_container = bench.runtime.create(&ended).await.expect("made");
    let _may_have_ended_already = bench.runtime.start(&ended_container).await;
    until("it ends", || async {
        bench.runtime.post_mortem(&ended_container).await.ok().flatten().is_some_and(|end| end.exit_code == Some(7))
    })
    .await;
    let mut found: Vec<(SlotId, BoxState)> =
        bench.runtime.list().await.expect("listed").into_iter().map(|found| (found.slot, found.state)).collect();
    let mut expected = vec![
        (created.slot, BoxState::Created),
        (running.slot, BoxState::Running),
        (paused.slot, BoxState::Paused),
        (ended.slot, BoxState::Ended),
    ];
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_first_process_of_what_runs_is_found_again_and_of_nothing_else() {
    let bench = Bench::new();
    let spec = bench.spec("sleep 60").await;
    let container = bench.runtime.create(&spec).await.expect("made");
    let init = async || bench.runtime.init_of(&container).await.expect("asked");
    assert_eq!(init().await, None);
    let started = bench.runtime.start(&container).await.expect("started");
    assert_eq!(init().await, Some(started));
    docker(&["pause", &container.0]);
    assert_eq!(init().await, None);
    docker(&["unpause", &container.0]);
    docker(&["kill", &container.0]);
    assert_eq!(init().await, None);
    bench.runtime.remove(&container).await.expect("removed");
    assert_eq!(init().await, None);
}

#[tokio::test]
async fn an_image_that_is_not_there_is_told_and_leaves_nothing() {
    let bench = Bench::new();
    let error = bench.runtime.resolve_image("greenroom/no-such-image:test").await.expect_err("not there");
    assert!(matches!(&error, RuntimeError::NoImage { image } if image == "greenroom/no-such-image:test"), "{error}");
    let mut spec = bench.spec("true").await;
    spec.image = format!("sha256:{}", "0".repeat(64));
    let error = bench.runtime.create(&spec).await.expect_err("not there");
    assert!(matches!(error, RuntimeError::NoImage { .. }), "{error}");
    assert!(bench.runtime.list().await.expect("listed").is_empty());
}

#[tokio::test]
async fn a_program_that_cannot_start_is_refused_in_the_engines_words() {
    let bench = Bench::new();
    let mut spec = bench.spec("true").await;
    spec.supervisor = spec.box_dir.clone();
    let container = bench.runtime.create(&spec).await.expect("made");
    let error = bench.runtime.start(&container).await.expect_err("a folder can't run");
    assert!(matches!(error, RuntimeError::Refused { call: "start", .. }), "{error}");
    assert_eq!(bench.runtime.list().await.expect("listed").len(), 1, "it is still there to be removed");
}

#[tokio::test]
async fn removing_is_a_success_however_often_and_in_whatever_state() {
    let bench = Bench::new();
    let created = bench.runtime.create(&bench.spec("true").await).await.expect("made");
    bench.runtime.remove(&created).await.expect("removed");
    bench.runtime.remove(&created).await.expect("gone already");
    bench.runtime.remove(&ContainerId("0".repeat(64))).await.expect("never was");

    let running = bench.start(&bench.spec("sleep 60").await).await;
    let (one, two, three) =
        tokio::join!(bench.runtime.remove(&running), bench.runtime.remove(&running), bench.runtime.remove(&running));
    assert!(one.is_ok() && two.is_ok() && three.is_ok(), "{one:?} {two:?} {three:?}");
    assert!(bench.runtime.list().await.expect("listed").is_empty());
    assert!(bench.runtime.post_mortem(&running).await.expect("asked").is_none());

    let paused = bench.start(&bench.spec("sleep 60").await).await;
    docker(&["pause", &paused.0]);
    bench.runtime.remove(&paused).await.expect("removed, frozen as it is");
    assert!(bench.runtime.list().await.expect("listed").is_empty());
}

#[tokio::test]
async fn what_happens_to_our_containers_is_told_in_moments_and_what_happens_to_others_is_not() {
    let (bench, other) = (Bench::new(), Bench::new());
    let spec = bench.spec("sleep 60").await;
    let container = bench.start(&spec).await;
    let stranger = other.start(&other.spec("sleep 60").await).await;
    let mut events = bench.runtime.events().await.expect("asked");
    for id in [&stranger, &container] {
        docker(&["pause", &id.0]);
    }
    let paused = Instant::now();
    let mut next =
        async || timeout(Duration::from_secs(20), events.next()).await.expect("in time").expect("the stream goes on");
    let told = |kind| EngineEvent { slot: spec.slot.clone(), kind };
    assert_eq!(next().await, told(EventKind::Paused));
    assert!(paused.elapsed() < Duration::from_secs(1), "{:?}", paused.elapsed());
    docker(&["unpause", &container.0]);
    assert_eq!(next().await, told(EventKind::Resumed));
    docker(&["rm", "--force", &stranger.0, &container.0]);
    for kind in [EventKind::Signalled, EventKind::Died, EventKind::Removed] {
        assert_eq!(next().await, told(kind));
    }
}

#[tokio::test]
async fn a_lack_of_memory_is_told_while_it_happens() {
    let bench = Bench::new();
    let mut spec = bench.spec("tail /dev/zero; sleep 60").await;
    spec.limits = Limits { memory_mib: 24, tmp_mib: 4, home_mib: 4, ..spec.limits };
    let mut events = bench.runtime.events().await.expect("asked");
    bench.start(&spec).await;
    let told = timeout(Duration::from_secs(20), events.next()).await.expect("in time");
    assert_eq!(told, Some(EngineEvent { slot: spec.slot, kind: EventKind::OutOfMemory }));
}

#[tokio::test]
async fn the_events_end_with_the_connection_and_an_engine_that_is_away_is_told() {
    let bench = Bench::new();
    let proxy = Proxy::start(bench.folder.path(), Withhold::Nothing).await;
    let runtime = bench.runtime_at(&proxy.address(), |_| ());
    let mut events = runtime.events().await.expect("asked");
    let mut last = std::pin::pin!(events.next());
    assert!(timeout(Duration::from_millis(100), &mut last).await.is_err(), "nothing happens yet");
    proxy.stop().await;
    assert_eq!(timeout(Duration::from_secs(5), last).await.expect("at once"), None);
    assert!(matches!(runtime.events().await, Err(RuntimeError::Unreachable { .. })));
}

#[tokio::test]
async fn the_memory_in_use_is_told_in_milliseconds_whether_running_or_paused() {
    const MIB: u64 = 1024 * 1024;
    let bench = Bench::new();
    // What is in a tmpfs counts, and can't be taken for file cache.
    let spec = bench.spec("head -c 12582912 /dev/zero >/tmp/file; echo >/sandbox/told; sleep 60").await;
    let container = bench.runtime.create(&spec).await.expect("made");
    assert_eq!(bench.runtime.memory(&container).await.expect("asked"), None, "it doesn't run");
    bench.runtime.start(&container).await.expect("started");
    bench.wait_told(&spec).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let memory = bench.runtime.memory(&container).await.expect("asked").expect("it runs");
        times.push(start.elapsed());
        assert_eq!(memory.limit_bytes, spec.limits.memory_mib * MIB);
        assert!((12 * MIB..24 * MIB).contains(&memory.used_bytes), "{memory:?}");
    }
    times.sort();
    println!("memory: median {:?}, slowest {:?}", times[10], times[19]);
    assert!(times[10] < Duration::from_millis(500), "{times:?}");
    docker(&["pause", &container.0]);
    assert!(bench.runtime.memory(&container).await.expect("asked").is_some());
    bench.runtime.remove(&container).await.expect("removed");
    assert_eq!(bench.runtime.memory(&container).await.expect("asked"), None, "it is gone");
    let facts = bench.runtime.engine().await.expect("asked");
    assert!(facts.memory_bytes.is_some_and(|bytes| bytes > 512 * MIB), "{facts:?}");
}

#[tokio::test]
async fn a_call_that_is_cut_leaves_something_that_is_found_again() {
    let bench = Bench::new();
    let proxy = Proxy::start(bench.folder.path(), Withhold::AnswersTo("/containers/create")).await;
    let impatient = bench.runtime_at(&proxy.address(), |config| config.start_timeout = Duration::from_secs(1));
    let spec = bench.spec("true").await;
    let error = impatient.create(&spec).await.expect_err("the answer never comes");
    assert!(matches!(error, RuntimeError::Deadline { call: "create", seconds: 1 }), "{error}");
    until("it is listed", || async { bench.runtime.list().await.expect("listed").len() == 1 }).await;
    let found = bench.runtime.list().await.expect("listed").remove(0);
    assert_eq!(found.slot, spec.slot);
    bench.runtime.remove(&found.container).await.expect("removed");
}

#[tokio::test]
async fn an_engine_that_comes_back_is_used_again_without_a_restart() {
    let bench = Bench::new();
    let address = Proxy::address_in(bench.folder.path());
    let runtime = bench.runtime_at(&address, |_| ());
    let error = runtime.engine().await.expect_err("nobody is there yet");
    assert!(matches!(error, RuntimeError::Unreachable { .. }), "{error}");
    for _ in 0..2 {
        let proxy = Proxy::start(bench.folder.path(), Withhold::Nothing).await;
        runtime.engine().await.expect("it is back");
        assert!(runtime.list().await.expect("listed").is_empty());
        proxy.stop().await;
        let error = runtime.list().await.expect_err("gone again");
        assert!(matches!(error, RuntimeError::Unreachable { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_engine_that_does_not_answer_costs_no_more_than_the_deadline() {
    let bench = Bench::new();
    let proxy = Proxy::start(bench.folder.path(), Withhold::AnswersTo("/version")).await;
    let runtime = bench.runtime_at(&proxy.address(), |config| config.call_timeout = Duration::from_secs(1));
    let error = runtime.engine().await.expect_err("the answer never comes");
    assert!(matches!(error, RuntimeError::Deadline { call: "version", seconds: 1 }), "{error}");
}

#[tokio::test]
async fn a_child_killed_for_want_of_memory_is_told() {
    let bench = Bench::new();
    // The first process lives on; the engine's own OOMKilled flag stays false.
    let mut spec = bench.spec("tail /dev/zero; exit 9").await;
    spec.limits = Limits { memory_mib: 24, tmp_mib: 4, home_mib: 4, ..spec.limits };
    let container = bench.start(&spec).await;
    until("it ends", || async {
        bench.runtime.post_mortem(&container).await.ok().flatten().is_some_and(|end| end.exit_code.is_some())
    })
    .await;
    let end = bench.runtime.post_mortem(&container).await.expect("asked").expect("known");
    assert_eq!((end.exit_code, end.out_of_memory), (Some(9), true));
}

#[tokio::test]
async fn one_that_simply_ended_was_not_out_of_memory() {
    let bench = Bench::new();
    let container = bench.start(&bench.spec("sleep 0.2; exit 3").await).await;
    let runtime = Arc::clone(&bench.runtime);
    until("it ends", || async {
        runtime.post_mortem(&container).await.ok().flatten().is_some_and(|end| end.exit_code.is_some())
    })
    .await;
    let end = runtime.post_mortem(&container).await.expect("asked").expect("known");
    assert_eq!((end.exit_code, end.out_of_memory), (Some(3), false));
}

#[tokio::test]
async fn all_sandboxes_together_stay_below_the_pools_ceiling() {
    let bench = Bench::new();
    let runtime = bench.runtime_at(&bench.address, |_config| {});
    runtime.limit_all(48);
    let facts = runtime.engine().await.expect("it is there");
    let note = facts.notes.iter().find(|note| note.about == "pool ceiling").expect("it is told either way");
    if !note.holds {
        // Only where the cgroups are systemd's: there the operator sets it, and must be told how.
        assert!(note.text.contains("systemctl set-property"), "{note}");
        eprintln!("not measured: {note}");
        return;
    }
    // Each may use 64 MiB, both together 48: the second one's 40 MiB don't fit beside the first one's.
    let eat = "dd if=/dev/zero of=/tmp/x bs=1M count=40 2>/dev/null; sleep 60";
    for _ in 0..2 {
        let mut spec = bench.spec(eat).await;
        spec.limits = Limits { memory_mib: 64, tmp_mib: 44, home_mib: 4, ..spec.limits };
        let container = runtime.create(&spec).await.expect("made");
        runtime.start(&container).await.expect("started");
    }
    until("somebody is told off", || async {
        for found in runtime.list().await.expect("listed") {
            if runtime
                .post_mortem(&found.container)
                .await
                .ok()
                .flatten()
                .is_some_and(|end| end.out_of_memory || end.exit_code.is_some())
            {
                return true;
            }
        }
        false
    })
    .await;
}
