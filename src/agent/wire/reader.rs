//! The agent's output as lines, each with the mark behind it.
//!
//! Reading goes on only when the protocol asks for the next line. So a protocol that first hands on what came of a line holds back
//! everything behind it, down to the agent's own pipe.
//!
//! The mark stands behind the last whole line. The chunks in which an unfinished line of standard output began are held: the supervisor is
//! not to forget them, so that after a restart the line can be read again from its beginning. A line may be longer than what the supervisor
//! keeps, though, so past [`LINE_HELD`] its beginning is given up, and the mark is `torn` until its end has come.
//!
//! Taken up again, reading begins with whatever the supervisor still has and passes over what the mark covers. What the mark needs is there: it
//! was never said to be forgettable. The exception is a torn line; a first chunk behind the mark's place shows that its beginning is gone, and
//! that is the end: half a message may be any message, the end of a turn or the request for a permission.

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use crate::{
    agent::{
        AgentError, LINE_HELD, Mark, Place,
        framing::{LOG_LINE_LIMIT, Line, Overlong, STDOUT_LINE_LIMIT, Splitter, readable},
    },
    sandbox::pipes::{CHUNK_COST, FromAgent, Stream},
};

/// One thing heard from the agent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A line of its protocol; never empty.
    Line(Bytes),
    /// A line of standard error, for people.
    Log(String),
    /// A chunk ended without the end of a line: only the mark may have moved.
    Nothing,
}

/// A chunk that is being read.
#[derive(Debug)]
struct Chunk {
    seq: u64,
    stream: Stream,
    size: usize,
    rest: Bytes,
}

/// The agent's output.
#[derive(Debug)]
pub(crate) struct Reader {
    output: mpsc::Receiver<FromAgent>,
    stdout: Splitter,
    stderr: Splitter,
    chunk: Option<Chunk>,
    mark: Mark,
    /// Newest chunk that came; none before the first.
    newest: Option<u64>,
    /// What the supervisor keeps for the unfinished line of standard output.
    held: usize,
    /// Most it is asked to keep for that.
    held_max: usize,
    /// Why nothing more comes; told after what is left in the splitters.
    end: Option<AgentError>,
    /// Lines of standard error that were cut.
    pub(crate) cut: u64,
}

impl Reader {
    pub(super) fn new(output: mpsc::Receiver<FromAgent>, mark: Mark) -> Self {
        Self::holding(output, mark, LINE_HELD)
    }

    /// Holds at most so much of the beginning of a line.
    pub(super) fn holding(output: mpsc::Receiver<FromAgent>, mark: Mark, held_max: usize) -> Self {
        Self {
            output,
            stdout: Splitter::new(STDOUT_LINE_LIMIT, Overlong::Refuse),
            stderr: Splitter::new(LOG_LINE_LIMIT, Overlong::Cut),
            chunk: None,
            mark,
            newest: None,
            held: 0,
            held_max,
            end: None,
            cut: 0,
        }
    }

    /// How far the output is done with once everything heard so far is.
    pub(crate) const fn mark(&self) -> Mark {
        self.mark
    }

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
                Some(FromAgent::Chunk { seq, stream, bytes }) => self.begin(seq, stream, bytes),
                Some(FromAgent::Exited(exit)) => self.end = Some(AgentError::Exited(exit)),
                Some(FromAgent::Lost(why)) => self.end = Some(AgentError::Lost(why)),
                Some(FromAgent::Condemned(why)) => self.end = Some(AgentError::Condemned(why)),
                None => self.end = Some(AgentError::Lost("its pipes were closed".to_owned())),
            }
        }
    }

    /// The next line of the chunk that is being read, if there is one. An error is left to [`Reader::next`].
    pub(crate) fn next_at_hand(&mut self) -> Option<Heard> {
        self.next_of_chunk().ok().flatten()
    }

    /// Takes in a chunk, without what the mark covers.
    fn begin(&mut self, seq: u64, stream: Stream, bytes: Bytes) {
        let first = self.newest.replace(seq).is_none();
        // Chunks begin at 1. A mark at none wants nothing in particular, unless it stands in the first line.
        let wanted = self.mark.stdout.chunk.max(u64::from(self.mark.torn));
        if first && (1..seq).contains(&wanted) {
            self.end = Some(AgentError::Protocol(self.describe_hole(seq)));
            return;
        }
        let done = match stream {
            Stream::Stdout => self.mark.stdout,
            Stream::Stderr => self.mark.stderr,
        };
        let size = bytes.len();
        let skipped = match seq.cmp(&done.chunk) {
            std::cmp::Ordering::Less => size,
            std::cmp::Ordering::Equal => size.min(usize::try_from(done.offset).unwrap_or(usize::MAX)),
            std::cmp::Ordering::Greater => 0,
        };
        let mut rest = bytes;
        rest.advance(skipped);
        self.chunk = Some(Chunk { seq, stream, size, rest });
    }

    fn describe_hole(&self, seq: u64) -> String {
        let wanted = self.mark.stdout.chunk;
        if self.mark.torn {
            format!(
                "it was in a line of more than {} bytes when the server ended, and its beginning is gone",
                self.held_max
            )
        } else {
            format!("its output from chunk {wanted} on was wanted, but begins with chunk {seq}")
        }
    }

    /// The next line of the chunk at hand; forgets the chunk behind its last one.
    fn next_of_chunk(&mut self) -> Result<Option<Heard>, AgentError> {
        let Some(chunk) = &mut self.chunk else { return Ok(None) };
        let (seq, stream) = (chunk.seq, chunk.stream);
        let splitter = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut found = None;
        while found.is_none() && !chunk.rest.is_empty() {
            match splitter.next(&mut chunk.rest) {
                Ok(Some(line)) => {
                    let offset = u32::try_from(chunk.size - chunk.rest.len()).unwrap_or(u32::MAX);
                    let place = Place { chunk: seq, offset };
                    match stream {
                        Stream::Stdout => {
                            self.mark.stdout = place;
                            self.mark.torn = false;
                            self.held = 0;
                        }
                        Stream::Stderr => self.mark.stderr = place,
                    }
                    found = Some(line).filter(|line| !line.bytes.is_empty());
                }
                Ok(None) => break,
                Err(too_long) => {
                    let end = AgentError::Protocol(too_long.to_string());
                    self.chunk = None;
                    self.end = Some(end.clone());
                    return Err(end);
                }
            }
        }
        if chunk.rest.is_empty() {
            let cost = chunk.size + CHUNK_COST;
            self.chunk = None;
            self.finish_chunk(seq, cost);
        }
        Ok(Some(found.map_or(Heard::Nothing, |line| heard(stream, line, &mut self.cut))))
    }

    /// Moves the mark behind a chunk, as far as no unfinished line holds it. Marks never move back: a chunk that was passed over
    /// whole is behind them.
    fn finish_chunk(&mut self, seq: u64, cost: usize) {
        let behind = Place::behind(seq);
        if self.stdout.in_line() {
            self.held += cost;
            self.mark.torn |= self.held > self.held_max;
        } else {
            self.mark.stdout = self.mark.stdout.max(behind);
        }
        if self.mark.torn || !self.stderr.in_line() {
            self.mark.stderr = self.mark.stderr.max(behind);
        }
    }

    /// A last line that has no line end.
    fn left_over(&mut self) -> Option<Heard> {
        let behind = self.newest.map(Place::behind).unwrap_or_default();
        if let Some(line) = self.stdout.finish() {
            self.mark.stdout = self.mark.stdout.max(behind);
            self.mark.torn = false;
            return Some(heard(Stream::Stdout, line, &mut self.cut));
        }
        let line = self.stderr.finish()?;
        self.mark.stderr = self.mark.stderr.max(behind);
        Some(heard(Stream::Stderr, line, &mut self.cut))
    }
}

fn heard(stream: Stream, line: Line, cut: &mut u64) -> Heard {
    match stream {
        Stream::Stdout => Heard::Line(line.bytes),
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
