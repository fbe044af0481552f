//! What a sandbox looks like from inside: the proof that the engine really enforces what it was asked for.
//!
//! `supervisor probe` runs as the agent of a throw-away sandbox, prints one [`ProbeReport`] as a JSON line and waits for the end of its
//! input. It judges nothing: the server compares the report with what it asked for. A few calls that must fail are tried for real; those that have no
//! safe wrapper are named in [`ProbeReport::untested`] and left to tests with a real program.

mod facts;
mod trials;

use std::{collections::BTreeMap, fmt, io};

use serde::{Deserialize, Serialize};

pub use self::facts::look_around;

/// Calls the hardening forbids that can't be tried without unsafe code.
pub const UNTESTED: [&str; 6] = ["bpf", "io_uring_setup", "keyctl", "perf_event_open", "ptrace", "userfaultfd"];

/// What came of a trial: `ok`, or the kernel's name for the error, such as `EPERM`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Outcome(String);

impl Outcome {
    /// The outcome of a call.
    pub fn of<T>(result: io::Result<T>) -> Self {
        match result {
            Ok(_) => Self("ok".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Self("ETIMEDOUT".to_owned()),
            Err(error) => Self(error.raw_os_error().map_or_else(|| error.to_string(), error_name)),
        }
    }

    /// Whether it worked.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.0 == "ok"
    }

    /// `ok` or the error's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn error_name(code: i32) -> String {
    let name = match code {
        1 => "EPERM",
        2 => "ENOENT",
        13 => "EACCES",
        17 => "EEXIST",
        20 => "ENOTDIR",
        22 => "EINVAL",
        28 => "ENOSPC",
        30 => "EROFS",
        38 => "ENOSYS",
        94 => "ESOCKTNOSUPPORT",
        97 => "EAFNOSUPPORT",
        99 => "EADDRNOTAVAIL",
        101 => "ENETUNREACH",
        110 => "ETIMEDOUT",
        111 => "ECONNREFUSED",
        113 => "EHOSTUNREACH",
        _ => return format!("errno {code}"),
    };
    name.to_owned()
}

/// The five capability sets, as bit masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// `CapInh`.
    pub inheritable: u64,
    /// `CapPrm`.
    pub permitted: u64,
    /// `CapEff`.
    pub effective: u64,
    /// `CapBnd`.
    pub bounding: u64,
    /// `CapAmb`.
    pub ambient: u64,
}

/// The mount a path is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where that mount is.
    pub mount_point: String,
    /// Such as `overlay` or `tmpfs`.
    pub fs_type: String,
    /// Options of the mount and of its file system, such as `ro`, `nosuid`, `size=65536k`.
    pub options: Vec<String>,
}

/// A limit of a process, as `/proc/self/limits` says it: a number or `unlimited`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// In force.
    pub soft: String,
    /// The most it may be raised to.
    pub hard: String,
}

/// Limits of the control group, as far as they are visible; v1 and v2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupLimits {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// Everything the probe saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Version of the supervisor that looked.
    pub version: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capabilities.
    pub capabilities: CapabilitySets,
    /// Whether privileges can never be gained.
    pub no_new_privs: bool,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp_mode: u32,
    /// Name of process 1; the supervisor's in a container.
    pub init_name: String,
    /// The home folder.
    pub home: String,
    /// The mount each path of interest is on.
    pub mounts: BTreeMap<String, Mount>,
    /// Every mount point there is.
    pub mount_points: Vec<String>,
    /// Making a file in each folder of interest.
    pub writes: BTreeMap<String, Outcome>,
    /// Network interfaces.
    pub interfaces: Vec<String>,
    /// Calls that should fail. Empty when the probe ran as root.
    pub trials: BTreeMap<String, Outcome>,
    /// Forbidden calls that were not tried.
    pub untested: Vec<String>,
    /// Connections to addresses outside.
    pub connections: BTreeMap<String, Outcome>,
    /// Sockets of container engines that are visible.
    pub engine_sockets: Vec<String>,
    /// Limits of the process.
    pub limits: BTreeMap<String, Limit>,
    /// Limits of the control group.
    pub cgroup: CgroupLimits,
    /// Names of its control groups as it sees them: `/` in a namespace of its own.
    pub cgroup_names: Vec<String>,
}

impl ProbeReport {
    /// The report as one line of JSON, without its end of line.
    ///
    /// # Panics
    /// Never: the report is plain data with text keys.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("plain data with text keys is always JSON")
    }

    /// Reads a report.
    ///
    /// # Errors
    /// The line is not a report of this version.
    pub fn from_line(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}

/// Waits until our standard input ends.
pub fn wait_for_end_of_input() {
    let _ended = io::copy(&mut io::stdin().lock(), &mut io::sink());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_its_line() {
        let report = look_around();
        assert_eq!(ProbeReport::from_line(&report.to_line()).expect("its own line"), report);
        assert!(report.interfaces.contains(&"lo".to_owned()));
        assert!(report.mounts.contains_key("/") && report.limits.contains_key("Max open files"));
        assert!(report.writes["/tmp"].is_ok());
    }
}
