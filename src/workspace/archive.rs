//! A whole workspace as a tar archive, both ways, in pieces of bounded size.
//!
//! Neither way ever holds a file, let alone an archive, in memory, and neither waits for a client: [`Packer`] is asked for the next piece,
//! [`Unpacker`] is given the next one. What is in an archive of ours: files, folders, and links that stay inside whoever unpacks it. The
//! same is all that is taken.

mod pack;
mod unpack;
mod walk;

pub use pack::Packer;
pub use unpack::Unpacker;

use super::fault::FileError;

/// Tar counts in blocks of this many bytes.
const BLOCK: usize = 512;

/// How large an archive may be.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveLimits {
    /// Its bytes.
    pub bytes: u64,
    /// Its entries, and the folders that have to be made for them.
    pub entries: usize,
}

impl ArchiveLimits {
    fn check_bytes(&self, bytes: u64) -> Result<(), FileError> {
        if bytes <= self.bytes {
            return Ok(());
        }
        Err(FileError::TooLarge(format!("an archive may have {} bytes", self.bytes)))
    }

    fn check_entries(&self, entries: usize) -> Result<(), FileError> {
        if entries <= self.entries {
            return Ok(());
        }
        Err(FileError::TooLarge(format!("an archive may have {} entries", self.entries)))
    }
}

/// What fills the last block of this many bytes.
const fn padding(bytes: u64) -> usize {
    let block = BLOCK as u64;
    ((block - bytes % block) % block) as usize
}

/// Whether a link in a folder of this depth stays inside, wherever the archive is unpacked. `..` may only stand at its beginning, and no
/// more of them than there are folders above: then no chain of such links leads out either.
fn stays_inside(target: &[u8], depth: usize) -> bool {
    if target.is_empty() || target.starts_with(b"/") || target.contains(&0) {
        return false;
    }
    let names = || target.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let up = names().take_while(|name| *name == b"..").count();
    up <= depth && !names().skip(up).any(|name| name == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_inside_or_it_does_not() {
        for (target, depth) in
            [("a", 0), ("a/b", 0), ("./a", 0), ("..", 1), ("../../a", 2), ("...", 0), ("a..", 0), ("..//b", 1)]
        {
            assert!(stays_inside(target.as_bytes(), depth), "{target} {depth}");
        }
        for (target, depth) in
            [("", 0), ("/", 3), ("/etc", 0), ("..", 0), ("../..", 1), ("a/..", 5), ("./..", 0), ("../a/..", 2)]
        {
            assert!(!stays_inside(target.as_bytes(), depth), "{target} {depth}");
        }
    }
}
