//! Web pages and the server, over real connections: what is refused, and by what name it may be asked.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    client::Reply,
    house::House,
    settings::{ALICE, Settings},
    wait::within,
};

const PAGE: &str = "https://chat.example";

fn open_to_a_page() -> Settings {
    Settings::new().shell().set("server", "hosts", "[\"api.chat.example\"]").set(
        "server",
        "origins",
        &format!("[\"{PAGE}\"]"),
    )
}

/// Says something word by word, and hears all until the server closes.
async fn said(house: &House, words: &str) -> String {
    let mut socket = TcpStream::connect(house.address).await.expect("the server listens");
    socket.write_all(words.as_bytes()).await.expect("it is heard");
    let mut heard = Vec::new();
    within("the answer", std::time::Duration::from_secs(20), socket.read_to_end(&mut heard)).await.expect("an answer");
    String::from_utf8_lossy(&heard).into_owned()
}

/// A request over HTTP/2, where the host is part of the target.
async fn over_http2(house: &House, authority: &str, host: Option<&str>) -> Reply {
    let socket = TcpStream::connect(house.address).await.expect("the server listens");
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
    let (mut sender, connection) = handshake.expect("the server speaks HTTP/2");
    tokio::spawn(connection);
    let request = Request::builder().uri(format!("http://{authority}/v1/me"));
    let request = request.header(header::AUTHORIZATION, format!("Bearer {ALICE}"));
    let request = host.iter().fold(request, |request, host| request.header(header::HOST, *host));
    let response =
        sender.send_request(request.body(Empty::<Bytes>::new()).expect("a request")).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("all of it").to_bytes();
    Reply { status: head.status, headers: head.headers, body }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_made_to_mean_this_address_gets_nothing_whatever_way_it_is_said() {
    let house = House::start(open_to_a_page()).await;
    let token = format!("Authorization: Bearer {ALICE}\r\nConnection: close\r\n\r\n");
    for (head, status) in [
        ("GET /v1/me HTTP/1.1\r\nHost: evil.example\r\n", "421"),
        ("GET /docs HTTP/1.1\r\nHost: evil.example:80\r\n", "421"),
        ("GET http://evil.example/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\n", "400"),
        ("GET http://127.0.0.1/v1/me HTTP/1.1\r\nHost: evil.example\r\n", "400"),
        ("GET /v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n", "400"),
        ("GET /v1/me HTTP/1.1\r\n", "400"),
        ("GET /v1/me HTTP/1.0\r\n", "400"),
        ("GET /v1/me HTTP/1.1\r\nHost: api.chat.example\r\n", "200"),
        ("GET /healthz HTTP/1.1\r\nHost: any-name\r\n", "200"),
        ("GET /readyz HTTP/1.0\r\n", "200"),
    ] {
        let heard = said(&house, &format!("{head}{token}")).await;
        assert_eq!(heard.split(' ').nth(1), Some(status), "{head}{heard}");
        assert!(heard.contains("\r\nx-content-type-options: nosniff\r\n"), "{heard}");
    }
    let own = house.address.to_string();
    for (authority, host, status) in [
        (own.as_str(), None, StatusCode::OK),
        ("api.chat.example", None, StatusCode::OK),
        ("evil.example", None, StatusCode::MISDIRECTED_REQUEST),
        (own.as_str(), Some("evil.example"), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(over_http2(&house, authority, host).await.status, status, "{authority} {host:?}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_page_works_as_a_program_does_and_another_gets_nothing() {
    let house = House::start(open_to_a_page()).await;
    let alice = house.alice();
    let from =
        |origin: &'static str| [("origin", origin), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")];
    let preflight = |origin| [&from(origin)[..], &[("access-control-request-method", "POST")]].concat();
    let asked = house.visitor().call(Method::OPTIONS, "/v1/sessions", &preflight(PAGE), Bytes::new()).await;
    assert_eq!((asked.status, asked.header("access-control-allow-methods")), (StatusCode::NO_CONTENT, "POST, GET"));

    let opened = alice.post_with("/v1/sessions", &from(PAGE), &json!({"template": "shell"})).await;
    let session = opened.expect(StatusCode::CREATED);
    assert_eq!(opened.header("access-control-allow-origin"), PAGE);
    let events = format!("/v1/sessions/{}/events", crate::client::id(&session));
    let headers = [&from(PAGE)[..], &[("accept", "text/event-stream")]].concat();
    let stream = alice.send(Method::GET, &events, &headers, Bytes::new()).await;
    assert_eq!(stream.status(), StatusCode::OK);
    assert_eq!(stream.headers()["access-control-allow-origin"], PAGE);
    assert_eq!(stream.headers()["cache-control"], "no-store, no-transform");
    drop(stream);

    for method in [Method::GET, Method::POST, Method::OPTIONS] {
        let refused = alice.call(method, "/v1/sessions", &preflight("https://evil.example"), Bytes::new()).await;
        refused.problem(403, "FORBIDDEN");
        assert_eq!(refused.header("access-control-allow-origin"), "");
    }
    alice.close(&session).await;
    house.stop().await;
}

/// A workspace may hold a page that an agent wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_an_agent_wrote_is_never_a_page_of_the_servers() {
    let house = House::start(open_to_a_page()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    alice.ask(&session, "echo '<script>alert(1)</script>' >/sandbox/workspace/page.html").await;
    for (path, disposition) in
        [("files/page.html", "attachment"), ("archive", "attachment; filename=\"workspace.tar\"")]
    {
        let reply = alice.get(&format!("/v1/sessions/{}/{path}", crate::client::id(&session))).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.header("content-disposition"), disposition);
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert!(reply.header("content-security-policy").starts_with("sandbox; default-src 'none'"), "{reply:?}");
        assert!(!reply.header("content-type").contains("html"), "{reply:?}");
    }
    alice.close(&session).await;
    house.stop().await;
}
