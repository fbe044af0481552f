//! `make bench-gateway`: what the gateway adds to a model call, and what it holds of large bodies.
//!
//! An agent calls a stub of a model on 127.0.0.1: straight over TCP, and by a slot's real unix socket and the gateway, in turn, so that the machine's
//! moods fall on both alike. Connections are kept in all cases; the call is as large as Gemini CLI's first, the answer a stream of ten events. Then
//! bodies of 50 MB and 30 MiB pass, and the memory of the process is looked at. `CALLS=2000` says how many calls of each kind.
//! Writes `target/bench/gateway.json`.

mod memory;
mod model;

use std::{
    collections::BTreeMap,
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use greenroom::{
    config::{Budget, ModelApi},
    gateway::{
        Account, Binding, Budgets, Cost, Egress, Endpoint, Gateway, ModelKey, REPORTS_CAPACITY, Report, SlotGateway,
    },
    ids::{SessionId, UserId},
    telemetry::{Metrics, SessionAudit},
};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::mpsc,
};

use self::{memory::Memory, model::Model};

/// The bytes of a request, about as many as the first of Gemini CLI.
const REQUEST: usize = 64 * 1024;
/// Calls that are not counted.
const WARM_UP: usize = 100;
const LARGE_ANSWER: u64 = 50 * 1000 * 1000;
/// The gateway takes requests up to 32 MiB.
const LARGE_REQUEST: usize = 30 * 1024 * 1024;

type Sender = http1::SendRequest<UnsyncBoxBody<Bytes, std::convert::Infallible>>;

#[tokio::main]
async fn main() {
    let calls = env::var("CALLS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let model = Model::start().await;
    let folder = std::path::PathBuf::from(format!("target/bench-gateway-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let gateway = Gateway::new(Metrics::new()).expect("a gateway");
    let plain = House::open(&gateway, &model, &folder.join("plain.sock"), None).await;
    let limit =
        Budget { input_tokens_per_day: Some(1 << 50), output_tokens_per_day: Some(1 << 50), ..Budget::default() };
    let paid = House::open(&gateway, &model, &folder.join("paid.sock"), Some(&limit)).await;

    let (added, rows) = measure(calls, &model, &plain, &paid).await;
    let mut bodies = Vec::new();
    for (name, house) in [("without a budget", &plain), ("with a budget", &paid)] {
        bodies.push(large_answer(name, house).await);
        bodies.push(large_request(name, house).await);
    }
    let report = json!({
        "calls": calls, "request_bytes": REQUEST, "machine": machine(), "latency": rows, "added_p50_ms": added, "bodies": bodies,
    });
    std::fs::create_dir_all("target/bench").expect("a folder can be made");
    std::fs::write("target/bench/gateway.json", format!("{report:#}\n")).expect("the report can be written");
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
    println!("target/bench/gateway.json is written");
}

/// For whoever compares figures.
fn machine() -> Value {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = text("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let load = text("/proc/loadavg");
    json!({"cpus": cpus, "cpu": cpu.trim_start_matches(['\t', ':', ' ']), "load": load.split(' ').next()})
}

/// One slot, bound to a session; its reports are taken as they come.
struct House {
    socket: std::path::PathBuf,
    _slot: SlotGateway,
}

impl House {
    async fn open(gateway: &Gateway, model: &Model, socket: &std::path::Path, budget: Option<&Budget>) -> Self {
        let endpoint = Endpoint::compile(&ModelApi::default(), Some(&model.url())).expect("the stub's address is good");
        let slot = gateway.open_slot(socket, Arc::new(endpoint)).expect("the slot listens");
        let (user, session) = (UserId::parse("ada").expect("a good name"), SessionId::random());
        let account = match budget {
            None => Account::unlimited(),
            Some(budget) => {
                let load = |_hour| std::future::ready(Ok::<_, ()>(Vec::new()));
                let budgets = Budgets::new(budget, &BTreeMap::new());
                budgets.account(&user, None, &session, Cost::default(), load).await.expect("it loads")
            }
        };
        let (reports, mut taken) = mpsc::channel::<Report>(REPORTS_CAPACITY);
        tokio::spawn(async move { while taken.recv().await.is_some() {} });
        let key = Some(ModelKey(Arc::new(SecretString::from("AIzaBenchBenchBenchBenchBenchBenchBench"))));
        let (egress, audit) = (Egress::nothing(), SessionAudit::default());
        slot.bind(Binding { user, session, key, key_missing: false, account, egress, audit, reports });
        Self { socket: socket.to_owned(), _slot: slot }
    }

    async fn connect(&self) -> Sender {
        handshake(UnixStream::connect(&self.socket).await.expect("the slot listens")).await
    }
}

async fn handshake(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static) -> Sender {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    sender
}

async fn straight(model: &Model) -> Sender {
    let stream = TcpStream::connect(model.address).await.expect("the stub listens");
    stream.set_nodelay(true).expect("it can be set");
    handshake(stream).await
}

/// A call, from its first byte to the answer's last. Gives the answer's bytes.
async fn call(sender: &mut Sender, path: &str, body: UnsyncBoxBody<Bytes, std::convert::Infallible>) -> u64 {
    sender.ready().await.expect("the connection is kept");
    let request = Request::post(path).header("content-type", "application/json").header("host", "127.0.0.1");
    let answer = sender.send_request(request.body(body).expect("a request")).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let (mut answer, mut bytes) = (answer.into_body(), 0);
    while let Some(frame) = answer.frame().await {
        bytes += frame.expect("a good piece").into_data().map_or(0, |data| data.len() as u64);
    }
    bytes
}

const CALL: &str = "/v1beta/models/m:streamGenerateContent?alt=sse";

async fn measure(calls: usize, model: &Model, plain: &House, paid: &House) -> (Value, Vec<Value>) {
    let names = ["straight to the model", "by the gateway", "by the gateway, with a budget"];
    let mut ways = [straight(model).await, plain.connect().await, paid.connect().await];
    let mut times: [Vec<Duration>; 3] = Default::default();
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "x".repeat(REQUEST)}]}]}).to_string();
    let body = Bytes::from(body);
    for round in 0..calls + WARM_UP {
        // Nobody is always first.
        for turn in 0..3 {
            let way = (round + turn) % 3;
            let begun = Instant::now();
            call(&mut ways[way], CALL, model::whole(body.clone())).await;
            if round >= WARM_UP {
                times[way].push(begun.elapsed());
            }
        }
    }
    println!("{:<34} {:>8} {:>8} {:>8}", "", "p50 ms", "p90 ms", "p99 ms");
    let mut rows = Vec::new();
    let mut medians = Vec::new();
    for (name, mut times) in names.into_iter().zip(times) {
        times.sort_unstable();
        let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e3;
        println!("{name:<34} {:>8.3} {:>8.3} {:>8.3}", at(50), at(90), at(99));
        rows.push(json!({"way": name, "p50_ms": at(50), "p90_ms": at(90), "p99_ms": at(99)}));
        medians.push(at(50));
    }
    let (added, paid) = (medians[1] - medians[0], medians[2] - medians[0]);
    println!("added at the median: {added:.3} ms; with a budget {paid:.3} ms (goal: 1 ms)");
    (json!({"without_budget": added, "with_budget": paid, "goal": 1.0}), rows)
}

/// An answer of 50 MB; what the process holds more while it passes.
async fn large_answer(name: &str, house: &House) -> Value {
    let mut agent = house.connect().await;
    let path = format!("/v1beta/models/large-{LARGE_ANSWER}:streamGenerateContent?alt=sse");
    // The first shows what one connection costs, whatever passes.
    call(&mut agent, CALL, model::whole("{}")).await;
    let memory = Memory::watch();
    let begun = Instant::now();
    let bytes = call(&mut agent, &path, model::whole("{}")).await;
    let row = body_row(&format!("an answer of 50 MB {name}"), bytes, begun.elapsed(), &memory);
    assert!(bytes >= LARGE_ANSWER, "the answer was cut");
    row
}

/// A request of 30 MiB.
async fn large_request(name: &str, house: &House) -> Value {
    let mut agent = house.connect().await;
    call(&mut agent, CALL, model::whole("{}")).await;
    let memory = Memory::watch();
    let begun = Instant::now();
    call(&mut agent, CALL, model::large_request(LARGE_REQUEST)).await;
    body_row(&format!("a request of 30 MiB {name}"), LARGE_REQUEST as u64, begun.elapsed(), &memory)
}

fn body_row(name: &str, bytes: u64, took: Duration, memory: &Memory) -> Value {
    let grown = memory.grown_mib();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = bytes as f64 / 1e6 / took.as_secs_f64();
    println!("{name:<40} {:>8.3} s {rate:>8.0} MB/s, {grown:>6.1} MiB more memory at most", took.as_secs_f64());
    json!({"body": name, "bytes": bytes, "seconds": took.as_secs_f64(), "mb_per_s": rate, "grown_mib": grown})
}
