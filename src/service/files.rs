//! Files of a session's workspace: found through the session, read and written a piece at a time.
//!
//! Whatever touches a disk runs on a thread for that, [`THREADS`] at a time and for one piece only: nobody who is slow to give or take bytes keeps
//! a thread. A call that is dropped leaves at most one such piece to its end. When the session's sandbox is gone, what is under way fails as
//! the session itself does.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::Semaphore, time::timeout};

use super::Service;
use crate::{
    identity::{Actor, Caller, Standing},
    ids::SessionId,
    limits::{FileLimits, Permit},
    problem::{Code, Problem},
    session::policy::Refusal,
    workspace::{
        ArchiveLimits, Charge, FileError, FilePath, FileReader, Found, LiveWorkspace, Packer, Unpacker, Upload,
    },
};

pub use crate::workspace::{Entry, EntryKind, Listing, Written};

/// Pieces of work on files at the same time.
const THREADS: usize = 8;
/// How long one piece may take, waiting for its turn included. A disk that is slower than this is broken.
const PIECE_DEADLINE: Duration = Duration::from_secs(30);
/// Most entries of a folder one page has.
pub const FOLDER_PAGE_MAX: usize = 1000;

/// Runs pieces of work on files.
#[derive(Debug, Clone)]
pub(super) struct Desk(Arc<Semaphore>);

impl Default for Desk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(THREADS)))
    }
}

impl Desk {
    /// Runs one piece. If the caller is gone it is done all the same.
    pub(super) async fn run<T, E>(&self, work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let turn = async {
            let permit = Arc::clone(&self.0).acquire_owned().await.map_err(Problem::internal)?;
            let done = tokio::task::spawn_blocking(move || {
                let outcome = work();
                drop(permit);
                outcome
            });
            done.await.map_err(Problem::internal)?.map_err(Into::into)
        };
        timeout(PIECE_DEADLINE, turn).await.map_err(Problem::internal)?
    }
}

/// What a path leads to.
#[derive(Debug)]
pub enum FoundFile {
    /// A file.
    File(Outgoing),
    /// A folder, a page of it.
    Folder(Listing),
}

/// Which page of a folder.
#[derive(Debug, Clone, Default)]
pub struct FolderPage {
    /// Entries it may have.
    pub limit: usize,
    /// The name it begins after, as it is on disk.
    pub after: Option<Vec<u8>>,
}

/// Bytes on their way to a caller. Holds one of the user's streams while it lives.
#[derive(Debug)]
pub struct Outgoing {
    source: Option<Source>,
    size: Option<u64>,
    desk: Desk,
    /// How long they may go on coming.
    pub standing: Standing,
    _permit: Permit,
}

#[derive(Debug)]
enum Source {
    File(FileReader),
    Archive(Box<Packer>),
}

/// Bytes on their way from a caller. Dropping it leaves nothing of a file, and of an archive what was unpacked already. Holds one of the
/// user's streams while it lives.
#[derive(Debug)]
pub struct Incoming {
    sink: Option<Sink>,
    limit: u64,
    /// The room it takes. None: it is whole.
    charge: Option<Charge>,
    /// What came of it stays, if it doesn't come to its end.
    leaves_parts: bool,
    desk: Desk,
    /// How long they may go on coming.
    pub standing: Standing,
    _permit: Permit,
}

#[derive(Debug)]
enum Sink {
    File(Box<Upload>),
    Archive(Box<Unpacker>),
}

impl Service {
    /// Finds a file, or lists a folder.
    ///
    /// # Errors
    /// Not found, a path that leaves the workspace, the session over, too many streams.
    pub async fn find_file(
        &self,
        caller: &Caller,
        id: &SessionId,
        path: &str,
        page: FolderPage,
    ) -> Result<FoundFile, Problem> {
        let workspace = self.live_workspace(caller, id)?;
        let path = FilePath::parse(path.as_bytes())?;
        let permit = self.allowance(caller).hold_stream(&caller.user)?;
        let limit = page.limit.clamp(1, FOLDER_PAGE_MAX);
        let found = self.desk.run(move || match workspace.find(&path)? {
            Found::File(file) => Ok::<_, FileError>(Ok(file)),
            Found::Folder => workspace.list(&path, page.after, limit).map(Err),
        });
        Ok(match found.await? {
            Ok(file) => FoundFile::File(Outgoing {
                size: Some(file.size()),
                source: Some(Source::File(file)),
                desk: self.desk.clone(),
                standing: caller.standing.clone(),
                _permit: permit,
            }),
            Err(listing) => FoundFile::Folder(listing),
        })
    }

    /// Begins to write a file; folders on the way are made. `announced`: how many bytes the caller says will come.
    ///
    /// # Errors
    /// Something of another kind has that name, a path that leaves the workspace, too large, the session over, too many streams.
    pub async fn write_file(
        &self,
        caller: &Actor,
        id: &SessionId,
        path: &str,
        announced: Option<u64>,
    ) -> Result<Incoming, Problem> {
        let workspace = self.live_workspace(caller, id)?;
        let path = FilePath::parse(path.as_bytes())?;
        let limit = self.allowance(caller).files().file_bytes;
        check_announced(announced, limit)?;
        let permit = self.allowance(caller).hold_stream(&caller.user)?;
        let charge = Some(self.charge(caller, &workspace, announced).await?);
        let upload = self.desk.run(move || workspace.begin_file(&path, limit)).await?;
        let sink = Some(Sink::File(Box::new(upload)));
        let standing = caller.standing.clone();
        Ok(Incoming { sink, limit, charge, leaves_parts: false, desk: self.desk.clone(), standing, _permit: permit })
    }

    /// Removes a file or a folder.
    ///
    /// # Errors
    /// Not found, a folder that isn't empty, a path that leaves the workspace, the session over.
    pub async fn delete_file(
        &self,
        caller: &Actor,
        id: &SessionId,
        path: &str,
        recursive: bool,
    ) -> Result<(), Problem> {
        let workspace = self.live_workspace(caller, id)?;
        let path = FilePath::parse(path.as_bytes())?;
        let removal = workspace.clone();
        let left = self.desk.run(move || removal.delete(&path, recursive)).await?;
        workspace.has_changed();
        if let Some(trash) = left {
            self.workspaces.clear_soon(trash);
        }
        Ok(())
    }

    /// Begins an archive of the whole workspace.
    ///
    /// # Errors
    /// Too large, the session over, too many streams.
    pub async fn pack(&self, caller: &Caller, id: &SessionId) -> Result<Outgoing, Problem> {
        let workspace = self.live_workspace(caller, id)?;
        let permit = self.allowance(caller).hold_stream(&caller.user)?;
        let limits = self.archive_limits(caller);
        let mut packer = Box::new(self.desk.run(move || workspace.pack(limits)).await?);
        loop {
            let measured = self.desk.run(move || packer.measure().map(|all| (packer, all)));
            let all;
            (packer, all) = measured.await?;
            if all {
                break;
            }
        }
        let source = Some(Source::Archive(packer));
        Ok(Outgoing { source, size: None, desk: self.desk.clone(), standing: caller.standing.clone(), _permit: permit })
    }

    /// Begins to unpack an archive over the workspace.
    ///
    /// # Errors
    /// Too large, the session over, too many streams.
    pub async fn unpack(&self, caller: &Actor, id: &SessionId, announced: Option<u64>) -> Result<Incoming, Problem> {
        let workspace = self.live_workspace(caller, id)?;
        let limits = self.archive_limits(caller);
        check_announced(announced, limits.bytes)?;
        let permit = self.allowance(caller).hold_stream(&caller.user)?;
        let charge = Some(self.charge(caller, &workspace, announced).await?);
        let sink = Some(Sink::Archive(Box::new(workspace.unpack(limits))));
        let limit = limits.bytes;
        let standing = caller.standing.clone();
        Ok(Incoming { sink, limit, charge, leaves_parts: true, desk: self.desk.clone(), standing, _permit: permit })
    }

    fn archive_limits(&self, caller: &Caller) -> ArchiveLimits {
        let FileLimits { archive_bytes: bytes, archive_entries: entries, .. } = self.allowance(caller).files();
        ArchiveLimits { bytes, entries }
    }

    /// The workspace of a session that isn't over.
    fn live_workspace(&self, caller: &Caller, id: &SessionId) -> Result<LiveWorkspace, Problem> {
        let session = self.find(caller, id)?;
        let workspace = self.workspaces.live(&session.whose(), &session.identity.workspace);
        // Asked last: a session that isn't over now was the workspace's holder a moment ago.
        match workspace {
            Some(workspace) if !session.is_over() => Ok(workspace),
            _ => Err(Refusal::Ended.into()),
        }
    }
}

fn check_announced(announced: Option<u64>, limit: u64) -> Result<(), Problem> {
    if announced.is_none_or(|announced| announced <= limit) {
        return Ok(());
    }
    Err(Problem::new(Code::PayloadTooLarge, format!("the body may have {limit} bytes")))
}

impl Outgoing {
    /// How many bytes will come, where that is known before.
    #[must_use]
    pub const fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next bytes; none: that was all.
    ///
    /// # Errors
    /// The rest can't be had. It isn't to be asked again then, nor after it was dropped while it worked.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let mut source = self.source.take().ok_or_else(|| Problem::internal("asked for bytes after a failure"))?;
        let read = self.desk.run(move || {
            let bytes = match &mut source {
                Source::File(file) => file.read(),
                Source::Archive(packer) => packer.read(),
            };
            bytes.map(|bytes| (source, bytes))
        });
        let (source, bytes) = read.await?;
        self.source = Some(source);
        Ok(bytes)
    }
}

impl Incoming {
    /// How many bytes it takes at most.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// They can't be written. Nothing more is taken then.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Problem> {
        let mut sink = self.take_sink()?;
        if let Some(charge) = &mut self.charge {
            charge.add(bytes.len() as u64)?;
        }
        let write = self.desk.run(move || {
            match &mut sink {
                Sink::File(upload) => upload.write(&bytes),
                Sink::Archive(unpacker) => unpacker.take(&bytes),
            }
            .map(|()| sink)
        });
        self.sink = Some(write.await?);
        Ok(())
    }

    /// That was all. For an archive it says [`Written::Replaced`].
    ///
    /// # Errors
    /// It isn't whole, or something stands in the way of its name.
    pub async fn finish(mut self) -> Result<Written, Problem> {
        let sink = self.take_sink()?;
        let finish = self.desk.run(move || match sink {
            Sink::File(upload) => upload.finish(),
            Sink::Archive(unpacker) => unpacker.finish().map(|()| Written::Replaced),
        });
        let written = finish.await?;
        self.keep_charge();
        Ok(written)
    }

    fn keep_charge(&mut self) {
        if let Some(charge) = self.charge.take() {
            charge.keep();
        }
    }

    fn take_sink(&mut self) -> Result<Sink, Problem> {
        self.sink.take().ok_or_else(|| Problem::internal("gave bytes after a failure"))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.leaves_parts {
            self.keep_charge();
        }
    }
}
