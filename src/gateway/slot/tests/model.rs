//! The two ends of the tests: a model on a loopback port and an agent on the slot's socket.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpSocket, UnixStream},
    sync::Notify,
    task::JoinSet,
};

/// A call that is let through.
pub const PATH: &str = "/v1beta/models/m:streamGenerateContent";

const KERNEL_BYTES: u32 = 64 * 1024;

pub type ModelBody = UnsyncBoxBody<Bytes, Infallible>;

/// What the model saw and did.
#[derive(Default)]
pub struct Seen {
    pub requests: AtomicUsize,
    pub received: AtomicUsize,
    pub sent: AtomicUsize,
    pub open_answers: AtomicUsize,
    pub go_on: Notify,
}

pub struct Model {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    _serving: JoinSet<()>,
}

impl std::ops::Deref for Model {
    type Target = Seen;
    fn deref(&self) -> &Seen {
        &self.seen
    }
}

impl Model {
    pub async fn start<H, F>(handle: H) -> Self
    where
        H: Fn(Request<Incoming>, Arc<Seen>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<ModelBody>> + Send + 'static,
    {
        let socket = TcpSocket::new_v4().expect("a socket");
        // What the kernel would buffer by itself is more than what we want to see not being buffered.
        socket.set_recv_buffer_size(KERNEL_BYTES).expect("set");
        socket.set_send_buffer_size(KERNEL_BYTES).expect("set");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let listener = socket.listen(128).expect("listens");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Seen::default());
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, handle, seen.clone()));
        Self { address, seen, _serving: serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn accept<H, F>(listener: TcpListener, handle: H, seen: Arc<Seen>)
where
    H: Fn(Request<Incoming>, Arc<Seen>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<ModelBody>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let (handle, seen) = (handle.clone(), seen.clone());
        let service = service_fn(move |request| {
            seen.requests.fetch_add(1, Ordering::SeqCst);
            let answer = handle(request, seen.clone());
            async move { Ok::<_, Infallible>(answer.await) }
        });
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

pub fn whole(text: impl Into<Bytes>) -> ModelBody {
    Full::new(text.into()).boxed_unsync()
}

/// Answers with what it was asked, line by line; with each value backwards, since a key that comes back as it is would be covered.
pub async fn echo_headers(request: Request<Incoming>, _seen: Arc<Seen>) -> Response<ModelBody> {
    use std::fmt::Write as _;
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        let value: String = value.to_str().expect("text").chars().rev().collect();
        writeln!(text, "{name}: {value}").expect("memory");
    }
    Response::new(whole(text))
}

/// Says no as the Gemini API does to a suspended key: with the key.
pub async fn refuse_and_repeat_the_key(request: Request<Incoming>, _seen: Arc<Seen>) -> Response<ModelBody> {
    let key = request.headers()["x-goog-api-key"].to_str().expect("text");
    let text = format!("{{\"error\": {{\"message\": \"Consumer 'api_key:{key}' has been suspended.\"}}}}");
    Response::builder().status(403).body(whole(text)).expect("an answer")
}

/// Counts of 12 and 34, as events or as one JSON document.
pub fn counted(events: bool) -> Response<ModelBody> {
    let last = r#"{"usageMetadata":{"promptTokenCount":12,"candidatesTokenCount":30,"thoughtsTokenCount":4}}"#;
    if !events {
        return Response::builder().header("content-type", "application/json").body(whole(last)).expect("an answer");
    }
    let pieces = [r#"data: {"usageMetadata":{"promptTokenCount":1}}"#.to_owned(), format!("data: {last}")];
    let frames = pieces.map(|piece| Ok(Frame::data(Bytes::from(piece + "\r\n\r\n"))));
    let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).expect("an answer")
}

/// One event with counts of 5 and 1, then nothing, without end.
pub async fn one_piece_then_silence(_request: Request<Incoming>, seen: Arc<Seen>) -> Response<ModelBody> {
    seen.open_answers.fetch_add(1, Ordering::SeqCst);
    let body = Silence { first: true, seen }.boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).expect("an answer")
}

struct Silence {
    first: bool,
    seen: Arc<Seen>,
}

impl Body for Silence {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::take(&mut self.first) {
            let event = r#"data: {"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":1}}"#;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("{event}\n\n"))))));
        }
        Poll::Pending
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.seen.open_answers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits to be told, reads the whole request, and sends `total` bytes.
pub async fn read_all_then_send(
    request: Request<Incoming>,
    seen: Arc<Seen>,
    piece: usize,
    total: usize,
) -> Response<ModelBody> {
    seen.go_on.notified().await;
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        seen.received.fetch_add(frame.into_data().map_or(0, |data| data.len()), Ordering::SeqCst);
    }
    let (_, body) = counting(piece, total, move |bytes| {
        seen.sent.fetch_add(bytes, Ordering::SeqCst);
    });
    Response::new(body)
}

/// A body of `total` bytes without a known length, and how much of it was taken.
pub fn pieces(piece: usize, total: usize) -> (Arc<AtomicUsize>, ModelBody) {
    counting(piece, total, |_| {})
}

fn counting(piece: usize, total: usize, each: impl Fn(usize) + Send + 'static) -> (Arc<AtomicUsize>, ModelBody) {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let whole = Bytes::from(vec![b'x'; piece]);
    let frames = std::iter::from_fn(move || {
        let left = total - counter.load(Ordering::SeqCst);
        let next = whole.slice(..piece.min(left));
        counter.fetch_add(next.len(), Ordering::SeqCst);
        each(next.len());
        (!next.is_empty()).then(|| Ok(Frame::data(next)))
    });
    (made, StreamBody::new(stream::iter(frames)).boxed_unsync())
}

pub fn json_request(path: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("content-type", "application/json").header("host", "127.0.0.1:1");
    request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request")
}

/// One connection to the slot.
pub struct Agent {
    sender: conn::http1::SendRequest<UnsyncBoxBody<Bytes, Infallible>>,
    _connection: JoinSet<()>,
}

impl Agent {
    pub async fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.expect("the slot listens");
        let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ended = connection.await;
        });
        Self { sender, _connection: tasks }
    }

    pub async fn send<B>(&mut self, request: Request<B>) -> Result<Response<AgentBody>, hyper::Error>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let answer = self.sender.send_request(request.map(|body| body.boxed_unsync())).await?;
        let connection = std::mem::take(&mut self._connection);
        Ok(answer.map(|inner| AgentBody { inner, _connection: connection }))
    }
}

/// An answer that keeps its connection open.
pub struct AgentBody {
    inner: Incoming,
    _connection: JoinSet<()>,
}

impl Body for AgentBody {
    type Data = Bytes;
    type Error = hyper::Error;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Waits until it is so, up to ten seconds.
pub async fn eventually(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(10), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a counter has begun to count and then stands still, up to ten seconds.
pub async fn still(counter: &AtomicUsize) -> usize {
    let began = Instant::now();
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = counter.load(Ordering::SeqCst);
        if now > 0 && now == before {
            return now;
        }
        before = now;
        assert!(began.elapsed() < Duration::from_secs(10), "it goes on and on");
    }
}
