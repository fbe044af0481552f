//! Whether the kernel killed something in a container for want of memory, by the count of its control group.
//!
//! Podman has no event for it, and before version 5 its `OOMKilled` is never true (<https://github.com/containers/podman/issues/13102>). The
//! control group goes a moment after the container's end, so it is read before anything else; once it is gone nothing is known.

use std::{fs, path::Path};

use bollard::models::{SystemInfo, SystemInfoCgroupDriverEnum};

use crate::runtime::docker::ceiling;

/// Whether there was one. `parent`: the cgroup above all sandboxes, as [`ceiling::parent`] has it.
pub(in crate::runtime::docker) fn seen(info: &SystemInfo, parent: &str, container: &str) -> bool {
    let systemd = info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD);
    below(Path::new(ceiling::ROOT), &place(systemd, parent, container))
}

/// Where Podman puts a container below its parent. A slice with a dash in its name is in the slice before the dash.
fn place(systemd: bool, parent: &str, container: &str) -> String {
    match parent.split_once('-') {
        Some((above, _)) if systemd => format!("{above}.slice/{parent}/libpod-{container}.scope"),
        _ => format!("{}/libpod-{container}", parent.trim_start_matches('/')),
    }
}

fn below(root: &Path, place: &str) -> bool {
    let files = [root.join(place).join("memory.events"), root.join("memory").join(place).join("memory.oom_control")];
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).any(|text| kills_in(&text) > 0)
}

/// The count, under the same name in both versions of control groups.
fn kills_in(text: &str) -> u64 {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_the_count_are_read_and_what_is_gone_tells_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let place = place(false, "/greenroom-x", "0123");
        assert!(!below(root.path(), &place));
        for (folder, file) in
            [(root.path().to_owned(), "memory.events"), (root.path().join("memory"), "memory.oom_control")]
        {
            let folder = folder.join("greenroom-x/libpod-0123");
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join(file), "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n").expect("written");
            assert!(!below(root.path(), &place), "{file}");
            fs::write(folder.join(file), "oom 3\noom_kill 1\n").expect("written");
            assert!(below(root.path(), &place), "{file}");
            fs::remove_file(folder.join(file)).expect("removed");
        }
    }

    #[test]
    fn systemd_nests_slices() {
        let place = place(true, "greenroom-my_host.slice", "0123");
        assert_eq!(place, "greenroom.slice/greenroom-my_host.slice/libpod-0123.scope");
    }
}
