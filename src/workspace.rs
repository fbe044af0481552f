//! Workspaces: users' named folders, which outlive sandboxes.
//!
//! A workspace is at home in `<state>/workspaces/<user>/<name>` or in exactly one slot. It goes in and comes back by one `rename(2)` on
//! the same file system: no copy, no mount, no privilege, and at no moment two of it. Who holds one is kept in memory; where
//! one in use belongs is written down in its slot, so that a killed server loses nothing.
//!
//! While a session holds it, its user reaches the files by [`LiveWorkspace`]: confined by the kernel, against an agent that may do its worst
//! in the same folder at the same time. When the workspace moves home, that way is closed first.

mod archive;
mod fault;
mod folder;
mod gate;
mod listing;
mod path;
mod reader;
mod scale;
mod shelf;
mod smallest;
mod trash;
mod upload;
mod weigh;

use std::{
    collections::{HashMap, hash_map},
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use self::trash::Trash;
pub use self::{
    archive::{ArchiveLimits, Packer, Unpacker},
    fault::FileError,
    folder::{Found, LiveWorkspace},
    listing::{Entry, EntryKind, Listing},
    path::FilePath,
    reader::FileReader,
    scale::{Charge, Used},
    shelf::Shelved,
    upload::{Upload, Written},
    weigh::Weigher,
};
use crate::{
    identity::Whose,
    ids::{UserId, WorkspaceName, hex},
    sandbox::{remove::remove_tree, slot::Slot},
};

/// Why a workspace can't be had.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Another session holds it.
    #[error("workspace {0} is in use")]
    InUse(WorkspaceName),
    /// The file system said no.
    #[error("could not {step} the workspace")]
    Io {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// All workspaces of this server.
#[derive(Debug)]
pub struct Workspaces {
    root: PathBuf,
    trash: Trash,
    /// Homes that are held, and where the workspace is meanwhile. A few lines at a time, never across an await.
    held: Mutex<HashMap<PathBuf, Option<LiveWorkspace>>>,
    /// Moves on when a hold ends.
    freed: watch::Sender<u64>,
}

impl Workspaces {
    /// Opens `<state>/workspaces`, making it if it is missing.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(state_dir: &Path) -> io::Result<Arc<Self>> {
        let root = state_dir.join("workspaces");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        Ok(Arc::new(Self {
            root,
            trash: Trash::open(state_dir)?,
            held: Mutex::default(),
            freed: watch::Sender::new(0),
        }))
    }

    /// Takes hold of a workspace, whether it exists yet or not.
    ///
    /// # Errors
    /// [`WorkspaceError::InUse`].
    pub fn hold(self: &Arc<Self>, whose: &Whose, name: &WorkspaceName) -> Result<WorkspaceHold, WorkspaceError> {
        let home = self.home_of(whose, name);
        match self.held().entry(home.clone()) {
            hash_map::Entry::Occupied(_) => return Err(WorkspaceError::InUse(name.clone())),
            hash_map::Entry::Vacant(place) => drop(place.insert(None)),
        }
        Ok(WorkspaceHold { all: Arc::clone(self), home, keep_empty: true, stuck: AtomicBool::new(false) })
    }

    /// Wakes whoever waits for a workspace: changes whenever a hold ends.
    #[must_use]
    pub fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }

    /// Takes the workspace of a leftover slot home. The slot's container must be gone.
    ///
    /// # Errors
    /// The file system says no; the workspace stays where it is.
    pub fn recover(&self, slot: &Slot) -> Result<(), WorkspaceError> {
        let told = slot.belongs_to().map_err(|source| WorkspaceError::Io { step: "recover", source })?;
        let Some(home) = told else { return Ok(()) };
        if !home.starts_with(&self.root) {
            return Err(WorkspaceError::Io { step: "recover", source: io::Error::other("its home is not ours") });
        }
        // Empty: nobody wrote to it yet, or a server was killed between its claim and its move and the workspace is at home.
        if fs::remove_dir(slot.workspace()).is_ok() {
            return slot.clear_belongs_to().map_err(|source| WorkspaceError::Io { step: "recover", source });
        }
        take_home(slot, &home).inspect_err(|_| {
            // Nobody gets an empty folder instead of the one that is stuck.
            self.held().insert(home, None);
        })
    }

    fn home_of(&self, whose: &Whose, name: &WorkspaceName) -> PathBuf {
        self.root.join(folder_of(whose.user())).join(name.as_str())
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Option<LiveWorkspace>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's exclusive hold on a workspace; dropping it lets go.
#[derive(Debug)]
pub struct WorkspaceHold {
    all: Arc<Workspaces>,
    home: PathBuf,
    keep_empty: bool,
    stuck: AtomicBool,
}

impl WorkspaceHold {
    /// Whether there is something to move in.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.home.exists()
    }

    /// A workspace nobody named isn't kept if it is empty at the end.
    pub fn forget_if_empty(&mut self) {
        self.keep_empty = false;
    }

    /// The workspace is stuck in its slot: until a person has seen to it, nobody gets an empty one instead.
    pub fn keep_for_ever(&self) {
        self.stuck.store(true, Ordering::Relaxed);
    }

    /// Moves the workspace into the slot, or, when it is new, claims the empty one that is there already. Two or three
    /// system calls on one file system: fit for the path of an open, without a thread.
    ///
    /// # Errors
    /// The file system says no; the workspace is at home then.
    pub fn move_in(&self, slot: &Slot) -> Result<(), WorkspaceError> {
        let failed = |step| move |source| WorkspaceError::Io { step, source };
        slot.set_belongs_to(&self.home).map_err(failed("claim"))?;
        if !self.exists() {
            self.is_in(slot).is_new();
            return Ok(());
        }
        let inside = slot.workspace();
        let moved = match fs::rename(&self.home, &inside) {
            // The warm agent left something of its own there. It isn't the user's: out with it.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                remove_tree(&inside, &|| true).and_then(|()| fs::rename(&self.home, &inside))
            }
            other => other,
        };
        moved.map_err(|source| {
            let _home_it_is = slot.clear_belongs_to();
            WorkspaceError::Io { step: "move in", source }
        })?;
        self.is_in(slot);
        Ok(())
    }

    /// The workspace is in this slot: its user can reach the files there.
    pub fn is_in(&self, slot: &Slot) -> LiveWorkspace {
        let live = LiveWorkspace { dir: slot.workspace(), gate: Arc::default(), scale: Arc::default() };
        self.all.held().insert(self.home.clone(), Some(live.clone()));
        live
    }

    /// Moves the workspace home. The slot's container must be gone, or the agent could still write. Waits for the moment it takes those who
    /// are at its files to come out.
    ///
    /// # Errors
    /// The file system says no; the workspace stays in its slot, which then isn't removed.
    pub fn move_back(&self, slot: &Slot) -> Result<(), WorkspaceError> {
        let live = self.all.held().get(&self.home).cloned().flatten();
        if let Some(live) = live {
            live.gate.close();
        }
        let told = slot.belongs_to().map_err(|source| WorkspaceError::Io { step: "move back", source })?;
        if told.is_none() {
            return Ok(());
        }
        if !self.keep_empty && fs::remove_dir(slot.workspace()).is_ok() {
            return slot.clear_belongs_to().map_err(|source| WorkspaceError::Io { step: "forget", source });
        }
        take_home(slot, &self.home)
    }
}

impl Drop for WorkspaceHold {
    fn drop(&mut self) {
        if !self.stuck.load(Ordering::Relaxed) {
            self.all.held().remove(&self.home);
            self.all.freed.send_modify(|number| *number = number.wrapping_add(1));
        }
    }
}

fn take_home(slot: &Slot, home: &Path) -> Result<(), WorkspaceError> {
    let failed = |source| WorkspaceError::Io { step: "move back", source };
    let inside = slot.workspace();
    // A server killed between the move and the last line left nothing here.
    match fs::symlink_metadata(&inside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(entry) if !entry.is_dir() => return Err(failed(io::Error::other("it is not a folder any more"))),
        Ok(entry) => {
            give_back_our_rights(&inside, &entry).map_err(failed)?;
            if let Some(parent) = home.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
            }
            fs::rename(&inside, home).map_err(failed)?;
        }
    }
    slot.clear_belongs_to().map_err(failed)
}

/// Moving a folder to another parent changes its `..`: whoever isn't root needs the right to write to the folder itself, which its
/// agent, being the same user then, may have taken away.
fn give_back_our_rights(inside: &Path, entry: &fs::Metadata) -> io::Result<()> {
    let mode = entry.permissions().mode();
    if mode & 0o700 == 0o700 {
        return Ok(());
    }
    fs::set_permissions(inside, fs::Permissions::from_mode(mode | 0o700))
}

/// One path component for a user: the id itself where that is safe, else its digest.
fn folder_of(user: &UserId) -> String {
    WorkspaceName::parse(user.as_str()).map_or_else(
        |_| format!("~{}", hex(&Sha256::digest(user.as_str().as_bytes()))),
        |name| name.as_str().to_owned(),
    )
}

#[cfg(test)]
mod tests;
