//! Reading settings again: which source wins, what is told, and that secrets are compared but never shown.

use secrecy::ExposeSecret as _;

use super::*;
use crate::config::Overrides;

const CANARY: &str = "canary-5e0d7a91-and-more";

/// A settings file that is rewritten, and a reloader that began with it.
struct Given {
    folder: tempfile::TempDir,
    reloader: Reloader,
}

impl Given {
    fn begun_with(text: &str, mut sources: Sources) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("greenroom.toml");
        std::fs::write(&file, text).expect("a temporary folder can be written");
        sources.file = Some(file);
        Self { reloader: Reloader::load(sources).expect("these settings are good"), folder }
    }

    fn file(text: &str) -> Self {
        Self::begun_with(text, Sources::default())
    }

    fn rewrite(&self, text: &str) -> Result<Reread, ConfigError> {
        std::fs::write(self.folder.path().join("greenroom.toml"), text).expect("a temporary folder can be written");
        self.reloader.read()
    }

    fn changes(&self, text: &str) -> Changes {
        self.rewrite(text).expect("these settings are good").changes
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_same_settings_written_otherwise_are_no_change() {
    let given = Given::file("[pool]\nsize = 4\n[templates.gemini]\n");
    assert!(given.changes("").is_empty(), "defaults, and the template that is there without any");
    assert!(given.changes("[templates.gemini]\nmin_warm = 4\nmax_warm = 8\n").is_empty(), "what followed before");
}

#[test]
fn templates_that_came_went_or_are_made_otherwise_are_told_apart() {
    let given = Given::file("[templates.a]\n[templates.b]\n[templates.c]\n[templates.d]\nmin_warm = 2");
    let changes = given.changes(
        "[templates.b]\nimage = 'new'\nmin_warm = 1\n[templates.c]\n[templates.d]\nmin_warm = 3\n[templates.e]",
    );
    let expected = Changes {
        added: names(&["e"]),
        changed: names(&["b"]),
        resized: names(&["d"]),
        removed: names(&["a"]),
        ..Changes::default()
    };
    assert_eq!(changes, expected);
}

#[test]
fn every_part_of_a_recipe_counts_as_a_change() {
    let given = Given::file("[templates.a]\nenv = {X = '1'}");
    for other in [
        "image = 'x'",
        "command = ['x']",
        "protocol = 'lines'",
        "quiet_time = '2s'",
        "home = '/home/x'",
        "env = {X = '2'}",
        "limits.memory_mib = 1024",
        "model.base_url = 'http://127.0.0.1'",
    ] {
        let env = if other.starts_with("env") { "" } else { "env = {X = '1'}\n" };
        let changes = given.changes(&format!("[templates.a]\n{env}{other}"));
        assert_eq!(changes, Changes { changed: names(&["a"]), ..Changes::default() }, "{other}");
    }
}

#[test]
fn all_of_the_pool_but_its_sweep_applies_at_once() {
    let given = Given::file("[templates.own]\nmin_warm = 1\n[templates.follows]");
    let reread = given
        .rewrite(
            "[pool]\nsize = 5\ncap = 20\nmemory_share = 0.5\nwarm_age = '2h'\nqueue = 1\nqueue_timeout = '1s'\n\
             backoff = '2s'\nbackoff_max = '9s'\nsweep = '1s'\n[templates.own]\nmin_warm = 1\n[templates.follows]",
        )
        .expect("these settings are good");
    let live = ["backoff", "backoff_max", "cap", "memory_share", "queue", "queue_timeout", "size", "warm_age"];
    assert_eq!(reread.changes.pool, live.map(|name| format!("pool.{name}")));
    assert_eq!(reread.changes.resized, names(&["follows"]));
    assert_eq!(reread.changes.restart_needed, names(&["pool.sweep"]));
    assert_eq!((reread.config.pool.cap, reread.config.pool.sweep.as_secs()), (20, 15));
}

#[test]
fn what_needs_a_restart_is_told_until_it_is_taken_back() {
    let mut given = Given::file("");
    let other = "[server]\naddress = '127.0.0.1:9'\n[runtime]\nuid = 7\n[telemetry]\nformat = 'text'\n[pool]\nsize = 3";
    let reread = given.rewrite(other).expect("these settings are good");
    let needed = names(&["runtime.uid", "server.address", "telemetry.format"]);
    assert_eq!((&reread.changes.restart_needed, &reread.changes.pool), (&needed, &names(&["pool.size"])));
    given.reloader.adopt(reread);
    assert_eq!(given.reloader.running().server.address.port(), 8080, "what needs a restart isn't in effect");
    assert_eq!(given.changes(other), Changes { restart_needed: needed, ..Changes::default() });
    assert!(given.changes("[pool]\nsize = 3").is_empty());
}

#[test]
fn variables_and_flags_of_the_start_still_win_over_the_file() {
    let sources = Sources {
        env: BTreeMap::from([("GREENROOM__POOL__CAP".to_owned(), "9".to_owned())]),
        overrides: Overrides { image: Some("flag".to_owned()), pool_size: Some(2), ..Overrides::default() },
        ..Sources::default()
    };
    let given = Given::begun_with("", sources);
    let reread = given.rewrite("[pool]\nsize = 1\ncap = 5\nqueue = 3\n[templates.gemini]\nimage = 'file'");
    let Reread { config, changes } = reread.expect("these settings are good");
    assert_eq!((config.pool.size, config.pool.cap, config.templates["gemini"].image.as_str()), (2, 9, "flag"));
    assert_eq!(changes, Changes { pool: names(&["pool.queue"]), ..Changes::default() });
}

#[test]
fn faulty_settings_change_nothing_and_tell_every_fault() {
    let given = Given::file("[pool]\nsize = 1");
    let error = given.rewrite("[pool]\nsize = 'x'\ncapp = 1").expect_err("these settings are wrong");
    assert_eq!(error.faults.len(), 2);
    assert_eq!(given.reloader.running().pool.size, 1);
}

#[test]
fn another_secret_is_a_change_and_no_secret_is_shown() {
    let text = |key: &str, token: &str| {
        format!("[model]\napi_key = '{key}'\n[auth]\ntokens = [{{user = 'ada', token = '{token}'}}]")
    };
    let given = Given::file(&text("one", CANARY));
    assert!(given.changes(&text("one", CANARY)).is_empty());
    let reread = given.rewrite(&text(CANARY, "sixteen-characters")).expect("these settings are good");
    assert_eq!(reread.changes.restart_needed, names(&["model.api_key"]));
    assert_eq!(reread.changes.auth, names(&["auth.tokens"]));
    assert_eq!(reread.config.auth.tokens[0].token.expose_secret(), "sixteen-characters");
    let seen = format!("{reread:?} {:?}", settings(given.reloader.running()));
    assert!(!seen.contains(&CANARY[..12]), "{seen}");
}
