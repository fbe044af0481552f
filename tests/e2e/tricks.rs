//! Ways out of a sandbox, each tried from inside one: only what is allowed works.
//!
//! A sandbox has no network, so what isn't for the proxy fails by itself; [`direct`] shows it. What is for the proxy, it refuses before it connects;
//! [`proxied`] shows that. The one server that is allowed is on this machine, under a made-up name that the settings map to loopback. Further names
//! are only known to the server under test, whose `/etc/hosts` is its own.

mod direct;
mod proxied;
mod targets;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use self::targets::Targets;
use crate::{
    client::{Client, id},
    house::House,
    recorder::Recorder,
    settings::{Settings, quoted},
};

/// The program that tries things, in the workspace.
const PROBE: &str = "perl /sandbox/workspace/probe.pl";

/// One way out.
pub struct Trick {
    /// What is tried.
    pub what: String,
    /// How, as a command inside.
    pub command: String,
    /// What must come of it.
    pub must: Must,
    /// Why.
    pub why: &'static str,
}

/// What must come of a try. Whoever isn't allowed hears nothing of any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Must {
    /// It is refused, and not even the server that is allowed hears of it.
    Fail,
    /// The same, and the proxy says why.
    Refuse(&'static str),
    /// A tunnel that was opened is cut, and the server at its end was told nothing.
    Cut,
    /// The answer has this in it.
    Work(&'static str),
    /// Whatever the answer: it only ever reaches the server that is allowed, in its own name, as one request.
    StayInBounds,
}

/// Names that only the server under test knows, for addresses that it must not connect to.
const NAMES: &[(&str, &str)] = &[
    ("loopback.test", "127.0.0.1"),
    ("loopback.test", "::1"),
    ("this-network.test", "0.0.0.0"),
    ("private.test", "10.0.0.1"),
    ("private.test", "172.31.255.254"),
    ("private.test", "192.168.255.254"),
    ("carrier.test", "100.64.0.1"),
    ("metadata.test", "169.254.169.254"),
    ("metadata6.test", "fd00:ec2::254"),
    ("local6.test", "fe80::1"),
    ("site6.test", "fec0::1"),
    ("mapped.test", "::ffff:127.0.0.1"),
    ("compatible.test", "::127.0.0.1"),
    ("translated.test", "64:ff9b::7f00:1"),
    ("6to4.test", "2002:7f00:1::1"),
    ("teredo.test", "2001:0:7f00:1::1"),
    ("nothing.test", "::"),
    ("broadcast.test", "255.255.255.255"),
    ("multicast.test", "224.0.0.251"),
    ("multicast6.test", "ff02::1"),
    ("benchmark.test", "198.18.0.1"),
    ("documentation.test", "192.0.2.1"),
    ("documentation6.test", "2001:db8::1"),
    ("reserved.test", "240.0.0.1"),
    // As Linux has it by itself.
    ("this-machine.test", "127.0.1.1"),
];

fn settings(targets: &Targets, model: &Recorder) -> Settings {
    let (allowed, bystander) = (targets.allowed.port(), targets.bystander.port());
    let mut allow = vec![format!("allowed.test:{allowed}"), format!("*.wild.test:{allowed}")];
    // Allowed by name, so that only the address speaks against them.
    let names = NAMES.iter().map(|(name, _)| *name).chain(["localhost"]);
    allow.extend(names.flat_map(|name| [format!("{name}:{bystander}"), format!("{name}:80")]));
    allow.dedup();
    let pinned = ["allowed.test", "a.wild.test", "wild.test", "offered.test", "forbidden.test"];
    let pinned = pinned.map(|name| format!("{} = \"127.0.0.1\"", quoted(name))).join(", ");
    Settings::new()
        .shell_with_node()
        .stock("shell", 2, 2)
        .model(model.address)
        .names(NAMES)
        .set("templates.shell.egress", "allow", &serde_json::to_string(&allow).expect("texts"))
        .set("templates.shell.egress", "offer", &format!("[\"offered.test:{allowed}\"]"))
        .set("egress", "hosts", &format!("{{{pinned}}}"))
}

/// Opens a session with the probe in its workspace.
async fn open(client: &Client) -> Value {
    let session = client.open(json!({"template": "shell", "credential": {"api_key": "key-of-this-session"}})).await;
    let path = format!("/v1/sessions/{}/files/probe.pl", id(&session));
    let probe = include_str!("tricks/probe.pl");
    let put = client.call(Method::PUT, &path, &[], probe.into()).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
    session
}

/// Tries them one after the other; all that is wrong is told at once.
async fn try_all(client: &Client, session: &Value, targets: &Targets, tricks: Vec<Trick>) {
    let count = tricks.len();
    let mut faults = Vec::new();
    for Trick { what, command, must, why } in tricks {
        targets.forget();
        let outcome = client.ask(session, &command).await;
        let outcome = outcome.trim();
        if let Err(fault) = judge(outcome, &must, targets) {
            faults.push(format!("{what}\n    must {must:?}: {why}\n    {fault}\n    {outcome}"));
        }
    }
    assert!(faults.is_empty(), "{} of {count} tricks:\n{}", faults.len(), faults.join("\n"));
    println!("{count} tricks tried from inside");
}

fn judge(outcome: &str, must: &Must, targets: &Targets) -> Result<(), String> {
    if targets.disturbed() > 0 {
        return Err("a server that isn't allowed was connected to".to_owned());
    }
    let heard = targets.heard();
    match must {
        Must::Work(text) if outcome.contains(text) => targets::in_bounds(&heard),
        Must::Work(text) => Err(format!("no {text:?} in the answer")),
        Must::StayInBounds => targets::in_bounds(&heard),
        Must::Cut if heard.iter().all(String::is_empty) && outcome == "cut" => Ok(()),
        Must::Cut => Err(format!("not cut, or the server was told something: {heard:?}")),
        Must::Refuse(text) if !outcome.contains(text) => Err(format!("no {text:?} in the answer")),
        Must::Fail | Must::Refuse(_) if !heard.is_empty() => {
            Err(format!("the server that is allowed heard: {heard:?}"))
        }
        Must::Fail | Must::Refuse(_) if is_refusal(outcome) => Ok(()),
        Must::Fail | Must::Refuse(_) => Err("no refusal".to_owned()),
    }
}

/// A fault of the system, an answer of the proxy's that says no, or no answer and the end of the connection.
fn is_refusal(outcome: &str) -> bool {
    let status =
        outcome.strip_prefix("said: HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    outcome.starts_with("refused ")
        || outcome == "closed"
        || status.is_some_and(|status: u16| (400..600).contains(&status))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_proxy_nothing_leaves_a_sandbox() {
    let targets = Targets::start().await;
    let model = Recorder::start().await;
    let house = House::start(Settings::new().shell_with_node().stock("shell", 2, 2).model(model.address)).await;
    let (alice, bob) = (house.alice(), house.bob());
    let session = open(&alice).await;
    // Bob's agent wants to be reached.
    let neighbour = open(&bob).await;
    bob.ask(&neighbour, &format!("{PROBE} listen 7777 neighbour </dev/null >/dev/null 2>&1 & sleep 0.3")).await;
    for way in ["tcp 127.0.0.1 7777", "unix @neighbour"] {
        assert_eq!(bob.ask(&neighbour, &format!("{PROBE} {way}")).await.trim(), "open", "{way}");
    }

    try_all(&alice, &session, &targets, direct::tricks(&targets, &house)).await;

    assert!(model.received().is_empty(), "{:?}", model.received());
    let said = alice.ask(&session, CALL).await;
    assert_eq!(model.received().len(), 1, "the model can be called all the while: {said}");
    assert_eq!(targets.disturbed(), 0);
    // Who may can reach them: they were there all the time.
    targets.visit().await;
    assert_eq!(targets.disturbed(), 3);
    house.stop().await;
}

/// The model's call, by the port where the agent finds it.
const CALL: &str = r#"perl -e 'use IO::Socket::INET; my $s = IO::Socket::INET->new("127.0.0.1:41000"); print $s "POST /v1beta/models/m:generateContent HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"; print <$s>'"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_proxy_only_what_is_allowed_leaves_a_sandbox() {
    let targets = Targets::start().await;
    let model = Recorder::start().await;
    let house = House::start(settings(&targets, &model)).await;
    let alice = house.alice();
    let session = open(&alice).await;
    let variables = alice.ask(&session, "env").await;
    for name in ["http_proxy", "https_proxy"] {
        assert!(variables.contains(&format!("{name}=http://127.0.0.1:")), "{name} in {variables}");
    }

    try_all(&alice, &session, &targets, proxied::tricks(&targets, &model)).await;

    assert!(model.received().is_empty(), "{:?}", model.received());
    house.stop().await;
}
