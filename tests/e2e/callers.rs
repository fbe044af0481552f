//! Callers on the wire: slow ones, quiet ones, and those who speak HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{client::id, house::House, settings::Settings, wait::within};

/// Sends these bytes and waits until the server hangs up; gives back what it said.
async fn hung_up(house: &House, sent: &str) -> String {
    within("the server hangs up", Duration::from_secs(8), async {
        let mut socket = TcpStream::connect(house.address).await.expect("the server listens");
        socket.write_all(sent.as_bytes()).await.expect("the request is taken");
        let mut said = Vec::new();
        // A reset is a way to hang up, too.
        let _read = socket.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_dawdle_are_let_go() {
    let settings =
        Settings::new().shell().set("server", "head_timeout", "\"1s\"").set("server", "body_timeout", "\"1s\"");
    let house = House::start(settings).await;
    hung_up(&house, "").await;
    hung_up(&house, "GET /healthz HTTP/1.1\r\nhost:").await;
    hung_up(&house, "PRI * HTTP/2.0\r\n").await;
    let token = crate::settings::ALICE;
    let head = format!(
        "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
    );
    let said = hung_up(&house, &format!("{head}content-length: 100\r\n\r\n{{")).await;
    assert!(!said.starts_with("HTTP/1.1 2"), "{said}");
    let said = hung_up(&house, &format!("{head}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n")).await;
    assert!(!said.starts_with("HTTP/1.1 2"), "{said}");
    assert_eq!(house.alice().get_json("/v1/sessions").await["items"], json!([]));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_stream_says_something_at_once_and_goes_on_doing_so() {
    let house = House::start(Settings::new().shell().set("server", "keep_alive", "\"1s\"")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let path = format!("/v1/sessions/{}/events?after={}", id(&session), session["last_seq"]);
    let mut stream = alice.send(Method::GET, &path, &[("accept", "text/event-stream")], Bytes::new()).await;
    for (what, deadline) in [("the first bytes", 500), ("a comment", 3_000), ("another comment", 3_000)] {
        let frame = within(what, Duration::from_millis(deadline), stream.body_mut().frame()).await;
        let data = frame.expect("the stream goes on").expect("it isn't cut").into_data().expect("data");
        assert!(data.starts_with(b":"), "{what}: {data:?}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_is_spoken_without_an_upgrade() {
    let house = House::start(Settings::new().shell()).await;
    let socket = TcpStream::connect(house.address).await.expect("the server listens");
    let executor = TokioExecutor::new();
    let handshake = hyper::client::conn::http2::handshake::<_, _, Empty<Bytes>>(executor, TokioIo::new(socket));
    let (sender, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    let asking = (0..20).map(|_| {
        let mut sender = sender.clone();
        let uri = format!("http://{}/v1/me", house.address);
        let request = Request::get(uri).header("authorization", format!("Bearer {}", crate::settings::ALICE));
        tokio::spawn(async move { sender.send_request(request.body(Empty::new()).expect("a request")).await })
    });
    for answer in asking.collect::<Vec<_>>() {
        let answer = within("an answer", Duration::from_secs(10), answer).await.expect("no panic");
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    house.stop().await;
}
