//! What a server under test is told: a settings file made of sections, and a few variables.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr};

/// Whom the tests speak for, and with what.
pub const ALICE: &str = "alice-token-for-tests";
/// Another user.
pub const BOB: &str = "bob-token-for-tests-2";

/// The token of one of many users, who are numbered from 0.
pub fn token_of(number: usize) -> String {
    format!("a-token-for-test-user-{number:03}")
}

/// The image of the real agent.
pub const GEMINI: &str = "greenroom/gemini:latest";
/// The small image.
pub const BUSYBOX: &str = "greenroom/busybox:test";

/// The image of the agent that says what its prompt asks for.
pub const CHATTERBOX: &str = "greenroom/chatterbox:test";

/// An agent that runs each prompt as a shell command, and says what it printed.
pub const SHELL: &str = r#"while IFS= read -r line; do (eval "$line") 2>&1; echo; echo '{"type":"result"}'; done"#;

/// The same, and it notes each prompt that it gets in its workspace.
pub const COUNTING: &str = r#"while IFS= read -r line; do printf '%s\n' "$line" >>/sandbox/workspace/prompts; (eval "$line") 2>&1; echo; echo '{"type":"result"}'; done"#;

/// An agent that speaks just enough ACP to become ready, and takes its time for that, but no processor's.
pub const SLOW: &str = r#"while IFS= read -r line; do
id=$(echo "$line" | sed 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/')
case $line in
*'"initialize"'*) sleep 0.5; result='{"protocolVersion":1,"agentCapabilities":{},"authMethods":[]}' ;;
*'"session/new"'*) result='{"sessionId":"the-only-one"}' ;;
*) result='{}' ;;
esac
echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$result}"
done"#;

/// A command for the agent above: the id of its container, as the engine's own mounts tell it.
pub const CONTAINER: &str = r"sed -n 's|.*/containers/\([0-9a-f]*\)/hostname .*|\1|p' /proc/self/mountinfo";

/// Settings of one server.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    sections: BTreeMap<String, BTreeMap<String, String>>,
    variables: Vec<(String, String)>,
    names: Vec<(String, String)>,
    /// Whether to wait for `/readyz`, or for `/healthz` only.
    pub await_stock: bool,
    /// Whether SIGTERM leaves sandboxes to the next server. Most tests want to see nothing left.
    pub hands_over: bool,
    /// Whom the server runs as, if not as whom the tests do.
    pub uid: Option<u32>,
}

impl Settings {
    /// Two users, generous limits, little to wait for, and no template yet.
    pub fn new() -> Self {
        Self { await_stock: true, ..Self::default() }
            .set("auth", "tokens", &format!(r#"[{{user="alice",token="{ALICE}"}},{{user="bob",token="{BOB}"}}]"#))
            .set("limits", "opens_per_minute", "6000")
            .set("limits", "opens_burst", "1000")
            .set("limits", "prompts_per_minute", "6000")
            .set("limits", "prompts_burst", "1000")
            .set("limits", "reads_per_minute", "600000")
            .set("limits", "reads_burst", "100000")
            .set("pool", "size", "1")
            .set("sandbox", "orphan_grace", "\"5s\"")
    }

    /// Beside alice and bob, this many numbered users.
    pub fn users(self, count: usize) -> Self {
        let user = |number: usize| format!(r#"{{user="user-{number:03}",token="{}"}}"#, token_of(number));
        let many = (0..count).map(user).collect::<Vec<_>>().join(",");
        self.set(
            "auth",
            "tokens",
            &format!(r#"[{{user="alice",token="{ALICE}"}},{{user="bob",token="{BOB}"}},{many}]"#),
        )
    }

    /// Limits per user that one user alone can fill every queue with.
    pub fn unlimited(self) -> Self {
        self.set("limits", "sessions", "1000")
            .set("limits", "waiting", "1000")
            .set("limits", "streams", "1000")
            .set("limits", "opens_per_minute", "60000")
            .set("limits", "opens_burst", "10000")
            .set("limits", "prompts_per_minute", "60000")
            .set("limits", "prompts_burst", "10000")
            .set("limits", "reads_per_minute", "600000")
            .set("limits", "reads_burst", "100000")
            .set("pool", "queue", "1000")
    }

    /// A server that leaves its sandboxes to the next one when it is told to stop.
    pub fn hands_over(self) -> Self {
        Self { hands_over: true, ..self }
    }

    /// A server that runs as somebody else. Its state folder is theirs.
    pub fn run_as(self, uid: u32) -> Self {
        Self { uid: Some(uid), ..self }
    }

    /// How many warm sandboxes a template has at least, and at most.
    pub fn stock(self, template: &str, min_warm: usize, max_warm: usize) -> Self {
        let template = section(template);
        self.set(&template, "min_warm", &min_warm.to_string()).set(&template, "max_warm", &max_warm.to_string())
    }

    /// Without this template.
    pub fn without(mut self, template: &str) -> Self {
        let template = section(template);
        self.sections.retain(|name, _| *name != template && !name.starts_with(&format!("{template}.")));
        self
    }

    /// The real Gemini CLI as template `gemini`, its model at this address.
    pub fn gemini(self, model: SocketAddr) -> Self {
        self.set("templates.gemini", "image", &quoted(GEMINI)).model(model)
    }

    /// Where the model is.
    pub fn model(self, model: SocketAddr) -> Self {
        self.set("model", "base_url", &quoted(&format!("http://{model}")))
    }

    /// A template `shell`: an agent that runs each prompt as a shell command.
    pub fn shell(self) -> Self {
        self.lines("shell", BUSYBOX, &["sh", "-c", SHELL])
    }

    /// A template `counting`: such an agent that notes each prompt in its workspace, in the file `prompts`.
    pub fn counting(self) -> Self {
        self.lines("counting", BUSYBOX, &["sh", "-c", COUNTING])
    }

    /// A template `shell` in the image of the real agent, which has Node as well.
    pub fn shell_with_node(self) -> Self {
        self.lines("shell", GEMINI, &["sh", "-c", SHELL])
    }

    /// A template `chatterbox`: an agent that says as much, as fast and as badly as its prompt asks for (`tests/chatterbox`).
    pub fn chatterbox(self) -> Self {
        self.template("chatterbox", CHATTERBOX, &["/chatterbox"])
    }

    /// A template whose agent speaks in lines.
    pub fn lines(self, name: &str, image: &str, command: &[&str]) -> Self {
        self.template(name, image, command).set(&section(name), "protocol", "\"lines\"").set(
            &section(name),
            "quiet_time",
            "\"20s\"",
        )
    }

    /// A template whose agent speaks ACP, or should.
    pub fn template(self, name: &str, image: &str, command: &[&str]) -> Self {
        let command = serde_json::to_string(command).expect("texts are JSON");
        self.set(&section(name), "image", &quoted(image)).set(&section(name), "command", &command)
    }

    /// One setting; `value` as TOML.
    pub fn set(mut self, section: &str, key: &str, value: &str) -> Self {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// One variable of the server's environment, which is empty otherwise.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Names and addresses that the server finds in its `/etc/hosts`, and nobody else. They come after those of the machine.
    pub fn names(mut self, names: &[(&str, &str)]) -> Self {
        self.names.extend(names.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned())));
        self
    }

    /// The lines of `/etc/hosts` with those names, which may be looked up with a dot at their end; none when there are none.
    pub fn hosts(&self) -> Option<String> {
        let lines = self.names.iter().map(|(name, address)| format!("{address}\t{name} {name}.\n")).collect::<String>();
        (!lines.is_empty()).then_some(lines)
    }

    /// Whether sandboxes are plain processes.
    pub fn without_engine(&self) -> bool {
        self.sections.get("runtime").and_then(|runtime| runtime.get("kind")).is_some_and(|kind| kind == "\"process\"")
    }

    /// The settings file.
    pub fn to_toml(&self) -> String {
        self.sections.iter().fold(String::new(), |mut text, (name, settings)| {
            writeln!(text, "[{name}]").expect("text grows");
            for (key, value) in settings {
                writeln!(text, "{key} = {value}").expect("text grows");
            }
            if let Some(count) = self.fixed_stock(name) {
                writeln!(text, "max_warm = {count}").expect("text grows");
            }
            text
        })
    }

    /// Tests count sandboxes: the stock of a template whose `max_warm` isn't set doesn't follow demand.
    fn fixed_stock(&self, section: &str) -> Option<&str> {
        let settings = self.sections.get(section)?;
        let template = section.strip_prefix("templates.").is_some_and(|name| !name.contains('.'));
        if !template || settings.contains_key("max_warm") {
            return None;
        }
        let size = || self.sections.get("pool").and_then(|pool| pool.get("size"));
        settings.get("min_warm").or_else(size).map(String::as_str)
    }
}

fn section(template: &str) -> String {
    format!("templates.{template}")
}

/// A TOML text.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}
