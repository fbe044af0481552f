//! What Podman wants otherwise than Docker, though it speaks the same API. Pure, but for two files and the kernel's word on processes.
//!
//! [`Manner::put`] turns a container in Docker's words into one that Podman understands, and [`Manner::heard`] turns Podman's
//! description of it back, so that the hardening table and the comparison with it stay one. Where Podman doesn't say what it did, the
//! probe's word from inside a sandbox decides, never silence.

pub(super) mod kills;

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::PathBuf};

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, HostConfigCgroupnsModeEnum, SystemInfo,
    SystemInfoCgroupVersionEnum, SystemVersion,
};
use rustix::process::{Resource, getrlimit};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{fault::Fault, hardening};
use crate::{ids::hex, sandbox::spec::SandboxSpec};

/// Where Podman mounts a writable tmpfs without a size in every container with a read-only root, unless something else is there.
const ITS_OWN_TMPFS: [&str; 2] = ["/run", "/var/tmp"];
/// What is there instead: nothing, for good.
const NOTHING: &str = "ro,noexec,nosuid,nodev,size=4k,mode=0755,notmpcopyup";
/// The only names a sandbox needs; Podman would give it those of the host, and the host's address.
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";
/// The kernel's number of process ids, which is the number of processes there can be.
const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// Whether this engine is Podman.
pub(super) fn is(version: &SystemVersion) -> bool {
    version.components.iter().flatten().any(|component| component.name.contains("Podman"))
}

/// How this Podman wants to be spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manner {
    /// The limit of processes per user that never acts.
    processes: u64,
    /// Whether the kernel has a swappiness for each control group: version 2 hasn't, and runtimes refuse to set one.
    swappiness: bool,
    /// The OCI runtime of the service, which the API can't change.
    oci_runtime: Option<String>,
}

impl Manner {
    /// None for Docker.
    pub(super) fn of(version: &SystemVersion, info: &SystemInfo) -> Option<Self> {
        is(version).then(|| Self {
            processes: most_processes(fs::read_to_string(PID_MAX).ok().as_deref(), getrlimit(Resource::Nproc).maximum),
            swappiness: info.cgroup_version != Some(SystemInfoCgroupVersionEnum::_2),
            oci_runtime: info.default_runtime.clone(),
        })
    }

    /// Says the same in Podman's words.
    pub(super) fn put(&self, body: &mut ContainerCreateBody, spec: &SandboxSpec) {
        // A removal by force asks kindly first, for as long as this says.
        body.stop_timeout = Some(0);
        // Even for none it keeps a timer of the host's that calls Podman twice a minute. An image's own shows in the comparison.
        body.healthcheck = None;
        let host = body.host_config.get_or_insert_default();
        for option in host.security_opt.iter_mut().flatten() {
            if option.starts_with("seccomp=") {
                *option = format!("seccomp={}", profile(spec).0.display());
            }
        }
        host.binds.get_or_insert_default().push(format!("{}:/etc/hosts:ro", hosts(spec).0.display()));
        // Without one it sets a million, which a service that may not raise its limits can't.
        host.ulimits.get_or_insert_default().push(hardening::limit("nproc", self.processes));
        if !self.swappiness {
            host.memory_swappiness = None;
        }
        let tmpfs = host.tmpfs.get_or_insert_default();
        for options in tmpfs.values_mut() {
            *options = tmpfs_options(options);
        }
        for path in ITS_OWN_TMPFS {
            tmpfs.entry(path.to_owned()).or_insert_with(|| NOTHING.to_owned());
        }
    }

    /// Says what Podman tells of a container in Docker's words, and in those of `asked` where they mean the same.
    pub(super) fn heard(
        &self,
        asked: &ContainerCreateBody,
        mut applied: ContainerInspectResponse,
    ) -> ContainerInspectResponse {
        let nothing = HostConfig::default();
        let wanted = asked.host_config.as_ref().unwrap_or(&nothing);
        if let Some(host) = applied.host_config.as_mut() {
            self.host_heard(wanted, host);
        }
        applied
    }

    fn host_heard(&self, wanted: &HostConfig, host: &mut HostConfig) {
        // "ALL" comes back as the names of those that it gives by default: the probe tells whether any is left.
        if host.cap_drop.as_ref().is_some_and(|dropped| !dropped.is_empty()) {
            host.cap_drop.clone_from(&wanted.cap_drop);
        }
        for option in host.security_opt.iter_mut().flatten().filter(|option| *option == "no-new-privileges") {
            option.push_str(":true");
        }
        for limit in host.ulimits.iter_mut().flatten() {
            limit.name = limit.name.take().map(|name| name.trim_start_matches("RLIMIT_").to_lowercase());
        }
        for bind in host.binds.iter_mut().flatten() {
            *bind = bind_heard(bind);
        }
        for (path, options) in host.tmpfs.iter_mut().flatten() {
            if let Some(wanted) = wanted.tmpfs.as_ref().and_then(|tmpfs| tmpfs.get(path))
                && covers(options, wanted)
            {
                options.clone_from(wanted);
            }
        }
        // A namespace of its own is called so; others could join it only by the engine.
        rename(&mut host.ipc_mode, "shareable", "private");
        rename(&mut host.pid_mode, "private", "");
        rename(&mut host.uts_mode, "private", "");
        if host.cgroupns_mode.is_none_or(|mode| mode == HostConfigCgroupnsModeEnum::EMPTY) {
            host.cgroupns_mode = wanted.cgroupns_mode;
        }
        // It always says "oci".
        host.runtime.clone_from(&self.oci_runtime);
    }
}

/// The profile of system calls: Podman reads it from a file of the host's, Docker from the request
/// (<https://github.com/containers/podman/issues/27710>).
fn profile(spec: &SandboxSpec) -> (PathBuf, String) {
    beside_the_supervisor(spec, "greenroom-seccomp", hardening::seccomp())
}

/// What a sandbox has as `/etc/hosts`.
fn hosts(spec: &SandboxSpec) -> (PathBuf, String) {
    beside_the_supervisor(spec, "greenroom-hosts", HOSTS.to_owned())
}

/// Named by its content, as the supervisor is: an upgrade changes nothing under running sandboxes.
fn beside_the_supervisor(spec: &SandboxSpec, name: &str, content: String) -> (PathBuf, String) {
    let digest = Sha256::digest(content.as_bytes());
    (spec.supervisor.with_file_name(format!("{name}-{}", hex(&digest[..8]))), content)
}

/// Puts the files where Podman reads them.
pub(super) fn place_files(spec: &SandboxSpec) -> io::Result<()> {
    for (path, content) in [profile(spec), hosts(spec)] {
        if fs::read(&path).is_ok_and(|present| present == content.as_bytes()) {
            continue;
        }
        // By way of a new file of its own: of several sandboxes that start at once none may read half of it.
        let new = path.with_extension(format!("{}.new", spec.slot));
        fs::write(&new, content)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, &path)?;
    }
    Ok(())
}

/// As many processes as the kernel has ids for, or as we may have ourselves: limits can't be raised by everybody.
fn most_processes(pid_max: Option<&str>, own: Option<u64>) -> u64 {
    let ids = pid_max.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    own.map_or(ids, |own| ids.min(own))
}

/// It takes neither owners (but `U`, the container's user) nor a number of files; it lets programs run there and copies what the image
/// has at that place, unless told not to, which Docker does by itself.
fn tmpfs_options(options: &str) -> String {
    let has = |wanted: &str| options.split(',').any(|option| option.starts_with(wanted));
    let unknown = ["uid=", "gid=", "nr_inodes="];
    let kept = options.split(',').filter(|option| !unknown.iter().any(|start| option.starts_with(start)));
    let more = [(!has("exec"), "noexec"), (true, "notmpcopyup"), (has("uid="), "U")];
    let more = more.into_iter().filter_map(|(needed, option)| needed.then_some(option));
    kept.chain(more).collect::<Vec<_>>().join(",")
}

/// Whether everything asked for a tmpfs is among the options it got.
fn covers(applied: &str, asked: &str) -> bool {
    let has = |wanted: &str| applied.split(',').any(|option| option == wanted);
    asked.split(',').all(|option| match option {
        "notmpcopyup" => !has("tmpcopyup"),
        // It becomes the user's numbers at the start.
        "U" => has("U") || (applied.contains("uid=") && applied.contains("gid=")),
        option => has(option),
    })
}

/// `FROM:TO:rw,rprivate,rbind` as `FROM:TO:rw`: how it is mounted is the same with Docker, which doesn't say so.
fn bind_heard(bind: &str) -> String {
    let Some((paths, options)) = bind.rsplit_once(':') else { return bind.to_owned() };
    let kept = options.split(',').filter(|option| !["rprivate", "rbind"].contains(option)).collect::<Vec<_>>();
    format!("{paths}:{}", kept.join(","))
}

fn rename(mode: &mut Option<String>, theirs: &str, ours: &str) {
    if mode.as_deref() == Some(theirs) {
        *mode = Some(ours.to_owned());
    }
}

/// Reads an answer that the client library couldn't read: Podman has states that Docker's API doesn't know, and one container that has
/// just ended would hide the whole list.
pub(super) fn read_again<T: DeserializeOwned>(answer: Result<T, Fault>) -> Result<T, Fault> {
    answer.or_else(|fault| match &fault {
        Fault::Unreadable { contents, .. } => in_known_states(contents).ok_or(fault),
        Fault::Status { .. } | Fault::Trouble(_) => Err(fault),
    })
}

fn in_known_states<T: DeserializeOwned>(contents: &str) -> Option<T> {
    let mut answer: Value = serde_json::from_str(contents).ok()?;
    let states: Vec<&mut Value> = match &mut answer {
        Value::Array(list) => list.iter_mut().filter_map(|one| one.get_mut("State")).collect(),
        one => one.pointer_mut("/State/Status").into_iter().collect(),
    };
    for state in states {
        match state.as_str() {
            // Its process has ended, and what it leaves is being cleared away.
            Some("stopped") => *state = Value::from("exited"),
            Some("initialized" | "configured") => *state = Value::from("created"),
            Some("unknown" | "bad state") => *state = Value::from("dead"),
            _ => {}
        }
    }
    serde_json::from_value(answer).ok()
}

#[cfg(test)]
mod tests;
