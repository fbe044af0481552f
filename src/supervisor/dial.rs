//! The supervisor's end of the link: dials the server, dials again when it breaks.
//!
//! ```text
//!            connect              Welcome
//!   Down ──────────────▶ Greeting ───────▶ Up
//!    ▲  pause 50 ms → 1 s   │              │
//!    └──────────────────────┴──────────────┘  closed, silent, or protocol broken
//! ```
//! The pause doubles with every failed try and begins anew once a server has welcomed us.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep_until},
};

use super::{
    connection::{Connection, Turn},
    frames::{Frame, Hello, VERSION},
};

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What happened on the link.
#[derive(Debug)]
pub enum DialEvent {
    /// A server welcomed us; it has output up to this number.
    Up {
        /// Newest chunk the server has.
        output_received: u64,
    },
    /// A frame of the server.
    Heard(Frame),
    /// There is room to say more.
    Room,
    /// The link is down; it is dialled again.
    Down,
}

#[derive(Debug)]
enum State {
    Down { retry_at: Instant },
    Greeting(Connection),
    Up(Connection),
}

/// Keeps the link.
#[derive(Debug)]
pub struct Dialer {
    path: PathBuf,
    pause: Duration,
    state: State,
}

impl Dialer {
    /// Will dial the socket at `path`, at once.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, pause: PAUSE_FIRST, state: State::Down { retry_at: Instant::now() } }
    }

    /// The link, if it is up.
    pub const fn up(&mut self) -> Option<&mut Connection> {
        match &mut self.state {
            State::Up(connection) => Some(connection),
            State::Down { .. } | State::Greeting(_) => None,
        }
    }

    /// Cuts the link; it is dialled again.
    pub fn cut(&mut self) {
        self.state = State::Down { retry_at: Instant::now() + self.pause };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Waits for the next event; `hello` is said on a new link. Dropping the future loses nothing.
    pub async fn turn(&mut self, hello: Hello) -> DialEvent {
        loop {
            match &mut self.state {
                State::Down { retry_at } => {
                    sleep_until(*retry_at).await;
                    match dial(&self.path) {
                        Ok(stream) => {
                            let mut connection = Connection::new(stream);
                            connection.say(&Frame::Hello(hello));
                            self.state = State::Greeting(connection);
                        }
                        Err(_) => self.cut(),
                    }
                }
                State::Greeting(connection) => match connection.turn().await {
                    Ok(Turn::Room) => {}
                    Ok(Turn::Heard(Frame::Welcome { version: VERSION, output_received })) => {
                        self.promote();
                        return DialEvent::Up { output_received };
                    }
                    Ok(Turn::Heard(_)) | Err(_) => self.cut(),
                },
                State::Up(connection) => match connection.turn().await {
                    Ok(Turn::Heard(frame)) => return DialEvent::Heard(frame),
                    Ok(Turn::Room) => return DialEvent::Room,
                    Err(_) => {
                        self.cut();
                        return DialEvent::Down;
                    }
                },
            }
        }
    }

    fn promote(&mut self) {
        let down = State::Down { retry_at: Instant::now() };
        self.state = match std::mem::replace(&mut self.state, down) {
            State::Greeting(connection) => State::Up(connection),
            other => other,
        };
        self.pause = PAUSE_FIRST;
    }
}

/// Connects without ever waiting: a unix socket connects at once, or its queue is full and we come again. An awaited connect could be
/// cancelled by the caller's loop each time it is busy, and would then never come about.
fn dial(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    UnixStream::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use tokio::{net::UnixListener, time::timeout};

    use super::*;

    const HELLO: Hello = Hello { version: VERSION, relay_port: 1, agent_pid: 2, input_received: 3, oldest_output: 4 };

    #[tokio::test]
    async fn a_server_that_comes_late_or_goes_away_is_dialled_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("link.sock");
        let mut dialer = Dialer::new(path.clone());
        for output_received in [5, 6] {
            // Nobody is there at first; the pause is short, so waiting it out a few times is, too.
            assert!(timeout(PAUSE_FIRST, dialer.turn(HELLO)).await.is_err());
            let serve = async {
                let _stale = std::fs::remove_file(&path);
                let listener = UnixListener::bind(&path).expect("bound");
                let mut connection = Connection::new(listener.accept().await.expect("dialled").0);
                assert!(matches!(connection.turn().await, Ok(Turn::Heard(Frame::Hello(HELLO)))));
                connection.say(&Frame::Welcome { version: VERSION, output_received });
                connection.flush(Duration::from_secs(1)).await;
                connection
            };
            let (connection, event) = tokio::join!(serve, dialer.turn(HELLO));
            assert!(matches!(event, DialEvent::Up { output_received: number } if number == output_received));
            drop(connection);
            assert!(matches!(dialer.turn(HELLO).await, DialEvent::Down));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_to_a_second_and_no_further() {
        let mut dialer = Dialer::new(PathBuf::from("/nowhere/link.sock"));
        let _never = timeout(Duration::from_secs(20), dialer.turn(HELLO)).await;
        assert_eq!(dialer.pause, PAUSE_MAX);
    }
}
