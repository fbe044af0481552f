//! A slot's proxy with real hosts behind it, on this machine's loopback under made-up names.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Egress, Traffic, hello::tests::greeting_for};
use crate::{
    config::{self, HostPattern, ModelApi, TemplateEgress},
    gateway::{Account, Binding, Endpoint, Gateway, ModelKey, Report, SlotGateway},
    ids::{SessionId, UserId},
    telemetry::{Metrics, SessionAudit},
};

const CANARY: &str = "canary-key-of-ada";
/// Generous: the machine may be loaded. What must be quick has its own bound.
const PATIENCE: Duration = Duration::from_secs(20);

fn policy(allow: &[String], offer: &[String]) -> Arc<TemplateEgress> {
    let patterns = |texts: &[String]| texts.iter().map(|text| text.parse().expect("a good pattern")).collect();
    Arc::new(TemplateEgress { allow: patterns(allow), offer: patterns(offer) })
}

/// A slot that is leased, and one host that is known under several names.
struct House {
    slot: SlotGateway,
    settings: watch::Sender<Arc<TemplateEgress>>,
    egress: Egress,
    binding: Binding,
    metrics: Metrics,
    host: TcpListener,
    socket: PathBuf,
    _reports: mpsc::Receiver<Report>,
    _folder: tempfile::TempDir,
}

impl House {
    /// The template allows `a.test` and offers `b.test`, both at the host's port.
    async fn new() -> Self {
        let host = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = host.local_addr().expect("bound").port();
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("egress.sock");
        let metrics = Metrics::new();
        let pins =
            ["a.test", "b.test", "c.test"].map(|name| (name.to_owned(), "127.0.0.1".parse().expect("an address")));
        let names = config::Egress { hosts: pins.into() };
        let gateway = Gateway::new(metrics.clone()).expect("a gateway").with_names(&names);
        let endpoint = Endpoint::compile(&ModelApi::default(), Some("http://127.0.0.1:9")).expect("good");
        let slot = gateway.open_slot(&folder.path().join("gateway.sock"), Arc::new(endpoint)).expect("listens");
        let (settings, of_template) = watch::channel(policy(&[format!("a.test:{port}")], &[format!("b.test:{port}")]));
        let egress = Egress::new(of_template, &[], Traffic::default());
        let (sender, reports) = mpsc::channel(1);
        let binding = Binding {
            user: UserId::parse("ada").expect("a good name"),
            session: SessionId::random(),
            key: Some(ModelKey(Arc::new(SecretString::from(CANARY)))),
            key_missing: false,
            account: Account::unlimited(),
            egress: egress.clone(),
            audit: SessionAudit::default(),
            reports: sender,
        };
        slot.bind(binding.clone());
        Self { slot, settings, egress, binding, metrics, host, socket, _reports: reports, _folder: folder }
    }

    fn address(&self) -> SocketAddr {
        self.host.local_addr().expect("bound")
    }

    fn pattern(&self, host: &str) -> HostPattern {
        format!("{host}:{}", self.address().port()).parse().expect("a good pattern")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.expect("it listens")
    }

    /// Says something and returns all that is answered until the end.
    async fn say(&self, text: &str) -> String {
        let mut tool = self.connect().await;
        tool.write_all(text.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        timeout(PATIENCE, tool.read_to_string(&mut answer)).await.expect("an end").expect("text");
        answer
    }

    async fn status_of(&self, text: &str) -> String {
        let answer = self.say(text).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    fn get(&self, host: &str) -> String {
        let authority = format!("{host}:{}", self.address().port());
        format!("GET http://{authority}/x HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")
    }

    /// A tunnel that was promised; its greeting wasn't sent yet.
    async fn tunnel(&self, host: &str) -> (UnixStream, TcpStream) {
        let mut tool = self.connect().await;
        let authority = format!("{host}:{}", self.address().port());
        let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        tool.write_all(head.as_bytes()).await.expect("sent");
        let (outside, _) = timeout(PATIENCE, self.host.accept()).await.expect("in time").expect("connected");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(PATIENCE, tool.read_u8()).await.expect("in time").expect("an answer"));
        }
        let answer = String::from_utf8(answer).expect("text").to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200 ") && !answer.contains("content-length"), "{answer}");
        (tool, outside)
    }

    /// A tunnel in which TLS was begun.
    async fn open_tunnel(&self, host: &str) -> (UnixStream, TcpStream) {
        let (mut tool, mut outside) = self.tunnel(host).await;
        let greeting = greeting_for(host);
        tool.write_all(&greeting).await.expect("sent");
        let mut heard = vec![0; greeting.len()];
        timeout(PATIENCE, outside.read_exact(&mut heard)).await.expect("in time").expect("the greeting");
        assert_eq!(heard, greeting);
        (tool, outside)
    }

    fn counted(&self, outcome: &str) -> bool {
        self.metrics.render().contains(&format!("greenroom_egress_requests_total{{outcome=\"{outcome}\"}} "))
    }
}

async fn request_to(host: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = timeout(PATIENCE, host.accept()).await.expect("in time").expect("connected");
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        heard.push(timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect("a head"));
    }
    stream.write_all(answer.as_bytes()).await.expect("sent");
    String::from_utf8(heard).expect("text")
}

async fn assert_ends(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let ended = timeout(Duration::from_secs(1), stream.read_u8()).await.expect("within a second");
    assert!(ended.is_err(), "it goes on");
}

async fn assert_carries(tool: &mut UnixStream, outside: &mut TcpStream) {
    tool.write_all(b"ping").await.expect("sent");
    let mut heard = [0; 4];
    timeout(PATIENCE, outside.read_exact(&mut heard)).await.expect("in time").expect("carried");
    outside.write_all(b"pong").await.expect("sent");
    timeout(PATIENCE, tool.read_exact(&mut heard)).await.expect("in time").expect("carried");
    assert_eq!(&heard, b"pong");
}

#[tokio::test]
async fn a_plain_request_is_put_together_anew_and_its_answer_comes_back() {
    let house = House::new().await;
    let port = house.address().port();
    let head = format!(
        "GET http://A.test.:{port}/path?query=1 HTTP/1.1\r\nHost: a.test:{port}\r\nX-Mine: 1\r\nConnection: X-Mine, close\r\n\
         Proxy-Authorization: Basic eA==\r\nUpgrade: websocket\r\nAccept: */*\r\n\r\n"
    );
    let answer = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/secret\r\nX-Theirs: 1\r\nConnection: X-Theirs\r\nContent-Length: 2\r\n\r\nhi";
    let (heard, answer) = tokio::join!(request_to(&house.host, answer), house.say(&head));
    assert_eq!(heard, format!("GET /path?query=1 HTTP/1.1\r\nhost: a.test:{port}\r\naccept: */*\r\n\r\n"));
    // A redirect is the tool's to follow, or not: it would have to ask here again.
    let answer = answer.to_ascii_lowercase();
    assert!(
        answer.starts_with("http/1.1 302 ")
            && answer.contains("location: http://127.0.0.1/secret")
            && answer.ends_with("hi"),
        "{answer}"
    );
    assert!(!answer.contains("x-theirs") && !heard.contains(CANARY), "{answer}");
    let traffic = house.egress.traffic();
    assert!(traffic.sent >= heard.len() as u64 && traffic.received > 100, "{traffic:?}");
    assert!(house.counted("allowed"));
}

#[tokio::test]
async fn a_tunnel_carries_both_ways_and_every_byte_is_counted() {
    let house = House::new().await;
    let (mut tool, mut outside) = house.open_tunnel("a.test").await;
    let before = house.egress.traffic();
    assert_carries(&mut tool, &mut outside).await;
    let after = house.egress.traffic();
    assert_eq!((after.sent - before.sent, after.received - before.received), (4, 4));
    // Half of it may end first.
    tool.shutdown().await.expect("half closed");
    let mut rest = Vec::new();
    timeout(PATIENCE, outside.read_to_end(&mut rest)).await.expect("in time").expect("the end is passed on");
    outside.write_all(b"last").await.expect("sent");
    drop(outside);
    timeout(PATIENCE, tool.read_to_end(&mut rest)).await.expect("in time").expect("read");
    assert_eq!(rest, b"last");
}

#[tokio::test]
async fn a_tunnel_without_a_greeting_for_its_host_is_closed_and_the_host_hears_nothing() {
    let house = House::new().await;
    for (said, outcome) in [
        (greeting_for("b.test"), "wrong_name"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "not_tls"),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(), "not_tls"),
    ] {
        let (mut tool, mut outside) = house.tunnel("a.test").await;
        tool.write_all(&said).await.expect("sent");
        let mut heard = Vec::new();
        timeout(PATIENCE, outside.read_to_end(&mut heard)).await.expect("an end").expect("an end");
        assert_eq!(heard, b"", "{outcome}");
        assert_ends(&mut tool).await;
        assert!(house.counted(outcome), "{outcome}");
    }
}

#[tokio::test]
async fn what_no_rule_lets_through_is_refused_before_anybody_is_connected_to() {
    let house = House::new().await;
    let port = house.address().port();
    let connect = |target: &str| format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    for (said, status) in [
        (house.get("b.test"), "403"),
        (house.get("c.test"), "403"),
        (house.get("x.a.test"), "403"),
        (house.get("127.0.0.1"), "403"),
        (house.get("2130706433"), "403"),
        (house.get("localhost"), "403"),
        (connect(&format!("b.test:{port}")), "403"),
        (connect(&format!("127.0.0.1:{port}")), "403"),
        (connect(&format!("[::1]:{port}")), "403"),
        (connect("a.test:22"), "403"),
        (format!("GET http://a.test:{port}/ HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n"), "400"),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n".to_owned(), "400"),
        (format!("GET https://a.test:{port}/ HTTP/1.1\r\nHost: a.test:{port}\r\nConnection: close\r\n\r\n"), "400"),
        (
            format!("GET http://a.test:{port}/ HTTP/1.1\r\nHost: a.test:{port}\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
            "431",
        ),
    ] {
        assert_eq!(house.status_of(&said).await, status, "{said}");
    }
    let nobody = timeout(Duration::from_millis(50), house.host.accept()).await;
    assert!(nobody.is_err(), "somebody connected");
    assert_eq!(house.egress.traffic(), Traffic::default());
}

#[tokio::test]
async fn a_name_that_is_not_the_operators_never_leads_to_this_machine() {
    let house = House::new().await;
    let local = ["localhost:80", "metadata.google.internal:80", "printer.local:80", "registry:80"].map(str::to_owned);
    house.settings.send_replace(policy(&local, &[]));
    for target in &local {
        let host = target.trim_end_matches(":80");
        let said = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(house.status_of(&said).await, "403", "{target}");
    }
    assert!(house.counted("not_public"));
}

#[tokio::test]
async fn without_a_lease_nothing_passes_and_the_end_of_one_ends_its_tunnels() {
    let house = House::new().await;
    let (mut tool, mut outside) = house.open_tunnel("a.test").await;
    house.slot.unbind();
    assert_ends(&mut tool).await;
    assert_ends(&mut outside).await;
    assert_eq!(house.status_of(&house.get("a.test")).await, "403");
    assert!(house.counted("unleased"));
    house.slot.bind(house.binding.clone());
    house.open_tunnel("a.test").await;
}

#[tokio::test]
async fn a_change_counts_at_once_and_ends_what_it_forbids_and_nothing_else() {
    let house = House::new().await;
    house.egress.replace(&[house.pattern("b.test")]);
    let (mut kept, mut outside_kept) = house.open_tunnel("a.test").await;
    let (mut lost, mut outside_lost) = house.open_tunnel("b.test").await;
    house.egress.replace(&[]);
    assert_ends(&mut lost).await;
    assert_ends(&mut outside_lost).await;
    assert_eq!(house.status_of(&house.get("b.test")).await, "403");
    assert_carries(&mut kept, &mut outside_kept).await;
    // By the settings, too.
    house.settings.send_replace(policy(&[], &[]));
    assert_ends(&mut kept).await;
    assert!(house.counted("revoked"));
}

#[tokio::test]
async fn an_answer_that_is_under_way_is_cut_when_its_rule_goes() {
    let house = House::new().await;
    let mut tool = house.connect().await;
    tool.write_all(house.get("a.test").as_bytes()).await.expect("sent");
    let (mut outside, _) = timeout(PATIENCE, house.host.accept()).await.expect("in time").expect("connected");
    outside.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nfirst").await.expect("sent");
    let mut heard = Vec::new();
    while !heard.ends_with(b"first") {
        heard.push(timeout(PATIENCE, tool.read_u8()).await.expect("in time").expect("the answer"));
    }
    house.settings.send_replace(policy(&[], &[]));
    assert_ends(&mut tool).await;
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(1), outside.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the host is let go too");
}

#[tokio::test]
async fn tunnels_without_end_leave_the_model_its_connections() {
    let house = House::new().await;
    let mut tunnels = Vec::new();
    for _ in 0..super::CONNECTIONS {
        tunnels.push(house.open_tunnel("a.test").await);
    }
    // One more waits, but not the model's.
    let mut waiting = house.connect().await;
    waiting.write_all(house.get("c.test").as_bytes()).await.expect("sent");
    assert!(timeout(Duration::from_millis(50), waiting.read_u8()).await.is_err(), "it is over the limit");
    let mut agent = UnixStream::connect(house.socket.with_file_name("gateway.sock")).await.expect("it listens");
    agent.write_all(b"GET / HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, agent.read_to_string(&mut answer)).await.expect("in time").expect("text");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    tunnels.pop();
    timeout(PATIENCE, waiting.read_u8()).await.expect("a place is free").expect("an answer");
}

#[tokio::test]
async fn a_host_that_is_away_is_told_apart_from_one_that_is_forbidden() {
    let mut house = House::new().await;
    let text = house.get("a.test");
    house.host = TcpListener::bind("127.0.0.1:0").await.expect("another port");
    let answer = house.say(&text).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && !answer.contains("127.0.0.1"), "{answer}");
    assert!(house.counted("unreachable"));
}
