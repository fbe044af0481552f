//! What Podman is told and what it answers, as version 4.3.1 did.

use bollard::models::{ContainerConfig, ContainerSummary, ContainerSummaryStateEnum, HealthConfig, ResourcesUlimits};
use serde_json::json;

use super::*;
use crate::runtime::docker::{hardening::Setting, sample, verify};

fn manner() -> Manner {
    Manner { processes: 32_768, swappiness: true, oci_runtime: Some("runc".to_owned()) }
}

fn asked_of(manner: Manner) -> ContainerCreateBody {
    hardening::container(&sample::spec(), &Setting { podman: Some(manner), ..sample::setting() })
}

fn asked() -> ContainerCreateBody {
    asked_of(manner())
}

/// What Podman tells of a container that is as asked.
fn obedient() -> ContainerInspectResponse {
    let asked = asked();
    let ulimit = |name: &str, value| ResourcesUlimits {
        name: Some(format!("RLIMIT_{name}")),
        soft: Some(value),
        hard: Some(value),
    };
    let texts = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
    let tmpfs = [
        ("/tmp", "rw,exec,nosuid,nodev,size=256m,mode=1777,rprivate"),
        ("/home/agent", "rw,nosuid,nodev,size=256m,mode=0700,noexec,uid=10001,gid=10001,rprivate"),
        ("/run", "ro,noexec,nosuid,nodev,size=4k,mode=0755,rprivate"),
        ("/var/tmp", "ro,noexec,nosuid,nodev,size=4k,mode=0755,rprivate"),
    ];
    let mount = |(inside, rw): (&str, bool)| json!({"Destination": inside, "RW": rw, "Type": "bind"});
    let mounts =
        [("/.greenroom/run", false), ("/sandbox", true), ("/.greenroom/supervisor", false), ("/etc/hosts", false)];
    ContainerInspectResponse {
        image: asked.image,
        config: Some(ContainerConfig {
            user: asked.user,
            entrypoint: asked.entrypoint,
            cmd: asked.cmd,
            working_dir: asked.working_dir,
            env: asked.env,
            labels: asked.labels,
            ..ContainerConfig::default()
        }),
        host_config: asked.host_config.map(|host| HostConfig {
            binds: texts(&[
                "/state/slots/one/box:/sandbox:rw,rprivate,rbind",
                "/state/slots/one/run:/.greenroom/run:ro,rprivate,rbind",
                "/opt/greenroom-supervisor:/.greenroom/supervisor:ro,rprivate,rbind",
                &format!("{}:/etc/hosts:ro,rprivate,rbind", hosts(&sample::spec()).0.display()),
            ]),
            cap_drop: texts(&["CHOWN", "KILL", "NET_RAW"]),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::EMPTY),
            ipc_mode: Some("shareable".to_owned()),
            pid_mode: Some("private".to_owned()),
            uts_mode: Some("private".to_owned()),
            runtime: Some("oci".to_owned()),
            security_opt: host.security_opt.map(|options| {
                options
                    .into_iter()
                    .map(|option| option.replace("no-new-privileges:true", "no-new-privileges"))
                    .collect()
            }),
            tmpfs: Some(tmpfs.map(|(path, options)| (path.to_owned(), options.to_owned())).into()),
            ulimits: Some(vec![
                ulimit("NOFILE", 4096),
                ulimit("CORE", 0),
                ulimit("MEMLOCK", 65_536),
                ulimit("NPROC", 32_768),
            ]),
            ..host
        }),
        mounts: Some(mounts.map(|one| serde_json::from_value(mount(one)).expect("a mount")).into()),
        ..ContainerInspectResponse::default()
    }
}

fn differences(change: impl FnOnce(&mut HostConfig)) -> Vec<String> {
    let mut applied = obedient();
    change(applied.host_config.as_mut().expect("it is there"));
    verify::differences(&asked(), &manner().heard(&asked(), applied))
}

#[test]
fn podman_is_told_the_same_in_its_own_words() {
    let made = serde_json::to_value(asked()).expect("it is sent as JSON");
    let nothing = json!("ro,noexec,nosuid,nodev,size=4k,mode=0755,notmpcopyup");
    let table = [
        ("/StopTimeout", json!(0)),
        ("/HostConfig/SecurityOpt/0", json!("no-new-privileges:true")),
        ("/HostConfig/Ulimits/3", json!({"Name": "nproc", "Soft": 32768, "Hard": 32768})),
        ("/HostConfig/MemorySwappiness", json!(0)),
        ("/HostConfig/Binds/3", json!(format!("{}:/etc/hosts:ro", hosts(&sample::spec()).0.display()))),
        ("/HostConfig/Tmpfs/~1tmp", json!("rw,exec,nosuid,nodev,size=256m,mode=1777,notmpcopyup")),
        ("/HostConfig/Tmpfs/~1home~1agent", json!("rw,nosuid,nodev,size=256m,mode=0700,noexec,notmpcopyup,U")),
        ("/HostConfig/Tmpfs/~1run", nothing.clone()),
        ("/HostConfig/Tmpfs/~1var~1tmp", nothing),
    ];
    for (field, wanted) in table {
        assert_eq!(made.pointer(field), Some(&wanted), "{field}");
    }
    let profile = made["HostConfig"]["SecurityOpt"][1].as_str().expect("a text");
    assert!(profile.starts_with("seccomp=/opt/greenroom-seccomp-"), "{profile}");
}

#[test]
fn what_podman_has_no_other_words_for_stays_as_the_table_says() {
    let (docker, podman) = (hardening::container(&sample::spec(), &sample::setting()), asked());
    let (mut docker, mut podman) = (json!(docker), json!(podman));
    for body in [&mut docker, &mut podman] {
        for field in ["Healthcheck", "StopTimeout"] {
            body.as_object_mut().expect("an object").remove(field);
        }
        for field in ["SecurityOpt", "Ulimits", "Tmpfs", "Binds"] {
            body["HostConfig"].as_object_mut().expect("an object").remove(field);
        }
    }
    assert_eq!(podman, docker);
}

#[test]
fn where_control_groups_have_no_swappiness_none_is_asked_for() {
    let body = asked_of(Manner { swappiness: false, ..manner() });
    assert_eq!(body.host_config.and_then(|host| host.memory_swappiness), None);
}

#[test]
fn an_obedient_podman_gives_no_line() {
    assert_eq!(differences(|_| ()), Vec::<String>::new());
    // Before its start it hasn't looked up whose the home is.
    let unstarted = |host: &mut HostConfig| {
        for options in host.tmpfs.iter_mut().flat_map(|tmpfs| tmpfs.values_mut()) {
            *options = options.replace("uid=10001,gid=10001", "U");
        }
    };
    assert_eq!(differences(unstarted), Vec::<String>::new());
}

#[test]
fn what_podman_weakens_gives_a_line_as_with_docker() {
    type Weaken = fn(&mut HostConfig);
    let weaker: [(&str, Weaken); 8] = [
        ("CapDrop", |host| host.cap_drop = Some(Vec::new())),
        ("CapAdd", |host| host.cap_add = Some(vec!["SYS_ADMIN".to_owned()])),
        ("SecurityOpt", |host| host.security_opt = Some(vec!["no-new-privileges".to_owned()])),
        ("Ulimits", |host| host.ulimits = host.ulimits.take().map(|limits| limits.into_iter().skip(1).collect())),
        ("Binds", |host| {
            host.binds.get_or_insert_default()[1] = "/state/slots/one/run:/.greenroom/run:rw,rbind".to_owned()
        }),
        ("Tmpfs", |host| {
            host.tmpfs.get_or_insert_default().insert("/run".to_owned(), "rw,nosuid,nodev,rprivate".to_owned());
        }),
        ("IpcMode", |host| host.ipc_mode = Some("host".to_owned())),
        ("CgroupnsMode", |host| host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::HOST)),
    ];
    for (field, weaken) in weaker {
        let lines = differences(weaken);
        assert!(lines.iter().any(|line| line.starts_with(&format!("{field}:"))), "{field}: {lines:?}");
    }
}

#[test]
fn a_health_check_that_the_image_brings_is_told() {
    assert_eq!(asked().healthcheck, None);
    let mut applied = obedient();
    let test = Some(vec!["CMD-SHELL".to_owned(), "true".to_owned()]);
    applied.config.get_or_insert_default().healthcheck = Some(HealthConfig { test, ..HealthConfig::default() });
    let lines = verify::differences(&asked(), &manner().heard(&asked(), applied));
    assert!(lines.len() == 1 && lines[0].starts_with("Healthcheck:"), "{lines:?}");
}

#[test]
fn a_runtime_that_podman_was_not_started_with_is_told() {
    let other = Setting { podman: Some(manner()), oci_runtime: Some("runsc".to_owned()), ..sample::setting() };
    let asked = hardening::container(&sample::spec(), &other);
    let lines = verify::differences(&asked, &manner().heard(&asked, obedient()));
    assert_eq!(lines, ["Runtime: asked for \"runsc\", got \"runc\""]);
}

#[test]
fn a_list_with_a_container_that_just_ended_can_be_read() {
    let contents = json!([{"Id": "one", "State": "stopped"}, {"Id": "two", "State": "running"}]).to_string();
    let unreadable = || Fault::Unreadable { contents: contents.clone(), reason: "unknown variant".to_owned() };
    let list: Vec<ContainerSummary> = read_again(Err(unreadable())).expect("it is read");
    let states = list.into_iter().map(|one| one.state.expect("a state")).collect::<Vec<_>>();
    assert_eq!(states, [ContainerSummaryStateEnum::EXITED, ContainerSummaryStateEnum::RUNNING]);

    let contents = json!({"Id": "one", "State": {"Status": "initialized", "Running": false}}).to_string();
    let fault = Fault::Unreadable { contents, reason: "unknown variant".to_owned() };
    let one: ContainerInspectResponse = read_again(Err(fault)).expect("it is read");
    assert_eq!(one.state.and_then(|state| state.status).map(|status| status.to_string()).as_deref(), Some("created"));
}

#[test]
fn an_answer_without_sense_stays_a_fault() {
    let fault = Fault::Unreadable { contents: "[{\"State\": 7}]".to_owned(), reason: "invalid type".to_owned() };
    assert!(matches!(read_again::<Vec<ContainerSummary>>(Err(fault)), Err(Fault::Unreadable { .. })));
}

#[test]
fn the_limit_of_processes_is_what_the_kernel_or_we_ourselves_have() {
    assert_eq!(most_processes(Some("32768\n"), Some(96_365)), 32_768);
    assert_eq!(most_processes(Some("4194304\n"), Some(96_365)), 96_365);
    assert_eq!(most_processes(Some("4194304\n"), None), 4_194_304);
}

#[test]
fn the_files_are_where_podman_is_told_to_read_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let spec = SandboxSpec { supervisor: folder.path().join("supervisor"), ..sample::spec() };
    for _again in 0..2 {
        place_files(&spec).expect("it is written");
    }
    let body = hardening::container(&spec, &Setting { podman: Some(manner()), ..sample::setting() });
    let host = body.host_config.unwrap_or_default();
    let profile = host.security_opt.and_then(|options| Some(options.get(1)?.strip_prefix("seccomp=")?.to_owned()));
    assert_eq!(fs::read_to_string(profile.expect("a profile")).expect("it is there"), hardening::seccomp());
    let hosts = host.binds.and_then(|binds| Some(binds.last()?.strip_suffix(":/etc/hosts:ro")?.to_owned()));
    assert_eq!(fs::read_to_string(hosts.expect("a bind")).expect("it is there"), HOSTS);
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 2, "nothing else is left");
}
