//! The supervisor's program: found, checked, and put where the engine sees it.
//!
//! It is copied into the state folder under a name made from its content, so that an upgrade never changes the file under a
//! running sandbox, and a server in a container hands the engine a path of the host.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::house::StartError;
use crate::ids::hex;

const NAME: &str = "greenroom-supervisor";

/// Finds the supervisor, checks it, and returns its path in the state folder.
pub(super) fn install(setting: Option<&Path>, state_dir: &Path, must_be_static: bool) -> Result<PathBuf, StartError> {
    let source = match setting {
        Some(path) => path.to_owned(),
        None => {
            beside_us().map_err(|error| StartError::Supervisor(format!("can't tell where this program is: {error}")))?
        }
    };
    let bytes = fs::read(&source).map_err(|error| {
        StartError::Supervisor(format!("can't read {}: {error}; build it with `make supervisor`", source.display()))
    })?;
    if must_be_static && needs_an_interpreter(&bytes) != Some(false) {
        return Err(StartError::Supervisor(format!(
            "{} is not a static program, so it can't run in any image; build it with `make supervisor`",
            source.display()
        )));
    }
    put(&bytes, state_dir).map_err(|source| StartError::State { path: state_dir.join("bin"), source })
}

fn beside_us() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(NAME))
}

fn put(bytes: &[u8], state_dir: &Path) -> io::Result<PathBuf> {
    let digest = Sha256::digest(bytes);
    let short = hex(&digest[..8]);
    let dir = state_dir.join("bin");
    fs::create_dir_all(&dir)?;
    let target = dir.join(format!("{NAME}-{short}"));
    if fs::read(&target).is_ok_and(|present| present == bytes) {
        return Ok(target);
    }
    let new = dir.join(format!(".{NAME}-{short}.new"));
    fs::write(&new, bytes)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(&new, &target)?;
    Ok(target)
}

/// Whether a 64-bit ELF program names a loader (`PT_INTERP`); none if it isn't such a program. See elf(5).
fn needs_an_interpreter(bytes: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at.checked_add(size)?)?;
        Some(field.iter().rev().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte)))
    };
    if bytes.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let table = usize::try_from(number(32, 8)?).ok()?;
    let (size, count) = (usize::try_from(number(54, 2)?).ok()?, usize::try_from(number(56, 2)?).ok()?);
    for index in 0..count {
        let kind = number(table.checked_add(index.checked_mul(size)?)?, 4)?;
        if kind == u64::from(PT_INTERP) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_told_from_a_static_one() {
        let ours = fs::read("/proc/self/exe").expect("a test is a program");
        assert_eq!(needs_an_interpreter(&ours), Some(true));
        assert_eq!(needs_an_interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(needs_an_interpreter(&ours[..40]), None);
    }

    #[test]
    fn an_upgrade_leaves_the_former_program_in_place() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let old = put(b"old", state.path()).expect("put");
        let new = put(b"new", state.path()).expect("put");
        assert_ne!(old, new);
        assert_eq!(fs::read(&old).expect("kept"), b"old");
        assert_eq!(put(b"new", state.path()).expect("put again"), new);
    }
}
