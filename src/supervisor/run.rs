//! The supervisor's one loop. It owns all state: what it waits for is one `select!` in [`Supervisor::wait`], what follows from time and state is
//! decided in [`Supervisor::advance`], which never waits.
//!
//! ```text
//!  agent runs ──▶ asked to stop, or orphaned ──▶ agent ended ──▶ its output read to the end ──▶ end told ──▶ over
//!      │              TERM … KILL                    ▲            leftovers killed                │
//!      └─────────────────────────────────────────────┘                         Goodbye, or nobody there
//! ```
//! As PID 1 our own end makes the kernel kill whatever is left in the container.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rustix::process::{DumpableBehavior, Pid, Signal, getpid, set_child_subreaper, set_dumpable_behavior};
use tokio::{
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    aftermath::{Aftermath, KILL_PATIENCE, KILL_ROUND},
    args::RunOptions,
    dial::{DialEvent, Dialer},
    frames::{Ending, Frame, Hello, Source, VERSION},
    input::AgentInput,
    orphan::{DeadMansSwitch, ORPHAN_STOP_GRACE, Stopping},
    output::AgentOutput,
    reap, relay, spawn,
};

/// The shell's code for a command that can't be started.
const NOT_STARTED: i32 = 127;
/// A timer for when nothing is due.
const LONG: Duration = Duration::from_secs(3600);
/// Shortest timer: what is overdue and waits for something else must not become a spin.
const TICK_MIN: Duration = Duration::from_millis(1);

/// Runs the agent to its end; returns our own exit code: the agent's, or 128 and the signal that ended it.
///
/// # Errors
/// The process can't be set up at all: no signals, or the kernel refuses the protection from the agent.
pub async fn run(options: RunOptions) -> io::Result<u8> {
    // The agent has our uid: without this it could read our memory and take the link over.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if getpid() != Pid::INIT {
        set_child_subreaper(Some(getpid()))?;
    }
    let mut signals = Signals { child: signal(SignalKind::child())?, terminate: signal(SignalKind::terminate())? };
    let mut supervisor = Supervisor::start(options).await;
    let ending = loop {
        if let Some(ending) = supervisor.is_over() {
            break ending;
        }
        supervisor.advance();
        let event = supervisor.wait(&mut signals).await;
        supervisor.handle(event);
    };
    supervisor.kill_rest(&mut signals).await;
    let code = match ending {
        Ending::Code(code) => code,
        Ending::Signal(signal) => 128 + signal,
    };
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

struct Signals {
    child: SignalStream,
    terminate: SignalStream,
}

enum Event {
    Link(DialEvent),
    Output(Source),
    Input,
    Child,
    Terminate,
    Timer,
}

struct Supervisor {
    orphan_grace: Duration,
    relay_port: u16,
    agent: Option<Pid>,
    input: AgentInput,
    output: AgentOutput,
    dialer: Dialer,
    switch: DeadMansSwitch,
    orphaned: bool,
    stopping: Stopping,
    killed_at: Option<Instant>,
    aftermath: Option<Aftermath>,
    childless: bool,
    input_taken_told: u64,
    pong_due: bool,
}

impl Supervisor {
    /// Starts relays and agent. That one can't be started is an ending like any other: it is told over the link.
    async fn start(options: RunOptions) -> Self {
        let (relay_port, started) = match start_relays(&options).await {
            Ok((relay_port, proxy_port)) => (relay_port, spawn::spawn(&options.command, proxy_port)),
            Err(error) => (0, Err(error)),
        };
        let ring_bytes = options.ring_bytes;
        let (agent, input, output, fault) = match started {
            Ok(spawn::Agent { pid, stdin, stdout, stderr }) => {
                let output = AgentOutput::new(Some(stdout), Some(stderr), ring_bytes);
                (Some(pid), AgentInput::new(Some(stdin)), output, None)
            }
            Err(error) => (None, AgentInput::new(None), AgentOutput::new(None, None, ring_bytes), Some(error)),
        };
        let mut supervisor = Self {
            orphan_grace: options.orphan_grace,
            relay_port,
            agent,
            input,
            output,
            dialer: Dialer::new(options.run_dir.join("link.sock")),
            switch: DeadMansSwitch::new(options.orphan_grace, Instant::now()),
            orphaned: false,
            stopping: Stopping::No,
            killed_at: None,
            aftermath: None,
            childless: false,
            input_taken_told: 0,
            pong_due: false,
        };
        if let Some(error) = fault {
            supervisor.output.tell(&error.to_string());
            supervisor.end(Ending::Code(NOT_STARTED));
        }
        supervisor
    }

    async fn wait(&mut self, signals: &mut Signals) -> Event {
        let hello = self.hello();
        let timer = self.next_timer();
        let Self { dialer, input, output, .. } = self;
        tokio::select! {
            event = dialer.turn(hello) => Event::Link(event),
            source = output.ready() => Event::Output(source),
            () = input.ready() => Event::Input,
            _ = signals.child.recv() => Event::Child,
            _ = signals.terminate.recv() => Event::Terminate,
            () = sleep_until(timer) => Event::Timer,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Link(event) => self.on_link(event),
            Event::Output(source) => self.output.read(source),
            Event::Input => self.input.write(),
            Event::Child => self.reap(),
            Event::Terminate => self.stop(ORPHAN_STOP_GRACE),
            Event::Timer => {}
        }
    }

    fn on_link(&mut self, event: DialEvent) {
        match event {
            DialEvent::Up { output_received } => {
                self.switch.linked();
                self.output.ring().rewind(output_received);
                self.input_taken_told = 0;
                // Who asked on the last link asks again on this one.
                self.pong_due = false;
                if let Some(aftermath) = &mut self.aftermath {
                    aftermath.relinked();
                }
            }
            DialEvent::Down => self.switch.unlinked(Instant::now()),
            DialEvent::Room => {}
            DialEvent::Heard(frame) => {
                if !self.on_frame(frame) {
                    self.dialer.cut();
                    self.switch.unlinked(Instant::now());
                }
            }
        }
    }

    /// Says whether the frame was one to be expected from a server.
    fn on_frame(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::OutputTaken(number) => {
                self.output.ring().acknowledge(number);
                if let Some(aftermath) = &mut self.aftermath {
                    aftermath.progress(Instant::now());
                }
            }
            Frame::Input { number, bytes } => return self.input.push(number, Some(bytes)).is_ok(),
            Frame::CloseInput(number) => return self.input.push(number, None).is_ok(),
            Frame::Signal(number) => {
                if let (Some(agent), Some(signal)) = (self.living(), Signal::from_named_raw(number)) {
                    reap::signal_group(agent, signal);
                }
            }
            Frame::Stop { grace_ms } => self.stop(Duration::from_millis(grace_ms.into())),
            Frame::Ping => self.pong_due = true,
            Frame::Goodbye => {
                if let Some(aftermath) = &mut self.aftermath {
                    aftermath.goodbye();
                }
            }
            _ => return false,
        }
        true
    }

    /// Does all that is due.
    fn advance(&mut self) {
        let now = Instant::now();
        if self.switch.goes_off_at().is_some_and(|at| at <= now) {
            self.orphaned = true;
            self.stop(ORPHAN_STOP_GRACE);
        }
        if self.stopping.kill_is_due(now) {
            self.killed_at = Some(now);
            if let Some(agent) = self.living() {
                reap::signal_group(agent, Signal::KILL);
            }
        }
        if self.aftermath.is_none() && self.killed_at.is_some_and(|at| at + KILL_PATIENCE <= now) {
            // It is stuck in the kernel. Whether it ever leaves is not ours to wait for.
            self.end(Ending::Signal(Signal::KILL.as_raw()));
        }
        if self.aftermath.as_mut().is_some_and(|aftermath| aftermath.kill_is_due(now)) {
            reap::kill_descendants();
            self.reap();
        }
        if let Some(aftermath) = &mut self.aftermath {
            if self.childless {
                aftermath.childless();
            }
            if aftermath.pipes_are_stuck(now) && self.output.ring().is_empty() {
                self.output.close();
            }
        }
        self.speak();
    }

    /// Fills the link as far as it has room.
    fn speak(&mut self) {
        let Some(link) = self.dialer.up() else { return };
        if !link.has_room() {
            return;
        }
        if std::mem::take(&mut self.pong_due) {
            link.say(&Frame::Pong);
        }
        let taken = self.input.taken();
        if taken > self.input_taken_told {
            self.input_taken_told = taken;
            link.say(&Frame::InputTaken(taken));
        }
        while link.has_room()
            && let Some(frame) = self.output.next_frame()
        {
            link.say(&frame);
        }
        if let Some(aftermath) = &mut self.aftermath
            && self.output.is_closed()
            && self.output.ring().is_sent()
            && aftermath.telling_is_due()
        {
            link.say(&Frame::Exited(aftermath.ending));
        }
    }

    /// How the agent ended, once nothing is left to wait for.
    fn is_over(&mut self) -> Option<Ending> {
        let aftermath = self.aftermath.as_ref()?;
        let nobody_comes = self.orphaned && self.dialer.up().is_none();
        (nobody_comes || aftermath.is_over(Instant::now())).then_some(aftermath.ending)
    }

    fn next_timer(&self) -> Instant {
        let now = Instant::now();
        let times = [
            self.switch.goes_off_at().filter(|_| !self.orphaned),
            self.stopping.next(),
            self.killed_at.filter(|_| self.aftermath.is_none()).map(|at| at + KILL_PATIENCE),
            self.aftermath.as_ref().and_then(|aftermath| aftermath.next(now)),
        ];
        times.into_iter().flatten().min().unwrap_or(now + LONG).max(now + TICK_MIN)
    }

    fn reap(&mut self) {
        let collected = reap::collect(self.agent);
        self.childless = collected.childless;
        if let Some(ending) = collected.agent {
            self.end(ending);
        }
    }

    fn end(&mut self, ending: Ending) {
        if self.aftermath.is_none() {
            self.aftermath = Some(Aftermath::new(ending, self.orphan_grace, Instant::now()));
            self.input.close();
        }
    }

    fn stop(&mut self, grace: Duration) {
        if self.stopping.ask(Instant::now() + grace)
            && let Some(agent) = self.living()
        {
            reap::signal_group(agent, Signal::TERM);
        }
    }

    /// The agent, as long as its process id is its own.
    const fn living(&self) -> Option<Pid> {
        if self.aftermath.is_some() { None } else { self.agent }
    }

    fn hello(&mut self) -> Hello {
        Hello {
            version: VERSION,
            relay_port: self.relay_port,
            agent_pid: self.agent.map_or(0, |pid| pid.as_raw_pid().unsigned_abs()),
            input_received: self.input.received(),
            oldest_output: self.output.ring().oldest(),
        }
    }

    /// Outside a container nobody kills what is left: do it until we have no child, or patience ends.
    async fn kill_rest(&mut self, signals: &mut Signals) {
        if getpid() == Pid::INIT {
            return;
        }
        let deadline = Instant::now() + KILL_PATIENCE;
        self.reap();
        while !self.childless && Instant::now() < deadline {
            reap::kill_descendants();
            let _woken = tokio::time::timeout(KILL_ROUND, signals.child.recv()).await;
            self.reap();
        }
    }
}

/// The ways out: to the model, and to the proxy for tools. Each has its own connections, so that a download leaves the model's alone.
async fn start_relays(options: &RunOptions) -> io::Result<(u16, u16)> {
    let relay_port = start_relay(options.relay_port, options.run_dir.join("gateway.sock")).await?;
    let proxy_port = start_relay(options.proxy_port, options.run_dir.join("egress.sock")).await?;
    Ok((relay_port, proxy_port))
}

async fn start_relay(port: u16, gateway: PathBuf) -> io::Result<u16> {
    let listener = relay::listen(port)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("can't listen on 127.0.0.1:{port}: {error}")))?;
    let port = listener.local_addr()?.port();
    tokio::spawn(relay::serve(listener, Arc::from(gateway)));
    Ok(port)
}
