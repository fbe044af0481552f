//! The stub as an agent sees it.

use http_body_util::BodyExt as _;
use hyper::client::conn;
use tokio::{net::TcpStream, sync::oneshot};

use super::*;

struct Stub {
    address: std::net::SocketAddr,
    _stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

impl Stub {
    async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, options, async move {
            let _told = stopped.await;
        }));
        Self { address, _stop: stop, serving }
    }

    async fn post(&self, call: &str, key: &str, body: Value) -> (u16, Vec<Bytes>) {
        let stream = TcpStream::connect(self.address).await.expect("listens");
        let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let _connection = tokio::spawn(connection);
        let request =
            Request::post(format!("/v1beta/models/m:{call}")).header("host", "stub").header("x-goog-api-key", key);
        let request = request.body(Full::new(Bytes::from(body.to_string()))).expect("a request");
        let mut answer = sender.send_request(request).await.expect("an answer");
        let mut pieces = Vec::new();
        while let Some(frame) = answer.frame().await {
            pieces.extend(frame.expect("a good one").into_data());
        }
        (answer.status().as_u16(), pieces)
    }
}

fn prompt(text: &str) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": text}]}]})
}

fn documents(pieces: &[Bytes]) -> Vec<Value> {
    let text = String::from_utf8(pieces.concat()).expect("text");
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap_or(line)).expect("JSON")).collect()
}

#[tokio::test]
async fn an_answer_comes_in_ordered_events_with_counts_and_an_end() {
    let stub = Stub::start(Options::default()).await;
    let (status, pieces) = stub.post("streamGenerateContent?alt=sse", "", prompt("[chunks:50]")).await;
    let events = documents(&pieces);
    assert_eq!((status, events.len()), (200, 50));
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["candidates"][0]["content"]["parts"][0]["text"], format!("chunk-{} ", at + 1));
    }
    assert_eq!(events[49]["candidates"][0]["finishReason"], "STOP");
    assert_eq!(events[49]["usageMetadata"]["candidatesTokenCount"], 50);
    assert!(events[48]["candidates"][0].get("finishReason").is_none());
}

#[tokio::test]
async fn the_other_calls_answer_in_one_document() {
    let stub = Stub::start(Options::default()).await;
    let (_, pieces) = stub.post("countTokens", "", prompt("12345678")).await;
    assert_eq!(documents(&pieces), [json!({"totalTokens": 2})]);
    let (_, pieces) = stub.post("generateContent", "", prompt("[words:hi there]")).await;
    assert_eq!(documents(&pieces)[0]["candidates"][0]["content"]["parts"][0]["text"], "hi there");
    let mut side_question = prompt("which?");
    side_question["generationConfig"] =
        json!({"responseJsonSchema": {"required": ["a"], "properties": {"a": {"enum": ["x"]}}}});
    let (_, pieces) = stub.post("generateContent", "", side_question).await;
    assert_eq!(documents(&pieces)[0]["candidates"][0]["content"]["parts"][0]["text"], "{\"a\":\"x\"}");
}

#[tokio::test]
async fn a_required_key_is_asked_for_as_the_api_does() {
    let stub = Stub::start(Options { require_key: Some("right".to_owned().into()), ..Options::default() }).await;
    for (key, code) in [("", 403), ("wrong", 400), ("right", 200)] {
        assert_eq!(stub.post("generateContent", key, prompt("hi")).await.0, code, "{key}");
    }
    let (_, pieces) = stub.post("generateContent", "wrong", prompt("hi")).await;
    assert_eq!(documents(&pieces)[0]["error"]["details"][0]["reason"], "API_KEY_INVALID");
}

#[tokio::test]
async fn a_wrong_key_is_repeated_only_when_asked_for() {
    let options = Options { require_key: Some("right".to_owned().into()), ..Options::default() };
    let (_, discreet) = Stub::start(options.clone()).await.post("generateContent", "canary", prompt("hi")).await;
    assert!(!documents(&discreet)[0].to_string().contains("canary"));
    let stub = Stub::start(Options { echo_key: true, ..options }).await;
    let (status, pieces) = stub.post("generateContent", "canary", prompt("hi")).await;
    let error = &documents(&pieces)[0]["error"];
    assert_eq!((status, &error["details"][0]["metadata"]["containerInfo"]), (403, &"api_key:canary".into()));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("'api_key:canary'")), "{error}");
    assert_eq!(stub.post("generateContent", "right", prompt("hi")).await.0, 200);
}

#[tokio::test]
async fn failures_and_unknown_calls_have_the_apis_form() {
    let stub = Stub::start(Options::default()).await;
    let (status, pieces) = stub.post("streamGenerateContent?alt=sse", "", prompt("[error:429]")).await;
    assert_eq!((status, documents(&pieces)[0]["error"]["status"].as_str()), (429, Some("RESOURCE_EXHAUSTED")));
    assert_eq!(stub.post("embedContent", "", prompt("hi")).await.0, 404);
    assert_eq!(stub.post("generateContent", "", json!("hi")).await.0, 400);
}

#[tokio::test]
async fn a_tool_is_asked_for_and_its_result_taken() {
    let stub = Stub::start(Options::default()).await;
    let mut request = prompt("[tool:run_shell_command command=ls]");
    let (_, pieces) = stub.post("streamGenerateContent?alt=sse", "", request.clone()).await;
    let call = &documents(&pieces)[0]["candidates"][0]["content"]["parts"][0]["functionCall"];
    assert_eq!(call, &json!({"name": "run_shell_command", "args": {"command": "ls"}}));
    let result = json!({"role": "user", "parts": [{"functionResponse": {"name": "run_shell_command"}}]});
    request["contents"].as_array_mut().expect("a list").push(result);
    let (_, pieces) = stub.post("streamGenerateContent?alt=sse", "", request).await;
    assert!(String::from_utf8(pieces.concat()).expect("text").contains("tool "));
}

#[tokio::test]
async fn a_stub_that_hangs_can_be_stopped() {
    let mut stub = Stub::start(Options::default()).await;
    let waiting = stub.post("streamGenerateContent?alt=sse", "", prompt("[hang]"));
    assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err());
    let (stop, _) = oneshot::channel();
    drop(std::mem::replace(&mut stub._stop, stop));
    stub.serving.await.expect("ends");
}
