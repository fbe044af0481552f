//! Nobody but root gets to see the memory of a program that handles keys: it leaves no core dump, and no other program of its user's may look into it.
//!
//! The limit of a core's size is zero, for this process and all it starts, against dumps that are files. "Not dumpable" is for this process alone: the
//! kernel then dumps nothing to a collector either, refuses debuggers of the same user's, and gives what is private in `/proc/PID` to root.

use std::io;

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Sees to it, for as long as the process lives.
///
/// # Errors
/// The kernel refuses.
pub(super) fn forbid() -> anyhow::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let forbidden = setrlimit(Resource::Core, none).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    forbidden.map_err(io::Error::from).context("core dumps, which could have keys in them, can't be forbidden")
}
