//! A slot's socket: who may connect, and the first words of a link.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    time::{Instant, sleep, timeout_at},
};

use super::{AgentPipes, Leaving, Link, LinkConfig, LinkError, Shared, open};
use crate::supervisor::{
    connection::{Connection, ConnectionError, Turn},
    frames::{Frame, Hello, VERSION},
};

/// Longest path of a unix socket: `sun_path` without its final zero.
const PATH_MAX: usize = 107;
/// How long a peer may take to introduce itself once it has connected.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// Pause after a failed accept (such as: no file left), so that it doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A supervisor that has introduced itself and not been welcomed yet.
#[derive(Debug)]
pub(super) struct Greeted {
    pub connection: Connection,
    pub hello: Hello,
}

/// A connection of the right process that has not introduced itself yet.
#[derive(Debug)]
pub(super) struct Greeting {
    connection: Connection,
    deadline: Instant,
}

impl Greeting {
    /// Waits for the introduction. Dropping the future loses nothing.
    ///
    /// # Errors
    /// There was none: the connection is to be dropped.
    pub async fn hello(&mut self) -> Result<Hello, ConnectionError> {
        loop {
            match timeout_at(self.deadline, self.connection.turn()).await {
                Ok(Ok(Turn::Heard(Frame::Hello(hello)))) => return Ok(hello),
                Ok(Ok(Turn::Room)) => {}
                Ok(Ok(Turn::Heard(_))) => return Err(ConnectionError::Closed),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(ConnectionError::Silent),
            }
        }
    }

    pub fn into_connection(self) -> Connection {
        self.connection
    }
}

/// One slot's `link.sock`, before and while it is used.
#[derive(Debug)]
pub struct LinkListener {
    listener: UnixListener,
    shared: Arc<Shared>,
}

impl LinkListener {
    /// Listens at `path`. A socket that an earlier server left there is replaced. The file is open to every uid: the folder it is in is
    /// private, and who connects is checked by process id.
    ///
    /// # Errors
    /// The path is too long or the socket can't be made.
    pub fn bind(path: &Path) -> Result<Self, LinkError> {
        let length = path.as_os_str().len();
        if length > PATH_MAX {
            return Err(LinkError::PathTooLong { path: path.display().to_string(), length, max: PATH_MAX });
        }
        Self::listen(path).map_err(|source| LinkError::Listen { path: path.display().to_string(), source })
    }

    fn listen(path: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        Ok(Self { listener, shared: Arc::default() })
    }

    /// The link may be left to the next run of the server, when this says so.
    #[must_use]
    pub(in crate::sandbox) fn with(self, leaving: Leaving) -> Self {
        Self { shared: Arc::new(Shared { leaving, ..Shared::default() }), ..self }
    }

    /// Waits for the supervisor. Only a peer whose process id is `init_pid` is served; connections of others are closed and counted.
    /// A supervisor that dialled before this was called is served too: it waits in the socket's queue.
    ///
    /// # Errors
    /// Nobody came in time, or its version is another.
    pub async fn connect(self, init_pid: i32, config: LinkConfig) -> Result<(Link, AgentPipes), LinkError> {
        let deadline = Instant::now() + config.first_timeout;
        loop {
            let Ok(mut greeting) = timeout_at(deadline, self.accept(init_pid)).await else { break };
            let Ok(said) = timeout_at(deadline, greeting.hello()).await else { break };
            match said {
                Ok(hello) if hello.version == VERSION => {
                    let greeted = Greeted { connection: greeting.into_connection(), hello };
                    return Ok(open(greeted, self, init_pid, config));
                }
                Ok(hello) => return Err(LinkError::Version { theirs: hello.version, ours: VERSION }),
                // Such as one that gave up waiting and dialled again: the next in the queue is it.
                Err(_) => {}
            }
        }
        Err(LinkError::NoSupervisor {
            waited: config.first_timeout,
            refused: self.shared.refused.load(Ordering::Relaxed),
        })
    }

    /// Waits for a connection of the right process.
    pub(super) async fn accept(&self, init_pid: i32) -> Greeting {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if is_process(&stream, init_pid) => {
                    return Greeting { connection: Connection::new(stream), deadline: Instant::now() + HELLO_DEADLINE };
                }
                Ok(_) => {
                    self.shared.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

/// Who connected, as the kernel noted it at that moment.
fn is_process(stream: &UnixStream, pid: i32) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.pid() == Some(pid))
}
