//! Settings: where they come from, which one wins, and that every fault is told, at once and without secrets.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use greenroom::config::{Config, ConfigError, Overrides, RuntimeChoice, Sources, load, load::known_keys};
use proptest::prelude::{ProptestConfig, proptest};
use secrecy::ExposeSecret;

/// A value that no text of ours may hold.
const CANARY: &str = "canary-3f9c1d7e";

struct Given {
    sources: Sources,
    folder: tempfile::TempDir,
}

impl Given {
    fn nothing() -> Self {
        Self { sources: Sources::default(), folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn file(mut self, text: &str) -> Self {
        let path = self.folder.path().join("greenroom.toml");
        std::fs::write(&path, text).expect("a temporary folder can be written");
        self.sources.file = Some(path);
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn load(self) -> Result<Config, ConfigError> {
        load(&self.sources)
    }

    fn config(self) -> Config {
        self.load().expect("these settings are good")
    }

    /// The faults as text, without the temporary folder's name.
    fn faults(self) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        let error = self.load().expect_err("these settings are wrong");
        error.faults.iter().map(|fault| fault.to_string().replace(&folder, "")).collect()
    }
}

fn example(uncommented: bool) -> String {
    let text = include_str!("../greenroom.example.toml");
    let setting = |line: &str| line.strip_prefix('#').is_some_and(|rest| !rest.is_empty() && !rest.starts_with("# "));
    text.lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if uncommented && setting(line) && (!rest.starts_with(' ') || rest.starts_with("    ")) => rest,
            _ => line,
        })
        .fold(String::new(), |whole, line| whole + line + "\n")
}

#[test]
fn nothing_given_means_the_defaults_and_one_template() {
    let config = Given::nothing().config();
    assert_eq!(config.server.address.to_string(), "127.0.0.1:8080");
    assert_eq!(config.templates.keys().collect::<Vec<_>>(), ["gemini"]);
    assert_eq!(config.templates["gemini"].image, "greenroom/gemini:latest");
    assert!(config.model.api_key.is_none());
}

#[test]
fn the_example_file_is_the_defaults_whether_commented_or_not() {
    let defaults = format!("{:#?}", Given::nothing().config());
    for uncommented in [false, true] {
        let config = Given::nothing().file(&example(uncommented)).config();
        assert_eq!(format!("{config:#?}"), defaults, "uncommented: {uncommented}");
    }
}

#[test]
fn the_example_file_and_the_operations_page_mention_every_setting() {
    let (example, page) = (example(true), include_str!("../docs/operations.md"));
    for key in known_keys() {
        let Some((section, name)) = key.rsplit_once('.') else {
            // A section of sections that operators name.
            assert!(example.contains(&format!("[{key}.")), "greenroom.example.toml doesn't mention {key}");
            assert!(page.contains(&format!("| `{key}.NAME.")), "docs/operations.md doesn't mention {key}");
            continue;
        };
        let body = example.split(&format!("\n[{section}]\n")).nth(1).unwrap_or_default();
        let body = body.split("\n[").next().unwrap_or_default();
        let mentioned =
            body.lines().any(|line| line.trim_start_matches("# Example: ").starts_with(&format!("{name} =")));
        assert!(mentioned, "greenroom.example.toml doesn't mention {key}");
        let documented = key.replace("templates.gemini.", "templates.NAME.");
        let row = page.lines().find(|line| line.starts_with(&format!("| `{documented}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/operations.md doesn't mention {documented}"));
        let default = body.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        if let Some(default) = default.filter(|default| !default.starts_with(['[', '{'])) {
            let default = default.trim_matches('"');
            assert!(
                row.contains(&format!("| `{default}` |")),
                "docs/operations.md has another default than {default}: {row}"
            );
        }
    }
}

#[test]
fn the_providers_of_the_example_file_are_good_settings() {
    let text = example(false);
    let (_, text) = text.split_once("\n[auth]\n").expect("a section");
    let (text, _) = text.split_once("\n[").expect("another section");
    // One address is enough.
    let sample =
        text.lines().filter_map(|line| line.strip_prefix("#   ")).filter(|line| !line.starts_with("jwks_file"));
    let sample = sample.collect::<Vec<_>>().join("\n");
    // What follows the second one belongs to it, but for what it has already.
    let sample = sample.replacen("algorithms = [\"RS256\"]\n", "", 1);
    let config = Given::nothing().file(&sample).config();
    let [keycloak, auth0] = &config.auth.issuers[..] else { panic!("two issuers: {:?}", config.auth.issuers) };
    assert_eq!((keycloak.name.as_str(), keycloak.audience.as_slice()), ("keycloak", &["greenroom".to_owned()][..]));
    assert_eq!(keycloak.scopes["greenroom-admin"], greenroom::identity::Scope::Admin);
    // The last one says all there is, the first hardly anything: what is written there is what is meant without it.
    assert_eq!((&auth0.algorithms, auth0.leeway), (&keycloak.algorithms, keycloak.leeway));
    assert_eq!((auth0.jwks_refresh, auth0.jwks_keep), (keycloak.jwks_refresh, keycloak.jwks_keep));
    assert_eq!(auth0.user_claim, keycloak.user_claim);
}

#[test]
fn later_sources_win_over_earlier_ones() {
    let file = "[pool]\nsize = 1\ncap = 50\n[templates.gemini]\nimage = 'file'";
    let given = || Given::nothing().file(file);
    assert_eq!(given().config().pool.size, 1);
    let nested =
        || given().variable("GREENROOM__POOL__SIZE", "2").variable("GREENROOM__TEMPLATES__GEMINI__IMAGE", "env");
    assert_eq!((nested().config().pool.size, nested().config().templates["gemini"].image.as_str()), (2, "env"));
    let known = || nested().variable("POOL_SIZE", "3").variable("GEMINI_IMAGE", "known");
    assert_eq!((known().config().pool.size, known().config().templates["gemini"].image.as_str()), (3, "known"));
    let mut flags = known();
    flags.sources.overrides = Overrides {
        port: Some(9000),
        image: Some("flag".to_owned()),
        pool_size: Some(5),
        state_dir: Some(PathBuf::from("/srv/green")),
    };
    let config = flags.config();
    assert_eq!((config.pool.size, config.pool.cap), (5, 50));
    assert_eq!(config.templates["gemini"].image, "flag");
    assert_eq!(config.server.address.to_string(), "127.0.0.1:9000");
    assert_eq!(config.state.dir, PathBuf::from("/srv/green"));
}

#[test]
fn presets_of_a_mode_give_way_to_everything() {
    let mut given = Given::nothing().file("[state]\ndir = '/from/file'");
    given.sources.presets = vec![("state.dir", "/preset".to_owned()), ("telemetry.format", "text".to_owned())];
    let config = given.config();
    assert_eq!(config.state.dir, PathBuf::from("/from/file"));
    assert_eq!(config.telemetry.format, greenroom::config::LogFormat::Text);
}

#[test]
fn variables_are_read_as_what_the_setting_is() {
    let config = Given::nothing()
        .variable("GREENROOM__SERVER__ADDRESS", "127.0.0.2:1")
        .variable("GREENROOM__SESSION__IDLE_TIMEOUT", "5m")
        .variable("GREENROOM__RUNTIME__KIND", "process")
        .variable("GREENROOM__RUNTIME__UID", "1234")
        .variable("GREENROOM__TEMPLATES__MY_AGENT__COMMAND", "/bin/agent,--flag")
        .variable("GREENROOM__TEMPLATES__MY_AGENT__MODEL__PATHS", r#"["/a,b/*"]"#)
        .variable("GREENROOM__TEMPLATES__MY_AGENT__LIMITS__CPUS", "0.5")
        .variable("GREENROOM__TEMPLATES__MY_AGENT__ENV__NODE__Options", "x")
        .variable("GREENROOM__AUTH__TOKENS", r#"[{user = "ada", token = "sixteen-characters"}]"#)
        .variable("GREENROOM__POOL__CAP", "")
        .variable("GREENROOM_OTHER", "not ours")
        .config();
    let template = &config.templates["my_agent"];
    assert_eq!(config.session.idle_timeout, Duration::from_secs(300));
    assert_eq!((config.runtime.kind, config.runtime.uid), (RuntimeChoice::Process, Some(1234)));
    assert_eq!(template.command, ["/bin/agent", "--flag"]);
    assert_eq!(template.model.paths, ["/a,b/*"]);
    assert!((template.limits.cpus - 0.5).abs() < f64::EPSILON);
    assert_eq!(template.env, BTreeMap::from([("NODE__Options".to_owned(), "x".to_owned())]));
    assert_eq!(config.auth.tokens[0].token.expose_secret(), "sixteen-characters");
    assert_eq!(config.pool.cap, 16, "an empty variable counts as not set");
}

#[test]
fn well_known_variables_mean_what_everybody_expects() {
    let config = Given::nothing().variable("GEMINI_API_KEY", "k").variable("DOCKER_HOST", "tcp://127.0.0.1:1").config();
    assert_eq!(config.model.api_key.expect("it was given").expose_secret(), "k");
    assert_eq!(config.runtime.host.as_deref(), Some("tcp://127.0.0.1:1"));
    let config = Given::nothing()
        .file("[runtime]\nhost = 'unix:///run/engine.sock'")
        .variable("DOCKER_HOST", "tcp://127.0.0.1:1")
        .config();
    assert_eq!(config.runtime.host.as_deref(), Some("unix:///run/engine.sock"), "a set host wins over DOCKER_HOST");
}

#[test]
fn every_fault_is_told_with_its_key_and_its_place() {
    let file = "[server]\nadress = 'x'\nconnections = 0\n\n[pool]\nsize = 'many'\ncap = 2\nsweep = '0s'\n\n[nonsense]\na = 1\n";
    let faults = Given::nothing()
        .file(file)
        .variable("GREENROOM__SESSION__TURN_TIMEOUT", "soon")
        .variable("GREENROOM__LIMITS__STREAMS", "-1")
        .variable("GREENROOM__RUNTIME__KIND", "magic")
        .variable("GREENROOM__TEMPLATES__GEMINI__MIN_WARM", "3")
        .variable("GREENROOM__MODEL__BASE_URL", "ftp://x")
        .variable("GREENROOM__SERVER", "x")
        .faults();
    let expected = [
        "limits.streams (GREENROOM__LIMITS__STREAMS): must be a whole number, 0 or more, that is not too large",
        "model.base_url (GREENROOM__MODEL__BASE_URL): must be http:// or https:// and a host, with neither a user nor a query",
        "nonsense (greenroom.toml line 10): is no setting; known here: server, admin, state, runtime, sandbox, pool, session, \
         auth, limits, budget, tiers, model, credentials, audit, egress, telemetry, templates",
        "pool.size (greenroom.toml line 6): must be a whole number, but is a text",
        "pool.sweep (greenroom.toml line 8): must be longer than nothing",
        "runtime.kind (GREENROOM__RUNTIME__KIND): must be one of: docker, process",
        "server (GREENROOM__SERVER): is a section, not a text; it has settings at greenroom.toml line 1",
        "server.adress (greenroom.toml line 2): is no setting; known here: address, hosts, origins, head_bytes, body_bytes, head_timeout, \
         body_timeout, connections, connections_per_address, keep_alive, write_stall, drain",
        "server.connections (greenroom.toml line 3): must be at least 1",
        "session.turn_timeout (GREENROOM__SESSION__TURN_TIMEOUT): must be a duration",
        "templates.gemini.min_warm (GREENROOM__TEMPLATES__GEMINI__MIN_WARM): must not be more than pool.cap (2)",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn no_text_ever_holds_a_value() {
    let tries = [
        Given::nothing().file(&format!("[model]\napi_key = \"{CANARY}")),
        Given::nothing().file(&format!("[model]\napi_key = {CANARY}")),
        Given::nothing().file(&format!("[model]\napi_key = ['{CANARY}']\n")),
        Given::nothing().file(&format!("[model]\napikey = '{CANARY}'\n")),
        Given::nothing().file(&format!("model = '{CANARY}'\n")),
        Given::nothing().file(&format!("[auth]\ntokens = [{{user = 'a b', token = '{CANARY}-and-more'}}]\n")),
        Given::nothing().file(&format!("[auth]\ntokens = [{{user = 'a', token = '{}'}}]\n", &CANARY[..15])),
        Given::nothing().file(&format!("[auth]\ntokens = [{{user = 'a', tokn = '{CANARY}'}}]\n")),
        Given::nothing().file(&format!("[auth]\ntokens = '{CANARY}'\n")),
        Given::nothing().variable("GREENROOM__AUTH__TOKENS", &format!("[{{user = 'a', token = '{CANARY}")),
        Given::nothing().variable("GREENROOM__AUTH__TOKENS", CANARY),
        Given::nothing().file(&format!("[templates.a.egress]\nallow = ['user:{CANARY}@host']\n")),
        Given::nothing().variable("GEMINI_API_KEY", &format!("{CANARY} ")),
        Given::nothing().variable("GREENROOM__CREDENTIALS__KEY", CANARY),
        Given::nothing().file(&format!("[credentials]\nkey = ['{CANARY}']\n")),
        Given::nothing().file(&format!("[credentials.vault]\ntokn = '{CANARY}'\naddress = '{CANARY}'\n")),
        Given::nothing().file(&format!("[credentials]\nstore = 'vault'\n[credentials.vault]\naddress = '{CANARY}'\n")),
        Given::nothing().variable("POOL_SIZE", CANARY),
        Given::nothing().variable("GREENROOM__SERVER__ADDRESS", CANARY),
        Given::nothing().variable("GREENROOM__SESSION__MAX_AGE", CANARY),
        Given::nothing().variable("GREENROOM__RUNTIME__KIND", CANARY),
        Given::nothing().variable("GREENROOM__MODEL__BASE_URL", &format!("http://user:{CANARY}@host")),
        Given::nothing().variable("GREENROOM__TELEMETRY__LOG", &format!("{CANARY}=={CANARY}")),
    ];
    for (index, given) in tries.into_iter().enumerate() {
        let faults = given.faults();
        assert!(!faults.is_empty());
        for fault in faults {
            assert!(!fault.contains(&CANARY[..12]), "try {index}: {fault}");
        }
    }
    let config = Given::nothing().variable("GEMINI_API_KEY", CANARY).config();
    assert!(!format!("{config:?}").contains(CANARY));
}

#[test]
fn what_could_not_work_later_is_refused_now() {
    let long = format!("/{}", "d".repeat(51));
    let cases: &[(&str, &str)] = &[
        ("[auth]\ntokens = [{user = 'a', token = 'short'}]", "auth.tokens[0].token"),
        (
            "[auth]\ntokens = [{user = 'a', token = '0123456789abcdef'}, {user = 'b', token = '0123456789abcdef'}]",
            "auth.tokens[1].token",
        ),
        ("[auth]\ntokens = [{user = 'a'}]", "auth.tokens[0]"),
        ("[auth]\ntokens = [{user = 'a', token = '0123456789abcdef', scopes = []}]", "auth.tokens[0].scopes"),
        ("[auth]\ntokens = [{user = 'a', token = '0123456789abcdef', scopes = ['all']}]", "auth.tokens[0].scopes[0]"),
        ("[auth]\ntokens = [{user = 'a', token = '0123456789abcdef', tier = 'gold'}]", "auth.tokens[0].tier"),
        ("[runtime]\nkind = 'process'\n[server]\naddress = '0.0.0.0:1'", "server.address"),
        ("[admin]\naddress = '127.0.0.1:8080'", "admin.address"),
        ("[runtime]\nuid = 0", "runtime.uid"),
        ("[runtime]\nhost = 'ssh://there'", "runtime.host"),
        ("[runtime]\ninstance = 'a.b'", "runtime.instance"),
        ("[pool]\nsize = 17", "pool.size"),
        ("[pool]\nbackoff = '1h'", "pool.backoff_max"),
        ("[pool]\nmemory_share = 0", "pool.memory_share"),
        ("[pool]\nmemory_share = nan", "pool.memory_share"),
        ("[pool]\nmemory_share = 16.5", "pool.memory_share"),
        ("[pool]\nwarm_age = '0s'", "pool.warm_age"),
        ("[templates.a]\nmin_warm = 9\n[templates.b]\nmin_warm = 9", "pool.cap"),
        ("[templates.a]\nmin_warm = 3\nmax_warm = 2", "templates.a.max_warm"),
        ("[templates.a]\nmax_warm = 2", "templates.a.max_warm"),
        ("[templates.a]\nwarm = 2", "templates.a.warm"),
        ("[templates.Bad]", "templates.Bad"),
        ("[templates.'a b']", "templates.\"a b\""),
        ("[templates.a]\ncommand = []", "templates.a.command"),
        ("[templates.a.limits]\nmemory_mib = 512", "templates.a.limits.memory_mib"),
        ("[templates.a.limits]\ncpus = nan", "templates.a.limits.cpus"),
        ("[templates.a.model]\nkey_header = 'a b'", "templates.a.model.key_header"),
        ("[templates.a.model]\npaths = ['/*/*']", "templates.a.model.paths"),
        ("[templates.a.egress]\nallow = ['10.0.0.1']", "templates.a.egress.allow[0]"),
        ("[templates.a.egress]\noffer = ['a.example', 'https://b.example']", "templates.a.egress.offer[1]"),
        ("[egress]\nhosts = {'a.example:80' = '10.0.0.1'}", "egress.hosts.\"a.example:80\""),
        ("[egress]\nhosts = {'a.example' = '10.0.0.1', 'A.example' = '10.0.0.2'}", "egress.hosts.\"a.example\""),
        ("[egress]\nhosts = {a = 'b.example'}", "egress.hosts.a"),
        ("[server]\nbody_bytes = 0", "server.body_bytes"),
        ("[server]\nhosts = ['*']", "server.hosts[0]"),
        ("[server]\nhosts = ['chat.example', 'https://chat.example']", "server.hosts[1]"),
        ("[server]\norigins = ['*']", "server.origins[0]"),
        ("[server]\norigins = ['https://chat.example/']", "server.origins[0]"),
        ("[limits]\nreads_burst = 0", "limits.reads_burst"),
        ("[limits]\nworkspace_bytes = 0\n[tiers.gold.limits]\nsessions = 9", "limits.workspace_bytes"),
        ("[limits]\nnonsense = 1\n[tiers.gold.limits]\nsessions = 9", "limits.nonsense"),
        ("[limits]\nsessions = 'x'\n[tiers.gold.limits]\nstreams = 9", "limits.sessions"),
        ("[tiers.gold.limits]\nsessions = 0", "tiers.gold.limits.sessions"),
        ("[tiers.gold.limits]\nsesions = 1", "tiers.gold.limits.sesions"),
        ("[tiers.gold]\nlimit = 1", "tiers.gold.limit"),
        ("[tiers]\ngold = 1", "tiers.gold"),
        ("[tiers.'Gold Users'.limits]\nsessions = 1", "tiers.\"Gold Users\""),
        ("[session]\nturn_timeout = '0s'", "session.turn_timeout"),
        ("[telemetry]\nlog = 'a=b=c'", "telemetry.log"),
        ("[credentials]\nstore = 'file'", "credentials.key"),
        ("[credentials]\nkey = 'c2hvcnQ='", "credentials.key"),
        ("[credentials]\nrefresh = '0s'", "credentials.refresh"),
        ("[credentials]\nstore = 'vault'\n[credentials.vault]\ntoken = 't'", "credentials.vault.address"),
        (
            "[credentials]\nstore = 'vault'\n[credentials.vault]\ntoken = 't'\naddress = 'http://vault.example'",
            "credentials.vault.address",
        ),
        (
            "[credentials]\nstore = 'vault'\n[credentials.vault]\naddress = 'https://vault.example'",
            "credentials.vault.token",
        ),
        (
            "[credentials]\nstore = 'vault'\n[credentials.vault]\naddress = 'https://v'\nlogin = 'kubernetes'",
            "credentials.vault.role",
        ),
        ("[credentials.vault]\npath = 'greenroom/{user}-{name}'", "credentials.vault.path"),
        ("[credentials.vault]\npath = 'greenroom/{name}'", "credentials.vault.path"),
        ("[credentials.vault]\npath = '../{user}/{name}'", "credentials.vault.path"),
        ("[credentials.vault]\nmount = 'a//b'", "credentials.vault.mount"),
    ];
    for (file, key) in cases {
        let faults = Given::nothing().file(file).faults();
        assert!(faults.len() == 1 && faults[0].starts_with(&format!("{key} (")), "{file}\n{faults:?}");
    }
    let faults = Given::nothing().variable("GREENROOM__STATE__DIR", &long).faults();
    assert!(faults[0].starts_with("state.dir (GREENROOM__STATE__DIR): must have at most 51 bytes"), "{faults:?}");
}

#[test]
fn a_tier_has_what_it_does_not_say_from_the_usual_limits_and_budget() {
    let file = "[limits]\nsessions = 3\nstreams = 5\n[budget]\ninput_tokens_per_day = 7\n\
                [tiers.gold.limits]\nsessions = 9\n[tiers.thrifty.budget]\noutput_tokens_per_day = 1";
    let config = Given::nothing()
        .file(file)
        .variable("GREENROOM__LIMITS__READS_BURST", "11")
        .variable("GREENROOM__TIERS__GOLD__LIMITS__READS_BURST", "12")
        .config();
    let (gold, thrifty) = (&config.tiers["gold"], &config.tiers["thrifty"]);
    assert_eq!((gold.limits.sessions, gold.limits.streams, gold.limits.reads_burst), (9, 5, 12));
    assert_eq!((thrifty.limits.sessions, thrifty.limits.streams, thrifty.limits.reads_burst), (3, 5, 11));
    assert_eq!(gold.limits.waiting, config.limits.waiting, "and what nobody says, from the defaults");
    assert_eq!((gold.budget.input_tokens_per_day, gold.budget.output_tokens_per_day), (Some(7), None));
    assert_eq!((thrifty.budget.input_tokens_per_day, thrifty.budget.output_tokens_per_day), (Some(7), Some(1)));
}

#[test]
fn a_tier_said_in_any_order_may_have_what_is_usual_again() {
    let config = Given::nothing().file("[tiers.plain.limits]\nsessions = 8\n[limits]\nsessions = 2").config();
    assert_eq!(
        (config.limits.sessions, config.tiers["plain"].limits.sessions),
        (2, 8),
        "8 is the default, and written"
    );
}

#[test]
fn an_issuer_whose_tokens_could_not_be_trusted_is_refused() {
    let good = "name = 'a'\nissuer = 'https://a.example'\naudience = 'x'";
    let cases = [
        ("algorithms = ['HS256']", "algorithms[0]"),
        ("algorithms = ['none']", "algorithms[0]"),
        ("algorithms = ['RS256', 'ES512']", "algorithms[1]"),
        ("algorithms = []", "algorithms"),
        ("audience = []", "audience"),
        ("audience = ['x', '']", "audience"),
        ("issuer = 'http://a.example'", "issuer"),
        ("issuer = 'https://a.example/?x'", "issuer"),
        ("issuer = 'https://a.example/#x'", "issuer"),
        ("issuer = 'https://user@a.example'", "issuer"),
        ("issuer = ''\njwks_url = 'https://a.example'", "issuer"),
        ("jwks_url = 'http://a.example/keys'", "jwks_url"),
        ("jwks_url = 'http://127.0.0.1.a.example/keys'", "jwks_url"),
        ("jwks_url = 'file:///etc/keys'", "jwks_url"),
        ("jwks_url = 'https://a.example/keys'\njwks_file = 'keys'", "jwks_file"),
        ("leeway = '61s'", "leeway"),
        ("jwks_refresh = '9s'", "jwks_refresh"),
        ("jwks_keep = '5s'", "jwks_keep"),
        ("user_claim = ''", "user_claim"),
        ("user_prefix = 'a b'", "user_prefix"),
        ("scopes = {x = 'everything'}", "scopes.x"),
        ("secret = 'x'", "secret"),
    ];
    for (line, key) in cases {
        let changed = line.split(' ').next().expect("a key");
        let kept = good.lines().filter(|line| !line.starts_with(&format!("{changed} "))).collect::<Vec<_>>().join("\n");
        let faults = Given::nothing().file(&format!("[[auth.issuers]]\n{kept}\n{line}\n")).faults();
        assert!(faults.len() == 1 && faults[0].starts_with(&format!("auth.issuers[0].{key} (")), "{line}\n{faults:?}");
    }
    let faults = Given::nothing().file(&format!("[[auth.issuers]]\n{}", good.replace("'a'", "'A b'"))).faults();
    assert!(faults.len() == 1 && faults[0].starts_with("auth.issuers[0] ("), "{faults:?}");
    let twice = format!("[[auth.issuers]]\n{good}\n[[auth.issuers]]\n{good}\n");
    let faults = Given::nothing().file(&twice).faults();
    assert!(faults.len() == 2 && faults.iter().all(|fault| fault.contains("auth.issuers[0] again")), "{faults:?}");
    for good in ["issuer = 'any-name'\njwks_url = 'https://a.example/keys?x'", "jwks_url = 'http://[::1]:1/keys'"] {
        let issuer = if good.starts_with("issuer") { "" } else { "issuer = 'https://a.example'\n" };
        Given::nothing()
            .file(&format!("[[auth.issuers]]\nname = 'a'\naudience = ['x', 'y']\n{issuer}{good}\n"))
            .config();
    }
}

#[test]
fn a_template_keeps_between_its_minimum_and_twice_as_many_unless_it_says_otherwise() {
    let bounds = |settings: &str| {
        let config = Given::nothing().file(&format!("[pool]\nsize = 3\n[templates.a]\n{settings}")).config();
        let template = &config.templates["a"];
        (template.min_warm(&config.pool), template.max_warm(&config.pool))
    };
    assert_eq!(bounds(""), (3, 6), "pool.size counts");
    assert_eq!(bounds("min_warm = 5"), (5, 10));
    assert_eq!(bounds("max_warm = 3"), (3, 3));
    assert_eq!(bounds("min_warm = 0"), (0, 0), "every open is cold");
    assert_eq!(bounds("min_warm = 0\nmax_warm = 2"), (0, 2), "nothing is kept until it is asked for");
    assert_eq!(bounds("max_warm = 1000"), (3, 1000), "the maximum may exceed the cap, which bounds what is there");
}

#[test]
fn the_longest_allowed_state_folder_leaves_room_for_the_sockets() {
    let dir = format!("/{}", "d".repeat(50));
    let config = Given::nothing().variable("GREENROOM__STATE__DIR", &dir).config();
    let socket = config.state.dir.join("slots").join("0".repeat(32)).join("run").join("gateway.sock");
    let address = std::os::unix::net::SocketAddr::from_pathname(&socket);
    assert!(address.is_ok(), "{address:?}");
    let longer = config.state.dir.join("slots").join("0".repeat(32)).join("run").join("gateway.sock2");
    assert!(std::os::unix::net::SocketAddr::from_pathname(longer).is_err(), "the limit could be higher");
}

#[test]
fn a_file_that_is_missing_is_a_fault_and_not_a_silent_default() {
    let mut given = Given::nothing();
    given.sources.file = Some(given.folder.path().join("missing.toml"));
    assert_eq!(given.faults(), ["missing.toml: can't be read: entity not found"]);
}

#[test]
fn a_variable_nested_without_end_is_a_fault() {
    let faults = Given::nothing().variable(&format!("GREENROOM{}", "__A".repeat(40_000)), "1").faults();
    assert!(faults.len() == 1 && faults[0].contains("none is nested so deep"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_written_is_told_and_never_repeated(
        name in "(POOL|MODEL|AUTH|TEMPLATES|TELEMETRY|[A-Z]{1,4})(__[A-Za-z_]{0,9}){0,4}",
        value in "[\\[{\"'=,.0-9a-z]{0,12}",
        file in "(\\[(pool|templates\\.a|auth)\\]\n)?([a-z_]{1,6} = ['\"\\[]?[0-9a-z,=]{0,8}['\"\\]]?\n){0,3}",
    ) {
        let given = Given::nothing()
            .file(&format!("{file}api_key = '{CANARY}'\n"))
            .variable(&format!("GREENROOM__{name}"), &format!("{value}{CANARY}"));
        if let Err(error) = given.load() {
            assert!(!error.faults.is_empty() && !error.to_string().contains(CANARY), "{error}");
        }
    }
}
