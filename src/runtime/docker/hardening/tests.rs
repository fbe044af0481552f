//! The hardening table, field by field: a change of any of these values is a decision, not an accident.

use serde_json::{Value, json};

use super::*;
use crate::runtime::docker::sample;

fn made() -> Value {
    serde_json::to_value(container(&sample::spec(), &sample::setting())).expect("it is sent as JSON")
}

#[test]
fn every_field_is_as_the_table_says() {
    let made = made();
    let memory = 2048 * 1024 * 1024_u64;
    let table = [
        ("/Image", json!("sha256:0123")),
        ("/User", json!("10001:10001")),
        ("/WorkingDir", json!("/home/agent")),
        ("/Cmd", json!(["agent", "--acp"])),
        ("/NetworkDisabled", json!(true)),
        ("/OpenStdin", json!(false)),
        ("/Tty", json!(false)),
        ("/Healthcheck/Test", json!(["NONE"])),
        ("/HostConfig/NetworkMode", json!("none")),
        ("/HostConfig/Privileged", json!(false)),
        ("/HostConfig/CapDrop", json!(["ALL"])),
        ("/HostConfig/ReadonlyRootfs", json!(true)),
        ("/HostConfig/Memory", json!(memory)),
        ("/HostConfig/MemorySwap", json!(memory)),
        ("/HostConfig/MemorySwappiness", json!(0)),
        ("/HostConfig/NanoCpus", json!(1_000_000_000)),
        ("/HostConfig/CpuShares", json!(512)),
        ("/HostConfig/PidsLimit", json!(256)),
        (
            "/HostConfig/Ulimits",
            json!([
                {"Name": "nofile", "Soft": 4096, "Hard": 4096},
                {"Name": "core", "Soft": 0, "Hard": 0},
                {"Name": "memlock", "Soft": 65536, "Hard": 65536},
            ]),
        ),
        (
            "/HostConfig/Tmpfs",
            json!({
                "/tmp": "rw,exec,nosuid,nodev,size=256m,nr_inodes=65536,mode=1777",
                "/home/agent": "rw,nosuid,nodev,size=256m,nr_inodes=65536,uid=10001,gid=10001,mode=0700",
            }),
        ),
        (
            "/HostConfig/Binds",
            json!([
                "/opt/greenroom-supervisor:/.greenroom/supervisor:ro",
                "/state/slots/one/run:/.greenroom/run:ro",
                "/state/slots/one/box:/sandbox:rw",
            ]),
        ),
        ("/HostConfig/IpcMode", json!("private")),
        ("/HostConfig/CgroupnsMode", json!("private")),
        ("/HostConfig/PidMode", json!("")),
        ("/HostConfig/UTSMode", json!("")),
        ("/HostConfig/UsernsMode", json!("")),
        ("/HostConfig/ShmSize", json!(16 * 1024 * 1024)),
        ("/HostConfig/OomScoreAdj", json!(500)),
        ("/HostConfig/OomKillDisable", json!(false)),
        ("/HostConfig/CgroupParent", json!("/greenroom-test")),
        ("/HostConfig/RestartPolicy", json!({"Name": "no"})),
        ("/HostConfig/LogConfig", json!({"Type": "none"})),
        ("/HostConfig/AutoRemove", json!(false)),
        ("/HostConfig/Init", json!(false)),
    ];
    for (field, wanted) in table {
        assert_eq!(made.pointer(field), Some(&wanted), "{field}");
    }
}

#[test]
fn what_must_never_be_there_is_not_there() {
    let made = made();
    for field in crate::runtime::docker::verify::NEVER {
        assert_eq!(made.pointer(&format!("/HostConfig/{field}")), None, "{field}");
    }
    assert_eq!(made.pointer("/Volumes"), None);
    assert_eq!(made.pointer("/ExposedPorts"), None);
    assert!(!made.to_string().contains("nproc"), "nproc is shared by all containers of one uid");
    assert!(!made.to_string().contains("docker.sock"));
}

#[test]
fn the_supervisor_is_the_first_process_and_gets_the_command() {
    let entrypoint = made()["Entrypoint"].clone();
    assert_eq!(
        entrypoint,
        json!([
            "/.greenroom/supervisor",
            "run",
            "--run-dir",
            "/.greenroom/run",
            "--orphan-grace-ms",
            "60000",
            "--ring-bytes",
            "4194304",
            "--relay-port",
            "41000",
            "--proxy-port",
            "41001",
            "--"
        ])
    );
}

#[test]
fn the_environment_is_the_templates_with_home_and_tmpdir() {
    assert_eq!(made()["Env"], json!(["HOME=/home/agent", "LANG=C.UTF-8", "TMPDIR=/tmp"]));
}

#[test]
fn no_new_privileges_and_our_own_seccomp_profile_are_asked_for() {
    let made = made();
    let options = made["HostConfig"]["SecurityOpt"].as_array().expect("a list").clone();
    assert_eq!(options[0], "no-new-privileges:true");
    let profile = options[1].as_str().and_then(|option| option.strip_prefix("seccomp=")).expect("a profile");
    let profile: Value = serde_json::from_str(profile).expect("the profile is JSON");
    assert!(profile["defaultAction"].as_str().is_some());
}

#[test]
fn the_profile_allows_none_of_the_calls_the_probe_cannot_try() {
    let profile: Value = serde_json::from_str(SECCOMP).expect("the profile is JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = profile["syscalls"].as_array().expect("a list").iter();
    let allowed: Vec<&str> = rules
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        .flat_map(|rule| rule["names"].as_array().expect("a list"))
        .filter_map(Value::as_str)
        .collect();
    for call in crate::supervisor::probe::UNTESTED {
        assert!(!allowed.contains(&call), "{call}");
    }
    assert!(allowed.contains(&"read"), "the names are read from the right place");
}

#[test]
fn a_configured_oci_runtime_is_asked_for_and_otherwise_the_engine_chooses() {
    assert_eq!(made()["HostConfig"].get("Runtime"), None);
    let setting = Setting { oci_runtime: Some("runsc".to_owned()), ..sample::setting() };
    assert_eq!(
        container(&sample::spec(), &setting).host_config.and_then(|host| host.runtime).as_deref(),
        Some("runsc")
    );
}

#[test]
fn processors_are_counted_in_billionths() {
    assert_eq!(nano_cpus(0.25), 250_000_000);
    assert_eq!(nano_cpus(2.0), 2_000_000_000);
}
