//! Where sandboxes run: the trait every engine implements.
//!
//! A runtime makes, starts, finds and destroys boxes. It doesn't know what an agent is, keeps no state of its own that
//! can't be read back from the engine, and touches nothing that doesn't carry this instance's exact label. Every call has a deadline
//! of its own; a call that is dropped may leave a container behind, which `list` finds and `remove` destroys.

mod command;
pub mod docker;
mod event;
pub mod process;

use std::{fmt, path::Path};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::BoxStream};

use crate::{
    ids::{Epoch, SlotId, TemplateName},
    sandbox::spec::SandboxSpec,
};

pub use self::event::{EngineEvent, EventKind};

/// What kind of runtime this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Containers of Docker or Podman.
    Docker,
    /// Plain processes: no isolation at all, for development.
    Process,
}

impl RuntimeKind {
    /// Whether its boxes go on when the server that made them is gone, so that the next one can take them up. A process can't be found again:
    /// nobody keeps a list, and the number of one that has ended is given to another.
    #[must_use]
    pub const fn outlives_the_server(self) -> bool {
        matches!(self, Self::Docker)
    }
}

/// A box the runtime made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerId(pub String);

/// A box found on the engine that carries this instance's label.
#[derive(Debug, Clone)]
pub struct Found {
    /// The engine's id.
    pub container: ContainerId,
    /// The slot it was made for.
    pub slot: SlotId,
    /// The run of the server that made it.
    pub epoch: Epoch,
    /// Its template.
    pub template: TemplateName,
    /// What it is doing.
    pub state: BoxState,
}

/// What a box is doing, as the engine says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BoxState {
    /// Made and not started, or its start failed.
    Created,
    /// Running.
    Running,
    /// Frozen by somebody: nothing in it runs until it is thawed.
    Paused,
    /// It has ended, is being removed, or is in any state a sandbox of ours has no business in.
    Ended,
}

/// What a box uses of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In use now, without the file cache that the kernel could give back at once: as `docker stats` counts.
    pub used_bytes: u64,
    /// The most it may use.
    pub limit_bytes: u64,
}

/// What is known about the engine; for `check`, the log and `/readyz`.
#[derive(Debug, Clone)]
pub struct EngineFacts {
    /// Such as `Docker 20.10.24 (API 1.41)`.
    pub version: String,
    /// The memory of the machine it runs on, if it says.
    pub memory_bytes: Option<u64>,
    /// What it enforces and what it can't, a line each.
    pub notes: Vec<Note>,
}

/// One line about the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about, such as `seccomp`.
    pub about: &'static str,
    /// Whether the engine has it.
    pub holds: bool,
    /// What it has, or why it hasn't.
    pub text: String,
}

impl Note {
    /// Something the engine has.
    pub fn holds(about: &'static str, text: impl Into<String>) -> Self {
        Self { about, holds: true, text: text.into() }
    }

    /// Something that can't be had on this engine.
    pub fn missing(about: &'static str, text: impl Into<String>) -> Self {
        Self { about, holds: false, text: text.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.about, self.text)
    }
}

/// Whom the agent runs as: what it shall write must belong to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Owner {
    /// Who runs the server.
    #[must_use]
    pub fn own() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }
}

/// How a box ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostMortem {
    /// The exit code of its init; None while it runs.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed something in it for want of memory, within the last minute.
    pub out_of_memory: bool,
}

/// Why the runtime could not do what was asked. A variant for each decision a caller takes.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine doesn't answer: wait and try again.
    #[error("the container engine can't be reached: {reason}")]
    Unreachable {
        /// What was tried and what happened.
        reason: String,
    },
    /// The engine took too long: its state must be read again.
    #[error("the container engine did not finish {call} within {seconds} s")]
    Deadline {
        /// Which call.
        call: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// The image isn't there: a person has to build or pull it.
    #[error("image {image} is not on the engine")]
    NoImage {
        /// As configured.
        image: String,
    },
    /// The engine said no.
    #[error("the container engine refused {call}: {reason}")]
    Refused {
        /// Which call.
        call: &'static str,
        /// The engine's words.
        reason: String,
    },
}

/// An engine that runs sandboxes.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// What kind it is.
    fn kind(&self) -> RuntimeKind;

    /// Whom its agents run as. Unless a runtime says otherwise: whoever runs the server.
    fn owner(&self) -> Owner {
        Owner::own()
    }

    /// The folder the agent works in, as the agent sees it; `box_dir` is its parent on the host.
    fn workspace_inside(&self, box_dir: &Path) -> String;

    /// What boxes are made with beside their [`SandboxSpec`], such as the agent's uid: boxes of two runtimes that say the same are alike.
    fn manner(&self) -> String {
        format!("{:?} {:?}", self.kind(), self.owner())
    }

    /// Asks the engine who it is: the proof that it is there.
    ///
    /// # Errors
    /// [`RuntimeError::Unreachable`] or [`RuntimeError::Deadline`].
    async fn engine(&self) -> Result<EngineFacts, RuntimeError>;

    /// Whether the engine answers, by its cheapest call: anybody may make us ask.
    ///
    /// # Errors
    /// [`RuntimeError::Unreachable`] or [`RuntimeError::Deadline`].
    async fn alive(&self) -> Result<(), RuntimeError> {
        self.engine().await.map(|_facts| ())
    }

    /// Finds the id of an image by its configured name.
    ///
    /// # Errors
    /// [`RuntimeError::NoImage`] when the engine doesn't have it, or the engine's trouble.
    async fn resolve_image(&self, image: &str) -> Result<String, RuntimeError>;

    /// Makes a box without starting it.
    ///
    /// # Errors
    /// Any [`RuntimeError`]. On [`RuntimeError::Deadline`] the box may exist all the same.
    async fn create(&self, spec: &SandboxSpec) -> Result<ContainerId, RuntimeError>;

    /// Starts the box; returns the process id of its init on this host, for the link's peer check.
    ///
    /// # Errors
    /// Any [`RuntimeError`].
    async fn start(&self, container: &ContainerId) -> Result<i32, RuntimeError>;

    /// The process id, on this host, of the init of a box that was started before; None when it doesn't run. Unless a runtime says otherwise,
    /// no box of a former run is ever found.
    ///
    /// # Errors
    /// The engine's trouble.
    async fn init_of(&self, _container: &ContainerId) -> Result<Option<i32>, RuntimeError> {
        Ok(None)
    }

    /// Destroys the box, running or not. One that is already gone is a success.
    ///
    /// # Errors
    /// The engine's trouble; call again later.
    async fn remove(&self, container: &ContainerId) -> Result<(), RuntimeError>;

    /// Every box with this instance's label, in every state.
    ///
    /// # Errors
    /// The engine's trouble.
    async fn list(&self) -> Result<Vec<Found>, RuntimeError>;

    /// What the engine says it applied to this box, compared with what was asked: a line for each difference. Empty is good.
    ///
    /// # Errors
    /// The engine's trouble.
    async fn verify(&self, container: &ContainerId, spec: &SandboxSpec) -> Result<Vec<String>, RuntimeError>;

    /// All boxes together get at most so much memory from here on, in MiB; what becomes of it, [`Runtime::engine`] tells. Nothing happens
    /// where a runtime has no such thing.
    fn limit_all(&self, _memory_mib: u64) {}

    /// Removes what was made for all boxes together. Called when there are none any more; if there are, it leaves things as they are.
    async fn tidy_up(&self) {}

    /// How the box ended, or how it goes; None when the runtime can't tell (any more).
    ///
    /// # Errors
    /// The engine's trouble.
    async fn post_mortem(&self, _container: &ContainerId) -> Result<Option<PostMortem>, RuntimeError> {
        Ok(None)
    }

    /// What happens to this instance's boxes from now on. Hints: what was missed, nobody says again; [`Runtime::list`] is the truth. The
    /// stream ends when the connection does, and the caller asks for another. Unless a runtime says otherwise, nothing ever happens.
    ///
    /// # Errors
    /// The engine can't be asked.
    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>, RuntimeError> {
        Ok(futures_util::stream::pending().boxed())
    }

    /// What the box uses of its memory at this moment; None when it doesn't run, or the runtime can't tell.
    ///
    /// # Errors
    /// The engine's trouble.
    async fn memory(&self, _container: &ContainerId) -> Result<Option<Memory>, RuntimeError> {
        Ok(None)
    }
}
