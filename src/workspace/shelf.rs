//! A user's workspaces: which there are, and how one goes.

use std::{fs, io, sync::Arc};

use jiff::Timestamp;

use super::{LiveWorkspace, WorkspaceError, Workspaces, folder_of, give_back_our_rights, smallest::Smallest};
use crate::{identity::Whose, ids::WorkspaceName};

/// One workspace of a user's.
#[derive(Debug, Clone)]
pub struct Shelved {
    /// Its name.
    pub name: WorkspaceName,
    /// When something was last added to or removed from its topmost folder.
    pub modified_at: Timestamp,
}

impl Workspaces {
    /// The user's workspaces by name, from after a name on, and whether there are more: those at home and those that are held.
    ///
    /// # Errors
    /// The file system says no.
    pub fn list(
        &self,
        whose: &Whose,
        after: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Shelved>, bool), WorkspaceError> {
        let failed = |source| WorkspaceError::Io { step: "list", source };
        let homes = self.root.join(folder_of(whose.user()));
        let mut names = Smallest::new(after, limit);
        let mut offer = |name: &std::ffi::OsStr| {
            if let Some(name) = name.to_str().filter(|name| WorkspaceName::parse(name).is_ok()) {
                names.offer(name.to_owned());
            }
        };
        let in_use = self
            .held()
            .iter()
            .filter(|(home, live)| live.is_some() && home.parent() == Some(&homes))
            .map(|(home, _)| home.clone())
            .collect::<Vec<_>>();
        in_use.iter().filter_map(|home| home.file_name()).for_each(&mut offer);
        match fs::read_dir(&homes) {
            Ok(entries) => {
                for entry in entries {
                    // One that went home while we looked comes twice, and counts once.
                    offer(&entry.map_err(failed)?.file_name());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let (names, more) = names.page();
        let shelved = names.iter().filter_map(|name| {
            let name = WorkspaceName::parse(name).ok()?;
            let place = self.live(whose, &name).map_or_else(|| homes.join(name.as_str()), |live| live.dir);
            let modified = fs::symlink_metadata(place).and_then(|entry| entry.modified()).ok();
            // It may be on its way between the two places: it was touched just now.
            let modified_at = modified.and_then(|time| time.try_into().ok()).unwrap_or_else(Timestamp::now);
            Some(Shelved { name, modified_at })
        });
        Ok((shelved.collect(), more))
    }

    /// Removes a workspace: it is gone at once, and taken from the disk later. Says whether there was one.
    ///
    /// # Errors
    /// It is in use, or the file system says no.
    pub fn delete(self: &Arc<Self>, whose: &Whose, name: &WorkspaceName) -> Result<bool, WorkspaceError> {
        let hold = self.hold(whose, name)?;
        let thrown = fs::symlink_metadata(&hold.home).and_then(|entry| {
            give_back_our_rights(&hold.home, &entry)?;
            self.trash.throw(&hold.home)
        });
        match thrown {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(WorkspaceError::Io { step: "remove", source }),
        }
    }

    /// The workspace of a session that holds it, while it is in the session's slot.
    #[must_use]
    pub fn live(&self, whose: &Whose, name: &WorkspaceName) -> Option<LiveWorkspace> {
        self.held().get(&self.home_of(whose, name))?.clone()
    }
}
