//! What an engine tells about the boxes of this instance while they live.

use crate::ids::SlotId;

/// Something happened to a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// The slot it was made for.
    pub slot: SlotId,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Its first process ended.
    Died,
    /// The kernel killed something in it for want of memory; the box may live on.
    OutOfMemory,
    /// Somebody sent it a signal, not necessarily a deadly one.
    Signalled,
    /// It was removed.
    Removed,
    /// It was frozen.
    Paused,
    /// It was thawed.
    Resumed,
}
