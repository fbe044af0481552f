//! A shell stands in for the supervisor: its first argument is `run`, so it runs the script of that name in its working folder.

use std::{collections::BTreeMap, fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::{
    ids::{Epoch, SlotId, TemplateName},
    sandbox::spec::Limits,
};

const PATIENCE: Duration = Duration::from_secs(10);

fn spec(slot: &Path, script: &str) -> SandboxSpec {
    fs::create_dir_all(slot.join("home")).expect("a folder");
    fs::write(slot.join("home/run"), script).expect("a script");
    SandboxSpec {
        slot: SlotId::random(),
        epoch: Epoch::random(),
        template: TemplateName::parse("test").expect("a good name"),
        image: String::new(),
        command: vec!["agent".to_owned()],
        env: BTreeMap::from([("COLOUR".to_owned(), "green".to_owned())]),
        home: "/home/agent".to_owned(),
        limits: Limits::default(),
        supervisor: PathBuf::from("/bin/sh"),
        run_dir: slot.join("run"),
        box_dir: slot.join("box"),
        orphan_grace: Duration::from_secs(60),
        ring_bytes: 4096,
    }
}

/// Waits for a file that the script writes and gives its text.
async fn written(path: &Path) -> String {
    let text = async {
        loop {
            match fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, text).await.expect("the script writes its file")
}

fn is_alive(pid: &str) -> bool {
    // A zombie that the tests' own process hasn't reaped yet is dead enough.
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

async fn until_dead(pid: &str) {
    let dead = async {
        while is_alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dead).await.expect("it ends");
}

#[tokio::test]
async fn the_supervisor_starts_in_the_slots_home_with_an_environment_of_its_own() {
    let slot = tempfile::tempdir().expect("a folder");
    let spec = spec(
        slot.path(),
        "(pwd; echo $HOME; echo $COLOUR; echo \"[$CARGO_MANIFEST_DIR]\"; echo $*) > part; mv part told; exec sleep 60",
    );
    let process = Process::new();
    let container = process.create(&spec).await.expect("made");
    process.start(&container).await.expect("started");
    let home = slot.path().join("home");
    let told = written(&home.join("told")).await;
    let run = slot.path().join("run");
    let home = home.display();
    let arguments = format!(
        "--run-dir {} --orphan-grace-ms 60000 --ring-bytes 4096 --relay-port 0 --proxy-port 0 -- agent",
        run.display()
    );
    assert_eq!(told, format!("{home}\n{home}\ngreen\n[]\n{arguments}\n"));
    process.remove(&container).await.expect("removed");
}

#[tokio::test]
async fn a_removed_sandbox_leaves_no_process_even_one_that_ignores_the_signal() {
    let slot = tempfile::tempdir().expect("a folder");
    let spec = spec(slot.path(), "trap '' TERM; sleep 60 & echo $! > part; mv part told; wait; wait");
    let process = Process::new();
    let container = process.create(&spec).await.expect("made");
    let supervisor = process.start(&container).await.expect("started").to_string();
    let child = written(&slot.path().join("home/told")).await;
    assert!(is_alive(&supervisor) && is_alive(&child));
    process.remove(&container).await.expect("removed");
    until_dead(&supervisor).await;
    until_dead(&child).await;
    assert!(process.list().await.expect("listed").is_empty());
    process.remove(&container).await.expect("again is a success");
}

#[tokio::test]
async fn it_lists_what_it_made_and_tells_whether_it_runs() {
    let slot = tempfile::tempdir().expect("a folder");
    let spec = spec(slot.path(), "exit 3");
    let process = Process::new();
    let container = process.create(&spec).await.expect("made");
    let found = process.list().await.expect("listed");
    assert_eq!((found.len(), found[0].state, &found[0].slot), (1, BoxState::Created, &spec.slot));
    process.start(&container).await.expect("started");
    let ended = async {
        loop {
            let post_mortem = process.post_mortem(&container).await.expect("known").expect("it was started");
            match post_mortem.exit_code {
                Some(code) => return code,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, ended).await.expect("it ends"), 3);
    assert_eq!(process.list().await.expect("listed")[0].state, BoxState::Ended);
}

#[tokio::test]
async fn a_stopped_supervisor_counts_as_paused_and_still_goes_when_removed() {
    let slot = tempfile::tempdir().expect("a folder");
    let spec = spec(slot.path(), "echo here > part; mv part told; exec sleep 60");
    let process = Process::new();
    let container = process.create(&spec).await.expect("made");
    let pid = process.start(&container).await.expect("started");
    written(&slot.path().join("home/told")).await;
    assert_eq!(process.list().await.expect("listed")[0].state, BoxState::Running);
    kill_process(Pid::from_raw(pid).expect("a process"), Signal::STOP).expect("it is ours");
    let stopped = async {
        while process.list().await.expect("listed")[0].state != BoxState::Paused {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stopped).await.expect("it stops");
    tokio::time::timeout(PATIENCE, process.remove(&container)).await.expect("in time").expect("removed");
    until_dead(&pid.to_string()).await;
}

#[tokio::test]
async fn the_machines_memory_is_told() {
    let facts = Process::new().engine().await.expect("it is always there");
    assert!(facts.memory_bytes.is_some_and(|bytes| bytes > 64 * 1024 * 1024), "{facts:?}");
    assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2048 * 1024));
    assert_eq!(total_memory("MemTotal: nonsense\n"), None);
}

#[tokio::test]
async fn a_supervisor_that_is_not_there_is_refused_by_name() {
    let slot = tempfile::tempdir().expect("a folder");
    let spec = SandboxSpec { supervisor: PathBuf::from("/nowhere/supervisor"), ..spec(slot.path(), "") };
    let process = Process::new();
    let container = process.create(&spec).await.expect("made");
    let error = process.start(&container).await.expect_err("nothing to run").to_string();
    assert!(error.contains("/nowhere/supervisor"), "{error}");
}
