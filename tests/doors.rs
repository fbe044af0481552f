//! The accept loop, met with raw sockets: clients that are slow, too large, too many or still there when the server stops.

use std::{net::SocketAddr, time::Duration};

use greenroom::{config, doors};
use hyper_util::rt::{TokioExecutor, TokioIo};
use poem::{
    Body, EndpointExt as _,
    endpoint::{BoxEndpoint, make},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// More than any deadline here; a test that hits it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server under test.
struct Served {
    address: SocketAddr,
    token: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    async fn stop(self) {
        self.token.cancel();
        timeout(PATIENCE, self.task).await.expect("the drain ends").expect("the loop doesn't panic");
    }
}

/// Deadlines short enough to wait for.
fn settings() -> config::Server {
    config::Server {
        head_timeout: Duration::from_millis(300),
        write_stall: Duration::from_millis(500),
        drain: Duration::from_secs(5),
        ..config::Server::default()
    }
}

async fn served(settings: config::Server, app: impl poem::Endpoint + 'static) -> Served {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let token = CancellationToken::new();
    let task = tokio::spawn(doors::serve(listener, app, settings, token.clone()));
    Served { address, token, task }
}

fn hello() -> BoxEndpoint<'static> {
    make(|_| async { "hello" }).map_to_response().boxed()
}

/// Says when a request came in, and answers when it is told to.
fn held() -> (BoxEndpoint<'static>, mpsc::Receiver<()>, CancellationToken) {
    let (came, comes) = mpsc::channel(8);
    let release = CancellationToken::new();
    let gate = release.clone();
    let app = make(move |_| {
        let (came, gate) = (came.clone(), gate.clone());
        async move {
            came.send(()).await.expect("the test waits for it");
            gate.cancelled().await;
            "hello"
        }
    });
    (app.map_to_response().boxed(), comes, release)
}

/// Everything until the server closes.
async fn all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is a close, too.
    let _end = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer whose body is `hello`.
async fn one_answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("hello") {
        let mut bytes = [0; 1024];
        let length = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("an answer comes").expect("it is read");
        assert_ne!(length, 0, "closed after {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    text
}

#[tokio::test]
async fn requests_on_one_connection_are_answered() {
    let server = served(settings(), hello()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        assert!(one_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_closed() {
    let server = served(settings(), hello()).await;
    // Nothing at all, half of HTTP/2's first words, half a head, half a second head.
    for words in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost:"] {
        let start = Instant::now();
        let mut stream = server.connect().await;
        stream.write_all(words.as_bytes()).await.expect("sent");
        assert!(!all(&mut stream).await.starts_with("HTTP/1.1 200"));
        assert!(start.elapsed() >= Duration::from_millis(300), "{words} was cut early");
    }
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    one_answer(&mut stream).await;
    stream.write_all(b"GET /again").await.expect("sent");
    assert!(!all(&mut stream).await.contains("200"));
    server.stop().await;
}

#[tokio::test]
async fn a_head_over_16_kib_is_answered_431() {
    let server = served(settings(), hello()).await;
    let head =
        |length: usize| format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(length));
    let mut stream = server.connect().await;
    stream.write_all(head(15 * 1024).as_bytes()).await.expect("sent");
    assert!(all(&mut stream).await.starts_with("HTTP/1.1 200"));
    let mut stream = server.connect().await;
    // The server may close before all of it is sent.
    let _cut = stream.write_all(head(17 * 1024).as_bytes()).await;
    assert!(all(&mut stream).await.starts_with("HTTP/1.1 431"));
    server.stop().await;
}

#[tokio::test]
async fn connections_over_the_cap_are_closed_and_the_place_comes_back() {
    let server = served(config::Server { connections_per_address: 2, ..settings() }, hello()).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    for stream in [&mut first, &mut second] {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        one_answer(stream).await;
    }
    let mut third = server.connect().await;
    assert_eq!(all(&mut third).await, "");
    drop(first);
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "the place never came back");
        let mut stream = server.connect().await;
        let _cut = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        if all(&mut stream).await.starts_with("HTTP/1.1 200") {
            break;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let (ended, mut end) = mpsc::channel::<()>(1);
    let app = make(move |_| {
        let ended = ended.clone();
        async move {
            let endless = futures_util::stream::repeat_with(move || {
                let _alive = &ended;
                Ok::<_, std::io::Error>(vec![0_u8; 64 * 1024])
            });
            poem::Response::builder().body(Body::from_bytes_stream(endless))
        }
    });
    // A drain longer than the test's patience: only the stall can end the connection.
    let server = served(config::Server { drain: PATIENCE * 2, ..settings() }, app).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    // Nothing is read. The body holds the last sender once the app is gone, and is dropped when the client is cut.
    server.token.cancel();
    assert_eq!(timeout(PATIENCE, end.recv()).await.expect("the answer is dropped"), None);
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_finishes_what_is_under_way_and_takes_nothing_new() {
    let (app, mut comes, release) = held();
    let server = served(settings(), app).await;
    let mut idle = server.connect().await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    comes.recv().await.expect("the request came in");
    server.token.cancel();
    assert_eq!(all(&mut idle).await, "");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(Instant::now() < deadline, "the server still listens");
        tokio::task::yield_now().await;
    }
    release.cancel();
    assert!(all(&mut stream).await.ends_with("hello"));
    server.stop().await;
}

#[tokio::test]
async fn what_outlasts_the_drain_is_dropped() {
    let (app, mut comes, _release) = held();
    let server = served(config::Server { drain: Duration::from_millis(200), ..settings() }, app).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    comes.recv().await.expect("the request came in");
    server.stop().await;
    assert_eq!(all(&mut stream).await, "");
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_on_the_same_port() {
    let (app, mut comes, release) = held();
    let server = served(settings(), app).await;
    let io = TokioIo::new(server.connect().await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("the server speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let request = || hyper::Request::builder().uri("http://x/").body(String::new()).expect("a request");
    let (first, second) = (client.send_request(request()), client.send_request(request()));
    let both = tokio::spawn(async { tokio::join!(first, second) });
    // Both are under way at the same time, on one connection, past the head's deadline; then the server stops.
    comes.recv().await.expect("the first came in");
    comes.recv().await.expect("the second came in");
    tokio::time::sleep(settings().head_timeout * 2).await;
    server.token.cancel();
    release.cancel();
    let (first, second) = timeout(PATIENCE, both).await.expect("answers come").expect("no panic");
    assert_eq!(first.expect("an answer").status(), 200);
    assert_eq!(second.expect("an answer").status(), 200);
    drop(client);
    server.stop().await;
    let _closed = timeout(PATIENCE, connection).await.expect("the connection ends");
}
