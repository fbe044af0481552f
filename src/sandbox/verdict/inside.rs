//! What the probe should have seen, row by row, and what it saw.

use std::collections::BTreeMap;

use super::{Expectations, Verdict};
use crate::{
    sandbox::spec::inside,
    supervisor::probe::{Mount, Outcome, ProbeReport},
};

const MIB: u64 = 1024 * 1024;

/// Mount points an engine adds to any container; it is the root below them that counts.
const ENGINES_OWN: [&str; 4] = ["/proc", "/sys", "/dev", "/etc"];

/// Where some engines mount something that must take nothing: an empty tmpfs of ours covers theirs.
const COVERED: [&str; 2] = ["/run", "/var/tmp"];

/// One thing looked at from inside.
pub(super) struct Check {
    pub(super) about: &'static str,
    pub(super) asked: String,
    pub(super) seen: String,
    pub(super) holds: bool,
    /// What it is when it doesn't hold.
    pub(super) otherwise: Verdict,
    /// The engine's fields that stand behind it.
    fields: &'static [&'static str],
}

impl Check {
    /// Whether a line of the comparison is about one of this row's fields.
    pub(super) fn claims(&self, line: &str) -> bool {
        line.split_once(':').is_some_and(|(field, _)| self.fields.contains(&field))
    }
}

/// Every check.
pub(super) fn checks(report: &ProbeReport, expected: &Expectations) -> Vec<Check> {
    vec![
        user(report, expected),
        first_process(report),
        capabilities(report),
        new_privileges(report),
        seccomp(report),
        forbidden_calls(report),
        network(report),
        root(report),
        tmpfs("temporary files", report, "/tmp", expected.limits.tmp_mib),
        tmpfs("home", report, &expected.home, expected.limits.home_mib),
        read_only("supervisor's file", report, inside::SUPERVISOR),
        read_only("sockets' folder", report, inside::RUN),
        mounts(report, expected),
        engine_sockets(report),
        cgroup_names(report),
        counted("memory", report.cgroup.memory_bytes, expected.limits.memory_mib * MIB, &["Memory"]),
        counted("processes", report.cgroup.pids, u64::from(expected.limits.pids), &["PidsLimit"]),
        resource(report, "open files", "Max open files", &expected.limits.open_files.to_string()),
        resource(report, "core dumps", "Max core file size", "0"),
        resource(report, "locked memory", "Max locked memory", &(64 * 1024).to_string()),
    ]
}

fn user(report: &ProbeReport, expected: &Expectations) -> Check {
    let owner = expected.owner;
    let own_group = report.groups.iter().all(|group| *group == owner.gid);
    Check {
        about: "user",
        asked: format!("{}:{}, no more groups", owner.uid, owner.gid),
        seen: format!("{}:{}, groups {:?}", report.uid, report.gid, report.groups),
        holds: report.uid == owner.uid && report.gid == owner.gid && report.uid != 0 && own_group,
        otherwise: Verdict::Failed,
        fields: &["User", "GroupAdd"],
    }
}

fn first_process(report: &ProbeReport) -> Check {
    let name = inside::SUPERVISOR.rsplit('/').next().unwrap_or_default();
    Check {
        about: "first process",
        asked: "our supervisor".to_owned(),
        seen: report.init_name.clone(),
        holds: report.init_name == name,
        otherwise: Verdict::Failed,
        fields: &["Entrypoint", "PidMode", "Init"],
    }
}

fn capabilities(report: &ProbeReport) -> Check {
    let sets = report.capabilities;
    let all = sets.inheritable | sets.permitted | sets.effective | sets.bounding | sets.ambient;
    Check {
        about: "capabilities",
        asked: "none".to_owned(),
        seen: if all == 0 { "none in any of the five sets".to_owned() } else { format!("{all:#x}") },
        holds: all == 0,
        otherwise: Verdict::Failed,
        fields: &["CapDrop", "CapAdd", "Privileged"],
    }
}

fn new_privileges(report: &ProbeReport) -> Check {
    Check {
        about: "new privileges",
        asked: "never".to_owned(),
        seen: if report.no_new_privs { "never" } else { "possible" }.to_owned(),
        holds: report.no_new_privs,
        otherwise: Verdict::Failed,
        fields: &[],
    }
}

fn seccomp(report: &ProbeReport) -> Check {
    Check {
        about: "seccomp filter",
        asked: "our profile".to_owned(),
        seen: format!("mode {}", report.seccomp_mode),
        holds: report.seccomp_mode == 2,
        otherwise: Verdict::Failed,
        fields: &["SecurityOpt"],
    }
}

fn forbidden_calls(report: &ProbeReport) -> Check {
    let got_through = names(&report.trials, Outcome::is_ok);
    Check {
        about: "forbidden calls",
        asked: "refused".to_owned(),
        seen: if report.trials.is_empty() {
            "not tried".to_owned()
        } else if got_through.is_empty() {
            // Those that can't be tried from safe code are held by a test of the profile.
            let count = report.trials.len();
            format!("{count} of {count} refused; not tried: {}", report.untested.join(", "))
        } else {
            format!("got through: {}", got_through.join(", "))
        },
        holds: !report.trials.is_empty() && got_through.is_empty(),
        otherwise: Verdict::Failed,
        fields: &[],
    }
}

fn network(report: &ProbeReport) -> Check {
    let reached = names(&report.connections, Outcome::is_ok);
    let alone = report.interfaces == ["lo"];
    Check {
        about: "network",
        asked: "loopback only".to_owned(),
        seen: if reached.is_empty() {
            format!("{}; nothing outside answers", report.interfaces.join(", "))
        } else {
            format!("{}; reached {}", report.interfaces.join(", "), reached.join(", "))
        },
        holds: alone && !report.connections.is_empty() && reached.is_empty(),
        otherwise: Verdict::Failed,
        fields: &["NetworkMode", "PortBindings", "PublishAllPorts", "Links", "ExtraHosts"],
    }
}

fn root(report: &ProbeReport) -> Check {
    let read_only = has_option(report, "/", "ro");
    let written = ["/", "/etc"].into_iter().find(|folder| report.writes.get(*folder).is_none_or(Outcome::is_ok));
    Check {
        about: "root file system",
        asked: "read-only".to_owned(),
        seen: match written {
            Some(folder) => format!("{folder} takes files"),
            None => if read_only { "read-only" } else { "mounted for writing" }.to_owned(),
        },
        holds: read_only && written.is_none(),
        otherwise: Verdict::Failed,
        fields: &["ReadonlyRootfs"],
    }
}

fn tmpfs(about: &'static str, report: &ProbeReport, path: &str, mib: u64) -> Check {
    let size = format!("size={}k", mib * 1024);
    let mount = report.mounts.get(path).filter(|mount| mount.mount_point == path);
    let wanted = ["nosuid", "nodev", size.as_str()];
    let written = report.writes.get(path).is_some_and(Outcome::is_ok);
    Check {
        about,
        asked: format!("{path}: tmpfs of {mib} MiB, nosuid, nodev"),
        seen: match mount {
            None => "not a mount of its own".to_owned(),
            Some(_) if !written => "can't be written".to_owned(),
            Some(mount) => format!("{}: {}", mount.fs_type, mount.options.join(",")),
        },
        holds: written
            && mount.is_some_and(|mount| {
                mount.fs_type == "tmpfs"
                    && wanted.iter().all(|&wanted| mount.options.iter().any(|option| option == wanted))
            }),
        otherwise: Verdict::Failed,
        fields: &["Tmpfs"],
    }
}

fn read_only(about: &'static str, report: &ProbeReport, path: &str) -> Check {
    let own = report.mounts.get(path).is_some_and(|mount| mount.mount_point == path);
    let holds = own && has_option(report, path, "ro") && !report.writes.get(path).is_some_and(Outcome::is_ok);
    Check {
        about,
        asked: "mounted read-only".to_owned(),
        seen: if holds { "read-only" } else { "can be changed, or is not there" }.to_owned(),
        holds,
        otherwise: Verdict::Failed,
        fields: &["Binds"],
    }
}

fn mounts(report: &ProbeReport, expected: &Expectations) -> Check {
    let ours = ["/", "/tmp", inside::SUPERVISOR, inside::RUN, inside::SANDBOX, expected.home.as_str()];
    let below =
        |point: &str, top: &str| point == top || point.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    let strange: Vec<&str> = report
        .mount_points
        .iter()
        .map(String::as_str)
        .filter(|point| !ours.contains(point) && !ENGINES_OWN.iter().any(|top| below(point, top)))
        .filter(|point| !(COVERED.contains(point) && takes_nothing(report, point)))
        .collect();
    Check {
        about: "other mounts",
        asked: "none".to_owned(),
        seen: if strange.is_empty() { "none".to_owned() } else { strange.join(", ") },
        holds: strange.is_empty() && !report.mount_points.is_empty(),
        otherwise: Verdict::Failed,
        fields: &["Mounts", "VolumesFrom", "Devices", "DeviceRequests", "DeviceCgroupRules"],
    }
}

fn engine_sockets(report: &ProbeReport) -> Check {
    Check {
        about: "engine's socket",
        asked: "out of sight".to_owned(),
        seen: if report.engine_sockets.is_empty() { "none".to_owned() } else { report.engine_sockets.join(", ") },
        holds: report.engine_sockets.is_empty(),
        otherwise: Verdict::Failed,
        fields: &[],
    }
}

/// Names tell the agent of the engine and of the pool, but open nothing: the control groups it sees are its own, and read-only.
fn cgroup_names(report: &ProbeReport) -> Check {
    let alone = report.cgroup_names == ["/"];
    Check {
        about: "control groups' names",
        asked: "out of sight".to_owned(),
        seen: if alone { "none".to_owned() } else { report.cgroup_names.join(", ") },
        holds: alone,
        otherwise: Verdict::Unavailable,
        fields: &["CgroupnsMode"],
    }
}

/// A limit of the control group. Not every engine shows a sandbox its own: then the engine's word stands alone.
fn counted(about: &'static str, seen: Option<u64>, asked: u64, fields: &'static [&'static str]) -> Check {
    Check {
        about,
        asked: format!("at most {asked}"),
        seen: seen.map_or_else(|| "not visible".to_owned(), |seen| seen.to_string()),
        holds: seen.is_none_or(|seen| seen <= asked),
        otherwise: Verdict::Failed,
        fields,
    }
}

fn resource(report: &ProbeReport, about: &'static str, name: &str, asked: &str) -> Check {
    let limit = report.limits.get(name);
    Check {
        about,
        asked: format!("at most {asked}"),
        seen: limit.map_or_else(|| "unknown".to_owned(), |limit| limit.hard.clone()),
        holds: limit.is_some_and(|limit| limit.hard == asked),
        otherwise: Verdict::Failed,
        fields: &["Ulimits"],
    }
}

/// Whether this is a tmpfs of its own that can't be written.
fn takes_nothing(report: &ProbeReport, path: &str) -> bool {
    let empty = |mount: &Mount| mount.mount_point == path && mount.fs_type == "tmpfs";
    report.mounts.get(path).is_some_and(empty)
        && has_option(report, path, "ro")
        && report.writes.get(path).is_some_and(|outcome| !outcome.is_ok())
}

fn has_option(report: &ProbeReport, path: &str, option: &str) -> bool {
    report.mounts.get(path).is_some_and(|mount| mount.options.iter().any(|has| has == option))
}

fn names(outcomes: &BTreeMap<String, Outcome>, wanted: impl Fn(&Outcome) -> bool) -> Vec<String> {
    outcomes.iter().filter(|(_, outcome)| wanted(outcome)).map(|(name, _)| name.clone()).collect()
}
