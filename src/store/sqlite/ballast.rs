//! Room on the disk that is held back.
//!
//! Removing needs room too: what changes goes to the log first, and the log must go to the file before it begins anew. So on a full disk nothing
//! could be removed any more to make it less full. The ballast is a file of nothing that is given up then, and made again once there is room.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, OFlags, fallocate};

use super::file::beside;

/// What is held back at the least, in bytes.
const SMALLEST: u64 = 1024 * 1024;

/// The file that holds room.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Ballast {
    /// The ballast of the store in this file, held if there is room. On a disk that has no room for it from the beginning it is as much smaller as
    /// it must be: who waits for more room than there ever was waits for ever.
    pub(super) fn beside(store: &Path, bytes: u64) -> Self {
        let mut ballast = Self { path: beside(store, "-ballast"), bytes, held: false };
        while !ballast.hold() && ballast.bytes > SMALLEST {
            ballast.bytes = (ballast.bytes / 2).max(SMALLEST);
        }
        ballast
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Makes it if it isn't there; whether it is now.
    pub(super) fn hold(&mut self) -> bool {
        if !self.held {
            self.held = self.bytes == 0 || self.make().is_ok();
            if !self.held {
                self.release();
            }
        }
        self.held
    }

    /// Gives it up.
    pub(super) fn release(&mut self) {
        if self.bytes > 0 {
            let _not_there = fs::remove_file(&self.path);
            self.held = false;
        }
    }

    fn make(&self) -> io::Result<()> {
        let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        let file: File =
            options.create(true).truncate(false).write(true).mode(0o600).custom_flags(no_follow).open(&self.path)?;
        // Does nothing where it has its room already.
        Ok(fallocate(&file, FallocateFlags::empty(), 0, self.bytes)?)
    }
}
