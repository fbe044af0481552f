//! What the doors refuse: each fault with its own code, and nothing of the house in the answer.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    client::{Client, Reply, id},
    house::{House, model},
    settings::{ALICE, Settings},
    wait::within,
};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Nothing of the machine, the engine or a secret may be in an answer.
#[track_caller]
fn assert_discreet(house: &House, reply: &Reply) {
    let text = reply.text();
    let state = house.state().to_string_lossy().into_owned();
    for private in [state.as_str(), &house.instance, ALICE, "/var/", "sha256:", "src/", "panicked", "docker.sock"] {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

async fn refused(house: &House, client: &Client, path: &str, body: &str, status: u16, code: &str) {
    let reply = client.post_text(path, body).await;
    reply.problem(status, code);
    assert_discreet(house, &reply);
}

/// Sends bytes as they are and gives back the status line's number.
async fn raw_status(house: &House, request: &str) -> u16 {
    within("an answer to raw bytes", Duration::from_secs(15), async {
        let mut socket = TcpStream::connect(house.address).await.expect("the server listens");
        socket.write_all(request.as_bytes()).await.expect("the request is taken");
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.expect("there is an answer");
        String::from_utf8_lossy(&answer[9..]).parse().expect("a status")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_faulty_request_gets_its_own_code_and_learns_nothing() {
    let house = House::start(Settings::new().shell()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    let own = format!("/v1/sessions/{}", id(&session));
    let turns = format!("{own}/turns");

    // Opening.
    for body in [
        r#"{"template": "nobody-has-this"}"#,
        r#"{"template": "../shell"}"#,
        r#"{"template": "shell", "shell": "/bin/sh"}"#,
        r#"{"template": "shell", "workspace": "../../etc"}"#,
        r#"{"template": "shell", "workspace": "a/b"}"#,
        r#"{"template": "shell", "workspace": ""}"#,
        r#"{"template": "shell", "workspace": ".hidden"}"#,
        r#"{"template": "shell", "workspace": "UPPER"}"#,
        r#"{"template": "shell", "queue_timeout_s": -1}"#,
        r#"{"template": "shell", "idle_timeout_s": "soon"}"#,
        r#"{"template": 7}"#,
        r#"{"template": "shell""#,
        r#"["template"]"#,
        "null",
        "",
        "\u{0}",
    ] {
        refused(&house, &alice, "/v1/sessions", body, 400, "INVALID_REQUEST").await;
    }

    // Prompting.
    for body in [
        r#"{"prompt": ""}"#,
        r#"{"prompt": "   "}"#,
        r#"{"prompt": []}"#,
        r#"{"prompt": "hi", "sudo": true}"#,
        r#"{"prompt": 5}"#,
        r#"{"prompt": [{"type": "no-such-block"}]}"#,
        r"{}",
    ] {
        refused(&house, &alice, &turns, body, 400, "INVALID_REQUEST").await;
    }
    let deep = format!(r#"{{"prompt": {}{}}}"#, "[".repeat(100), "]".repeat(100));
    refused(&house, &alice, &turns, &deep, 400, "INVALID_REQUEST").await;
    let big = json!({"prompt": "x".repeat(2 * 1024 * 1024)}).to_string();
    refused(&house, &alice, &turns, &big, 413, "PAYLOAD_TOO_LARGE").await;
    let invalid_utf8 = alice.call(Method::POST, &turns, &[JSON], Bytes::from_static(b"{\"prompt\": \"\xff\"}")).await;
    invalid_utf8.problem(400, "INVALID_REQUEST");

    // The envelope.
    let body = Bytes::from_static(br#"{"prompt": "hi"}"#);
    let wrong = alice.call(Method::POST, &turns, &[("content-type", "text/plain")], body).await;
    wrong.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    let nowhere = alice.get("/v1/nowhere").await;
    nowhere.problem(404, "NOT_FOUND");
    assert_discreet(&house, &nowhere);
    alice.get("/v1/../etc/passwd").await.problem(404, "NOT_FOUND");
    let method = alice.call(Method::PUT, "/v1/sessions", &[JSON], Bytes::new()).await;
    method.problem(405, "METHOD_NOT_ALLOWED");
    let head = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-padding: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(raw_status(&house, &head).await, 431);
    assert_eq!(raw_status(&house, "GET / \x01\r\n\r\n").await, 400);

    // Things that aren't there.
    for path in ["/turns/turn_0", "/nothing", "/turns/x%2f..%2f"] {
        alice.get(&format!("{own}{path}")).await.problem(404, "NOT_FOUND");
    }
    alice.post(&format!("{own}/permissions/perm_0"), &json!({"option_id": "x"})).await.problem(404, "NOT_FOUND");

    // After all that the session is as good as new.
    assert_eq!(alice.ask(&session, "echo unharmed").await.trim(), "unharmed");
    alice.close(&session).await;
    alice.delete(&own).await.problem(404, "NOT_FOUND");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_a_good_token_is_told_how_to_bring_one() {
    let house = House::start(Settings::new().shell()).await;
    for token in [None, Some(""), Some("alice"), Some("alice-token-for-tests "), Some("x".repeat(4_000).as_str())] {
        for (method, path) in [
            (Method::GET, "/v1/sessions"),
            (Method::POST, "/v1/sessions"),
            (Method::POST, "/v1/chat"),
            (Method::GET, "/v1/pools"),
        ] {
            let mut headers = vec![JSON];
            let bearer = token.map(|token| format!("Bearer  {token}x"));
            headers.extend(bearer.as_deref().map(|value| ("authorization", value)));
            let reply = house.visitor().call(method, path, &headers, Bytes::from_static(b"{}")).await;
            reply.problem(401, "UNAUTHENTICATED");
            assert!(reply.header("www-authenticate").starts_with("Bearer"), "{reply:?}");
            assert_discreet(&house, &reply);
        }
    }
    let basic =
        house.visitor().call(Method::GET, "/v1/sessions", &[("authorization", "Basic YTpi")], Bytes::new()).await;
    basic.problem(401, "UNAUTHENTICATED");
    for open in ["/healthz", "/readyz", "/openapi.json", "/docs"] {
        assert_eq!(house.visitor().get(open).await.status, StatusCode::OK, "{open} needs no token");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_another_user_looks_exactly_like_what_never_was() {
    let house = House::start(Settings::new().shell()).await;
    let (alice, bob) = (house.alice(), house.bob());
    let session = alice.open(json!({"template": "shell"})).await;
    let turn = alice.post(&format!("/v1/sessions/{}/turns", id(&session)), &json!({"prompt": "sleep 5"})).await.json();
    let never = format!("ses_{}", "0".repeat(id(&session).len() - 4));

    let turn_path = format!("/turns/{}", id(&turn));
    let cancel_path = format!("{turn_path}/cancel");
    for (method, path, body) in [
        (Method::GET, "", ""),
        (Method::DELETE, "", ""),
        (Method::GET, "/events", ""),
        (Method::GET, "/permissions", ""),
        (Method::POST, "/turns", r#"{"prompt": "hi"}"#),
        (Method::GET, turn_path.as_str(), ""),
        (Method::POST, cancel_path.as_str(), ""),
        (Method::POST, "/permissions/perm_0", r#"{"cancelled": true}"#),
    ] {
        let about = async |session: &str| {
            let path = format!("/v1/sessions/{session}{path}");
            let headers: &[_] = if body.is_empty() { &[] } else { &[JSON] };
            let reply = bob.call(method.clone(), &path, headers, Bytes::from(body.to_owned())).await;
            let problem = reply.problem(404, "NOT_FOUND");
            let [instance, request] =
                ["instance", "request_id"].map(|name| problem[name].as_str().expect("text").to_owned());
            let names = reply.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
            (reply.text().replace(&instance, "").replace(&request, ""), names)
        };
        assert_eq!(about(id(&session)).await, about(&never).await, "{method} {path}");
    }
    let untouched = alice.get_json(&format!("/v1/sessions/{}", id(&session))).await;
    assert_eq!(untouched["state"], "running", "{untouched}");
    assert_eq!(untouched["end"], Value::Null);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mode_the_agent_does_not_have_is_the_callers_fault() {
    let house = House::start(Settings::new().gemini(model(None).await)).await;
    let refused = house.alice().post("/v1/sessions", &json!({"mode": "no-such-mode"})).await;
    let problem = refused.problem(400, "INVALID_REQUEST");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with("mode: ")), "{refused:?}");
    house.stop().await;
}
