//! What a container uses of its memory.
//!
//! The kernel's own files say it in a moment. They are read where the engine's processes are this host's too; the file's path must carry
//! the container's id, since a process id seen from elsewhere may be anybody's. Where that doesn't work the engine is asked: engines up to 20.10
//! answer even the one-shot question only when their collector comes round, once a second.

use std::{fs, path::Path};

use bollard::models::ContainerMemoryStats;

use super::ceiling;
use crate::runtime::Memory;

/// By the kernel's files; none where they can't be read or aren't this container's.
pub(super) fn of_process(container: &str, pid: i64) -> Option<Memory> {
    let listing = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    below(Path::new(ceiling::ROOT), &listing, container)
}

fn below(root: &Path, listing: &str, container: &str) -> Option<Memory> {
    let (path, unified) = place(listing)?;
    // Seen from inside another cgroup namespace, a path may climb.
    if !path.contains(container) || path.split('/').any(|part| part == "..") {
        return None;
    }
    let path = path.trim_start_matches('/');
    let (folder, names) = if unified {
        (root.join(path), ["memory.current", "inactive_file", "memory.max"])
    } else {
        (root.join("memory").join(path), ["memory.usage_in_bytes", "total_inactive_file", "memory.limit_in_bytes"])
    };
    let [usage, cache, limit] = names;
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let cache = field(&fs::read_to_string(folder.join("memory.stat")).ok()?, cache)?;
    Some(Memory { used_bytes: number(usage)?.saturating_sub(cache), limit_bytes: number(limit)? })
}

/// Where the cgroup that counts memory is, and whether it is of version 2. Lines are `number:controllers:path`.
fn place(listing: &str) -> Option<(&str, bool)> {
    let mut unified = None;
    for line in listing.lines() {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        if controllers.split(',').any(|name| name == "memory") {
            return Some((path, false));
        }
        if controllers.is_empty() {
            unified = Some((path, true));
        }
    }
    unified
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// By the engine's answer. A container that doesn't run has no numbers.
pub(super) fn of_stats(stats: &ContainerMemoryStats) -> Option<Memory> {
    let details = stats.stats.as_ref()?;
    let cache = details.get("total_inactive_file").or_else(|| details.get("inactive_file")).copied().unwrap_or(0);
    Some(Memory { used_bytes: stats.usage?.saturating_sub(cache), limit_bytes: stats.limit? })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const ID: &str = "0123abcd";

    fn write(folder: &Path, files: [(&str, &str); 3]) {
        fs::create_dir_all(folder).expect("a folder");
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("written");
        }
    }

    #[test]
    fn both_versions_of_the_files_are_read() {
        let root = tempfile::tempdir().expect("a folder");
        let expected = Some(Memory { used_bytes: 70, limit_bytes: 500 });
        let stat = "inactive_file 1\ntotal_inactive_file 30\n";
        let files = [("memory.usage_in_bytes", "100\n"), ("memory.stat", stat), ("memory.limit_in_bytes", "500\n")];
        write(&root.path().join("memory/greenroom-x/0123abcd"), files);
        let listing = "9:cpu,cpuacct:/other\n4:memory:/greenroom-x/0123abcd\n0::/greenroom-x/0123abcd\n";
        assert_eq!(below(root.path(), listing, ID), expected);
        let files = [("memory.current", "100\n"), ("memory.stat", "inactive_file 30\n"), ("memory.max", "500\n")];
        write(&root.path().join("greenroom-x.slice/docker-0123abcd.scope"), files);
        assert_eq!(below(root.path(), "0::/greenroom-x.slice/docker-0123abcd.scope\n", ID), expected);
    }

    #[test]
    fn a_process_that_is_not_the_containers_tells_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let files = [("memory.current", "100\n"), ("memory.stat", "inactive_file 30\n"), ("memory.max", "500\n")];
        write(&root.path().join("else"), files);
        for listing in ["0::/else\n", "0::/../0123abcd\n", "0::/gone/0123abcd\n", "", "nonsense"] {
            assert_eq!(below(root.path(), listing, ID), None, "{listing}");
        }
    }

    #[test]
    fn the_engines_numbers_count_the_same() {
        let details = HashMap::from([("inactive_file".to_owned(), 30)]);
        let stats = ContainerMemoryStats {
            usage: Some(100),
            limit: Some(500),
            stats: Some(details),
            ..ContainerMemoryStats::default()
        };
        assert_eq!(of_stats(&stats), Some(Memory { used_bytes: 70, limit_bytes: 500 }));
        assert_eq!(of_stats(&ContainerMemoryStats::default()), None);
    }
}
