//! Why a file of a workspace can't be had: one variant per answer a caller can be given.

use std::io;

use rustix::io::Errno;

/// A file where a folder should be.
const NO_FOLDER: &str = "a part of the path is not a folder";

/// Why a call on a workspace's files came to nothing. The texts are public: they hold no path of ours.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path, or the archive's member, breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// A link leads out of the workspace.
    #[error("a link on the way leads out of the workspace")]
    Outside,
    /// It is a socket, a named pipe or a device.
    #[error("it is neither a file nor a folder")]
    Special,
    /// There is nothing.
    #[error("there is nothing under that path")]
    NotFound,
    /// What is there already stands in the way.
    #[error("{0}")]
    Conflict(&'static str),
    /// A limit was met.
    #[error("{0}")]
    TooLarge(String),
    /// The session is over: the workspace is no longer here.
    #[error("the session is over")]
    Ended,
    /// The file system says no.
    #[error("could not {step}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl FileError {
    /// A broken rule.
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// What a failed look-up or change means to the caller.
    pub(super) fn of(step: &'static str, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => Self::NotFound,
            Some(Errno::LOOP) => Self::invalid("the links on the way lead in a circle"),
            Some(Errno::NAMETOOLONG | Errno::INVAL) => Self::invalid("path: the file system can't have such a name"),
            Some(Errno::NXIO | Errno::NODEV) => Self::Special,
            Some(Errno::NOTDIR) => Self::Conflict(NO_FOLDER),
            Some(Errno::ISDIR) => Self::Conflict("there is a folder of that name"),
            Some(Errno::NOTEMPTY | Errno::EXIST) => Self::Conflict("there is something of that name"),
            Some(Errno::ACCESS | Errno::PERM) => Self::Conflict("the agent has closed it"),
            // This is how a path that would leave is told; it never came to a system call that could say so.
            None if source.kind() == io::ErrorKind::PermissionDenied => Self::Outside,
            _ => Self::Io { step, source },
        }
    }

    /// The same of a look-up: where something that isn't a folder is on the way, there is nothing.
    pub(super) fn of_reading(step: &'static str, source: impl Into<io::Error>) -> Self {
        Self::of(step, source).reading()
    }

    /// What a failed change would mean if it had been a look-up.
    pub(super) fn reading(self) -> Self {
        if matches!(self, Self::Conflict(NO_FOLDER)) { Self::NotFound } else { self }
    }
}
