//! One sandbox in the engine's words: every field that keeps the agent in, set on purpose. Pure.
//!
//! `docs/security.md` says what each field does and what it can't; the tests below hold the table, field by field. In Docker's words;
//! [`super::podman`] has those of Podman.

use std::{collections::HashMap, path::Path};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};

use super::{labels, podman};
use crate::{
    runtime::{
        Owner,
        command::{PORTS, supervisor_arguments},
    },
    sandbox::spec::{SandboxSpec, inside},
};

/// The system calls a sandbox may make: an allow-list in the engine's format.
const SECCOMP: &str = include_str!("seccomp.json");

const MIB: u64 = 1024 * 1024;
/// Files and folders a tmpfs may hold per MiB of its size: one for each page.
const INODES_PER_MIB: u64 = 256;
/// Size of `/dev/shm`, in MiB.
const SHM_MIB: u64 = 16;
/// What an agent may lock in memory, in bytes.
const LOCKED_MEMORY: u64 = 64 * 1024;
/// Half of the default weight: when processors are short, the server and the engine come first.
const CPU_SHARES: i64 = 512;
/// When memory is short, the kernel ends agents before anything else of the machine's.
const OOM_SCORE: i64 = 500;

/// What is the same for every sandbox of this server.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// The label every container carries.
    pub(super) instance: String,
    /// Who the agent runs as.
    pub(super) owner: Owner,
    /// The OCI runtime, when one is configured.
    pub(super) oci_runtime: Option<String>,
    /// The cgroup above all sandboxes, in the words of the engine's cgroup driver.
    pub(super) cgroup_parent: String,
    /// How to speak to the engine when it is Podman.
    pub(super) podman: Option<podman::Manner>,
}

/// The name of a sandbox's container: for people; nothing is ever found by it.
pub(super) fn container_name(spec: &SandboxSpec) -> String {
    format!("greenroom-{}", spec.slot)
}

/// The whole container.
pub(super) fn container(spec: &SandboxSpec, setting: &Setting) -> ContainerCreateBody {
    let mut body = ContainerCreateBody {
        image: Some(spec.image.clone()),
        hostname: Some("sandbox".to_owned()),
        user: Some(format!("{}:{}", setting.owner.uid, setting.owner.gid)),
        entrypoint: Some(entrypoint(spec)),
        cmd: Some(spec.command.clone()),
        env: Some(environment(spec)),
        working_dir: Some(spec.home.clone()),
        network_disabled: Some(true),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        open_stdin: Some(false),
        tty: Some(false),
        // A health check of the image's would run a program beside the agent every few seconds.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(labels::of(spec, &setting.instance)),
        host_config: Some(host(spec, setting)),
        ..ContainerCreateBody::default()
    };
    if let Some(podman) = &setting.podman {
        podman.put(&mut body, spec);
    }
    body
}

fn host(spec: &SandboxSpec, setting: &Setting) -> HostConfig {
    let memory = signed(spec.limits.memory_mib * MIB);
    HostConfig {
        network_mode: Some("none".to_owned()),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned(), format!("seccomp={}", seccomp())]),
        readonly_rootfs: Some(true),
        tmpfs: Some(tmpfs(spec, setting.owner)),
        binds: Some(binds(spec)),
        memory: Some(memory),
        // The same as memory: no swap at all.
        memory_swap: Some(memory),
        memory_swappiness: Some(0),
        nano_cpus: Some(nano_cpus(spec.limits.cpus)),
        cpu_shares: Some(CPU_SHARES),
        pids_limit: Some(i64::from(spec.limits.pids)),
        ulimits: Some(vec![
            limit("nofile", u64::from(spec.limits.open_files)),
            limit("core", 0),
            limit("memlock", LOCKED_MEMORY),
            // No nproc: the kernel counts it over all containers of one uid, so one sandbox could starve the others.
        ]),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        pid_mode: Some(String::new()),
        uts_mode: Some(String::new()),
        userns_mode: Some(String::new()),
        shm_size: Some(signed(SHM_MIB * MIB)),
        oom_score_adj: Some(OOM_SCORE),
        oom_kill_disable: Some(false),
        cgroup_parent: Some(setting.cgroup_parent.clone()),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        // Its output goes over our own link; the engine would write it to the disk without a limit.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        runtime: setting.oci_runtime.clone(),
        auto_remove: Some(false),
        init: Some(false),
        ..HostConfig::default()
    }
}

fn entrypoint(spec: &SandboxSpec) -> Vec<String> {
    let arguments = supervisor_arguments(spec, inside::RUN, PORTS);
    std::iter::once(inside::SUPERVISOR.to_owned())
        .chain(arguments.iter().map(|argument| argument.to_string_lossy().into_owned()))
        .collect()
}

fn environment(spec: &SandboxSpec) -> Vec<String> {
    let mut environment = spec.env.clone();
    environment.insert("HOME".to_owned(), spec.home.clone());
    environment.insert("TMPDIR".to_owned(), "/tmp".to_owned());
    environment.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// The only three things of the host's inside: the supervisor, the folder of the sockets, the workspace's parent.
pub(super) fn binds(spec: &SandboxSpec) -> Vec<String> {
    let bind = |from: &Path, to: &str, mode: &str| format!("{}:{to}:{mode}", from.display());
    vec![
        bind(&spec.supervisor, inside::SUPERVISOR, "ro"),
        bind(&spec.run_dir, inside::RUN, "ro"),
        bind(&spec.box_dir, inside::SANDBOX, "rw"),
    ]
}

fn tmpfs(spec: &SandboxSpec, owner: Owner) -> HashMap<String, String> {
    let sized = |mib: u64| format!("nosuid,nodev,size={mib}m,nr_inodes={}", mib * INODES_PER_MIB);
    let Owner { uid, gid } = owner;
    [
        // Tools unpack and run things in /tmp; the image must give it mode 1777, for an existing folder keeps its own mode.
        ("/tmp".to_owned(), format!("rw,exec,{},mode=1777", sized(spec.limits.tmp_mib))),
        (spec.home.clone(), format!("rw,{},uid={uid},gid={gid},mode=0700", sized(spec.limits.home_mib))),
    ]
    .into()
}

/// The profile on one line; the engine keeps it with each container.
pub(super) fn seccomp() -> String {
    let profile: serde_json::Value =
        serde_json::from_str(SECCOMP).expect("the profile is part of the program and tested");
    profile.to_string()
}

pub(super) fn limit(name: &str, value: u64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(signed(value)), hard: Some(signed(value)) }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn nano_cpus(cpus: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float's cast to an integer saturates, and the engine refuses what it hasn't"
    )]
    let nanos = (cpus * 1e9).round() as i64;
    nanos
}

#[cfg(test)]
mod tests;
