//! What the engine says it applied, compared with what was asked. Pure: both sides are the engine's own JSON.
//!
//! Engines change what they can't do without an error (swap limits, seccomp on a kernel without it), and an image may bring
//! what nobody asked for (volumes). So everything asked must come back, and what must never be there is looked for by name.

use std::collections::{BTreeSet, HashMap};

use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use serde_json::Value;

/// Fields of the host's configuration that stay empty, whatever happens.
pub(super) const NEVER: [&str; 14] = [
    "CapAdd",
    "Devices",
    "DeviceRequests",
    "DeviceCgroupRules",
    "GroupAdd",
    "PortBindings",
    "PublishAllPorts",
    "Links",
    "VolumesFrom",
    "Mounts",
    "ExtraHosts",
    "Sysctls",
    "VolumeDriver",
    "Cgroup",
];

/// Longest value that is shown, in characters: a seccomp profile is pages long.
const SHOWN_MAX: usize = 120;

/// A line for each difference; empty is good.
pub(super) fn differences(asked: &ContainerCreateBody, applied: &ContainerInspectResponse) -> Vec<String> {
    let mut lines = Vec::new();
    let asked_all = json(asked);
    let (config, host) = (json(&applied.config), json(&applied.host_config));

    if applied.image != asked.image {
        lines.push(line("Image", &json(&asked.image), &json(&applied.image)));
    }
    for field in ["User", "Entrypoint", "Cmd", "WorkingDir", "Tty", "OpenStdin", "Healthcheck"] {
        compare(field, &asked_all[field], &config[field], &mut lines);
    }
    for entry in asked.env.iter().flatten() {
        if !list(&config["Env"]).contains(&Value::from(entry.as_str()).to_string()) {
            // Named without its value: operators may put things into a template's environment that don't belong in logs.
            lines.push(format!("Env: {} is missing", entry.split('=').next().unwrap_or_default()));
        }
    }
    for (key, value) in asked.labels.iter().flatten() {
        compare(&format!("label {key}"), &Value::from(value.as_str()), &config["Labels"][key], &mut lines);
    }
    if let Some(fields) = asked_all["HostConfig"].as_object() {
        for (field, wanted) in fields {
            compare(field, wanted, &host[field], &mut lines);
        }
    }
    for field in NEVER {
        compare(field, &Value::Null, &host[field], &mut lines);
    }
    mounts(asked, applied, &mut lines);
    networks(applied, &mut lines);
    lines
}

fn compare(field: &str, asked: &Value, applied: &Value, lines: &mut Vec<String>) {
    let same = match (asked, applied) {
        (Value::Array(_), Value::Array(_)) => list(asked) == list(applied),
        // An engine adds keys to what it keeps (an empty Config beside a log driver's Type); what was asked must be there.
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().all(|(key, value)| found.get(key).unwrap_or(&Value::Null) == value)
                && found.iter().all(|(key, value)| wanted.contains_key(key) || is_empty(value))
        }
        _ => asked == applied || (is_empty(asked) && is_empty(applied)),
    };
    if !same {
        lines.push(line(field, asked, applied));
    }
}

/// Everything mounted must be ours: an image's `VOLUME` is a writable place on the host's disk without a limit.
fn mounts(asked: &ContainerCreateBody, applied: &ContainerInspectResponse, lines: &mut Vec<String>) {
    let wanted: HashMap<&str, bool> = asked
        .host_config
        .iter()
        .flat_map(|host| host.binds.iter().flatten())
        .filter_map(|bind| {
            let mut parts = bind.rsplitn(3, ':');
            let (mode, inside) = (parts.next()?, parts.next()?);
            Some((inside, mode == "rw"))
        })
        .collect();
    let tmpfs = asked.host_config.iter().flat_map(|host| host.tmpfs.iter().flatten()).map(|(path, _)| path.as_str());
    let tmpfs: BTreeSet<&str> = tmpfs.collect();
    let mut seen = BTreeSet::new();
    for mount in applied.mounts.iter().flatten() {
        let inside = mount.destination.as_deref().unwrap_or_default();
        if let Some(writable) = wanted.get(inside) {
            seen.insert(inside);
            if mount.rw != Some(*writable) {
                lines.push(format!("mount {inside}: asked for writable = {writable}, got the contrary"));
            }
        } else if !tmpfs.contains(inside) {
            lines.push(format!("mount {inside}: nobody asked for it (does the image declare a volume?)"));
        }
    }
    for inside in wanted.keys().filter(|inside| !seen.contains(*inside)) {
        lines.push(format!("mount {inside}: is missing"));
    }
}

fn networks(applied: &ContainerInspectResponse, lines: &mut Vec<String>) {
    let networks = applied.network_settings.iter().flat_map(|settings| settings.networks.iter().flatten());
    for (name, _) in networks.filter(|(name, _)| *name != "none") {
        lines.push(format!("network {name}: nobody asked for it"));
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn list(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().map(Value::to_string).collect()
}

/// Whether it means "not set": engines answer with a null, an empty list, 0 or false as they like.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn line(field: &str, asked: &Value, applied: &Value) -> String {
    format!("{field}: asked for {}, got {}", shown(asked), shown(applied))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_MAX {
        text
    } else {
        format!("{}…", text.chars().take(SHOWN_MAX).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerConfig, HostConfig, MountPoint};

    use super::*;
    use crate::runtime::docker::{hardening, sample};

    fn asked() -> ContainerCreateBody {
        hardening::container(&sample::spec(), &sample::setting())
    }

    /// What an engine answers that did exactly as asked.
    fn obedient() -> ContainerInspectResponse {
        let asked = asked();
        let mount = |inside: &str, rw| MountPoint {
            destination: Some(inside.to_owned()),
            rw: Some(rw),
            ..MountPoint::default()
        };
        ContainerInspectResponse {
            image: asked.image.clone(),
            config: Some(ContainerConfig {
                user: asked.user,
                entrypoint: asked.entrypoint,
                cmd: asked.cmd,
                working_dir: asked.working_dir,
                env: asked.env.map(|mut env| {
                    env.push("PATH=/bin".to_owned());
                    env
                }),
                healthcheck: asked.healthcheck,
                labels: asked.labels,
                ..ContainerConfig::default()
            }),
            host_config: asked.host_config.map(|host| HostConfig {
                devices: Some(Vec::new()),
                memory_swappiness: None,
                ..host
            }),
            mounts: Some(vec![
                mount("/.greenroom/supervisor", false),
                mount("/.greenroom/run", false),
                mount("/sandbox", true),
            ]),
            ..ContainerInspectResponse::default()
        }
    }

    fn changed(change: impl FnOnce(&mut HostConfig)) -> Vec<String> {
        let mut applied = obedient();
        change(applied.host_config.as_mut().expect("it is there"));
        differences(&asked(), &applied)
    }

    #[test]
    fn an_obedient_engine_gives_no_line() {
        assert_eq!(differences(&asked(), &obedient()), Vec::<String>::new());
    }

    #[test]
    fn every_weakened_field_gives_a_line_that_names_it() {
        type Weaken = fn(&mut HostConfig);
        let weaker: [(&str, Weaken); 8] = [
            ("Memory", |host| host.memory = Some(0)),
            ("MemorySwap", |host| host.memory_swap = Some(-1)),
            ("PidsLimit", |host| host.pids_limit = None),
            ("CapDrop", |host| host.cap_drop = Some(Vec::new())),
            ("SecurityOpt", |host| host.security_opt = Some(vec!["no-new-privileges:true".to_owned()])),
            ("ReadonlyRootfs", |host| host.readonly_rootfs = Some(false)),
            ("NetworkMode", |host| host.network_mode = Some("bridge".to_owned())),
            ("Tmpfs", |host| host.tmpfs = None),
        ];
        for (field, weaken) in weaker {
            let lines = changed(weaken);
            assert!(lines.iter().any(|line| line.starts_with(&format!("{field}:"))), "{field}: {lines:?}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_told() {
        assert!(changed(|host| host.cap_add = Some(vec!["SYS_ADMIN".to_owned()]))[0].starts_with("CapAdd"));
        let mut applied = obedient();
        applied.mounts.get_or_insert_default().push(MountPoint {
            destination: Some("/data".to_owned()),
            rw: Some(true),
            ..MountPoint::default()
        });
        assert!(differences(&asked(), &applied)[0].contains("/data"));
    }

    #[test]
    fn a_mount_that_became_writable_is_told() {
        let mut applied = obedient();
        applied.mounts.get_or_insert_default()[0].rw = Some(true);
        let lines = differences(&asked(), &applied);
        assert!(lines[0].contains("/.greenroom/supervisor"), "{lines:?}");
    }

    #[test]
    fn the_value_of_a_missing_variable_is_not_shown() {
        let mut applied = obedient();
        applied.config.as_mut().expect("it is there").env = Some(Vec::new());
        let lines = differences(&asked(), &applied).join("\n");
        assert!(lines.contains("Env: LANG is missing") && !lines.contains("C.UTF-8"), "{lines}");
    }
}
