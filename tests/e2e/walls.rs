//! From inside a sandbox: every destination but the gateway fails, and nothing of the house can be changed.

use std::{collections::BTreeSet, fs, net::IpAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, net::UnixStream};

use crate::{
    client::Client,
    house::House,
    processes,
    recorder::Recorder,
    settings::{BUSYBOX, Settings},
    wait::within,
};

/// Tries to connect from inside, and says `open` or the fault.
async fn connect(client: &Client, session: &Value, target: &str) -> String {
    let script = format!(
        "const s=require('net').connect({target});s.setTimeout(2000,()=>{{console.log('silence');process.exit()}});\
         s.on('connect',()=>{{console.log('open');process.exit()}});s.on('error',e=>{{console.log(e.code);process.exit()}})"
    );
    client.ask(session, &format!("node -e \"{script}\"")).await.trim().to_owned()
}

/// The machine's own addresses, as its kernel lists them.
fn addresses_of_host() -> BTreeSet<IpAddr> {
    let table = fs::read_to_string("/proc/net/fib_trie").expect("the kernel lists its routes");
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<IpAddr>().ok();
        } else if line.contains("host LOCAL") {
            found.extend(last);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_inside_every_destination_but_the_gateway_fails() {
    let model = Recorder::start().await;
    let bystander = Recorder::start().await;
    let house = House::start(Settings::new().shell_with_node().model(model.address)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "credential": {"api_key": "key-of-this-session"}})).await;

    assert_eq!(alice.ask(&session, "ls /sys/class/net").await.trim(), "lo");
    let mut targets = ["169.254.169.254", "10.0.0.1", "172.17.0.1", "192.0.2.1", "1.1.1.1", "8.8.8.8"]
        .map(|address| format!("{{host:'{address}',port:80}}"))
        .to_vec();
    for address in addresses_of_host() {
        for port in [22, bystander.address.port(), house.address.port(), house.admin.port()] {
            targets.push(format!("{{host:'{address}',port:{port}}}"));
        }
    }
    targets.push("{host:'example.com',port:443}".to_owned());
    targets.push("{host:'localhost',port:2375}".to_owned());
    targets.push("{path:'/var/run/docker.sock'}".to_owned());
    for target in targets {
        let outcome = connect(&alice, &session, &target).await;
        let refused = ["ENETUNREACH", "ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ENOENT", "EHOSTUNREACH", "EACCES"];
        assert!(refused.contains(&outcome.as_str()), "{target}: {outcome}");
    }
    assert!(bystander.received().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_cannot_touch_the_house_it_lives_in() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;

    let status = alice.ask(&session, "tr '\\n' ' ' </proc/self/status | tr '\\t' ' '").await;
    let none = "0000000000000000";
    for expected in [
        "Uid: 10001 10001 10001 10001".to_owned(),
        "Gid: 10001 10001 10001 10001".to_owned(),
        format!("CapInh: {none}"),
        format!("CapPrm: {none}"),
        format!("CapEff: {none}"),
        format!("CapBnd: {none}"),
        format!("CapAmb: {none}"),
        "NoNewPrivs: 1".to_owned(),
        "Seccomp: 2".to_owned(),
    ] {
        assert!(status.contains(&expected), "{expected} in {status}");
    }
    for forbidden in [
        "touch /x",
        "touch /etc/hosts",
        "touch /.greenroom/run/x",
        "rm -f /.greenroom/run/link.sock",
        "echo x >/.greenroom/supervisor",
        "mv /sandbox/workspace /sandbox/../x",
        "mount -t tmpfs none /tmp",
        "unshare -U true",
        "chroot / true",
        "mknod /tmp/device b 7 0",
        "cat /proc/1/environ",
        "kill -9 1 && ! kill -0 1",
        "echo 1 >/proc/sys/kernel/core_pattern",
    ] {
        let outcome = alice.ask(&session, &format!("({forbidden}) >/dev/null 2>&1 && echo done || echo refused")).await;
        assert_eq!(outcome.trim(), "refused", "{forbidden}");
    }
    for allowed in ["touch /tmp/x", "touch $HOME/x", "touch /sandbox/workspace/x"] {
        let outcome = alice.ask(&session, &format!("{allowed} && echo done")).await;
        assert_eq!(outcome.trim(), "done", "{allowed}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_wild_inside_stays_inside() {
    let house = House::start(Settings::new().shell().set("templates.shell.limits", "pids", "64")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;

    // Orphans are reaped by the supervisor.
    alice.ask(&session, "for n in $(seq 1 20); do (sleep 0.05 &); done; sleep 0.5").await;
    let zombies = alice.ask(&session, "cat /proc/[0-9]*/stat | awk '$3 == \"Z\"' | wc -l").await;
    assert_eq!(zombies.trim(), "0");

    let full = alice
        .ask(&session, "dd if=/dev/zero of=/tmp/full bs=1M count=400 2>&1 | grep -c 'No space'; rm /tmp/full")
        .await;
    assert_eq!(full.trim(), "1");

    let bomb = alice.ask(&session, "f() { f | f & }; f; sleep 1; echo survived").await;
    assert!(bomb.contains("fork") || bomb.contains("survived"), "{bomb}");
    alice.close(&session).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_supervisor_may_use_the_link() {
    let house = House::start(Settings::new().shell_with_node().lines("other", BUSYBOX, &["cat"])).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;

    // From inside, as the agent.
    let script = "const s=require('net').connect('/.greenroom/run/link.sock');s.on('data',d=>console.log('data'));\
                  s.on('error',e=>console.log(e.code));s.on('close',()=>{console.log('closed');process.exit()});\
                  setTimeout(()=>{console.log('kept');process.exit()},5000)";
    let outcome = alice.ask(&session, &format!("node -e \"{script}\"")).await;
    assert!(outcome.trim().ends_with("closed") && !outcome.contains("data"), "{outcome}");

    // From outside, as root.
    let link = processes::socket(&house.state(), "link.sock").expect("a slot has a link");
    let mut socket = UnixStream::connect(&link).await.expect("root may connect to anything");
    let mut said = Vec::new();
    let read = within("the server hangs up", Duration::from_secs(5), socket.read_to_end(&mut said)).await;
    assert!(read.is_err() || said.is_empty(), "{said:?}");

    assert_eq!(alice.ask(&session, "echo unharmed").await.trim(), "unharmed");
    house.stop().await;
}
