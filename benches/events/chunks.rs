//! HTTP/1.1's chunks taken off a body, as its bytes come. Pure.

use anyhow::{Context as _, ensure};

/// Longest line that tells a chunk's size.
const SIZE_LINE: usize = 32;

/// Where in the chunks we are.
#[derive(Debug, Default)]
pub struct Chunks {
    /// Bytes of the chunk still to come.
    left: usize,
    /// The beginning of the line that tells the next chunk's size; the line end behind the last chunk included.
    line: Vec<u8>,
}

impl Chunks {
    /// Takes these bytes in, and adds what is in the chunks to `body`.
    pub fn feed(&mut self, mut bytes: &[u8], body: &mut Vec<u8>) -> anyhow::Result<()> {
        while let Some(first) = bytes.first() {
            if self.left > 0 {
                let length = self.left.min(bytes.len());
                body.extend_from_slice(&bytes[..length]);
                bytes = &bytes[length..];
                self.left -= length;
                continue;
            }
            bytes = &bytes[1..];
            self.line.push(*first);
            ensure!(self.line.len() <= SIZE_LINE, "a chunk without a size");
            // The line end behind the chunk before.
            if *first == b'\n' && self.line != b"\r\n" {
                let line = std::mem::take(&mut self.line);
                let digits = std::str::from_utf8(&line)?.trim();
                self.left = usize::from_str_radix(digits, 16).context("a chunk's size is no number")?;
            }
        }
        Ok(())
    }
}
