//! The task that owns one link after its first connection: see the module's page for its states.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    LinkConfig, Request, Shared,
    condemner::{self, Condemned},
    heartbeat::Heartbeat,
    inbox::Inbox,
    init::Init,
    listener::{Greeted, Greeting, LinkListener},
    outbox::Outbox,
};
use crate::{
    sandbox::pipes::{AgentExit, FromAgent},
    supervisor::{
        connection::{Connection, ConnectionError, Turn},
        frames::{Ending, Frame, Hello, VERSION},
    },
};

/// How long our last word may take.
const GOODBYE_DEADLINE: Duration = Duration::from_millis(200);

/// The task's ends of the pipes and of the handle's channels.
#[derive(Debug)]
pub(super) struct Ends {
    pub input: mpsc::Receiver<Bytes>,
    pub input_taken: watch::Sender<u64>,
    pub output: mpsc::Sender<FromAgent>,
    pub done_with: watch::Receiver<u64>,
    pub requests: mpsc::Receiver<Request>,
    pub condemned: Condemned,
    pub ended: watch::Sender<bool>,
}

#[derive(Debug)]
enum State {
    /// No link; a supervisor may be introducing itself.
    Waiting { until: Instant, why: String, greeting: Option<Greeting> },
    /// Linked.
    Linked(Connection),
}

enum Event {
    Accepted(Greeting),
    Greeted(Result<Hello, ConnectionError>),
    Heard(Frame),
    Room,
    Broken(ConnectionError),
    Delivered,
    ReaderGone,
    Done,
    NothingMoreDone,
    Input(Option<Bytes>),
    Request(Option<Request>),
    Beat,
    Condemned(String),
    InitEnded,
    GiveUp,
}

/// Why there is no link any more.
#[derive(Debug)]
enum Loss {
    /// It broke. For the log.
    Broken(String),
    /// Somebody ended it from outside. For the user.
    Condemned(String),
    /// Its ends went away because it is left to the next run of the server: nothing is said, to anybody.
    Left,
}

impl From<String> for Loss {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}

/// The owner of a link.
#[derive(Debug)]
pub(super) struct Task {
    listener: LinkListener,
    init_pid: i32,
    init: Init,
    config: LinkConfig,
    ends: Ends,
    shared: Arc<Shared>,
    state: State,
    inbox: Inbox,
    outbox: Outbox,
    reader_gone: bool,
    done_open: bool,
    handle_open: bool,
    taken_told: u64,
    heartbeat: Heartbeat,
    stop: Option<Duration>,
    stop_told: bool,
    exit: Option<AgentExit>,
    exit_delivered: bool,
}

impl Task {
    pub fn new(first: Greeted, listener: LinkListener, init_pid: i32, config: LinkConfig, ends: Ends) -> Self {
        let shared = listener.shared();
        let hello = first.hello;
        let mut task = Self {
            listener,
            init_pid,
            init: Init::watch(init_pid),
            config,
            ends,
            shared,
            state: State::Waiting { until: Instant::now(), why: String::new(), greeting: None },
            inbox: Inbox::new(hello.oldest_output.saturating_sub(1)),
            outbox: Outbox::new(hello.input_received),
            reader_gone: false,
            done_open: true,
            handle_open: true,
            taken_told: 0,
            heartbeat: Heartbeat::new(config.relink_timeout, Instant::now()),
            stop: None,
            stop_told: false,
            exit: None,
            exit_delivered: false,
        };
        task.link(first);
        task
    }

    /// Runs until the agent's end is delivered, the link is lost, or the handle is dropped (which aborts this).
    pub async fn run(mut self) {
        let mut beats = interval(self.heartbeat.period());
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lost = loop {
            self.speak();
            if self.is_over() {
                break None;
            }
            let event = self.wait(&mut beats).await;
            if let Err(loss) = self.handle(event) {
                break Some(loss);
            }
        };
        self.shared.up.store(false, Ordering::Relaxed);
        // Whoever waits for a sign of life learns now that there will be none.
        self.ends.requests.close();
        while self.ends.requests.try_recv().is_ok() {}
        self.heartbeat.end();
        match lost {
            None => {
                if let State::Linked(connection) = &mut self.state {
                    connection.say(&Frame::Goodbye);
                    connection.flush(GOODBYE_DEADLINE).await;
                }
            }
            Some(loss) => self.tell_lost(loss).await,
        }
        // Nobody may be left to see it.
        let _unseen = self.ends.ended.send(true);
    }

    async fn wait(&mut self, beats: &mut tokio::time::Interval) -> Event {
        let wants_input = self.outbox.wants_more();
        let has_output = !self.inbox.is_empty() || (self.exit.is_some() && !self.exit_delivered);
        let linked = matches!(self.state, State::Linked(_));
        let Self { listener, ends, init, state, inbox, exit, exit_delivered, .. } = self;
        tokio::select! {
            greeting = listener.accept(self.init_pid) => Event::Accepted(greeting),
            event = turn(state) => event,
            permit = ends.output.reserve(), if has_output && !self.reader_gone => match permit {
                Ok(permit) => {
                    if let Some(chunk) = inbox.pop() {
                        permit.send(chunk);
                    } else if let Some(ending) = *exit {
                        permit.send(FromAgent::Exited(ending));
                        *exit_delivered = true;
                    }
                    Event::Delivered
                }
                Err(_) => Event::ReaderGone,
            },
            () = ends.output.closed(), if !self.reader_gone => Event::ReaderGone,
            changed = ends.done_with.changed(), if self.done_open => {
                if changed.is_ok() { Event::Done } else { Event::NothingMoreDone }
            }
            bytes = ends.input.recv(), if wants_input => Event::Input(bytes),
            request = ends.requests.recv(), if self.handle_open => Event::Request(request),
            _ = beats.tick(), if linked => Event::Beat,
            why = condemner::reason(&mut ends.condemned) => Event::Condemned(why),
            // Only without a link: what a dead supervisor said last is read to its end first.
            () = init.ended(), if !linked => Event::InitEnded,
        }
    }

    /// What follows from an event.
    ///
    /// # Errors
    /// The link is lost for good.
    fn handle(&mut self, event: Event) -> Result<(), Loss> {
        match event {
            Event::Accepted(new) => {
                // One link at a time: a second one of the same process waits until the first is seen to be dead, by dialling again.
                if let State::Waiting { greeting: greeting @ None, .. } = &mut self.state {
                    *greeting = Some(new);
                }
            }
            Event::Greeted(said) => self.on_hello(said)?,
            Event::Heard(frame) => self.on_frame(frame)?,
            Event::Broken(error) => self.unlink(&error),
            Event::ReaderGone | Event::Input(None) if self.shared.leaving.has_begun() => return Err(Loss::Left),
            Event::ReaderGone => {
                self.reader_gone = true;
                self.inbox.discard();
            }
            Event::NothingMoreDone => self.done_open = false,
            Event::Input(message) => self.outbox.push(message),
            Event::Request(Some(Request::Stop { grace })) => {
                self.stop = Some(self.stop.map_or(grace, |before| before.min(grace)));
                self.stop_told = false;
            }
            Event::Request(Some(Request::Signal { number })) => {
                if let State::Linked(connection) = &mut self.state {
                    connection.say(&Frame::Signal(number));
                }
            }
            // A supervisor without an agent answers, but there is no life to give a sign of.
            Event::Request(Some(Request::Ping { asker })) if self.exit.is_some() => drop(asker),
            Event::Request(Some(Request::Ping { asker })) => self.heartbeat.ask(asker, Instant::now()),
            Event::Request(None) => self.handle_open = false,
            Event::Beat => {
                let beat = self.heartbeat.beat(Instant::now());
                beat.map_err(|silent| format!("the supervisor did not answer for {} ms", silent.as_millis()))?;
            }
            Event::Condemned(why) => return Err(Loss::Condemned(why)),
            Event::InitEnded => return Err("the sandbox's first process has ended".to_owned().into()),
            Event::GiveUp => return Err(self.why_lost().into()),
            Event::Room | Event::Delivered | Event::Done => {}
        }
        Ok(())
    }

    fn on_hello(&mut self, said: Result<Hello, ConnectionError>) -> Result<(), String> {
        let State::Waiting { greeting, .. } = &mut self.state else { return Ok(()) };
        let (Some(greeting), Ok(hello)) = (greeting.take(), said) else { return Ok(()) };
        if hello.version != VERSION {
            return Err(format!("the supervisor came back with link version {}", hello.version));
        }
        let expected = self.inbox.received() + 1;
        if hello.oldest_output > expected {
            return Err(format!("output from {expected} to {} is gone", hello.oldest_output - 1));
        }
        self.link(Greeted { connection: greeting.into_connection(), hello });
        Ok(())
    }

    fn link(&mut self, Greeted { mut connection, hello }: Greeted) {
        connection.say(&Frame::Welcome { version: VERSION, output_received: self.inbox.received() });
        self.outbox.rewind(hello.input_received);
        self.taken_told = 0;
        self.stop_told = false;
        self.heartbeat.relinked(Instant::now());
        self.state = State::Linked(connection);
        self.shared.up.store(true, Ordering::Relaxed);
    }

    fn unlink(&mut self, error: &ConnectionError) {
        self.shared.up.store(false, Ordering::Relaxed);
        let until = self.heartbeat.patience_ends(matches!(error, ConnectionError::Silent), Instant::now());
        self.state = State::Waiting { until, why: error.to_string(), greeting: None };
    }

    fn on_frame(&mut self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Output { number, source, bytes } => {
                self.inbox.push(number, source.into(), bytes).map_err(|error| error.to_string())?;
                if self.reader_gone {
                    self.inbox.discard();
                }
            }
            Frame::InputTaken(number) => {
                self.outbox.acknowledge(number);
                self.ends.input_taken.send_replace(number);
            }
            Frame::Exited(ending) => {
                self.exit = Some(match ending {
                    Ending::Code(code) => AgentExit { code: Some(code), signal: None },
                    Ending::Signal(signal) => AgentExit { code: None, signal: Some(signal) },
                });
                // Who asked before it and hears the pong behind it must not take the sandbox for well.
                self.heartbeat.end();
            }
            Frame::Pong => self.heartbeat.pong(Instant::now()),
            other => return Err(format!("the supervisor said {other:?}")),
        }
        Ok(())
    }

    /// Fills the link as far as it has room.
    fn speak(&mut self) {
        let taken = self.taken();
        let State::Linked(connection) = &mut self.state else { return };
        if !connection.has_room() {
            return;
        }
        if self.heartbeat.send() {
            connection.say(&Frame::Ping);
        }
        if let Some(grace) = self.stop
            && !std::mem::replace(&mut self.stop_told, true)
        {
            connection.say(&Frame::Stop { grace_ms: u32::try_from(grace.as_millis()).unwrap_or(u32::MAX) });
        }
        if taken > self.taken_told {
            self.taken_told = taken;
            connection.say(&Frame::OutputTaken(taken));
        }
        while connection.has_room()
            && let Some(frame) = self.outbox.next_frame()
        {
            connection.say(&frame);
        }
    }

    /// Newest chunk the supervisor may forget: what the reader is done with, or everything when there is no reader.
    fn taken(&self) -> u64 {
        let received = self.inbox.received();
        if self.reader_gone { received } else { received.min(*self.ends.done_with.borrow()) }
    }

    /// The agent has ended, the reader knows, and needs nothing more from the supervisor.
    fn is_over(&self) -> bool {
        let told = self.exit.is_some() && (self.exit_delivered || self.reader_gone);
        told && (!self.done_open || self.taken() == self.inbox.received())
    }

    fn why_lost(&self) -> String {
        let State::Waiting { why, .. } = &self.state else { return String::new() };
        format!("link {why}; not back within {} ms", self.config.relink_timeout.as_millis())
    }

    /// Delivers what arrived, then the bad news; as long as there is a reader.
    async fn tell_lost(&mut self, loss: Loss) {
        while !matches!(loss, Loss::Left)
            && let Some(chunk) = self.inbox.pop()
        {
            if self.ends.output.send(chunk).await.is_err() {
                return;
            }
        }
        let last = match (self.exit, loss) {
            (_, Loss::Left) => return,
            (Some(_), _) if self.exit_delivered => return,
            (Some(exit), _) => FromAgent::Exited(exit),
            (None, Loss::Broken(why)) => FromAgent::Lost(why),
            (None, Loss::Condemned(why)) => FromAgent::Condemned(why),
        };
        // A reader that is gone needs no news.
        let _gone = self.ends.output.send(last).await;
    }
}

/// One step of whatever state the link is in. Dropping the future loses nothing.
async fn turn(state: &mut State) -> Event {
    match state {
        State::Linked(connection) => match connection.turn().await {
            Ok(Turn::Heard(frame)) => Event::Heard(frame),
            Ok(Turn::Room) => Event::Room,
            Err(error) => Event::Broken(error),
        },
        State::Waiting { until, greeting: Some(greeting), .. } => tokio::select! {
            said = greeting.hello() => Event::Greeted(said),
            () = sleep_until(*until) => Event::GiveUp,
        },
        State::Waiting { until, greeting: None, .. } => {
            sleep_until(*until).await;
            Event::GiveUp
        }
    }
}
