//! Chatterbox: an agent for tests and benchmarks that says as much, as fast and as badly as its prompt asks for.
//!
//! It speaks the Agent Client Protocol as Gemini CLI does, on stdin and stdout, and calls no model. What a prompt may ask for is told in
//! [`deed`]. Built static and alone in its image (`scripts/chatterbox`); never shipped.
//!
//! Two threads: one hears lines, the other talks and looks now and then whether it was told to stop. Ends with its stdin.

mod deed;
mod mouth;

use std::{
    io::{self, BufRead as _},
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use deed::{Deed, deeds};
use mouth::Mouth;

/// Lines that were heard and not looked at yet; past it the sender waits.
const EARS: usize = 64;
/// The one session there is at a time.
const SESSION: &str = "the-session";
/// The id of our own requests.
const QUESTION: &str = "question";

fn main() -> ExitCode {
    let (said, heard) = sync_channel(EARS);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(Ok(message)) = line.map(|line| serde_json::from_str::<Value>(&line)) else { break };
            if said.send(message).is_err() {
                break;
            }
        }
    });
    match Mouth::open().and_then(|mouth| (Agent { heard, mouth }).serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_nobody_listens) => ExitCode::FAILURE,
    }
}

/// Why a deed was broken off.
enum Stop {
    /// The turn was cancelled.
    Cancelled,
    /// Nobody is there any more.
    Alone,
    /// Nobody takes what is said.
    Deaf(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Deaf(error)
    }
}

struct Agent {
    heard: Receiver<Value>,
    mouth: Mouth,
}

impl Agent {
    /// Answers until its input ends.
    fn serve(mut self) -> io::Result<()> {
        while let Ok(message) = self.heard.recv() {
            let id = &message["id"];
            let answer = match message["method"].as_str() {
                Some("initialize") => json!({
                    "protocolVersion": 1,
                    "agentCapabilities": {"promptCapabilities": {"image": true, "embeddedContext": true}},
                    "authMethods": [{"id": "gateway", "name": "gateway"}],
                }),
                Some("session/new") => json!({"sessionId": SESSION}),
                Some("session/prompt") => match self.turn(&message["params"]["prompt"]) {
                    Ok(()) => json!({"stopReason": "end_turn"}),
                    Err(Stop::Cancelled) => json!({"stopReason": "cancelled"}),
                    Err(Stop::Alone) => return Ok(()),
                    Err(Stop::Deaf(error)) => return Err(error),
                },
                // Everything else is fine with it; an answer or a notification needs none.
                Some(_) if !id.is_null() => json!({}),
                _ => continue,
            };
            self.mouth.message(&json!({"jsonrpc": "2.0", "id": id, "result": answer}))?;
            self.mouth.flush()?;
        }
        Ok(())
    }

    /// Does what the prompt says, in order.
    fn turn(&mut self, prompt: &Value) -> Result<(), Stop> {
        let text = prompt[0]["text"].as_str().unwrap_or_default();
        for deed in deeds(text) {
            self.perform(deed)?;
        }
        Ok(self.mouth.flush()?)
    }

    fn perform(&mut self, deed: Deed) -> Result<(), Stop> {
        match deed {
            Deed::Emit { count, size } => {
                for _ in 0..count {
                    self.update(size)?;
                }
            }
            Deed::Torrent { megabytes, size } => {
                let end = self.mouth.written() + megabytes * 1024 * 1024;
                while self.mouth.written() < end {
                    self.update(size)?;
                }
            }
            Deed::Pace { rate, seconds, size } => self.pace(rate, seconds, size)?,
            Deed::Line { bytes } => self.mouth.line_without_end(bytes)?,
            Deed::Invalid => self.mouth.nonsense()?,
            Deed::Deep { levels } => self.mouth.deep(levels)?,
            Deed::Noise { count, size } => {
                for number in 0..count {
                    self.mouth.log_text(number)?;
                    self.update(size)?;
                }
            }
            Deed::Ask => self.ask()?,
            Deed::Hang => {
                self.mouth.flush()?;
                self.wait(Duration::MAX)?;
            }
        }
        Ok(())
    }

    fn update(&mut self, size: usize) -> Result<(), Stop> {
        self.mouth.update(size)?;
        // Looking costs more than talking.
        if self.mouth.updates().is_multiple_of(64) { self.look() } else { Ok(()) }
    }

    /// So many updates a second: at each moment as many as are due by then, each written when it is said. Time that it was held
    /// back is not made up for.
    fn pace(&mut self, rate: u64, seconds: u64, size: usize) -> Result<(), Stop> {
        let (begun, end) = (Instant::now(), Duration::from_secs(seconds));
        let mut said = 0;
        while begun.elapsed() < end && said < rate * seconds {
            let due = u64::try_from(begun.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX);
            while said < due.min(rate * seconds) && begun.elapsed() < end {
                self.update(size)?;
                said += 1;
            }
            self.mouth.flush()?;
            let next = begun + end.mul_f64((said + 1) as f64 / (rate * seconds) as f64);
            self.wait(next.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }

    /// Asks for permission and says which answer came.
    fn ask(&mut self) -> Result<(), Stop> {
        self.mouth.message(
            &json!({"jsonrpc": "2.0", "id": QUESTION, "method": "session/request_permission", "params": {
                "sessionId": SESSION,
                "toolCall": {"toolCallId": "call-1", "title": "Write a file", "kind": "edit", "status": "pending"},
                "options": [
                    {"optionId": "yes", "name": "Allow", "kind": "allow_once"},
                    {"optionId": "no", "name": "Reject", "kind": "reject_once"},
                ],
            }}),
        )?;
        self.mouth.flush()?;
        loop {
            let message = self.heard.recv().map_err(|_| Stop::Alone)?;
            if message["id"] == QUESTION {
                let outcome = &message["result"]["outcome"];
                let answer = outcome["optionId"].as_str().or(outcome["outcome"].as_str()).unwrap_or("nothing");
                return Ok(self.mouth.say(answer)?);
            }
            stop_if_told(&message)?;
        }
    }

    /// Listens for so long.
    fn wait(&mut self, duration: Duration) -> Result<(), Stop> {
        let begun = Instant::now();
        loop {
            match self.heard.recv_timeout(duration.saturating_sub(begun.elapsed())) {
                Ok(message) => stop_if_told(&message)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Alone),
            }
        }
    }

    /// Whether there was something to hear.
    fn look(&mut self) -> Result<(), Stop> {
        self.heard.try_iter().try_for_each(|message| stop_if_told(&message))
    }
}

fn stop_if_told(message: &Value) -> Result<(), Stop> {
    if message["method"] == "session/cancel" { Err(Stop::Cancelled) } else { Ok(()) }
}
