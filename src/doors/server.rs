//! The accept loop: takes connections, keeps them within their caps and deadlines, and drains them when the server stops.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge share one port. What goes wrong, and what happens then:
//!
//! | fault | end |
//! |---|---|
//! | too many connections, in all or from one address | the new one is closed at once |
//! | no whole request head in time, idle for too long | the connection is closed |
//! | a client that takes no bytes | the connection is closed |
//! | a head over the limit | 431, by hyper |
//! | no file descriptors left | the loop pauses, longer each time, and says so once |
//! | the token is cancelled | no new connections; requests under way may end within `drain`, then all is dropped |

mod answer;
mod caps;
mod pulse;
mod socket;

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use poem::{
    Addr, Endpoint, Request,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config;
use answer::Answer;
use caps::{Caps, Place};
use pulse::{IDLE, Pulse, UnderWay};
use socket::Socket;

/// Streams of one HTTP/2 connection at the same time.
const HTTP2_STREAMS: u32 = 100;
/// A silent HTTP/2 client is asked this often whether it is still there, and has as long to answer.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// First pause after the system refused a connection; doubles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The least head limit hyper can keep.
const HEAD_MIN: usize = 8192;

/// Tells a request's handler that the server is stopping: streams without an end of their own should end now.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(pub(crate) CancellationToken);

/// Serves `app` until the token is cancelled and everything is drained.
pub async fn serve(
    listener: TcpListener,
    app: impl Endpoint + 'static,
    settings: config::Server,
    token: CancellationToken,
) {
    let server = Arc::new(Server::new(app, settings, token));
    let mut pause = ACCEPT_PAUSE;
    while let Some(accepted) = server.stopping.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, remote)) => {
                pause = ACCEPT_PAUSE;
                server.take(stream, remote);
            }
            Err(fault) if concerns_one_connection(&fault) => {}
            Err(fault) => {
                if pause == ACCEPT_PAUSE {
                    tracing::error!(error = &fault as &dyn std::error::Error, "connections can't be accepted; pausing");
                }
                let _stopped = server.stopping.run_until_cancelled(tokio::time::sleep(pause)).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
    // From here on the system refuses new connections.
    drop(listener);
    server.drain().await;
}

/// The client went away between its SYN and our accept.
fn concerns_one_connection(fault: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(fault.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

struct Server<A> {
    app: A,
    settings: config::Server,
    protocol: auto::Builder<Tracked>,
    caps: Arc<Caps>,
    /// Cancelled by the owner: drain.
    stopping: CancellationToken,
    /// Cancelled by us: drop everything.
    stopped: CancellationToken,
    tasks: TaskTracker,
}

impl<A: Endpoint + 'static> Server<A> {
    fn new(app: A, settings: config::Server, stopping: CancellationToken) -> Self {
        let stopped = CancellationToken::new();
        let tasks = TaskTracker::new();
        let protocol = protocol(&settings, Tracked { tasks: tasks.clone(), stopped: stopped.clone() });
        let caps = Caps::new(settings.connections, settings.connections_per_address);
        Self { app, settings, protocol, caps, stopping, stopped, tasks }
    }

    /// Starts a connection's task, or closes the connection.
    fn take(self: &Arc<Self>, stream: TcpStream, remote: SocketAddr) {
        let Some(place) = self.caps.place(remote.ip()) else {
            tracing::debug!(%remote, "too many connections");
            return;
        };
        let server = Arc::clone(self);
        self.tasks.spawn(async move {
            let stopped = server.stopped.clone();
            let _ended = stopped.run_until_cancelled(server.connection(stream, remote, place)).await;
        });
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, remote: SocketAddr, _place: Place) {
        let local = stream.local_addr().unwrap_or(self.settings.address);
        // Small events must not wait for the client's acknowledgement of the last ones.
        if let Err(fault) = stream.set_nodelay(true) {
            tracing::debug!(%remote, error = &fault as &dyn std::error::Error, "no TCP_NODELAY");
        }
        let pulse = Pulse::new(self.settings.head_timeout);
        let io = TokioIo::new(Socket::new(stream, Arc::clone(&pulse), self.settings.write_stall));
        let service = service_fn(|request| {
            let under_way = pulse.request(request.version());
            answer(Arc::clone(&self), request, local, remote, under_way)
        });
        let mut connection = pin!(self.protocol.serve_connection(io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(fault) = ended {
            // Clients that vanish are no news.
            tracing::debug!(%remote, error = &*fault as &dyn std::error::Error, "connection ended");
        }
    }

    async fn drain(&self) {
        self.tasks.close();
        if tokio::time::timeout(self.settings.drain, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "requests are still under way; dropping them");
        }
        self.stopped.cancel();
        self.tasks.wait().await;
    }
}

async fn answer<A: Endpoint + 'static>(
    server: Arc<Server<A>>,
    request: hyper::Request<Incoming>,
    local: SocketAddr,
    remote: SocketAddr,
    under_way: UnderWay,
) -> Result<hyper::Response<Answer>, Infallible> {
    let local = LocalAddr(Addr::SocketAddr(local));
    let remote = RemoteAddr(Addr::SocketAddr(remote));
    let mut request = Request::from((request, local, remote, Scheme::HTTP));
    request.extensions_mut().insert(Stopping(server.stopping.clone()));
    let response = server.app.get_response(request).await;
    Ok(hyper::Response::from(response).map(|body| Answer::new(body, under_way)))
}

fn protocol(settings: &config::Server, executor: Tracked) -> auto::Builder<Tracked> {
    let mut builder = auto::Builder::new(executor);
    builder
        .http1()
        .timer(TokioTimer::new())
        // Hyper counts this from the end of the last answer, so it is the idle deadline; the head's own is the pulse's.
        .header_read_timeout(IDLE)
        .max_buf_size(settings.head_bytes.max(HEAD_MIN));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(settings.head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING);
    builder
}

/// Runs the tasks of HTTP/2 streams: counted for the drain, dropped after it.
#[derive(Debug, Clone)]
struct Tracked {
    tasks: TaskTracker,
    stopped: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tracked {
    fn execute(&self, future: F) {
        let stopped = self.stopped.clone();
        self.tasks.spawn(async move { stopped.run_until_cancelled(future).await.map(drop) });
    }
}
