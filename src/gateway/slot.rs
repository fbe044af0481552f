//! One slot's two sockets, to the model and to the proxy for tools: who may use them now, and the connections on them.
//!
//! ```text
//!   open ──► unbound ──bind──► bound ──unbind──► unbound ──drop──► gone
//!            (403)             (forwards)        (403; connections were ended)
//! ```
//!
//! One task accepts and owns all connection tasks; it ends with its [`SlotGateway`], and they with it.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{Binding, Endpoint, Gateway, egress, lease::Lease, proxy, socket::Socket};

/// Connections at the same time; further ones wait in the socket's queue. Agents use one to three; each may cost a second one, to
/// the model.
pub(crate) const CONNECTIONS: usize = 16;

/// Largest head of a request, in bytes; 431 past it.
const HEAD_BYTES: usize = 16 * 1024;

/// Deadline for a request's head, and for the next request on a connection that is kept.
const HEAD_TIME: Duration = Duration::from_secs(60);

/// Pause after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The proxy's socket, beside the one that leads to the model.
const EGRESS_SOCKET: &str = "egress.sock";

/// A slot's end of the gateway. Dropping it closes the sockets, removes their files and ends all their connections.
#[derive(Debug)]
pub struct SlotGateway {
    shared: Arc<Shared>,
    closed: CancellationToken,
    _sockets: [Socket; 2],
}

/// What a slot's requests need.
#[derive(Debug)]
pub(super) struct Shared {
    gateway: Gateway,
    endpoint: Arc<Endpoint>,
    /// Held for a few lines, never across an await.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lease: Option<Arc<Lease>>,
    /// Ends the connections of now; replaced at each unbind.
    connections: CancellationToken,
}

impl SlotGateway {
    pub(super) fn open(gateway: Gateway, socket: &Path, endpoint: Arc<Endpoint>) -> io::Result<Self> {
        let (to_model, listener) = Socket::listen(socket)?;
        let (to_hosts, egress) = Socket::listen(&socket.with_file_name(EGRESS_SOCKET))?;
        let state = Mutex::new(State { lease: None, connections: CancellationToken::new() });
        let shared = Arc::new(Shared { gateway, endpoint, state });
        let closed = CancellationToken::new();
        let accepting = accept(listener, shared.clone(), CONNECTIONS, serve);
        tokio::spawn(closed.clone().run_until_cancelled_owned(accepting));
        let accepting = accept(egress, shared.clone(), egress::CONNECTIONS, egress::serve);
        tokio::spawn(closed.clone().run_until_cancelled_owned(accepting));
        Ok(Self { shared, closed, _sockets: [to_model, to_hosts] })
    }

    /// Lets the slot's agent speak to the model in this user's name. Takes microseconds. A binding of another session that was there ends first.
    pub fn bind(&self, binding: Binding) {
        let lease = Arc::new(Lease::new(binding, self.shared.endpoint.key_header()));
        let mut state = self.shared.state();
        // Another key for the same session is for its next calls.
        let of_another = |former: &Arc<Lease>| former.binding.session != lease.binding.session;
        if state.lease.as_ref().is_some_and(of_another) {
            state.end();
        }
        state.lease = Some(lease);
    }

    /// Refuses requests from now on and ends those under way. What the model has counted of them is still reported, a moment
    /// later; then the slot's sender of the binding's channel is dropped.
    pub fn unbind(&self) {
        self.shared.state().end();
    }
}

impl Drop for SlotGateway {
    fn drop(&mut self) {
        self.unbind();
        self.closed.cancel();
    }
}

impl State {
    fn end(&mut self) {
        self.lease = None;
        std::mem::take(&mut self.connections).cancel();
    }
}

impl Shared {
    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The lease of this moment.
    pub(super) fn lease(&self) -> Option<Arc<Lease>> {
        self.state().lease.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts until dropped; the connections are dropped with it.
async fn accept<S>(listener: UnixListener, shared: Arc<Shared>, places: usize, serve: fn(UnixStream, Arc<Shared>) -> S)
where
    S: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < places => match accepted {
                Ok((stream, _)) => {
                    let ended = shared.state().connections.clone();
                    connections.spawn(ended.run_until_cancelled_owned(serve(stream, shared.clone())));
                }
                Err(error) => {
                    tracing::warn!(%error, "a slot's connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn serve(stream: UnixStream, shared: Arc<Shared>) {
    let service = service_fn(|request| proxy::answer(shared.clone(), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a slot's connection broke off");
    }
}

#[cfg(test)]
mod tests;
