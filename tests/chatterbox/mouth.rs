//! Its stdout, buffered: messages as they should be, and things that no agent should say.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    os::fd::AsFd as _,
};

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

/// Bytes gathered before they are written: what a pipe holds.
const BUFFER: usize = 64 * 1024;
/// An update is written around its text, which is plain ASCII and needs no escapes.
const BEFORE: &[u8] = br#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"the-session","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":""#;
const AFTER: &[u8] = b"\"}}}}\n";
/// Lines that a reader must pass over: bad UTF-8, NULs, halves of messages, JSON that is no message.
const NONSENSE: [&[u8]; 9] = [
    b"\xff\xfe\xfd\n",
    b"{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"text\":\"\xc3\x28\"}}\n",
    b"\xf0\x28\x8c\xbc\xed\xa0\x80\n",
    b"\0\0\0\0\n",
    b"{\"method\":\"\0\"}\n",
    b"{\"jsonrpc\":\"2.0\",\n",
    b"\"params\":{}}\n",
    b"[1,2,3]\n",
    b"{\"id\":18446744073709551616,\"result\":1e999}\n",
];
/// How often all of them are said.
const NONSENSE_ROUNDS: usize = 200;

/// What it speaks with.
#[derive(Debug)]
pub(crate) struct Mouth {
    stdout: BufWriter<File>,
    padding: Vec<u8>,
    written: u64,
    updates: u64,
}

impl Mouth {
    pub(crate) fn open() -> io::Result<Self> {
        // Not the standard library's own handle, which looks for line ends.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { stdout: BufWriter::with_capacity(BUFFER, stdout), padding: Vec::new(), written: 0, updates: 0 })
    }

    /// Bytes of updates so far.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Updates so far.
    pub(crate) const fn updates(&self) -> u64 {
        self.updates
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// Any message.
    pub(crate) fn message(&mut self, message: &Value) -> io::Result<()> {
        writeln!(self.stdout, "{message}")
    }

    /// A piece of an answer with this text, which needs no escapes.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        self.stdout.write_all(BEFORE)?;
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.write_all(AFTER)
    }

    /// The next update: a text of so many characters that begins with the time and the update's number.
    pub(crate) fn update(&mut self, size: usize) -> io::Result<()> {
        self.updates += 1;
        let now = clock_gettime(ClockId::Monotonic);
        let mut head = [0; 64];
        let mut rest = &mut head[..];
        write!(rest, "{}{:09} {} ", now.tv_sec, now.tv_nsec, self.updates)?;
        let length = 64 - rest.len();
        let padding = size.saturating_sub(length);
        if self.padding.len() < padding {
            self.padding.resize(padding, b'x');
        }
        for piece in [BEFORE, &head[..length], &self.padding[..padding], AFTER] {
            self.stdout.write_all(piece)?;
        }
        self.written += (BEFORE.len() + length + padding + AFTER.len()) as u64;
        Ok(())
    }

    /// A line that does not end.
    pub(crate) fn line_without_end(&mut self, bytes: usize) -> io::Result<()> {
        let piece = [b'x'; BUFFER];
        let mut left = bytes;
        while left > 0 {
            let length = left.min(piece.len());
            self.stdout.write_all(&piece[..length])?;
            left -= length;
        }
        self.stdout.flush()
    }

    /// What is no message, in many ways.
    pub(crate) fn nonsense(&mut self) -> io::Result<()> {
        for _ in 0..NONSENSE_ROUNDS {
            for line in NONSENSE {
                self.stdout.write_all(line)?;
            }
        }
        Ok(())
    }

    /// An update of arrays in arrays.
    pub(crate) fn deep(&mut self, levels: usize) -> io::Result<()> {
        self.stdout.write_all(
            br#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"the-session","update":"#,
        )?;
        for bracket in ["[", "]"] {
            self.stdout.write_all(bracket.repeat(levels).as_bytes())?;
        }
        self.stdout.write_all(b"}}\n")
    }

    /// What libraries print when they believe to be alone.
    pub(crate) fn log_text(&mut self, number: u64) -> io::Result<()> {
        writeln!(self.stdout, "[debug] {number}: loaded {{\"tools\": 3}} in 12 ms\r")
    }
}
