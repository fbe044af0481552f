//! The agent's pipes as lines in and messages out: what every protocol reads and writes through.

mod reader;
mod receipts;
#[cfg(test)]
mod tests;
mod writer;

use tokio::sync::watch;

pub(crate) use self::{
    reader::{Heard, Reader},
    receipts::Receipts,
    writer::Writer,
};
use super::Mark;
use crate::sandbox::pipes::AgentPipes;

/// The pipes by what is done with them.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) receipts: Receipts,
    /// Where it is said how much of the output is done with.
    pub(crate) done_with: watch::Sender<u64>,
}

impl Wire {
    /// Parts the pipes. Reading begins behind the mark, piece numbers behind `received`.
    ///
    /// What the mark covers is done with: a server that died may not have said so any more, and what comes of it again is nothing that could say it.
    /// If nobody did, it could fill the window for ever.
    pub(crate) fn new(pipes: AgentPipes, mark: Mark, received: u64) -> Self {
        let AgentPipes { input, input_taken, output, done_with } = pipes;
        done_with.send_replace(mark.forgettable());
        let (reader, writer) = (Reader::new(output, mark), Writer::new(input, received));
        Self { reader, writer, receipts: Receipts::new(input_taken), done_with }
    }
}
