//! The rules settings must keep beyond their types. Pure: plain data in, faults out.
//!
//! Texts name numbers and other settings, but no texts of the operator's.

mod auth;
mod credentials;

use std::{collections::BTreeSet, time::Duration};

use secrecy::ExposeSecret;

use super::{Config, HostName, Limits, ModelApi, RuntimeChoice, Template};
use crate::ids::{TemplateName, TierName, names_an_instance};

/// A unix socket's path may have this many bytes, its closing zero not counted (`sun_path` has 108).
const SOCKET_PATH_MAX: usize = 107;
/// The longest path below the state folder that is a socket: a slot id has 32 characters.
const SOCKET_PATH: &str = "/slots/00000000000000000000000000000000/run/gateway.sock";
/// The largest `pool.memory_share`: more than that is a slip of the pen.
const MEMORY_SHARE_MAX: f64 = 16.0;
/// The smallest ring, in bytes: an agent's unfinished line may hold half of it, and its end must have room in the rest.
const RING_MIN: usize = 1024 * 1024;
/// The smallest size an audit log is put aside at, in bytes: room for a hundred lines.
const AUDIT_BYTES_MIN: u64 = 64 * 1024;
/// Audit logs put aside: each moves at every rotation.
const AUDIT_FILES_MAX: u32 = 1000;
/// The least memory a sandbox can start with, in MiB.
const MEMORY_MIN_MIB: u64 = 16;

#[derive(Default)]
struct Rules {
    broken: Vec<(String, String)>,
}

impl Rules {
    fn must(&mut self, key: impl Into<String>, kept: bool, text: impl Into<String>) {
        if !kept {
            self.broken.push((key.into(), text.into()));
        }
    }

    fn positive<N: Default + PartialEq>(&mut self, counts: &[(&str, N)]) {
        for (key, count) in counts {
            self.must(*key, *count != N::default(), "must be at least 1");
        }
    }

    fn lasting(&mut self, durations: &[(&str, Duration)]) {
        for (key, duration) in durations {
            self.must(*key, !duration.is_zero(), "must be longer than nothing");
        }
    }
}

/// Every broken rule: the key, and what it must be.
pub(super) fn faults(config: &Config) -> Vec<(String, String)> {
    let mut rules = Rules::default();
    listeners(config, &mut rules);
    engine(config, &mut rules);
    pools(config, &mut rules);
    sessions(config, &mut rules);
    limits("limits", &config.limits, &mut rules);
    tiers(config, &mut rules);
    auth::rules(config, &mut rules);
    model(config, &mut rules);
    credentials::credentials(&config.credentials, &mut rules);
    let budgets = config.tiers.iter().map(|(name, tier)| (format!("tiers.{name}.budget"), &tier.budget));
    for (section, budget) in budgets.chain([("budget".to_owned(), &config.budget)]) {
        let sensible = budget.bytes_per_token != Some(0);
        rules.must(format!("{section}.bytes_per_token"), sensible, "must be at least 1");
    }
    audit(config, &mut rules);
    egress(config, &mut rules);
    for (name, template) in &config.templates {
        recipe(name, template, &mut rules);
    }
    rules.broken
}

fn listeners(config: &Config, rules: &mut Rules) {
    let server = &config.server;
    rules.positive(&[
        ("server.head_bytes", server.head_bytes),
        ("server.body_bytes", server.body_bytes),
        ("server.connections", server.connections),
        ("server.connections_per_address", server.connections_per_address),
    ]);
    rules.lasting(&[
        ("server.head_timeout", server.head_timeout),
        ("server.body_timeout", server.body_timeout),
        ("server.keep_alive", server.keep_alive),
        ("server.write_stall", server.write_stall),
    ]);
    let shared = server.address == config.admin.address && server.address.port() != 0;
    rules.must("admin.address", !shared, "must not be the address of the server");
    let exposed = config.runtime.kind == RuntimeChoice::Process && !server.address.ip().is_loopback();
    let text = "must be a loopback address: the process runtime doesn't isolate anything";
    rules.must("server.address", !exposed, text);
    let room = SOCKET_PATH_MAX - SOCKET_PATH.len();
    let fits = config.state.dir.as_os_str().len() <= room;
    rules.must("state.dir", fits, format!("must have at most {room} bytes: the sockets below it have a limit"));
    rules.must("state.dir", config.state.dir.to_str().is_some(), "must be UTF-8: the engine is told it in JSON");
    let filter = tracing_subscriber::EnvFilter::try_new(&config.telemetry.log).is_ok();
    rules.must("telemetry.log", filter, "must be a filter such as `info` or `info,greenroom::pool=debug`");
}

fn engine(config: &Config, rules: &mut Rules) {
    let runtime = &config.runtime;
    let spoken = |host: &str| ["unix:///", "tcp://", "http://"].iter().any(|scheme| host.starts_with(scheme));
    rules.must("runtime.host", runtime.host.as_deref().is_none_or(spoken), "must begin with unix:/// or tcp://");
    let named = runtime.instance.as_deref().is_none_or(names_an_instance);
    rules.must("runtime.instance", named, "must match [A-Za-z0-9_-]{1,64}");
    rules.must("runtime.memory_mib", runtime.memory_mib != Some(0), "must be at least 1");
    rules.must("runtime.uid", runtime.uid != Some(0), "must not be 0: agents never run as root");
    rules.positive(&[("runtime.start_limit", runtime.start_limit)]);
    let enough = config.sandbox.ring_bytes >= RING_MIN;
    rules.must(
        "sandbox.ring_bytes",
        enough,
        "must be at least 1048576: half of it may be held for a line whose end hasn't come",
    );
    let sandbox = &config.sandbox;
    rules.lasting(&[
        ("runtime.call_timeout", runtime.call_timeout),
        ("runtime.start_timeout", runtime.start_timeout),
        ("sandbox.orphan_grace", sandbox.orphan_grace),
        ("sandbox.link_timeout", sandbox.link_timeout),
        ("sandbox.relink_timeout", sandbox.relink_timeout),
        ("sandbox.boot_timeout", sandbox.boot_timeout),
    ]);
}

fn pools(config: &Config, rules: &mut Rules) {
    let pool = &config.pool;
    rules.positive(&[("pool.cap", pool.cap)]);
    rules.lasting(&[("pool.warm_age", pool.warm_age), ("pool.backoff", pool.backoff), ("pool.sweep", pool.sweep)]);
    let share = pool.memory_share > 0.0 && pool.memory_share <= MEMORY_SHARE_MAX;
    rules.must("pool.memory_share", share, format!("must be more than 0 and at most {MEMORY_SHARE_MAX}"));
    rules.must("pool.backoff_max", pool.backoff_max >= pool.backoff, "must not be shorter than pool.backoff");
    // Only the minimum is promised: what goes beyond it depends on demand, and gives way when the cap is reached.
    let min_warm = |template: &Template| template.min_warm(pool);
    let total: usize = config.templates.values().map(min_warm).fold(0, usize::saturating_add);
    let follows = config.templates.values().any(|template| template.min_warm.is_none());
    let over = format!("must not be more than pool.cap ({})", pool.cap);
    if follows {
        rules.must("pool.size", pool.size <= pool.cap, &over);
    }
    for (name, template) in &config.templates {
        let fits = template.min_warm.is_none_or(|min| min <= pool.cap);
        rules.must(format!("templates.{name}.min_warm"), fits, &over);
        let (min, from) = (template.min_warm(pool), if template.min_warm.is_none() { ", from pool.size" } else { "" });
        let ordered = template.max_warm(pool) >= min;
        rules.must(
            format!("templates.{name}.max_warm"),
            ordered,
            format!("must not be less than min_warm ({min}{from})"),
        );
    }
    let alone = config.templates.values().all(|template| min_warm(template) <= pool.cap);
    let text = format!("must not be less than min_warm of all templates together ({total})");
    rules.must("pool.cap", !alone || total <= pool.cap, text);
}

fn sessions(config: &Config, rules: &mut Rules) {
    let session = &config.session;
    rules.lasting(&[
        ("session.idle_timeout", session.idle_timeout),
        ("session.max_age", session.max_age),
        ("session.first_output_timeout", session.first_output_timeout),
        ("session.turn_timeout", session.turn_timeout),
        ("session.cancel_grace", session.cancel_grace),
        ("session.permission_timeout", session.permission_timeout),
    ]);
    rules.positive(&[("session.log_bytes", session.log_bytes)]);
}

/// Of `[limits]` or of a tier's.
fn limits(section: &str, limits: &Limits, rules: &mut Rules) {
    let at = |name: &str| format!("{section}.{name}");
    let counts =
        [("sessions", limits.sessions), ("streams", limits.streams), ("archive_entries", limits.archive_entries)];
    let bytes = [
        ("file_bytes", limits.file_bytes),
        ("archive_bytes", limits.archive_bytes),
        ("workspace_bytes", limits.workspace_bytes),
    ];
    let paces = [
        ("opens_per_minute", limits.opens_per_minute),
        ("opens_burst", limits.opens_burst),
        ("prompts_per_minute", limits.prompts_per_minute),
        ("prompts_burst", limits.prompts_burst),
        ("reads_per_minute", limits.reads_per_minute),
        ("reads_burst", limits.reads_burst),
    ];
    counts.iter().for_each(|(name, count)| rules.positive(&[(&at(name), *count)]));
    bytes.iter().for_each(|(name, size)| rules.positive(&[(&at(name), *size)]));
    paces.iter().for_each(|(name, pace)| rules.positive(&[(&at(name), *pace)]));
}

fn tiers(config: &Config, rules: &mut Rules) {
    for (name, tier) in &config.tiers {
        let key = super::tree::join("tiers", name);
        let named = TierName::parse(name).is_ok();
        rules.must(&key, named, "must have a name that matches [a-z0-9][a-z0-9._-]{0,63}");
        limits(&format!("{key}.limits"), &tier.limits, rules);
    }
}

fn audit(config: &Config, rules: &mut Rules) {
    let audit = &config.audit;
    rules.must("audit.file", audit.file.file_name().is_some(), "must be a file, or none");
    rules.must("audit.max_bytes", audit.max_bytes >= AUDIT_BYTES_MIN, format!("must be at least {AUDIT_BYTES_MIN}"));
    let few = (1..=AUDIT_FILES_MAX).contains(&audit.keep);
    rules.must("audit.keep", few, format!("must be at least 1 and at most {AUDIT_FILES_MAX}"));
}

fn model(config: &Config, rules: &mut Rules) {
    if let Some(key) = &config.model.api_key {
        let secret = key.expose_secret();
        let sendable = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        rules.must("model.api_key", sendable, "must be visible ASCII without blanks");
    }
    if let Some(url) = &config.model.base_url {
        rules.must("model.base_url", is_web_address(url), WEB_ADDRESS);
    }
}

const WEB_ADDRESS: &str = "must be http:// or https:// and a host, with neither a user nor a query";

fn is_web_address(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let host =
        uri.authority().is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    scheme && host && uri.query().is_none()
}

fn egress(config: &Config, rules: &mut Rules) {
    let mut seen = BTreeSet::new();
    for name in config.egress.hosts.keys() {
        let key = super::tree::join("egress.hosts", name);
        match HostName::parse(name) {
            Ok(name) => rules.must(&key, seen.insert(name), "must not be named twice"),
            Err(_) => rules.must(&key, false, "must be the name of a host, without a port"),
        }
    }
}

fn recipe(name: &str, template: &Template, rules: &mut Rules) {
    let at = |field: &str| format!("templates.{name}.{field}");
    let named = TemplateName::parse(name);
    let key = super::tree::join("templates", name);
    rules.must(key, named.is_ok(), "must have a name that matches [a-z0-9][a-z0-9._-]{0,63}");
    rules.must(at("image"), !template.image.trim().is_empty(), "must name an image");
    let program = template.command.first().is_some_and(|program| !program.is_empty());
    rules.must(at("command"), program, "must begin with a program");
    let home = template.home.starts_with('/') && template.home.len() > 1 && !template.home.contains("..");
    rules.must(at("home"), home, "must be an absolute folder, not the root");
    rules.must(at("quiet_time"), !template.quiet_time.is_zero(), "must be longer than nothing");
    for (variable, value) in &template.env {
        let good = !variable.is_empty() && !variable.contains(['=', '\0']) && !value.contains('\0');
        rules.must(super::tree::join(&at("env"), variable), good, "must have a name without = and no zero bytes");
    }
    let limits = &template.limits;
    let rest = limits.tmp_mib.saturating_add(limits.home_mib).saturating_add(MEMORY_MIN_MIB);
    let text = "must leave at least 16 MiB beside tmp_mib and home_mib, whose files count as memory";
    rules.must(at("limits.memory_mib"), limits.memory_mib >= rest, text);
    rules.must(at("limits.cpus"), limits.cpus.is_finite() && limits.cpus > 0.0, "must be more than 0");
    rules.positive(&[
        (at("limits.pids").as_str(), u64::from(limits.pids)),
        (at("limits.tmp_mib").as_str(), limits.tmp_mib),
        (at("limits.home_mib").as_str(), limits.home_mib),
        (at("limits.open_files").as_str(), u64::from(limits.open_files)),
    ]);
    endpoint(&template.model, &at, rules);
}

fn endpoint(model: &ModelApi, at: &dyn Fn(&str) -> String, rules: &mut Rules) {
    rules.positive(&[(at("model.max_output_tokens").as_str(), model.max_output_tokens)]);
    rules.must(at("model.base_url"), is_web_address(&model.base_url), WEB_ADDRESS);
    let header = model.key_header.parse::<http::HeaderName>().is_ok();
    rules.must(at("model.key_header"), header, "must be the name of an HTTP header");
    let path = |path: &String| path.starts_with('/') && path.matches('*').count() <= 1 && !path.contains("..");
    rules.must(
        at("model.paths"),
        model.paths.iter().all(path),
        "must be paths that begin with / and have at most one *",
    );
    rules.must(at("model.paths"), !model.paths.is_empty(), "must let at least one path through");
    let distinct: BTreeSet<&String> = model.paths.iter().collect();
    rules.must(at("model.paths"), distinct.len() == model.paths.len(), "must not name a path twice");
}
