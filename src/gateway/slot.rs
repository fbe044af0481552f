//! One slot's socket: who may use it now, and the connections on it.
//!
//! ```text
//!   open ──► unbound ──bind──► bound ──unbind──► unbound ──drop──► gone
//!            (403)             (forwards)        (403; connections were ended)
//! ```
//!
//! One task accepts and owns all connection tasks; it ends with its [`SlotGateway`], and they with it.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
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

use super::{Binding, Endpoint, Gateway, lease::Lease, proxy};

/// Connections at the same time; further ones wait in the socket's queue. Agents use one to three; each may cost a second one, to
/// the model.
pub(crate) const CONNECTIONS: usize = 16;

/// Largest head of a request, in bytes; 431 past it.
const HEAD_BYTES: usize = 16 * 1024;

/// Deadline for a request's head, and for the next request on a connection that is kept.
const HEAD_TIME: Duration = Duration::from_secs(60);

/// Pause after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A slot's end of the gateway. Dropping it closes the socket, removes its file and ends all its connections.
#[derive(Debug)]
pub struct SlotGateway {
    shared: Arc<Shared>,
    socket: PathBuf,
    /// Of the socket's file.
    identity: (u64, u64),
    closed: CancellationToken,
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
        remove_socket(socket)?;
        let listener = UnixListener::bind(socket)?;
        // The sandbox's uid is not ours; the folder keeps everyone else out.
        fs::set_permissions(socket, fs::Permissions::from_mode(0o666))?;
        let identity = identity(socket)?;
        let state = Mutex::new(State { lease: None, connections: CancellationToken::new() });
        let shared = Arc::new(Shared { gateway, endpoint, state });
        let closed = CancellationToken::new();
        tokio::spawn(closed.clone().run_until_cancelled_owned(accept(listener, shared.clone())));
        Ok(Self { shared, socket: socket.to_owned(), identity, closed })
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
        // The next run of the server may have put its own there.
        let is_ours = identity(&self.socket).is_ok_and(|found| found == self.identity);
        if is_ours && let Err(error) = remove_socket(&self.socket) {
            tracing::warn!(%error, socket = %self.socket.display(), "a slot's socket could not be removed");
        }
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
async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
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

/// What tells a socket's file from another one in its place.
fn identity(socket: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(socket).map(|found| (found.dev(), found.ino()))
}

/// Removes what a former run left; refuses to remove anything but a socket.
fn remove_socket(socket: &Path) -> io::Result<()> {
    match fs::symlink_metadata(socket) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(socket),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file in the socket's place")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
