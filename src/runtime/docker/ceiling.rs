//! One memory ceiling over all sandboxes together: a cgroup above them.
//!
//! The engine puts each container under the parent it is told, but its API can't set the parent's limit. When the
//! cgroup files are ours to write we do it; otherwise we say that somebody else must.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bollard::models::{SystemInfo, SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum};

/// Where Podman's helpers of the containers are, beside them.
const PODMANS_OWN: &str = "conmon";
/// Where the kernel shows cgroups.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// The cgroup above all sandboxes of this instance, as the engine's driver wants it spelled.
pub(super) fn parent(info: &SystemInfo, instance: &str) -> String {
    if info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD) {
        // A dash in a slice's name means a slice inside another.
        let name: String = instance.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        return format!("greenroom-{name}.slice");
    }
    format!("/greenroom-{instance}")
}

/// Sets the ceiling and reads it back.
///
/// # Errors
/// A sentence for the operator that says why it isn't in force.
pub(super) fn set(info: &SystemInfo, parent: &str, memory_mib: u64) -> Result<(), String> {
    if info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD) {
        return Err(format!(
            "the engine's cgroups belong to systemd: run `systemctl set-property {parent} MemoryMax={memory_mib}M`"
        ));
    }
    let unified = info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2);
    set_below(Path::new(ROOT), unified, parent, memory_mib)
}

/// Removes the cgroup, which nobody does when its last container has gone. One that isn't empty stays, and systemd looks after its own.
/// Says whether nothing is left.
pub(super) fn clear(info: &SystemInfo, parent: &str) -> bool {
    info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD) || clear_below(Path::new(ROOT), parent)
}

/// In the one tree of version 2, or in that of each controller of version 1.
fn clear_below(root: &Path, parent: &str) -> bool {
    let controllers = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let places = controllers.chain([root.to_owned()]).map(|tree| tree.join(parent.trim_start_matches('/')));
    places.fold(true, |all_gone, place| {
        // The kernel removes a cgroup by `rmdir`, and only an empty one.
        for cgroup in [place.join(PODMANS_OWN), place.clone()] {
            let _not_there_or_not_empty = fs::remove_dir(cgroup);
        }
        all_gone && !place.exists()
    })
}

fn set_below(root: &Path, unified: bool, parent: &str, memory_mib: u64) -> Result<(), String> {
    let bytes = memory_mib.saturating_mul(1024 * 1024);
    let (tree, file) =
        if unified { (root.to_owned(), "memory.max") } else { (root.join("memory"), "memory.limit_in_bytes") };
    let folder: PathBuf = tree.join(parent.trim_start_matches('/'));
    let failed =
        |error: io::Error| format!("{} can't be written ({error}): set it by hand", folder.join(file).display());
    if unified {
        // Without this the limit's file doesn't appear; the engine may have done it already.
        fs::write(tree.join("cgroup.subtree_control"), "+memory").map_err(failed)?;
    }
    fs::create_dir_all(&folder).map_err(failed)?;
    fs::write(folder.join(file), bytes.to_string()).map_err(failed)?;
    let read: u64 = fs::read_to_string(folder.join(file)).map_err(failed)?.trim().parse().unwrap_or(u64::MAX);
    // The kernel rounds down to whole pages.
    if read <= bytes {
        Ok(())
    } else {
        Err(format!("{} says {read} bytes instead of {bytes}", folder.join(file).display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(driver: SystemInfoCgroupDriverEnum) -> SystemInfo {
        SystemInfo { cgroup_driver: Some(driver), ..SystemInfo::default() }
    }

    #[test]
    fn the_parent_is_spelled_as_the_driver_wants_it() {
        assert_eq!(parent(&engine(SystemInfoCgroupDriverEnum::CGROUPFS), "my-host"), "/greenroom-my-host");
        assert_eq!(parent(&engine(SystemInfoCgroupDriverEnum::SYSTEMD), "my-host"), "greenroom-my_host.slice");
    }

    #[test]
    fn systemd_keeps_its_slices_and_the_remedy_is_told() {
        let info = engine(SystemInfoCgroupDriverEnum::SYSTEMD);
        let reason = set(&info, "greenroom-x.slice", 512).expect_err("not ours to write");
        assert!(reason.contains("systemctl set-property greenroom-x.slice MemoryMax=512M"), "{reason}");
    }

    #[test]
    fn both_versions_of_the_files_are_written() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("memory")).expect("a folder");
        set_below(root.path(), false, "/greenroom-x", 512).expect("it is writable");
        let limit = fs::read_to_string(root.path().join("memory/greenroom-x/memory.limit_in_bytes")).expect("written");
        assert_eq!(limit, "536870912");
        set_below(root.path(), true, "/greenroom-x", 512).expect("it is writable");
        assert_eq!(fs::read_to_string(root.path().join("greenroom-x/memory.max")).expect("written"), "536870912");
    }

    #[test]
    fn what_is_empty_goes_and_what_is_not_stays() {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["memory/greenroom-x/conmon", "pids/greenroom-x/box", "memory/other"] {
            fs::create_dir_all(root.path().join(folder)).expect("a folder");
        }
        assert!(!clear_below(root.path(), "/greenroom-x"));
        let there = |folder| root.path().join(folder).exists();
        assert_eq!(
            (there("memory/greenroom-x"), there("pids/greenroom-x"), there("memory/other")),
            (false, true, true)
        );
        fs::remove_dir(root.path().join("pids/greenroom-x/box")).expect("it ends");
        assert!(clear_below(root.path(), "/greenroom-x"));
    }

    #[test]
    fn a_ceiling_that_cannot_be_set_is_told() {
        let reason = set_below(Path::new("/proc/nowhere"), false, "/greenroom-x", 512).expect_err("nothing is there");
        assert!(reason.contains("memory.limit_in_bytes"), "{reason}");
    }
}
