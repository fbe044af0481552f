//! What users removed and nobody has taken from the disk yet.
//!
//! A folder may have a million entries, so it isn't removed while its user waits: it is renamed to a trash folder on the same file system, where
//! nobody finds it any more, and one task takes what is there from the disk, one folder after the other. A workspace's trash is
//! `<state>/trash`; what a former run left there is removed by the next. A folder in a workspace that a session holds goes to `.trash` beside
//! that workspace, still within what its container sees: a folder must not leave a mount while somebody is in it. What is left of that goes with
//! the slot.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use cap_std::fs::Dir;
use rustix::{
    fs::{CWD, Mode, OFlags, mkdirat, openat, renameat},
    io::Errno,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::fault::FileError;
use crate::{
    ids::{hex, random_bytes},
    sandbox::remove::remove_in,
};

/// The trash beside a workspace in use.
const BESIDE: &str = ".trash";
/// How long the trash of one session is worked at: an agent may be filling it all the while.
const PATIENCE: Duration = Duration::from_secs(10);

/// What waits to be removed.
#[derive(Debug)]
pub(super) struct Trash {
    root: PathBuf,
    /// Folders whose content goes. Locked for a look, never across an await. At most one for every session, and the root.
    waiting: Mutex<BTreeSet<PathBuf>>,
    wake: Notify,
}

impl Trash {
    /// Opens `<state>/trash`. What is in it waits already.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let root = state_dir.join("trash");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        Ok(Self { waiting: Mutex::new(BTreeSet::from([root.clone()])), root, wake: Notify::new() })
    }

    /// Takes a folder that nobody uses out of sight.
    pub(super) fn throw(&self, folder: &Path) -> io::Result<()> {
        fs::rename(folder, self.root.join(fresh_name()))?;
        self.clear_soon(self.root.clone());
        Ok(())
    }

    /// Has the content of a trash folder removed.
    pub(super) fn clear_soon(&self, folder: PathBuf) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(folder);
        self.wake.notify_one();
    }

    /// Removes what waits, until the token is cancelled. What is left then, the next run finds.
    pub(super) async fn clear(&self, token: CancellationToken) {
        while !token.is_cancelled() {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            let Some(folder) = next else {
                let _stopped = token.run_until_cancelled(self.wake.notified()).await;
                continue;
            };
            let (stop, since, of_session) = (token.clone(), Instant::now(), folder != self.root);
            let go_on = move || !stop.is_cancelled() && (!of_session || since.elapsed() <= PATIENCE);
            let removal = tokio::task::spawn_blocking(move || match clear_out(&folder, &go_on) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => debug!("the trash was left for later"),
                // The slot went, and its trash with it.
                Err(error) if of_session => debug!(%error, "the trash of a session could not be removed"),
                Err(error) => {
                    warn!(%error, "what a user removed could not be taken from the disk; the next start tries again")
                }
                Ok(()) => {}
            });
            let _a_panic_is_told_by_its_hook = removal.await;
        }
    }
}

fn clear_out(folder: &Path, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let folder = open(CWD, folder)?;
    let mut entries = rustix::fs::Dir::read_from(&folder)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove_in(folder.as_fd(), entry.file_name(), go_on)?;
        }
    }
    Ok(())
}

/// Renames an entry of a folder to the trash beside the workspace, and says where that is.
pub(super) fn throw_out(parent: &Dir, name: &OsStr, workspace: &Path) -> Result<PathBuf, FileError> {
    let failed = |error: Errno| FileError::of("remove a folder", error);
    let slot_box = workspace.parent().ok_or(FileError::Ended)?;
    let beside = open(CWD, slot_box).map_err(failed)?;
    match mkdirat(&beside, BESIDE, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    let trash = open(beside.as_fd(), Path::new(BESIDE)).map_err(failed)?;
    renameat(parent, name, &trash, fresh_name()).map_err(failed)?;
    Ok(slot_box.join(BESIDE))
}

/// Opens a folder; a link in the last place is refused.
fn open(parent: std::os::fd::BorrowedFd<'_>, name: &Path) -> Result<OwnedFd, Errno> {
    openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn fresh_name() -> String {
    hex(&random_bytes::<16>())
}

impl super::Workspaces {
    /// Takes what users removed from the disk, until the token is cancelled.
    pub async fn keep_house(self: Arc<Self>, token: CancellationToken) {
        self.trash.clear(token).await;
    }

    /// Has the content of a folder that [`super::LiveWorkspace::delete`] named removed.
    pub fn clear_soon(&self, folder: PathBuf) {
        self.trash.clear_soon(folder);
    }
}
