//! Small files that only the server's account may read.
//!
//! Those of ours are in the state folder. Writers take a lock file, write a new file beside the old one and rename it over that: a reader sees
//! the old file or the new one, never half of one. A crash on the way leaves the old file and perhaps a `.new`, which the next writer replaces.
//! What root makes in a folder of somebody else's is given to them, or the server they run couldn't read it.
//!
//! Those of an operator's, with a secret in them, are refused when everybody on the machine can read them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{self as unix_fs, DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags};
use secrecy::SecretString;
use zeroize::Zeroizing;

/// The largest file with one secret that is read, in bytes.
const SECRET_MAX: u64 = 64 * 1024;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The file system refused.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is larger than any of its kind.
    #[error("{} is larger than {max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it may have.
        max: u64,
    },
    /// Others may read it, or change it.
    #[error("{} must not be open to other accounts; `chmod 600` it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// It is no text.
    #[error("{} is not a text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

/// One file of ours.
#[derive(Debug, Clone)]
pub struct PrivateFile {
    path: PathBuf,
}

/// The right to replace the file, as long as it is held. Ends with its process, too.
#[derive(Debug)]
pub struct WriteLock(#[expect(dead_code, reason = "held for its lock")] File);

/// Tells one state of a file from another: every write of ours makes a new inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
    length: u64,
}

impl PrivateFile {
    /// It need not exist.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its content, which is wiped when it is dropped; none: there is no such file.
    ///
    /// # Errors
    /// It can't be read, or has more than `max` bytes.
    pub fn read(&self, max: u64) -> Result<Option<Zeroizing<Vec<u8>>>, PrivateFileError> {
        match File::open(&self.path) {
            Ok(file) => read_all(&self.path, file, max).map(Some),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(self.fault("open", fault)),
        }
    }

    /// Its state; none: there is no such file.
    ///
    /// # Errors
    /// It can't be looked at.
    pub fn stamp(&self) -> Result<Option<Stamp>, PrivateFileError> {
        match fs::metadata(&self.path) {
            Ok(data) => Ok(Some(Stamp {
                inode: data.ino(),
                seconds: data.mtime(),
                nanoseconds: data.mtime_nsec(),
                length: data.len(),
            })),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(self.fault("look at", fault)),
        }
    }

    /// One writer at a time: waits for the others. Makes the folder if it isn't there.
    ///
    /// # Errors
    /// There can be no lock.
    pub fn lock(&self) -> Result<WriteLock, PrivateFileError> {
        if let Some(folder) = self.path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|fault| self.fault("make the folder of", fault))?;
        }
        let path = self.path.with_extension("lock");
        // Root must not be led out of a folder that is somebody else's.
        let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(no_follow);
        let file = options.open(&path).and_then(|file| self.give_to_owner(&file).map(|()| file));
        let file = file.map_err(|source| PrivateFileError::Io { action: "open", path: path.clone(), source })?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|fault| PrivateFileError::Io {
            action: "lock",
            path,
            source: fault.into(),
        })?;
        Ok(WriteLock(file))
    }

    /// Puts this in its place, with mode 0600. When it returns, it is on the disk.
    ///
    /// # Errors
    /// It can't be written; what was there is still there.
    pub fn replace(&self, _lock: &WriteLock, content: &[u8]) -> Result<(), PrivateFileError> {
        let mut fresh = self.path.clone().into_os_string();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let write = || {
            // A leftover of a crash may have any mode: start from nothing.
            match fs::remove_file(&fresh) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh)?;
            self.give_to_owner(&file)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)?;
            match self.path.parent() {
                // The rename itself must survive a power cut, or what was taken away would come back.
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(|fault| self.fault("write", fault))
    }

    /// What root makes belongs to whom the folder belongs: `sudo greenroom …` must not lock out a server that isn't root.
    fn give_to_owner(&self, file: &File) -> io::Result<()> {
        let Some(folder) = self.path.parent().filter(|_| rustix::process::geteuid().is_root()) else { return Ok(()) };
        let data = file.metadata()?;
        // A second name would be one that the folder's owner gave to a file of somebody else's.
        if !data.is_file() || data.nlink() != 1 {
            return Err(io::Error::other("it is not a file of its own"));
        }
        let owner = fs::metadata(folder)?;
        unix_fs::fchown(file, Some(owner.uid()), Some(owner.gid()))
    }

    fn fault(&self, action: &'static str, source: io::Error) -> PrivateFileError {
        PrivateFileError::Io { action, path: self.path.clone(), source }
    }
}

/// A secret from a file of an operator's, without blanks around it. The file's group may read it: that is how orchestrators hand it to an
/// account that isn't root.
///
/// # Errors
/// It can't be read, is too large, no text, or open to everybody.
pub fn read_secret(path: &Path) -> Result<SecretString, PrivateFileError> {
    let fault = |action, source| PrivateFileError::Io { action, path: path.to_owned(), source };
    let file = File::open(path).map_err(|source| fault("open", source))?;
    let mode = file.metadata().map_err(|source| fault("look at", source))?.mode();
    if mode & 0o027 != 0 {
        return Err(PrivateFileError::Open { path: path.to_owned() });
    }
    secret_in(path, file)
}

/// The same from a file that somebody else put there, and open to whom they like: Kubernetes lets all of a container read its account's token.
///
/// # Errors
/// It can't be read, is too large or no text.
pub fn read_given_secret(path: &Path) -> Result<SecretString, PrivateFileError> {
    let fault = |source| PrivateFileError::Io { action: "open", path: path.to_owned(), source };
    secret_in(path, File::open(path).map_err(fault)?)
}

fn secret_in(path: &Path, file: File) -> Result<SecretString, PrivateFileError> {
    let bytes = read_all(path, file, SECRET_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| PrivateFileError::NotText { path: path.to_owned() })?;
    Ok(SecretString::from(text.trim()))
}

/// Reads without leaving pieces behind: into room for all of it, made before.
fn read_all(path: &Path, mut file: File, max: u64) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let fault = |source| PrivateFileError::Io { action: "read", path: path.to_owned(), source };
    let too_large = || PrivateFileError::TooLarge { path: path.to_owned(), max };
    let length = file.metadata().map_err(fault)?.len();
    if length > max {
        return Err(too_large());
    }
    // One byte more than there should be: a file that grows meanwhile is found out.
    let mut content = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1)]);
    let mut filled = 0;
    loop {
        match file.read(&mut content[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(fault(error)),
        }
        if filled == content.len() {
            return Err(fault(io::Error::other("it changes while it is read")));
        }
    }
    content.truncate(filled);
    Ok(content)
}

#[cfg(test)]
mod tests;
