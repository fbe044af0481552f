//! What an engine says about itself, in lines for `check` and the log. Pure.

use bollard::models::{SystemInfo, SystemVersion};

use super::podman;
use crate::runtime::{EngineFacts, Note};

/// What is known about an engine. `ceiling`: the outcome of setting the pool's memory ceiling, if there is one.
pub(super) fn facts(
    version: &SystemVersion,
    info: &SystemInfo,
    oci_runtime: Option<&str>,
    ceiling: Option<&Result<u64, String>>,
) -> EngineFacts {
    let mut notes = vec![cgroups(info)];
    notes.extend(controllers(info));
    notes.push(seccomp(info));
    notes.push(apparmor(info));
    notes.push(user_namespaces(info));
    notes.push(disk_quota(info));
    if podman::is(version) {
        notes.push(Note::missing(
            "files in tmpfs",
            "Podman doesn't limit their number: only their size and the sandbox's memory do",
        ));
    }
    notes.push(oci(info, oci_runtime, podman::is(version)));
    notes.push(match ceiling {
        None => {
            Note::missing("pool ceiling", "none: the engine doesn't say how much memory its machine has, and runtime.memory_mib isn't set; only each sandbox has its limit")
        }
        Some(Ok(mib)) => Note::holds("pool ceiling", format!("{mib} MiB over all sandboxes")),
        Some(Err(reason)) => Note::missing("pool ceiling", reason.clone()),
    });
    let memory_bytes = info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    EngineFacts { version: name(version), memory_bytes, notes }
}

fn name(version: &SystemVersion) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
    let engine = if podman::is(version) { "Podman" } else { "Docker" };
    format!("{engine} {} (API {})", text(&version.version), text(&version.api_version))
}

fn cgroups(info: &SystemInfo) -> Note {
    let version = info.cgroup_version.map_or_else(|| "?".to_owned(), |version| version.to_string());
    let driver = info.cgroup_driver.map_or_else(|| "?".to_owned(), |driver| driver.to_string());
    if driver == "none" {
        return Note::missing("cgroups", "the engine has none: no limit of memory, processors or processes holds");
    }
    Note::holds("cgroups", format!("version {version}, driver {driver}"))
}

/// Limits the kernel under the engine can't enforce; the engine drops them with a warning nobody reads.
fn controllers(info: &SystemInfo) -> Vec<Note> {
    [
        (info.memory_limit, "memory limit", "memory"),
        (info.swap_limit, "swap limit", "swap: an agent may use the host's beyond its memory"),
        (info.cpu_cfs_quota, "processor limit", "processor time"),
        (info.pids_limit, "process limit", "the number of processes: a fork bomb hits the host"),
    ]
    .into_iter()
    // An engine that says nothing (Podman on some versions) is judged by the probe instead.
    .filter(|(there, ..)| *there == Some(false))
    .map(|(_, about, what)| Note::missing(about, format!("the kernel doesn't limit {what}")))
    .collect()
}

fn option<'a>(info: &'a SystemInfo, name: &str) -> Option<&'a str> {
    let wanted = format!("name={name}");
    let options = info.security_options.iter().flatten();
    options.map(String::as_str).find(|option| option.split(',').next() == Some(wanted.as_str()))
}

fn seccomp(info: &SystemInfo) -> Note {
    match option(info, "seccomp") {
        Some(_) => Note::holds("seccomp", "the engine applies profiles; every sandbox gets ours"),
        None => Note::missing("seccomp", "the engine has no seccomp: agents may make any system call"),
    }
}

fn apparmor(info: &SystemInfo) -> Note {
    if option(info, "apparmor").is_some() {
        return Note::holds("mandatory access control", "AppArmor, with the engine's own profile");
    }
    if option(info, "selinux").is_some() {
        return Note::holds("mandatory access control", "SELinux, with the engine's own label");
    }
    Note::missing("mandatory access control", "neither AppArmor nor SELinux on this engine")
}

fn user_namespaces(info: &SystemInfo) -> Note {
    if option(info, "rootless").is_some() {
        return Note::holds("user namespaces", "the engine runs without root");
    }
    if option(info, "userns").is_some() {
        return Note::holds("user namespaces", "users of sandboxes are mapped to others of the host (userns-remap)");
    }
    Note::missing("user namespaces", "off; only the engine's own userns-remap or rootless mode gives them")
}

fn disk_quota(info: &SystemInfo) -> Note {
    let driver = info.driver.as_deref().unwrap_or("?");
    let backing =
        info.driver_status.iter().flatten().find(|pair| pair.first().is_some_and(|key| key == "Backing Filesystem"));
    let backing = backing.and_then(|pair| pair.get(1)).map_or("?", String::as_str);
    Note::missing(
        "disk quota",
        format!(
            "none on {driver} over {backing}: the root is read-only and tmpfs has sizes, but the workspace is as big as its disk"
        ),
    )
}

fn oci(info: &SystemInfo, configured: Option<&str>, podman: bool) -> Note {
    let known = info.runtimes.as_ref();
    let default = info.default_runtime.as_deref().unwrap_or("?");
    match configured {
        None => Note::holds("OCI runtime", format!("{default} (the engine's default)")),
        Some(name) if podman && name != default => Note::missing(
            "OCI runtime",
            format!("{name} is configured, but Podman's API can't choose: start its service with `--runtime {name}`"),
        ),
        Some(name) if known.is_none_or(|runtimes| runtimes.contains_key(name)) => {
            Note::holds("OCI runtime", name.to_owned())
        }
        Some(name) => Note::missing("OCI runtime", format!("{name} is configured but the engine doesn't know it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(info: &SystemInfo, about: &str) -> bool {
        let facts = facts(&SystemVersion::default(), info, None, None);
        facts.notes.iter().any(|note| note.about == about && !note.holds)
    }

    fn with_options(options: &[&str]) -> SystemInfo {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        SystemInfo { security_options: Some(options), ..SystemInfo::default() }
    }

    #[test]
    fn what_the_engine_lists_holds_and_the_rest_is_missing() {
        let bare = SystemInfo::default();
        for about in ["seccomp", "mandatory access control", "user namespaces", "disk quota", "pool ceiling"] {
            assert!(missing(&bare, about), "{about}");
        }
        let full = with_options(&["name=seccomp,profile=default", "name=apparmor", "name=userns"]);
        for about in ["seccomp", "mandatory access control", "user namespaces"] {
            assert!(!missing(&full, about), "{about}");
        }
        assert!(missing(&with_options(&["name=seccompish"]), "seccomp"));
    }

    #[test]
    fn a_limit_the_kernel_lacks_is_told_and_one_it_has_needs_no_line() {
        assert!(missing(&SystemInfo { swap_limit: Some(false), ..SystemInfo::default() }, "swap limit"));
        assert!(!missing(&SystemInfo { swap_limit: Some(true), ..SystemInfo::default() }, "swap limit"));
    }

    #[test]
    fn an_oci_runtime_the_engine_does_not_know_is_missing() {
        let info = SystemInfo {
            runtimes: Some([("runc".to_owned(), bollard::models::Runtime::default())].into()),
            ..SystemInfo::default()
        };
        assert!(oci(&info, Some("runc"), false).holds);
        assert!(!oci(&info, Some("runsc"), false).holds);
    }

    #[test]
    fn podman_runs_everything_in_the_runtime_its_service_was_started_with() {
        let runtimes = ["runc", "crun"].map(|name| (name.to_owned(), bollard::models::Runtime::default()));
        let info = SystemInfo {
            runtimes: Some(runtimes.into()),
            default_runtime: Some("crun".to_owned()),
            ..SystemInfo::default()
        };
        assert!(oci(&info, Some("crun"), true).holds);
        let note = oci(&info, Some("runc"), true);
        assert!(!note.holds && note.text.contains("--runtime runc"), "{note}");
    }

    #[test]
    fn the_engines_name_and_version_are_told() {
        let version = SystemVersion {
            version: Some("20.10.24".to_owned()),
            api_version: Some("1.41".to_owned()),
            ..SystemVersion::default()
        };
        assert_eq!(name(&version), "Docker 20.10.24 (API 1.41)");
    }
}
