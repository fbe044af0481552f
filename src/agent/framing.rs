//! Lines out of chunks: linear in time, bounded in memory, whatever the agent writes.
//!
//! Each byte is looked at once and copied at most once: a line that lies whole in one chunk is a slice of it. Nothing here reads,
//! waits or parses; a line is bytes, and what isn't UTF-8 is only replaced where people will read it ([`readable`]).

use bytes::{Buf, Bytes};

/// Longest line of standard output. Past it the agent has broken its protocol.
pub const STDOUT_LINE_LIMIT: usize = 8 * 1024 * 1024;
/// Longest line of standard error, and longest line that is passed on for people. Past it the line is cut.
pub const LOG_LINE_LIMIT: usize = 64 * 1024;

/// What to do with a line past the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlong {
    /// Stop: what follows can't be trusted.
    Refuse,
    /// Keep the beginning, forget the rest.
    Cut,
}

/// One line, without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// Whether its end was cut off.
    pub(crate) cut: bool,
}

/// A line was longer than the limit and may not be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {limit} bytes")]
pub(crate) struct TooLong {
    limit: usize,
}

/// Splits one stream into lines.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// The beginning of a line whose end hasn't come yet; at most `limit` bytes.
    partial: Vec<u8>,
    /// Whether that line is past the limit already.
    cut: bool,
    limit: usize,
    overlong: Overlong,
}

impl Splitter {
    pub(crate) const fn new(limit: usize, overlong: Overlong) -> Self {
        Self { partial: Vec::new(), cut: false, limit, overlong }
    }

    /// Takes the next whole line from the chunk; `None` when the chunk is used up.
    ///
    /// # Errors
    /// The line is past the limit and may not be cut. Nothing more can be read from the stream then.
    pub(crate) fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Line>, TooLong> {
        let Some(end) = chunk.iter().position(|byte| *byte == b'\n') else {
            let rest = std::mem::take(chunk);
            self.keep(&rest)?;
            return Ok(None);
        };
        let mut piece = chunk.split_to(end);
        chunk.advance(1);
        if self.partial.is_empty() && !self.cut && piece.len() <= self.limit {
            trim(&mut piece);
            return Ok(Some(Line { bytes: piece, cut: false }));
        }
        self.keep(&piece)?;
        Ok(Some(self.take()))
    }

    /// What is left when the stream has ended: a last line without its line end.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        (!self.partial.is_empty()).then(|| self.take())
    }

    /// Whether a line has begun whose end hasn't come.
    pub(crate) const fn in_line(&self) -> bool {
        !self.partial.is_empty() || self.cut
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        let room = self.limit - self.partial.len();
        if piece.len() > room {
            if self.overlong == Overlong::Refuse {
                self.partial = Vec::new();
                return Err(TooLong { limit: self.limit });
            }
            self.cut = true;
        }
        self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
        Ok(())
    }

    /// Takes the partial line and its memory with it.
    fn take(&mut self) -> Line {
        let mut bytes = Bytes::from(std::mem::take(&mut self.partial));
        let cut = std::mem::take(&mut self.cut);
        if !cut {
            trim(&mut bytes);
        }
        Line { bytes, cut }
    }
}

/// Takes the carriage return off a line that ended in both.
fn trim(line: &mut Bytes) {
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
}

/// Bytes as text for people: what isn't UTF-8 is replaced, and text past `limit` bytes is cut, with `…` in its place.
pub(crate) fn readable(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]);
    shorten(&text, limit, bytes.len() > limit)
}

/// The first `limit` bytes of a text, cut between two characters and marked with `…` if anything is missing.
pub(crate) fn shorten(text: &str, limit: usize, missing: bool) -> String {
    let kept = &text[..text.floor_char_boundary(limit)];
    if missing || kept.len() < text.len() { format!("{kept}…") } else { kept.to_owned() }
}

#[cfg(test)]
mod tests;
