//! A plain request: taken apart, put together anew, sent to the host it names; and the answer back. Redirects go to the tool, which asks anew.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::{
    dial::{Counted, Use},
    door::Place,
    refusal::Refusal,
};

/// A host that says nothing for this long while it owes an answer is given up, at the latest after twice as long.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest head of an answer, in bytes.
const HEAD_BYTES: usize = 64 * 1024;

/// What is between two neighbours only, beside what `Connection` names. A body's length and form are set by whoever sends it on.
const BETWEEN_NEIGHBOURS: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Sends a request and waits for its answer's head. The connection serves this one request.
pub(super) async fn forward(
    request: Request<Incoming>,
    outside: Counted,
    used: &Arc<Use>,
    place: Place,
) -> Result<Response<Passing>, Refusal> {
    let broken = |error: hyper::Error| {
        tracing::debug!(%error, egress.host = %used.asked.host, "a host broke off");
        Refusal::Unreachable
    };
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(outside)).await.map_err(broken)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a host broke off");
        }
    }));
    let response = tokio::select! {
        response = sender.send_request(rewritten(request, used)) => response.map_err(broken)?,
        () = used.until_silent(SILENCE) => return Err(Refusal::Deadline),
    };
    // Nobody asked for another protocol.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::Unreachable);
    }
    let (from, body) = response.into_parts();
    let mut answer = Response::new(Passing { inner: body, _connection: connection, _place: place });
    *answer.status_mut() = from.status;
    *answer.headers_mut() = from.headers;
    strip(answer.headers_mut());
    Ok(answer)
}

fn rewritten(request: Request<Incoming>, used: &Use) -> Request<Incoming> {
    let (from, body) = request.into_parts();
    let mut request = Request::new(body);
    let path = from.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.method_mut() = from.method;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = from.headers;
    strip(request.headers_mut());
    let host = HeaderValue::try_from(used.asked.authority()).expect("a name and a port are plain characters");
    request.headers_mut().insert(header::HOST, host);
    request
}

/// Takes out what isn't for the other end.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // The body's length is not the neighbours' own affair, whatever is said.
        .filter(|name| name != header::CONTENT_LENGTH && name != header::HOST)
        .collect();
    for name in named.iter().chain(&BETWEEN_NEIGHBOURS) {
        headers.remove(name);
    }
}

/// An answer's body on its way back. Dropped in the middle, the connection to the host is closed.
#[derive(Debug)]
pub(super) struct Passing {
    inner: Incoming,
    _connection: AbortOnDropHandle<()>,
    _place: Place,
}

impl Body for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)).transpose()? else {
            return Poll::Ready(None);
        };
        // Trailers were not announced any more.
        Poll::Ready(frame.into_data().ok().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_neighbours_and_what_they_name_stays_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Mine, content-length, host"),
            ("connection", "X-Other"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic canary"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("expect", "100-continue"),
            ("x-mine", "canary"),
            ("x-other", "canary"),
            ("authorization", "Bearer of-the-tool"),
            ("content-length", "3"),
            ("host", "a.example"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length", "host"]);
    }
}
