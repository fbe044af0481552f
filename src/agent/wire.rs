//! The agent's pipes as lines in and messages out: what every protocol reads and writes through.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use tokio::sync::watch;

pub(crate) use self::{
    reader::{Heard, Reader},
    writer::Writer,
};
use super::Mark;
use crate::sandbox::pipes::AgentPipes;

/// Parts the pipes into their two directions, and the end that says how much of the output is done with. Reading begins behind the mark, piece
/// numbers behind `received`.
pub(crate) fn open(pipes: AgentPipes, mark: Mark, received: u64) -> (Reader, Writer, watch::Sender<u64>) {
    let AgentPipes { input, output, done_with } = pipes;
    (Reader::new(output, mark), Writer::new(input, received), done_with)
}
