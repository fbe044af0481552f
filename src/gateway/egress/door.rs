//! One connection to the proxy: what it is used for, and when it is cut.
//!
//! It is served by one task, and all that belongs to it ends with that: when the tool closes it, when the lease or the slot ends, when what it is used
//! for is no longer allowed, and when nothing passes for too long.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::UnixStream, sync::watch};

use super::{
    asked::{Asked, Kind},
    dial::{self, Use},
    forward::{self, Passing},
    refusal::Refusal,
    tunnel::Tunnel,
    verdicts,
};
use crate::{gateway::slot::Shared, telemetry::labels::EgressOutcome};

/// Connections of one slot at the same time; further ones wait in the socket's queue. Each may cost a second one, to a host.
pub(crate) const CONNECTIONS: usize = 32;

/// Largest head of a request, in bytes; 431 past it.
const HEAD_BYTES: usize = 16 * 1024;
/// Deadline for a request's head, and for the next request on a connection that is kept.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// A connection on which nothing passes for this long is cut, at the latest after twice as long.
const SILENCE: Duration = Duration::from_secs(300);

/// What goes back to the tool: a word of ours, or the host's.
type AnswerBody = Either<Full<Bytes>, Passing>;

/// One connection.
#[derive(Debug)]
struct Line {
    used: watch::Sender<Option<Arc<Use>>>,
    /// A tunnel that begins when our answer is out. Held for a line, never across an await.
    tunnel: Mutex<Option<Tunnel>>,
}

/// The connection is used for a request while this lives.
#[derive(Debug)]
pub(super) struct Place(Arc<Line>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.used.send_replace(None);
    }
}

impl Line {
    fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until what the connection is used for must end.
    async fn until_cut(&self) {
        let mut changes = self.used.subscribe();
        loop {
            let used = changes.borrow_and_update().clone();
            let cut = async {
                let Some(used) = used else { return std::future::pending().await };
                tokio::select! {
                    () = used.until_refused() => {
                        tell(&used, EgressOutcome::Revoked);
                    }
                    () = used.until_silent(SILENCE) => {
                        tracing::debug!(egress.host = %used.asked.host, "a connection on which nothing passes is cut");
                    }
                }
            };
            tokio::select! {
                () = cut => return,
                // Both ends are ours: it can't be closed.
                _changed = changes.changed() => {}
            }
        }
    }
}

/// Serves one connection of a slot's tools.
pub(in crate::gateway) async fn serve(stream: UnixStream, shared: Arc<Shared>) {
    let line = Arc::new(Line { used: watch::Sender::new(None), tunnel: Mutex::new(None) });
    let service = service_fn(|request| answer(Arc::clone(&shared), Arc::clone(&line), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let served = async {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a tool's connection broke off");
        }
        if let Some(tunnel) = line.take_tunnel() {
            tunnel.carry().await;
        }
    };
    tokio::select! {
        () = served => {}
        () = line.until_cut() => {}
    }
}

async fn answer(
    shared: Arc<Shared>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let metrics = &shared.gateway().metrics;
    let Some(lease) = shared.lease() else {
        metrics.egress(EgressOutcome::Unleased);
        return Ok(refused(Refusal::Unleased));
    };
    let asked = Asked::of(&request);
    let target = match &asked {
        Ok(asked) => format!("{}:{}", asked.host, asked.port),
        // As it was sent, but for a password in it.
        Err(_) => request
            .uri()
            .authority()
            .map(|authority| authority.as_str())
            .map_or_else(String::new, |text| text.rsplit('@').next().unwrap_or_default().to_owned()),
    };
    let used = asked.map(|asked| Arc::new(Use::new(Arc::clone(&lease), asked, metrics.clone())));
    let outcome = match used {
        Ok(used) => pass(&shared, line, used, request).await,
        Err(refusal) => Err(refusal),
    };
    Ok(outcome.unwrap_or_else(|refusal| {
        verdicts::tell(metrics, &lease.binding, &target, refusal.outcome());
        refused(refusal)
    }))
}

/// Decides, connects, and passes the request on or promises the tunnel.
async fn pass(
    shared: &Shared,
    line: Arc<Line>,
    used: Arc<Use>,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Refusal> {
    let Asked { kind, host, port } = &used.asked;
    if !used.lease.binding.egress.allows(host, *port) {
        return Err(Refusal::NotAllowed);
    }
    let found = shared.gateway().names.find(host, *port).await?;
    let outside = dial::dial(found, Arc::clone(&used)).await?;
    // From here on the connection is cut when the rule goes; also if it went since it was looked at.
    line.used.send_replace(Some(Arc::clone(&used)));
    // Before a byte leaves: the tool may hang up at any time, and nobody would ever hear of it.
    tell(&used, EgressOutcome::Allowed);
    match kind {
        Kind::Request => {
            let place = Place(line);
            let answer = forward::forward(request, outside, &used, place).await?;
            Ok(answer.map(Either::Right))
        }
        Kind::Tunnel => {
            let inside = hyper::upgrade::on(&mut request);
            // The tunnel is the last thing the connection is used for.
            let tunnel = Tunnel { inside, outside, used: Arc::clone(&used) };
            *line.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
            Ok(Response::new(Either::Left(Full::default())))
        }
    }
}

fn refused(refusal: Refusal) -> Response<AnswerBody> {
    refusal.answer().map(|text| Either::Left(Full::new(text)))
}

/// Tells what becomes of a connection that was let through.
pub(super) fn tell(used: &Use, outcome: EgressOutcome) {
    let Asked { host, port, .. } = &used.asked;
    verdicts::tell(used.metrics(), &used.lease.binding, &format!("{host}:{port}"), outcome);
}
