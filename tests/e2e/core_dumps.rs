//! The server's memory has keys in it: nobody gets to see it but root.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use serde_json::json;

use crate::{house::House, settings::Settings};

/// Somebody who isn't root, and owns nothing here.
const NOBODY: u32 = 10_001;

/// The owner of a file in a folder of `/proc` that isn't the process's own if it isn't dumpable.
fn owner(pid: u32, file: &str) -> u32 {
    fs::metadata(Path::new("/proc").join(pid.to_string()).join(file)).expect("the process runs").uid()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_leaves_no_core_dump_and_serves_all_the_same_when_it_is_not_root() {
    let settings = Settings::new().set("runtime", "kind", "\"process\"").shell().run_as(NOBODY);
    let house = House::start(settings).await;
    let pid = house.pid();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    assert_eq!(uid.split_whitespace().collect::<Vec<_>>(), [NOBODY.to_string().as_str(); 4], "{status}");
    // What the kernel gives to root of a process that may not be dumped: its memory, its environment, its files.
    for file in ["mem", "environ", "maps", "fd"] {
        assert_eq!(owner(pid, file), 0, "{file}");
    }
    // Nothing that a server does for itself by way of /proc is lost with that.
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "workspace": "kept"})).await;
    assert_eq!(alice.ask(&session, "echo well >there; cat there").await.trim(), "well");
    let path = format!("/v1/sessions/{}/files/sent", crate::client::id(&session));
    let put = alice.call(hyper::Method::PUT, &path, &[], bytes::Bytes::from_static(b"sent")).await;
    assert!(put.status.is_success(), "{put:?}");
    assert_eq!(alice.get(&path).await.text(), "sent");
    let listed = alice.delete(&format!("{path}?recursive=true")).await;
    assert!(listed.status.is_success(), "{listed:?}");
    alice.close(&session).await;
    house.stop().await;
}
