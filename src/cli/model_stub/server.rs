//! The stub's HTTP side: one task per connection, all ended with the listener.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use super::{Options, answer, answer::Answer, prompt, script::Ending, script::Plan, script::plan};

/// Connections at the same time; further ones wait.
const CONNECTIONS: usize = 512;

/// Largest request, in bytes.
const BODY_BYTES: usize = 64 * 1024 * 1024;

/// Deadline for a request's body.
const BODY_TIME: Duration = Duration::from_secs(120);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves until `shutdown` is done, then ends all connections.
pub async fn serve(listener: TcpListener, options: Options, shutdown: impl Future<Output = ()>) {
    let options = Arc::new(options);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    // Pieces are small and must not wait for one another.
                    let _without = stream.set_nodelay(true);
                    let options = options.clone();
                    let service = service_fn(move |request| respond(options.clone(), request));
                    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                    connections.spawn(connection);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
}

async fn respond(options: Arc<Options>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(handle(&options, request).await.unwrap_or_else(|(code, error)| json_answer(code, &error)))
}

/// A failure: status and text.
type Failure = (u16, Value);

async fn handle(options: &Options, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let (parts, body) = request.into_parts();
    let (model, call) =
        route(&parts.method, parts.uri.path()).ok_or_else(|| (404, answer::error(404, "there is no such call")))?;
    let (model, call) = (model.to_owned(), call.to_owned());
    check_key(options, &parts.headers)?;
    let faulty = |text: &str| (400, answer::error(400, text));
    let body = tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_BYTES).collect()).await;
    let body = body.map_err(|_elapsed| faulty("the body took too long"))?.map_err(|_| faulty("the body broke off"))?;
    let request =
        serde_json::from_slice::<prompt::Request>(&body.to_bytes()).map_err(|_| faulty("the body is not a request"))?;

    let answer = Answer { model, input: request.tokens() };
    if call == "countTokens" {
        return Ok(json_answer(200, &json!({"totalTokens": answer.input})));
    }
    let sse = call == "streamGenerateContent";
    if let Some(schema) = request.schema() {
        let piece = answer.text(&answer::fitting(&schema).to_string(), 1, true);
        return Ok(if sse { events([piece], Duration::ZERO, Ending::Complete) } else { json_answer(200, &piece) });
    }
    match plan(&request.prompt(), options) {
        Plan::Hang => std::future::pending().await,
        Plan::Fail(code) => Err((code, answer::error(code, "as the prompt asked"))),
        Plan::Call(call) if sse => Ok(events([answer.call(&call)], Duration::ZERO, Ending::Complete)),
        Plan::Call(call) => Ok(json_answer(200, &answer.call(&call))),
        Plan::Say { pieces, .. } if !sse => {
            Ok(json_answer(200, &answer.text(&pieces.concat(), pieces.len() as u64, true)))
        }
        Plan::Say { thought, pieces, delay, ending } => {
            let last = pieces.len() as u64;
            let thought = thought.map(|text| answer.thought(&text));
            let said = (1..).zip(pieces).map(move |(at, text)| answer.text(&text, at, at == last));
            Ok(events(thought.into_iter().chain(said), delay, ending))
        }
    }
}

/// `POST /{version}/models/{model}:{call}`
fn route<'path>(method: &Method, path: &'path str) -> Option<(&'path str, &'path str)> {
    let (version, rest) = path.strip_prefix('/')?.split_once("/models/")?;
    let (model, call) = rest.split_once(':')?;
    let known = ["streamGenerateContent", "generateContent", "countTokens"].contains(&call);
    (method == Method::POST && ["v1", "v1beta", "v1beta1"].contains(&version) && known).then_some((model, call))
}

/// The API's own ways of saying no: without a key, with a wrong one, and with one it knows too well.
fn check_key(options: &Options, headers: &HeaderMap) -> Result<(), Failure> {
    let Some(required) = &options.require_key else { return Ok(()) };
    let unknown = "Method doesn't allow unregistered callers (callers without established identity).";
    match headers.get("x-goog-api-key").map(HeaderValue::as_bytes) {
        None | Some(b"") => Err((403, answer::error(403, unknown))),
        Some(key) if key == required.expose_secret().as_bytes() => Ok(()),
        Some(key) if options.echo_key => Err((403, answer::suspended_key(&String::from_utf8_lossy(key)))),
        Some(_) => Err((400, answer::wrong_key())),
    }
}

fn json_answer(code: u16, value: &Value) -> Response<Body> {
    let mut answer = Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    answer
}

/// Server-sent events, with a pause between each two.
fn events<P>(pieces: P, delay: Duration, ending: Ending) -> Response<Body>
where
    P: IntoIterator<Item = Value>,
    P::IntoIter: Send + 'static,
{
    let pieces = stream::iter(pieces).enumerate().then(move |(at, piece)| async move {
        if at > 0 && !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(Frame::data(Bytes::from(format!("data: {piece}\r\n\r\n"))))
    });
    let body = match ending {
        Ending::Complete => StreamBody::new(pieces).boxed_unsync(),
        Ending::Stall => StreamBody::new(pieces.chain(stream::pending())).boxed_unsync(),
    };
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer
}

#[cfg(test)]
mod tests;
