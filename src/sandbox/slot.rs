//! A slot: the folder one sandbox has on the host, from before its container is made until after it is destroyed.
//!
//! ```text
//! <state>/slots/<slot>/
//!   run/            link.sock, gateway.sock, egress.sock   mounted read-only
//!   box/workspace/  the workspace while it is in use box/ is the container's /sandbox
//!   ready           what the sandbox was made from and its agent's memory, once it is booted
//!   box/.trash/     what its user removed from it, until it is taken from the disk
//!   leased          an empty file, from the moment somebody leased the sandbox
//!   belongs-to ->   where the workspace goes back to (only while it is a user's)
//! ```
//!
//! `box/` belongs to the server, so the agent can't swap `workspace` for a link; the workspace belongs to the agent's uid.
//! `belongs-to` is what makes a killed server harmless: the next one reads it and takes the workspace home.

mod ready;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

pub use self::ready::{Fingerprint, Ready};
pub use crate::runtime::Owner;

use super::remove::remove_tree;
use crate::ids::SlotId;

const BELONGS_TO: &str = "belongs-to";
const LEASED: &str = "leased";

/// The folder all slots are in.
#[derive(Debug, Clone)]
pub struct Slots {
    root: PathBuf,
    owner: Owner,
}

impl Slots {
    /// Opens `<state>/slots`, making it if it is missing.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(state_dir: &Path, owner: Owner) -> io::Result<Self> {
        let root = state_dir.join("slots");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        Ok(Self { root, owner })
    }

    /// Makes the folder of a new slot, its workspace empty.
    ///
    /// # Errors
    /// The file system says no; nothing is left behind then.
    pub fn create(&self, id: &SlotId) -> io::Result<Slot> {
        let slot = Slot { id: id.clone(), dir: self.root.join(id.as_str()) };
        slot.make(self.owner).inspect_err(|_| {
            let _already_failing = fs::remove_dir_all(&slot.dir);
        })?;
        Ok(slot)
    }

    /// Every slot folder there is, ours or a former server's.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn list(&self) -> io::Result<Vec<Slot>> {
        fs::read_dir(&self.root)?
            .map(|entry| {
                let entry = entry?;
                let id = SlotId::from_client(&entry.file_name().to_string_lossy());
                Ok(Slot { id, dir: entry.path() })
            })
            .collect()
    }
}

/// One slot's folder.
#[derive(Debug, Clone)]
pub struct Slot {
    id: SlotId,
    dir: PathBuf,
}

impl Slot {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SlotId {
        &self.id
    }

    /// The folder with the three sockets.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The folder that is `/sandbox` inside.
    #[must_use]
    pub fn box_dir(&self) -> PathBuf {
        self.dir.join("box")
    }

    /// The workspace on the host.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        self.box_dir().join("workspace")
    }

    /// The supervisor's socket.
    #[must_use]
    pub fn link_socket(&self) -> PathBuf {
        self.run_dir().join("link.sock")
    }

    /// The gateway's socket.
    #[must_use]
    pub fn gateway_socket(&self) -> PathBuf {
        self.run_dir().join("gateway.sock")
    }

    /// Writes down that somebody leased the sandbox: nobody else ever will, whatever becomes of the server.
    ///
    /// # Errors
    /// The file system says no, or it was leased before.
    pub fn mark_leased(&self) -> io::Result<()> {
        fs::OpenOptions::new().write(true).create_new(true).open(self.dir.join(LEASED)).map(drop)
    }

    /// Whether somebody leased the sandbox.
    #[must_use]
    pub fn was_leased(&self) -> bool {
        self.dir.join(LEASED).exists()
    }

    /// Writes down where the workspace goes back to. Survives a killed server.
    ///
    /// # Errors
    /// The file system says no.
    pub fn set_belongs_to(&self, home: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(home, self.dir.join(BELONGS_TO))
    }

    /// Where the workspace goes back to, if it is a user's.
    ///
    /// # Errors
    /// It can't be told; the workspace is then somebody's.
    pub fn belongs_to(&self) -> io::Result<Option<PathBuf>> {
        match fs::read_link(self.dir.join(BELONGS_TO)) {
            Ok(home) => Ok(Some(home)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the user's workspace out of the slot's care: it was moved home.
    ///
    /// # Errors
    /// The file system says no.
    pub fn clear_belongs_to(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join(BELONGS_TO)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes the folder and all that is in it. Refuses while a user's workspace is in it.
    ///
    /// # Errors
    /// A workspace is still here, or the file system says no.
    pub fn remove(&self) -> io::Result<()> {
        if self.belongs_to()?.is_some() && self.workspace().try_exists()? {
            return Err(io::Error::other("a workspace is still in the slot"));
        }
        remove_tree(&self.dir, &|| true)
    }

    fn make(&self, owner: Owner) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o755).create(&self.dir)?;
        for dir in [self.run_dir(), self.box_dir()] {
            fs::DirBuilder::new().mode(0o755).create(&dir)?;
            // The umask took bits away; the agent's uid has to get through these two.
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        }
        make_workspace(&self.workspace(), owner)
    }
}

/// Makes an empty workspace that belongs to the agent's uid.
fn make_workspace(path: &Path, owner: Owner) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(dir: &Path) -> Slots {
        Slots::open(dir, Owner { uid: 10_001, gid: 10_001 }).expect("a temporary folder takes folders")
    }

    #[test]
    fn a_slot_with_a_users_workspace_is_never_removed() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let slot = slots(state.path()).create(&SlotId::random()).expect("made");
        slot.set_belongs_to(Path::new("/somewhere/else")).expect("linked");
        fs::write(slot.workspace().join("precious"), "x").expect("written");
        assert!(slot.remove().is_err());
        assert!(slot.workspace().join("precious").exists());
        slot.clear_belongs_to().expect("cleared");
        slot.remove().expect("removed");
        slot.remove().expect("removing twice is fine");
    }

    #[test]
    fn a_sandbox_is_leased_once_and_the_disk_knows() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let slot = slots(state.path()).create(&SlotId::random()).expect("made");
        assert!(!slot.was_leased());
        slot.mark_leased().expect("written");
        assert!(slot.was_leased());
        assert!(slot.mark_leased().is_err());
    }

    #[test]
    fn leftover_slots_are_found_with_their_home() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let slots = slots(state.path());
        let slot = slots.create(&SlotId::random()).expect("made");
        slot.set_belongs_to(Path::new("/home/of/it")).expect("linked");
        let found = slots.list().expect("listed");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id(), slot.id());
        assert_eq!(found[0].belongs_to().expect("told").as_deref(), Some(Path::new("/home/of/it")));
    }
}
