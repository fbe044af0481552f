//! The agent's pipes as lines in and messages out: what every protocol reads and writes through.
//!
//! Reading goes on only when the protocol asks for the next line, and a chunk counts as done with when it asks again after the
//! chunk's last line. So a protocol that first hands on what came of a line holds back everything behind it, down to the agent's own pipe.
//! The beginning of a line that goes on in the next chunk counts as done with: a line may be longer than the supervisor's ring.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tracing::debug;

use super::{
    AgentError,
    framing::{LOG_LINE_LIMIT, Line, Overlong, STDOUT_LINE_LIMIT, Splitter, readable},
};
use crate::sandbox::pipes::{AgentPipes, FromAgent, Stream};

/// Longest piece handed to the pipe at once.
const PIECE: usize = 64 * 1024;

/// One thing heard from the agent.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A line of its protocol; never empty.
    Line(Bytes),
    /// A line of standard error, for people.
    Log(String),
}

/// The agent's output.
#[derive(Debug)]
pub(crate) struct Reader {
    output: mpsc::Receiver<FromAgent>,
    done_with: watch::Sender<u64>,
    stdout: Splitter,
    stderr: Splitter,
    /// The chunk that is being read.
    chunk: Option<(u64, Stream, Bytes)>,
    /// Why nothing more comes; told after what is left in the splitters.
    end: Option<AgentError>,
    /// Lines of standard error that were cut.
    pub(crate) cut: u64,
}

/// The agent's input, with what waits for room in the pipe.
#[derive(Debug)]
pub(crate) struct Writer {
    input: mpsc::Sender<Bytes>,
    waiting: VecDeque<Bytes>,
    /// The pipe took its last message; the reader will say why.
    closed: bool,
}

/// Parts the pipes into their two directions.
pub(crate) fn open(pipes: AgentPipes) -> (Reader, Writer) {
    let reader = Reader {
        output: pipes.output,
        done_with: pipes.done_with,
        stdout: Splitter::new(STDOUT_LINE_LIMIT, Overlong::Refuse),
        stderr: Splitter::new(LOG_LINE_LIMIT, Overlong::Cut),
        chunk: None,
        end: None,
        cut: 0,
    };
    (reader, Writer { input: pipes.input, waiting: VecDeque::new(), closed: false })
}

impl Reader {
    /// The next line. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The agent is gone: it exited, its link was lost, or it broke a limit. Said again when asked again.
    pub(crate) async fn next(&mut self) -> Result<Heard, AgentError> {
        loop {
            if let Some(heard) = self.next_of_chunk()? {
                return Ok(heard);
            }
            if let Some(end) = &self.end {
                let end = end.clone();
                return self.left_over().ok_or(end);
            }
            match self.output.recv().await {
                Some(FromAgent::Chunk { seq, stream, bytes }) => self.chunk = Some((seq, stream, bytes)),
                Some(FromAgent::Exited(exit)) => self.end = Some(AgentError::Exited(exit)),
                Some(FromAgent::Lost(why)) => self.end = Some(AgentError::Lost(why)),
                Some(FromAgent::Condemned(why)) => self.end = Some(AgentError::Condemned(why)),
                None => self.end = Some(AgentError::Lost("its pipes were closed".to_owned())),
            }
        }
    }

    /// The next line of the chunk at hand; forgets the chunk when there is none.
    fn next_of_chunk(&mut self) -> Result<Option<Heard>, AgentError> {
        let Some((seq, stream, bytes)) = &mut self.chunk else { return Ok(None) };
        let splitter = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        loop {
            match splitter.next(bytes) {
                Ok(Some(line)) if line.bytes.is_empty() => {}
                Ok(Some(line)) => return Ok(Some(heard(*stream, &line, &mut self.cut))),
                Ok(None) => break,
                Err(too_long) => {
                    let end = AgentError::Protocol(too_long.to_string());
                    self.chunk = None;
                    self.end = Some(end.clone());
                    return Err(end);
                }
            }
        }
        self.done_with.send_replace(*seq);
        self.chunk = None;
        Ok(None)
    }

    /// A last line that has no line end.
    fn left_over(&mut self) -> Option<Heard> {
        if let Some(line) = self.stdout.finish() {
            return Some(heard(Stream::Stdout, &line, &mut self.cut));
        }
        self.stderr.finish().map(|line| heard(Stream::Stderr, &line, &mut self.cut))
    }
}

fn heard(stream: Stream, line: &Line, cut: &mut u64) -> Heard {
    match stream {
        Stream::Stdout => Heard::Line(line.bytes.clone()),
        Stream::Stderr => {
            *cut += u64::from(line.cut);
            let mut text = readable(&line.bytes, LOG_LINE_LIMIT);
            if line.cut {
                text.push('…');
            }
            Heard::Log(text)
        }
    }
}

impl Writer {
    /// Puts a message behind those that wait.
    pub(crate) fn push(&mut self, mut message: Bytes) {
        if self.closed {
            return;
        }
        while message.len() > PIECE {
            self.waiting.push_back(message.split_to(PIECE));
        }
        self.waiting.push_back(message);
    }

    /// Pieces that wait for room in the pipe.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits for room and writes one piece. Dropping the future loses nothing.
    pub(crate) async fn write_one(&mut self) {
        match self.input.reserve().await {
            Ok(permit) => {
                if let Some(piece) = self.waiting.pop_front() {
                    permit.send(piece);
                }
            }
            Err(_) => {
                debug!(messages = self.waiting.len(), "the agent's input is closed");
                self.waiting.clear();
                self.closed = true;
            }
        }
    }

    /// Writes everything that waits.
    pub(crate) async fn write_all(&mut self) {
        while !self.is_empty() {
            self.write_one().await;
        }
    }
}
