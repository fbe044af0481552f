//! Reads settings from all their sources, and tells all faults at once.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
};

use super::{
    Config, ConfigError, Template, check,
    decode::{Findings, decode},
    fault::Fault,
    sources, tiers,
    tree::{Node, Value},
};

/// Where settings come from. Later fields win over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Defaults of a mode (such as `--dev`) instead of ours: dotted key and value. Everything else wins over them.
    pub presets: Vec<(&'static str, String)>,
    /// The TOML file, if one was named.
    pub file: Option<PathBuf>,
    /// The process environment. Only variables of ours and the well-known ones are looked at.
    pub env: BTreeMap<String, String>,
    /// Flags.
    pub overrides: Overrides,
}

/// Settings with a flag of their own.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--port`: the port of `server.address`.
    pub port: Option<u16>,
    /// `--image`: `templates.gemini.image`.
    pub image: Option<String>,
    /// `--pool-size`: `pool.size`.
    pub pool_size: Option<usize>,
    /// `--state-dir`: `state.dir`.
    pub state_dir: Option<PathBuf>,
}

/// Reads and checks all settings.
///
/// A relative `state.dir` is taken from the working folder, because the engine needs an absolute one. Without templates there is
/// one, `gemini`, with its defaults.
///
/// # Errors
/// All faults found, each with its key and place; no text holds a value, so none holds a secret.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let mut faults = Vec::new();
    let mut tree = gather(sources, &mut faults);
    tiers::inherit(&mut tree);
    let findings = RefCell::new(Findings::default());
    let config = decode::<Config>(&mut tree, &findings);
    let mut faults: BTreeSet<Fault> = faults.into_iter().chain(findings.into_inner().faults).collect();
    let Some(mut config) = config else { return Err(ConfigError { faults: faults.into_iter().collect() }) };

    if let Some(port) = sources.overrides.port {
        config.server.address.set_port(port);
    }
    if let Ok(absolute) = std::path::absolute(&config.state.dir) {
        config.state.dir = absolute;
    }
    if config.templates.is_empty() {
        config.templates.insert("gemini".to_owned(), Template::default());
    }
    for (key, text) in check::faults(&config) {
        let origin = tree.origin_of(&key);
        if origin.is_none() && key.starts_with("tiers.") {
            // It was inherited: what is wrong there is told where it was written.
            continue;
        }
        let origin = origin.unwrap_or("default");
        // A list may only lack what was wrong in it.
        let told = |fault: &Fault| fault.key == key || fault.key.starts_with(&format!("{key}["));
        if !faults.iter().any(told) {
            faults.insert(Fault::new(key, origin, text));
        }
    }
    if faults.is_empty() { Ok(config) } else { Err(ConfigError { faults: faults.into_iter().collect() }) }
}

/// Every key of a settings file, but those of lists: `pool.size`, `templates.gemini.image`. What documentation must mention.
#[must_use]
pub fn known_keys() -> BTreeSet<String> {
    // A section is found by trying: each key is read as if it were one. Those that aren't drop out as faults.
    let origin = Rc::from("");
    let mut known = BTreeSet::from(["templates.gemini".to_owned()]);
    loop {
        let mut tree = Node::section("", &origin);
        for key in &known {
            let path: Vec<&str> = key.split('.').collect();
            tree.merge(Node::single(&path, &origin, |_key| Value::Section(BTreeMap::new())), &mut Vec::new());
        }
        let findings = RefCell::new(Findings::default());
        let _fits: Option<Config> = decode(&mut tree, &findings);
        let before = known.len();
        known.append(&mut findings.into_inner().known);
        if known.len() == before {
            break;
        }
    }
    let leaf = |key: &&String| !known.iter().any(|other| other.starts_with(&format!("{key}.")));
    known.iter().filter(leaf).cloned().collect()
}

fn gather(sources: &Sources, faults: &mut Vec<Fault>) -> Node {
    let mut tree = Node::section("", &"default".into());
    for (key, value) in &sources.presets {
        let path: Vec<&str> = key.split('.').collect();
        tree.merge(Node::single(&path, &"--dev".into(), |_key| Value::Loose(value.clone())), faults);
    }
    if let Some(path) = &sources.file {
        match sources::file(path) {
            Ok(file) => tree.merge(file, faults),
            Err(fault) => faults.push(fault),
        }
    }
    sources::variables(&sources.env, &mut tree, faults);
    sources::well_known(&sources.env, &mut tree, faults);

    let Overrides { port: _, image, pool_size, state_dir } = &sources.overrides;
    let flags: [(&str, &[&str], Option<String>); 3] = [
        ("--image", &["templates", "gemini", "image"], image.clone()),
        ("--pool-size", &["pool", "size"], pool_size.map(|size| size.to_string())),
        ("--state-dir", &["state", "dir"], state_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned())),
    ];
    for (flag, path, value) in flags {
        if let Some(value) = value {
            tree.merge(Node::single(path, &flag.into(), |_key| Value::Loose(value)), faults);
        }
    }
    tree
}
