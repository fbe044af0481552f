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
async fn the_gateway_lets_the_models_calls_through_and_nothing_else() {
    let model = Recorder::start().await;
    let house = House::start(Settings::new().shell_with_node().model(model.address)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "credential": {"api_key": "key-of-this-session"}})).await;

    // The only listener inside is the supervisor's, which leads to the gateway.
    let list = r#"cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == "0A" {split($2, a, ":"); printf "%s ", a[2]}'"#;
    let listeners = alice.ask(&session, list).await;
    let ports =
        listeners.split_whitespace().map(|port| u16::from_str_radix(port, 16).expect("hex")).collect::<Vec<_>>();
    let [port] = ports[..] else { panic!("listeners inside: {ports:?}") };

    let call = async |method: &str, path: &str, host: &str| {
        let script = format!(
            "const r=require('http').request({{host:'127.0.0.1',port:{port},method:'{method}',path:'{path}',headers:{{host:'{host}',\
             'content-type':'application/json','x-goog-api-key':'forged'}}}},a=>{{console.log(a.statusCode);process.exit()}});\
             r.on('error',e=>{{console.log(e.code);process.exit()}});r.on('connect',a=>{{console.log(a.statusCode);process.exit()}});\
             r.setTimeout(5000,()=>{{console.log('silence');process.exit()}});r.end('{{}}')"
        );
        alice.ask(&session, &format!("node -e \"{script}\"")).await.trim().to_owned()
    };
    for (method, path, host) in [
        ("GET", "/", "localhost"),
        ("GET", "/v1beta/models", "localhost"),
        ("POST", "/v1beta/models/../files", "localhost"),
        ("POST", "/v1beta/models/a:streamGenerateContent/../../x", "localhost"),
        ("POST", "/v1beta/models/a%2f..%2f..%2fx:generateContent/", "localhost"),
        ("POST", "//elsewhere.example/v1beta/models/a:generateContent/x", "localhost"),
        ("POST", "http://elsewhere.example/v1/upload", "elsewhere.example"),
        ("CONNECT", "elsewhere.example:443", "elsewhere.example"),
    ] {
        let outcome = call(method, path, host).await;
        let refused = outcome.parse::<u16>().map_or(outcome == "ECONNRESET", |status| (400..500).contains(&status));
        assert!(refused, "{method} {path}: {outcome}");
    }
    assert!(model.received().is_empty(), "{:?}", model.received());

    assert_eq!(call("POST", "/v1beta/models/gemini-x:generateContent", "elsewhere.example").await, "200");
    let received = model.received();
    let [only] = &received[..] else { panic!("{received:?}") };
    assert_eq!((only.method.as_str(), only.path.as_str()), ("POST", "/v1beta/models/gemini-x:generateContent"));
    assert_eq!(only.headers["host"], model.address.to_string().as_str(), "the template says where, not the agent");
    let keys = only.headers.get_all("x-goog-api-key").iter().collect::<Vec<_>>();
    assert_eq!(keys, ["key-of-this-session"], "the agent's own key is not passed on");
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
