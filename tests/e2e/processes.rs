//! The processes of a container, read from the host's `/proc` (the tests run as root), and the files they see.

use std::{
    fs, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// The pid namespace of a process, such as `pid:[4026532254]`.
pub fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// All processes that share the pid namespace of `init`.
pub fn beside(init: u32) -> Vec<u32> {
    let own = namespace(init);
    assert!(
        own.is_some() && own != namespace(std::process::id()),
        "{init} is not in a sandbox; are the tests run as root?"
    );
    pids().filter(|pid| namespace(*pid) == own).collect()
}

/// The command lines of all processes in sandboxes of a server with this state folder, by what is mounted there, whatever the engine says.
pub fn in_sandboxes_of(state: &Path) -> Vec<String> {
    let (own, state) = (fs::read_link("/proc/self/ns/mnt").ok(), state.to_string_lossy().into_owned());
    let inside = |pid: &u32| {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() != own && mounts.contains(&state)
    };
    let command = |pid| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids().filter(inside).map(|pid| String::from_utf8_lossy(&command(pid)).replace('\0', " ")).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc can be read").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The environment and command line of a process; both empty once it has ended.
pub fn told(pid: u32) -> Vec<u8> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    [read("environ"), read("cmdline")].concat()
}

/// All memory that a process may write, a mapping at a time; what can't be read is left out.
pub fn memory(pid: u32) -> impl Iterator<Item = Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok();
    let writable = maps.lines().filter(|row| row.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw")));
    let ranges =
        writable.filter_map(|row| row.split(' ').next()?.split_once('-')).map(|(from, to)| (number(from), number(to)));
    let ranges = ranges.collect::<Vec<_>>();
    ranges.into_iter().filter_map(move |(from, to)| {
        let mut content = vec![0; usize::try_from(to - from).ok()?];
        memory.as_ref()?.read_exact_at(&mut content, from).ok()?;
        Some(content)
    })
}

fn number(hex: &str) -> u64 {
    u64::from_str_radix(hex, 16).expect("addresses are hexadecimal")
}

/// The folders and files that a process sees beside the image and the kernel's own, as paths on the host.
pub fn mounts(pid: u32) -> Vec<PathBuf> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).expect("the process runs");
    let kernel = ["overlay", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"];
    let rows = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let rows =
        rows.filter(|row| !kernel.contains(&row[2]) && !row[1].starts_with("/proc/") && !row[1].starts_with("/sys"));
    rows.map(|row| PathBuf::from(format!("/proc/{pid}/root{}", row[1]))).collect()
}

/// All regular files below `root`, or `root` itself. What goes away meanwhile is left out.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let Ok(kind) = fs::symlink_metadata(root) else { return Vec::new() };
    if kind.is_file() {
        return vec![root.to_owned()];
    }
    let entries = if kind.is_dir() { fs::read_dir(root) } else { Err(io::ErrorKind::NotADirectory.into()) };
    entries.into_iter().flatten().flatten().flat_map(|entry| files(&entry.path())).collect()
}

/// All sockets of this name below `root`.
pub fn sockets(root: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let found = entries.flat_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => sockets(&entry.path(), name),
        Ok(_) if entry.file_name() == name => vec![entry.path()],
        _ => Vec::new(),
    });
    found.collect()
}

/// The first socket of this name below `root`.
pub fn socket(root: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(root).ok()?.flatten() {
        let (path, kind) = (entry.path(), entry.file_type().ok()?);
        if kind.is_dir() {
            if let Some(found) = socket(&path, name) {
                return Some(found);
            }
        } else if entry.file_name() == name {
            return Some(path);
        }
    }
    None
}
