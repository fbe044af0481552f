//! Facts the probe reads from `/proc` and `/sys`. What can't be read is left empty: the server decides what that means.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

use rustix::process::{getgid, getuid};

use super::{CapabilitySets, CgroupLimits, Limit, Mount, ProbeReport, UNTESTED, trials};

const ENGINE_SOCKETS: [&str; 6] = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/buildkit/buildkitd.sock",
];

/// Looks at everything, tries what should fail. Takes under a second.
#[must_use]
pub fn look_around() -> ProbeReport {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mount_info = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let home = env::var("HOME").unwrap_or_else(|_| "/".to_owned());
    let all_mounts: Vec<Mount> = mount_info.lines().filter_map(mount_in).collect();
    let folders = ["/", "/etc", "/run", "/tmp", "/var/tmp", "/dev/shm", "/sandbox", "/.greenroom/run", home.as_str()];
    ProbeReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uid: getuid().as_raw(),
        gid: getgid().as_raw(),
        groups: field(&status, "Groups").split_whitespace().filter_map(|group| group.parse().ok()).collect(),
        capabilities: capabilities_in(&status),
        no_new_privs: field(&status, "NoNewPrivs") == "1",
        seccomp_mode: field(&status, "Seccomp").parse().unwrap_or_default(),
        init_name: fs::read_to_string("/proc/1/comm").unwrap_or_default().trim_end().to_owned(),
        mounts: folders
            .iter()
            .chain(&["/.greenroom/supervisor"])
            .filter(|path| Path::new(path).exists())
            .filter_map(|path| Some(((*path).to_owned(), mount_of(path, &all_mounts)?.clone())))
            .collect(),
        mount_points: all_mounts.iter().map(|mount| mount.mount_point.clone()).collect(),
        writes: folders.iter().map(|folder| ((*folder).to_owned(), trials::write_in(Path::new(folder)))).collect(),
        interfaces: interfaces_in(&fs::read_to_string("/proc/net/dev").unwrap_or_default()),
        trials: trials::forbidden_calls(),
        untested: UNTESTED.map(str::to_owned).to_vec(),
        connections: trials::outside_connections(),
        engine_sockets: ENGINE_SOCKETS
            .iter()
            .filter(|path| Path::new(path).exists())
            .map(|&path| path.to_owned())
            .collect(),
        limits: fs::read_to_string("/proc/self/limits")
            .unwrap_or_default()
            .lines()
            .skip(1)
            .filter_map(limit_in)
            .collect(),
        cgroup: cgroup_limits(),
        cgroup_names: cgroup_names_in(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default()),
        home,
    }
}

fn field<'status>(status: &'status str, name: &str) -> &'status str {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| *key == name).map_or("", |(_, value)| value.trim())
}

/// An unreadable set counts as a full one: the server must never take silence for safety.
fn capabilities_in(status: &str) -> CapabilitySets {
    let set = |name| u64::from_str_radix(field(status, name), 16).unwrap_or(u64::MAX);
    CapabilitySets {
        inheritable: set("CapInh"),
        permitted: set("CapPrm"),
        effective: set("CapEff"),
        bounding: set("CapBnd"),
        ambient: set("CapAmb"),
    }
}

/// One line of `mountinfo`: `id parent device root POINT OPTIONS tags… - TYPE source SUPER_OPTIONS`.
fn mount_in(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(4);
    let (mount_point, mount_options) = (mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let (fs_type, super_options) = (file_system.next()?, file_system.nth(1).unwrap_or_default());
    // A read-only bind of a writable file system has `ro` here and `rw` there: the mount's own word counts.
    let of_mount = mount_options.split(',');
    let of_super = super_options.split(',').filter(|option| !matches!(*option, "ro" | "rw"));
    // The layers of an overlay name folders of the host: nothing for a report.
    let of_super = of_super.filter(|option| !option.contains('/'));
    Some(Mount {
        mount_point: mount_point.to_owned(),
        fs_type: fs_type.to_owned(),
        options: of_mount.chain(of_super).filter(|option| !option.is_empty()).map(str::to_owned).collect(),
    })
}

/// The deepest mount above the path; of several at the same point the last one, which covers the others.
fn mount_of<'mounts>(path: &str, mounts: &'mounts [Mount]) -> Option<&'mounts Mount> {
    let above = mounts.iter().filter(|mount| Path::new(path).starts_with(&mount.mount_point));
    above.max_by_key(|mount| mount.mount_point.len())
}

fn interfaces_in(dev: &str) -> Vec<String> {
    dev.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

/// One line of `limits`: the name fills 26 columns and may hold spaces.
fn limit_in(line: &str) -> Option<(String, Limit)> {
    let (name, values) = line.split_at_checked(26)?;
    let mut values = values.split_whitespace();
    let (soft, hard) = (values.next()?.to_owned(), values.next()?.to_owned());
    Some((name.trim().to_owned(), Limit { soft, hard }))
}

fn cgroup_limits() -> CgroupLimits {
    let first = |paths: [&str; 2]| {
        paths.iter().find_map(|path| fs::read_to_string(path).ok()).and_then(|text| cgroup_limit_in(text.trim()))
    };
    CgroupLimits {
        memory_bytes: first(["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]),
        pids: first(["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"]),
    }
}

/// The third part of each line: `number:controllers:NAME`.
fn cgroup_names_in(text: &str) -> Vec<String> {
    let names: BTreeSet<&str> = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// The number in a control group's file; version 2 says `max` where there is no limit.
fn cgroup_limit_in(text: &str) -> Option<u64> {
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

/// Keeps the type of the maps in one place for the trials.
pub(super) type Outcomes = BTreeMap<String, super::Outcome>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_told_from_an_unreadable_one() {
        assert_eq!(cgroup_limit_in("max"), Some(u64::MAX));
        assert_eq!(cgroup_limit_in("1024"), Some(1024));
        assert_eq!(cgroup_limit_in("lots"), None);
    }

    #[test]
    fn control_groups_are_told_once_each() {
        assert_eq!(cgroup_names_in("2:pids:/\n1:cpu,cpuacct:/\n0::/\n"), ["/"]);
        assert_eq!(cgroup_names_in("2:pids:/pool/a:b\n0::/\n"), ["/", "/pool/a:b"]);
    }

    #[test]
    fn the_mount_s_own_word_on_writing_counts() {
        let line = "99 90 254:1 /slots/x /.greenroom/run ro,nosuid shared:1 - ext4 /dev/vda1 rw,errors=continue";
        let mount = mount_in(line).expect("a mount");
        assert_eq!((mount.mount_point.as_str(), mount.fs_type.as_str()), ("/.greenroom/run", "ext4"));
        assert_eq!(mount.options, ["ro", "nosuid", "errors=continue"]);
    }

    #[test]
    fn a_path_is_on_the_deepest_mount_above_it() {
        let at = |point: &str| Mount { mount_point: point.to_owned(), fs_type: String::new(), options: Vec::new() };
        let mounts = [at("/"), at("/home"), at("/home/agent")];
        assert_eq!(mount_of("/home/agent/x", &mounts), Some(&mounts[2]));
        assert_eq!(mount_of("/home/agents", &mounts), Some(&mounts[1]));
        assert_eq!(mount_of("/tmp", &mounts), Some(&mounts[0]));
    }

    #[test]
    fn capabilities_that_can_not_be_read_count_as_all() {
        assert_eq!(capabilities_in("").effective, u64::MAX);
        assert_eq!(capabilities_in("CapEff:\t00000000a80425fb\n").effective, 0xa804_25fb);
    }

    #[test]
    fn limits_with_spaces_in_their_name_are_read() {
        let line = "Max open files            1024                 4096                 files     ";
        let (name, limit) = limit_in(line).expect("a limit");
        assert_eq!((name.as_str(), limit.soft.as_str(), limit.hard.as_str()), ("Max open files", "1024", "4096"));
    }
}
