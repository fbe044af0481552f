//! A tight sandbox passes; each hole by itself is found, named, and keeps the server from serving.

use serde_json::json;

use super::*;
use crate::runtime::Note;

fn expected() -> Expectations {
    Expectations {
        kind: RuntimeKind::Docker,
        owner: Owner { uid: 10_001, gid: 10_001 },
        limits: Limits::default(),
        home: "/home/agent".to_owned(),
    }
}

fn facts() -> EngineFacts {
    EngineFacts {
        memory_bytes: None,
        version: "Docker".to_owned(),
        notes: vec![Note::holds("seccomp", "there"), Note::missing("disk quota", "none")],
    }
}

/// What a probe reports in a sandbox without a hole.
fn tight() -> ProbeReport {
    let mount =
        |point: &str, kind: &str, options: &[&str]| json!({"mount_point": point, "fs_type": kind, "options": options});
    let limit = |value: &str| json!({"soft": value, "hard": value});
    serde_json::from_value(json!({
        "version": "0.1.0", "uid": 10001, "gid": 10001, "groups": [10001],
        "capabilities": {"inheritable": 0, "permitted": 0, "effective": 0, "bounding": 0, "ambient": 0},
        "no_new_privs": true, "seccomp_mode": 2, "init_name": "supervisor", "home": "/home/agent",
        "mounts": {
            "/": mount("/", "overlay", &["ro"]),
            "/tmp": mount("/tmp", "tmpfs", &["rw", "nosuid", "nodev", "size=262144k"]),
            "/home/agent": mount("/home/agent", "tmpfs", &["rw", "nosuid", "nodev", "size=262144k"]),
            "/.greenroom/run": mount("/.greenroom/run", "ext4", &["ro"]),
            "/.greenroom/supervisor": mount("/.greenroom/supervisor", "ext4", &["ro"]),
        },
        "mount_points": ["/", "/proc", "/dev", "/dev/shm", "/sys/fs/cgroup", "/etc/hosts", "/tmp", "/home/agent",
                         "/.greenroom/run", "/.greenroom/supervisor", "/sandbox"],
        "writes": {"/": "EROFS", "/etc": "EROFS", "/tmp": "ok", "/home/agent": "ok", "/.greenroom/run": "EROFS"},
        "interfaces": ["lo"],
        "trials": {"mount": "EPERM", "unshare(NEWUSER)": "EPERM"}, "untested": [],
        "connections": {"192.0.2.1:80": "ENETUNREACH"},
        "engine_sockets": [],
        "limits": {"Max open files": limit("4096"), "Max core file size": limit("0"), "Max locked memory": limit("65536")},
        "cgroup": {"memory_bytes": 2_147_483_648_u64, "pids": 256}, "cgroup_names": ["/"],
    }))
    .expect("a report")
}

fn failed(rows: &[Row]) -> Vec<&str> {
    rows.iter().filter(|row| row.verdict == Verdict::Failed).map(|row| row.about.as_str()).collect()
}

#[test]
fn a_tight_sandbox_passes_and_what_the_engine_lacks_is_told() {
    let rows = verdicts(&facts(), &[], &tight(), &expected());
    assert_eq!(failed(&rows), Vec::<&str>::new());
    assert_eq!(refusal(&rows), None);
    assert_eq!(rows.iter().filter(|row| row.verdict == Verdict::Unavailable).count(), 1);
}

#[test]
fn every_hole_is_found_and_named() {
    type Spoil = fn(&mut serde_json::Value);
    let spoil: [(&str, Spoil); 18] = [
        ("user", |report| report["uid"] = json!(0)),
        ("user", |report| report["groups"] = json!([10001, 999])),
        ("first process", |report| report["init_name"] = json!("node")),
        ("capabilities", |report| report["capabilities"]["bounding"] = json!(1)),
        ("new privileges", |report| report["no_new_privs"] = json!(false)),
        ("seccomp filter", |report| report["seccomp_mode"] = json!(0)),
        ("forbidden calls", |report| report["trials"]["mount"] = json!("ok")),
        ("forbidden calls", |report| report["trials"] = json!({})),
        ("network", |report| report["interfaces"] = json!(["lo", "eth0"])),
        ("network", |report| report["connections"]["192.0.2.1:80"] = json!("ok")),
        ("root file system", |report| report["writes"]["/etc"] = json!("ok")),
        ("root file system", |report| report["mounts"]["/"]["options"] = json!(["rw"])),
        ("temporary files", |report| report["mounts"]["/tmp"]["options"] = json!(["rw", "nosuid", "nodev"])),
        ("home", |report| report["writes"]["/home/agent"] = json!("EACCES")),
        ("sockets' folder", |report| report["mounts"]["/.greenroom/run"]["options"] = json!(["rw"])),
        ("other mounts", |report| report["mount_points"].as_array_mut().expect("a list").push(json!("/data"))),
        ("memory", |report| report["cgroup"]["memory_bytes"] = json!(u64::MAX)),
        (
            "open files",
            |report| report["limits"] = json!({"Max core file size": {"soft": "0", "hard": "0"}, "Max locked memory": {"soft": "65536", "hard": "65536"}}),
        ),
    ];
    for (about, spoil) in spoil {
        let mut report = serde_json::to_value(tight()).expect("plain data");
        spoil(&mut report);
        let report = serde_json::from_value(report).expect("a report");
        let rows = verdicts(&facts(), &[], &report, &expected());
        assert_eq!(failed(&rows), [about]);
        assert!(refusal(&rows).is_some_and(|sentence| sentence.contains(about)));
    }
}

#[test]
fn a_difference_goes_to_the_row_it_is_about_or_gets_one_of_its_own() {
    let lines = ["CapDrop: asked for [\"ALL\"], got []".to_owned(), "mount /data: nobody asked for it".to_owned()];
    let rows = verdicts(&facts(), &lines, &tight(), &expected());
    assert_eq!(failed(&rows), ["capabilities", "mount /data"]);
}

#[test]
fn a_missing_swap_limit_is_excused_only_where_the_kernel_has_none() {
    let lines = ["MemorySwap: asked for 1, got -1".to_owned()];
    assert_eq!(failed(&verdicts(&facts(), &lines, &tight(), &expected())), ["MemorySwap"]);
    let mut facts = facts();
    facts.notes.push(Note::missing("swap limit", "none"));
    assert!(failed(&verdicts(&facts, &lines, &tight(), &expected())).is_empty());
}

#[test]
fn limits_that_a_sandbox_cannot_see_are_the_engines_word() {
    let report = ProbeReport { cgroup: crate::supervisor::probe::CgroupLimits::default(), ..tight() };
    assert!(failed(&verdicts(&facts(), &[], &report, &expected())).is_empty());
    let lines = ["PidsLimit: asked for 256, got null".to_owned()];
    assert_eq!(failed(&verdicts(&facts(), &lines, &report, &expected())), ["processes"]);
}

#[test]
fn an_empty_tmpfs_that_takes_nothing_is_no_mount_to_fear_and_any_other_is() {
    let with_run = |options: serde_json::Value, written: &str| {
        let mut report = serde_json::to_value(tight()).expect("a report is JSON");
        report["mount_points"].as_array_mut().expect("a list").push(json!("/run"));
        report["mounts"]["/run"] = json!({"mount_point": "/run", "fs_type": "tmpfs", "options": options});
        report["writes"]["/run"] = json!(written);
        let report = serde_json::from_value(report).expect("a report");
        failed(&verdicts(&facts(), &[], &report, &expected())).join(", ")
    };
    assert_eq!(with_run(json!(["ro", "nosuid"]), "EROFS"), "");
    assert_eq!(with_run(json!(["rw", "nosuid"]), "EROFS"), "other mounts");
    assert_eq!(with_run(json!(["ro", "nosuid"]), "ok"), "other mounts");
}

#[test]
fn names_of_the_hosts_control_groups_are_told_but_no_hole() {
    let report = ProbeReport { cgroup_names: vec!["/pool/libpod-1".to_owned()], ..tight() };
    let rows = verdicts(&facts(), &[], &report, &expected());
    let row = rows.iter().find(|row| row.about == "control groups' names").expect("a row");
    assert_eq!((row.verdict, row.inside.as_str()), (Verdict::Unavailable, "/pool/libpod-1"));
    assert_eq!(refusal(&rows), None);
}
