//! A socket's file: made for one slot, and removed with it.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// The file of a socket that is listened on. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    identity: (u64, u64),
}

impl Socket {
    /// Listens, in place of what a former run left.
    pub fn listen(path: &Path) -> io::Result<(Self, UnixListener)> {
        remove(path)?;
        let listener = UnixListener::bind(path)?;
        // The sandbox's uid is not ours; the folder keeps everyone else out.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        Ok((Self { path: path.to_owned(), identity: identity(path)? }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The next run of the server may have put its own there.
        let is_ours = identity(&self.path).is_ok_and(|found| found == self.identity);
        if is_ours && let Err(error) = remove(&self.path) {
            tracing::warn!(%error, socket = %self.path.display(), "a slot's socket could not be removed");
        }
    }
}

/// What tells a socket's file from another one in its place.
fn identity(socket: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(socket).map(|found| (found.dev(), found.ino()))
}

/// Removes what a former run left; refuses to remove anything but a socket.
fn remove(socket: &Path) -> io::Result<()> {
    match fs::symlink_metadata(socket) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(socket),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file in the socket's place")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
