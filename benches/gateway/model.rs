//! A stub of a model: reads the request, streams a few events, or as many bytes as its name says. Holds nothing.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
};

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// One piece of a large body.
const PIECE: usize = 64 * 1024;

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Listens on a free port until the program ends.
pub struct Model {
    pub address: SocketAddr,
}

impl Model {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("it accepts");
                socket.set_nodelay(true).expect("it can be set");
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(answer)));
            }
        });
        Self { address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    while let Some(Ok(_piece)) = body.frame().await {}
    let large = path.split("large-").nth(1).and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
    let body = large.map_or_else(events, |bytes| pieces(event(&"x".repeat(PIECE)), bytes));
    Ok(Response::builder().header("content-type", "text/event-stream").body(body).expect("an answer"))
}

fn event(text: &str) -> Bytes {
    let text = format!(
        r#"data: {{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"{text}"}}]}}}}],"usageMetadata":{{"promptTokenCount":9,"candidatesTokenCount":3}}}}"#
    );
    Bytes::from(text + "\r\n\r\n")
}

fn events() -> Body {
    let events = (0..10).map(|_| Ok(Frame::data(event("a few words of an answer "))));
    StreamBody::new(stream::iter(events)).boxed_unsync()
}

/// The same piece again and again, up to so many bytes or a little more.
fn pieces(piece: Bytes, bytes: usize) -> Body {
    let count = bytes.div_ceil(piece.len());
    StreamBody::new(stream::iter((0..count).map(move |_| Ok(Frame::data(piece.clone()))))).boxed_unsync()
}

pub fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// One long text in JSON, made as it is sent.
pub fn large_request(bytes: usize) -> Body {
    let piece = Bytes::from(vec![b'x'; PIECE]);
    let middle = (0..bytes / PIECE).map(move |_| piece.clone());
    let all = std::iter::once(Bytes::from_static(b"{\"x\":\"")).chain(middle).chain([Bytes::from_static(b"\"}")]);
    StreamBody::new(stream::iter(all.map(|piece| Ok(Frame::data(piece))))).boxed_unsync()
}
