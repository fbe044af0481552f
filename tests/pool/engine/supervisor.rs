//! The supervisor of a fake container: speaks the real frames over the slot's real socket, from this very process.
//!
//! It ends when its container is destroyed, which drops it; when it is told to die; or when the server has heard all it wants.

use std::{collections::VecDeque, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    net::UnixStream,
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Engine, LINK_TIMEOUT, agent,
    script::{Call, SLOW, Way},
};
use greenroom::{
    ids::SlotId,
    supervisor::{
        connection::{Connection, Turn},
        frames::{Ending, Frame, Hello, Source, VERSION},
    },
};

/// How a container comes to its end without us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Its agent exits; the supervisor says so.
    Agent,
    /// Its first process is killed: the link breaks and nobody comes back. The engine keeps the dead container.
    Killed,
    /// Somebody destroyed it: the engine doesn't know it any more.
    Removed,
    /// Somebody paused it: it says nothing any more, and the link stays open.
    Paused,
    /// The same, and the engine knows nothing of it.
    Silent,
}

const HELLO: Hello = Hello { version: VERSION, relay_port: 41_000, agent_pid: 7, input_received: 0, oldest_output: 1 };

/// How often and how far apart it tries to call again.
const REDIALS: usize = 400;
const REDIAL_PAUSE: Duration = Duration::from_millis(5);

/// One container's life after `start`.
pub struct Supervisor {
    engine: Arc<Engine>,
    slot: SlotId,
    connection: Connection,
    /// What will be said, when.
    later: VecDeque<(Instant, Frame)>,
    /// Output said so far, and how much of it was taken.
    said: u64,
    taken: u64,
    /// Input heard so far.
    input: u64,
    /// The agent's input that is no whole line yet.
    heard: Vec<u8>,
    exited: bool,
    pinged: bool,
}

/// Plays the supervisor until it dies.
pub async fn play(engine: Arc<Engine>, slot: SlotId, socket: &Path, mut deaths: mpsc::Receiver<Death>) {
    let Some((connection, mut second)) = first_call(&engine, &slot, socket).await else { return };
    let mut supervisor = Supervisor::new(engine, slot, connection);
    loop {
        let due = supervisor.later.front().map(|(due, _)| *due);
        let goes_on = tokio::select! {
            turn = supervisor.connection.turn() => match turn {
                Ok(Turn::Heard(Frame::Goodbye)) => return,
                Ok(Turn::Heard(frame)) => supervisor.hear(frame) || supervisor.redial(socket).await,
                Ok(Turn::Room) => true,
                Err(_) => supervisor.redial(socket).await,
            },
            _ = async { second.as_mut().expect("guarded").turn().await }, if second.is_some() => {
                second = None;
                true
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let (_, frame) = supervisor.later.pop_front().expect("it is due");
                supervisor.connection.say(&frame);
                true
            }
            Some(death) = deaths.recv() => return supervisor.die(death).await,
        };
        if !goes_on {
            return supervisor.engine.died(&supervisor.slot);
        }
    }
}

/// Calls the server the way the script says: once, or twice at the same time.
async fn first_call(engine: &Arc<Engine>, slot: &SlotId, socket: &Path) -> Option<(Connection, Option<Connection>)> {
    let way = engine.meet(Call::Link);
    let mut hello = HELLO;
    match way {
        Way::Slow => sleep(SLOW).await,
        Way::Never | Way::Late => {
            engine.start_is_over_soon(slot, LINK_TIMEOUT);
            std::future::pending().await
        }
        Way::Error => {
            engine.start_is_over(slot);
            hello.version = VERSION + 1;
        }
        Way::Ok | Way::Twice => {}
    }
    let first = dial(socket, hello).await?;
    Some((first, if way == Way::Twice { dial(socket, hello).await } else { None }))
}

async fn dial(socket: &Path, hello: Hello) -> Option<Connection> {
    let mut connection = Connection::new(UnixStream::connect(socket).await.ok()?);
    connection.say(&Frame::Hello(hello));
    Some(connection)
}

impl Supervisor {
    fn new(engine: Arc<Engine>, slot: SlotId, connection: Connection) -> Self {
        let (later, heard) = (VecDeque::new(), Vec::new());
        Self { engine, slot, connection, later, said: 0, taken: 0, input: 0, heard, exited: false, pinged: false }
    }

    /// Calls again after the link broke, as a supervisor does as long as its slot is there. Keeps no ring: what wasn't taken is lost, and
    /// with it the sandbox.
    async fn redial(&mut self, socket: &Path) -> bool {
        if self.taken < self.said {
            return false;
        }
        let hello = Hello { input_received: self.input, oldest_output: self.said + 1, ..HELLO };
        for _ in 0..REDIALS {
            // The old connection goes first: a second one beside it is turned away, and so is one that comes before its end was seen.
            let Some(connection) = dial(socket, hello).await else {
                // The next run of the server may listen soon.
                if !socket.parent().is_some_and(Path::exists) {
                    return false;
                }
                sleep(REDIAL_PAUSE).await;
                continue;
            };
            self.connection = connection;
            let welcomed = async {
                loop {
                    match self.connection.turn().await {
                        Ok(Turn::Room) => {}
                        Ok(Turn::Heard(first)) => return matches!(first, Frame::Welcome { .. }),
                        Err(_) => return false,
                    }
                }
            };
            if timeout(LINK_TIMEOUT, welcomed).await == Ok(true) {
                return true;
            }
            sleep(REDIAL_PAUSE).await;
        }
        false
    }

    /// Whether the link goes on.
    fn hear(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::Input { number, bytes } => {
                self.input = number;
                self.connection.say(&Frame::InputTaken(number));
                self.heard.extend_from_slice(&bytes);
                while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.heard.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line[..end]).into_owned();
                    for (pause, reply) in agent::hear(&self.engine, &self.slot, &line) {
                        self.say_output(pause, reply);
                    }
                }
            }
            Frame::OutputTaken(number) => self.taken = number,
            Frame::CloseInput(number) => {
                self.input = number;
                self.connection.say(&Frame::InputTaken(number));
                self.exit(Ending::Code(0));
            }
            Frame::Stop { .. } => self.exit(Ending::Signal(15)),
            // The link's own first ping comes with the link; what goes wrong there is `Call::Link`.
            Frame::Ping if !std::mem::replace(&mut self.pinged, true) => self.connection.say(&Frame::Pong),
            Frame::Ping => match self.engine.meet(Call::Ping) {
                Way::Ok => self.connection.say(&Frame::Pong),
                Way::Slow => self.say_later(SLOW, Frame::Pong),
                Way::Twice => [(); 2].map(|()| self.connection.say(&Frame::Pong)).into_iter().collect(),
                // To the server it is as good as dead.
                Way::Never | Way::Late => self.engine.died(&self.slot),
                Way::Error => return false,
            },
            _ => {}
        }
        true
    }

    fn say_output(&mut self, pause: Duration, mut line: String) {
        line.push('\n');
        self.said += 1;
        let frame = Frame::Output { number: self.said, source: Source::Stdout, bytes: Bytes::from(line) };
        self.say_later(pause, frame);
    }

    /// Says it after the pause, and never before what was to be said earlier.
    fn say_later(&mut self, pause: Duration, frame: Frame) {
        let due = Instant::now() + pause;
        let due = self.later.back().map_or(due, |(before, _)| due.max(*before));
        self.later.push_back((due, frame));
    }

    async fn die(mut self, death: Death) {
        let Self { engine, slot, .. } = &self;
        let (engine, slot) = (Arc::clone(engine), slot.clone());
        engine.start_is_over(&slot);
        match death {
            Death::Agent => {
                self.connection.say(&Frame::Exited(Ending::Code(1)));
                self.connection.flush(LINK_TIMEOUT).await;
                engine.died(&slot);
                // The supervisor itself lives, and answers pings.
                while let Ok(turn) = self.connection.turn().await {
                    match turn {
                        Turn::Heard(Frame::Goodbye) => return,
                        Turn::Heard(Frame::Ping) => self.connection.say(&Frame::Pong),
                        Turn::Heard(_) | Turn::Room => {}
                    }
                }
            }
            Death::Killed | Death::Removed => {
                drop(self);
                engine.died(&slot);
            }
            Death::Paused | Death::Silent => {
                engine.died(&slot);
                std::future::pending().await
            }
        }
    }

    fn exit(&mut self, ending: Ending) {
        if !std::mem::replace(&mut self.exited, true) {
            self.say_later(Duration::ZERO, Frame::Exited(ending));
        }
    }
}
