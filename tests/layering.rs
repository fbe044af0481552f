//! Who may import whom. Reads the sources, not the compiler: a breach is a test failure with the file, not a review remark.
//!
//! A room is a module of the crate's root (`src/pool.rs` and `src/pool/`). Every path that begins with `crate::`, or climbs to the root
//! with `super::`, is held against [`ROOMS`]; every mention of a crate in [`CONFINED`] against the places it may be in.
//! Comments, texts and `#[cfg(test)]` modules don't count: a test may set up what its room may not use.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What everyone above may use.
const GROUND: [&str; 4] = ["config", "ids", "problem", "telemetry"];

/// Each room and the paths it may use, beside the ground and itself. `a::b` allows that part of a room only.
const ROOMS: &[(&str, &str)] = &[
    ("main", "cli"),
    ("bin", "supervisor"),
    ("cli", "app credentials doors gateway identity runtime sandbox store supervisor"),
    (
        "app",
        "agent credentials doors gateway identity limits log pool runtime sandbox service session store supervisor workspace",
    ),
    ("doors", "service identity credentials::KEY_MAX credentials::is_key session::event agent::PermissionOption"),
    // An open binds the slot's socket to its user; readiness asks the engine; operators see what each sandbox does.
    (
        "service",
        "session identity limits credentials pool workspace log store agent runtime::Runtime \
         gateway::Account gateway::Binding gateway::Budgets gateway::Cost gateway::Exhausted gateway::HourSpent gateway::Standing gateway::Window gateway::Egress gateway::ModelKey gateway::Traffic gateway::REPORTS_CAPACITY sandbox::census::SandboxState sandbox::census::Counts sandbox::slot::Slot",
    ),
    ("session", "pool log agent workspace gateway sandbox store identity::Reach identity::Whose"),
    ("pool", "sandbox runtime agent gateway"),
    // A sandbox's way through life: the runtime makes it, its supervisor calls, its agent boots, its gateway opens.
    ("sandbox", "supervisor runtime agent gateway"),
    ("runtime", "sandbox"),
    ("agent", "sandbox::pipes"),
    // What fuzzers throw bytes at.
    ("fuzzing", "agent supervisor::frames"),
    ("log", "session::event store"),
    ("fetch", ""),
    ("private_file", ""),
    ("credentials", "fetch private_file"),
    ("gateway", ""),
    ("store", "identity::Whose"),
    ("identity", "fetch"),
    ("limits", ""),
    ("workspace", "sandbox::slot sandbox::remove identity::Whose"),
];

/// The ground itself, and the supervisor, which is built without it.
const BELOW: &[(&str, &str)] = &[
    ("telemetry", "config ids problem"),
    ("config", "ids fetch::is_private identity::Scope sandbox::spec"),
    ("ids", ""),
    ("problem", ""),
    ("supervisor", ""),
];

/// Crates that stay in one place, so that they can be replaced there.
const CONFINED: &[(&str, &str)] = &[
    ("agent_client_protocol_schema", "agent"),
    ("anyhow", "main cli"),
    ("bollard", "runtime/docker"),
    ("cap_std", "workspace"),
    ("clap", "main cli"),
    ("deadpool", "pool"),
    ("governor", "limits"),
    ("opentelemetry", "telemetry"),
    ("opentelemetry_otlp", "telemetry"),
    ("opentelemetry_prometheus", "telemetry"),
    ("opentelemetry_sdk", "telemetry"),
    ("poem", "doors"),
    ("poem_openapi", "doors"),
    ("prometheus", "telemetry"),
    ("reqwest", "fetch"),
    ("rusqlite", "store/sqlite"),
    ("tar", "workspace"),
    ("toml", "config"),
    ("tonic", "doors/grpc"),
    ("tracing_opentelemetry", "telemetry"),
    ("tracing_subscriber", "telemetry config"),
];

/// A source file: its place under `src` without `.rs`, such as `cli/serve`, and its code.
struct Source {
    place: String,
    code: String,
}

impl Source {
    fn new(place: &str, text: &str) -> Self {
        Self { place: place.to_owned(), code: without_tests(&code_only(text)) }
    }

    fn room(&self) -> &str {
        self.place.split('/').next().unwrap_or_default()
    }

    /// Every path from the crate's root that the code names, such as `pool::lease`.
    fn paths(&self) -> BTreeSet<String> {
        let depth = self.place.split('/').count();
        let climb = "super::".repeat(depth);
        let mut found = BTreeSet::new();
        for root in ["crate::", "greenroom::"] {
            for at in words(&self.code, root) {
                branches(&self.code[at + root.len()..], "", &mut found);
            }
        }
        for at in words(&self.code, &climb) {
            let mut climbed = BTreeSet::new();
            branches(&self.code[at + climb.len()..], "", &mut climbed);
            // In a module written inside the file the same path leads to the file's own parent.
            found.extend(climbed.into_iter().filter(|path| is_room(path.split("::").next().unwrap_or_default())));
        }
        found
    }

    fn breaches(&self) -> Vec<String> {
        let room = self.room();
        // The list of rooms itself.
        if room == "lib" {
            return Vec::new();
        }
        let Some((allowed, ground)) = rule(room) else {
            return vec![format!("{}: the room {room} is not in the table", self.place)];
        };
        let may = |path: &str| {
            let target = path.split("::").next().unwrap_or_default();
            let listed =
                allowed.split_whitespace().any(|allowed| path == allowed || path.starts_with(&format!("{allowed}::")));
            target == room || !is_room(target) || listed || (ground && GROUND.contains(&target))
        };
        let within = |places: &str| {
            places.split_whitespace().any(|place| self.place == place || self.place.starts_with(&format!("{place}/")))
        };
        let strangers = self.paths().into_iter().filter(|path| !may(path));
        let mut breaches: Vec<String> = strangers.map(|path| format!("{} uses {path}", self.place)).collect();
        for (name, places) in CONFINED {
            let mentioned = words(&self.code, name).any(|at| {
                let rest = &self.code[at + name.len()..];
                let used = rest.starts_with("::") || rest.starts_with("!(") || rest.trim_start().starts_with(" as ");
                used || (rest.starts_with(';') && self.code[..at].trim_end().ends_with("use"))
            });
            if mentioned && !within(places) {
                breaches.push(format!(
                    "{} uses the crate {name}, which stays in {}",
                    self.place,
                    places.replace(' ', ", ")
                ));
            }
        }
        breaches
    }
}

fn rule(room: &str) -> Option<(&'static str, bool)> {
    let find = |table: &'static [(&str, &'static str)]| table.iter().find(|(name, _)| *name == room);
    find(ROOMS).map(|(_, allowed)| (*allowed, true)).or_else(|| find(BELOW).map(|(_, allowed)| (*allowed, false)))
}

fn is_room(name: &str) -> bool {
    rule(name).is_some()
}

/// Where a word stands on its own.
fn words<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    let part = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[*at + word.len()..].chars().next();
        let ends = word.ends_with(':') || !after.is_some_and(part);
        ends && !before.is_some_and(|char| part(char) || char == ':')
    })
}

/// Follows a path or the tree of a `use` to its ends. Returns the rest of the code.
fn branches<'c>(code: &'c str, so_far: &str, found: &mut BTreeSet<String>) -> &'c str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = branches(rest, so_far, found).trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let length = code.find(|char: char| !(char.is_alphanumeric() || "_*".contains(char))).unwrap_or(code.len());
    let (name, rest) = code.split_at(length);
    let path = [so_far, name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("::");
    match rest.trim_start().strip_prefix("::") {
        Some(more) if !name.is_empty() => branches(more, &path, found),
        _ => {
            if !name.is_empty() {
                found.insert(path);
            }
            // `name as other`
            let rest = rest.trim_start();
            rest.strip_prefix("as ")
                .map_or(rest, |alias| alias.trim_start_matches(|char: char| char != ',' && char != '}' && char != ';'))
        }
    }
}

/// Blanks out comments and texts.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_text(rest, code.chars().next_back()) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if char == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|char| {
                let ends = char == '"' && !escaped;
                escaped = char == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            code.push(char);
            rest = &rest[char.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skip..];
    }
    code
}

/// How many hashes a raw text begins with, if one begins here.
fn raw_text(rest: &str, before: Option<char>) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let begins = after[hashes..].starts_with('"');
    let own_word = !before.is_some_and(|char| char.is_alphanumeric() || char == '_') || before == Some('b');
    (begins && own_word).then_some(hashes)
}

/// Takes out modules that are compiled for tests only.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let after = &rest[at..];
        let end = after.find(['{', ';']).unwrap_or(after.len());
        let mut depth = 0_usize;
        let close = after[end..].char_indices().find(|(_, char)| {
            depth = match char {
                '{' => depth + 1,
                '}' => depth.saturating_sub(1),
                _ => depth,
            };
            depth == 0
        });
        rest = close.map_or("", |(close, char)| &after[end + close + char.len_utf8()..]);
    }
    kept + rest
}

fn sources(folder: &Path, root: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("src can be read").map(|entry| entry.expect("src can be read").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_stem().expect("entries have names").to_string_lossy().into_owned();
        if name == "tests" || name.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            sources(&path, root, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let place = path.strip_prefix(root).expect("it is below the root").with_extension("");
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            found.push(Source::new(&place.to_string_lossy(), &text));
        }
    }
}

#[test]
fn no_room_uses_what_it_may_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources were not found");
    let breaches: Vec<String> = found.iter().flat_map(Source::breaches).collect();
    assert!(breaches.is_empty(), "the layering is broken:\n  {}", breaches.join("\n  "));
}

#[test]
fn breaches_are_found_however_they_are_written() {
    let cases = [
        ("agent/acp", "use crate::pool::Pool;", "agent/acp uses pool::Pool"),
        ("agent", "use crate::sandbox::link;", "agent uses sandbox::link"),
        ("log", "use crate::{\n    ids::UserId,\n    session::{event::Event, driver},\n};", "log uses session::driver"),
        ("log", "fn f() { crate::doors::run() }", "log uses doors::run"),
        ("identity", "pub(crate) use crate::{service as s, ids};", "identity uses service"),
        ("gateway/slot", "use super::super::doors;", "gateway/slot uses doors"),
        ("gateway", "use super::doors::x;", "gateway uses doors::x"),
        ("ids", "use crate::config::Config;", "ids uses config::Config"),
        ("supervisor/ring", "use crate::problem::Code;", "supervisor/ring uses problem::Code"),
        ("main", "use greenroom::app::App;", "main uses app::App"),
        ("kitchen", "", "kitchen: the room kitchen is not in the table"),
        ("service", "use bollard::Docker;", "service uses the crate bollard, which stays in runtime/docker"),
        (
            "runtime/process",
            "fn f(d: bollard::Docker) {}",
            "runtime/process uses the crate bollard, which stays in runtime/docker",
        ),
        ("service", "fn f() { anyhow::bail!(1) }", "service uses the crate anyhow, which stays in main, cli"),
        ("cli", "use poem_openapi::Object;", "cli uses the crate poem_openapi, which stays in doors"),
        ("workspace", "use deadpool;", "workspace uses the crate deadpool, which stays in pool"),
    ];
    for (place, text, breach) in cases {
        assert_eq!(Source::new(place, text).breaches(), [breach], "{text}");
    }
}

#[test]
fn what_is_allowed_passes() {
    let cases = [
        ("agent/acp", "use crate::{agent::AgentError, config::Protocol, sandbox::pipes::{AgentExit, AgentPipes}};"),
        ("runtime/docker/client", "use bollard::Docker; use crate::sandbox::spec::SandboxSpec;"),
        ("log", "//! See [`crate::doors`].\nuse crate::session::event::Event;"),
        ("log", "const TEXT: &str = \"use crate::doors; \\\" bollard::x\"; const RAW: &str = r#\"crate::app::x\"#;"),
        ("log", "#[cfg(test)]\nmod tests {\n    use crate::doors::x;\n    fn f() { if true {} }\n}\n"),
        ("log", "#[cfg(test)]\n#[expect(clippy::unwrap_used, reason = \"a test\")]\nmod tests;\nuse crate::ids;"),
        ("cli/serve/dev", "use super::super::model_stub; use crate::app::App;"),
        ("doors/rest", "use super::service_tests; /* crate::pool::x */ use poem::Route;"),
        ("pool", "let c = '\"'; use crate::sandbox::slot; let d = '\"';"),
        ("limits", "my_governor::x(); use governor::Quota;"),
    ];
    for (place, text) in cases {
        assert_eq!(Source::new(place, text).breaches(), [""; 0], "{text}");
    }
}

#[test]
fn code_after_a_test_module_still_counts() {
    let text = "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nuse crate::doors::x;";
    assert_eq!(Source::new("log", text).breaches(), ["log uses doors::x"]);
}
