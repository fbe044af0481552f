//! `--dev`: what somebody needs who tries it out. A token for this run, a model stub when there is no key, and a curl to paste.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::own_state_folder;
use crate::{
    app::App,
    cli::model_stub,
    config::Config,
    ids::{UserId, random_bytes},
};

/// Who the token names.
const USER: &str = "dev";
/// After this long without a warm sandbox the invitation is printed all the same: the log says what is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the stub may take to end.
const END: Duration = Duration::from_secs(2);

/// Settings that somebody who tries it out would want; everything they say themselves wins.
pub(super) fn presets(env: &BTreeMap<String, String>) -> Vec<(&'static str, String)> {
    let folder = own_state_folder(env).map(|folder| ("state.dir", folder.to_string_lossy().into_owned()));
    [("telemetry.format", "text".to_owned())].into_iter().chain(folder).collect()
}

/// What lives beside the app in this mode.
pub(super) struct Dev {
    user: UserId,
    token: SecretString,
    begin: Instant,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Dev {
    /// Makes the token; starts the model stub if there is neither a key nor another model, and points the settings at it.
    pub async fn prepare(config: &mut Config) -> anyhow::Result<Self> {
        let token = SecretString::from(format!("dev_{}", BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<24>())));
        let user = UserId::parse(USER).expect("the name is good");
        let dev =
            Self { user, token, begin: Instant::now(), stop: CancellationToken::new(), tasks: TaskTracker::new() };
        if config.model.api_key.is_none() && config.model.base_url.is_none() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for the model stub")?;
            let address = listener.local_addr().context("no port for the model stub")?;
            config.model.base_url = Some(format!("http://{address}"));
            config.model.api_key = Some(SecretString::from("the-stub-needs-no-key"));
            let stop = dev.stop.clone().cancelled_owned();
            dev.tasks.spawn(model_stub::serve(listener, model_stub::Options::default(), stop));
            say(&format!("GEMINI_API_KEY is not set: a model stub on {address} answers instead, from a script"));
        }
        Ok(dev)
    }

    /// The token and whom it names.
    pub fn token(&self) -> (UserId, SecretString) {
        (self.user.clone(), self.token.clone())
    }

    /// Waits for the first warm sandbox, then prints how to use it.
    pub async fn invite(&self, app: &App) {
        let addresses = app.addresses();
        say(&format!("listening on {}; booting the first agent …", base(addresses.server)));
        let warm = tokio::time::timeout(PATIENCE, app.wait_warm()).await.is_ok();
        let text = invitation(addresses.server, addresses.admin, self.token.expose_secret());
        let state = if warm { "an agent is warm" } else { "no agent is warm yet; the log says why" };
        say(&format!("{state} ({:.1} s)\n\n{text}", self.begin.elapsed().as_secs_f64()));
    }

    /// Ends what was started beside the app.
    pub async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(END, self.tasks.wait()).await.is_err() {
            tracing::warn!("the model stub did not end in time");
        }
    }
}

/// Tells the person at the terminal. One who has closed it doesn't stop the server.
fn say(text: &str) {
    let _closed = writeln!(std::io::stdout(), "{text}");
}

/// An address to paste: one that means "everywhere" is reached on loopback.
fn base(address: SocketAddr) -> String {
    let ip = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

fn invitation(server: SocketAddr, admin: SocketAddr, token: &str) -> String {
    let (server, admin) = (base(server), base(admin));
    let mut text = String::new();
    let mut line = |line: &str| writeln!(text, "{line}").expect("a String takes everything");
    line(&format!("  address   {server}   ({server}/docs)"));
    line(&format!("  metrics   {admin}/metrics"));
    line(&format!("  token     {token}   (for this run)"));
    line("\nOpen a session and stream a turn:\n");
    line(&format!("  curl -N {server}/v1/chat -H 'Authorization: Bearer {token}' \\"));
    line("    -H 'Content-Type: application/json' -d '{\"prompt\": \"Hello! What can you do?\"}'");
    line("\nOr in two calls:\n");
    line(&format!("  SESSION=$(curl -s -X POST {server}/v1/sessions -H 'Authorization: Bearer {token}' \\"));
    line("    -H 'Content-Type: application/json' -d '{}' | grep -o 'ses_[0-9a-f]*' | head -n 1)");
    line(&format!("  curl -N {server}/v1/sessions/$SESSION/turns -H 'Authorization: Bearer {token}' \\"));
    line("    -H 'Content-Type: application/json' -H 'Accept: text/event-stream' -d '{\"prompt\": \"Hello!\"}'");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_invitation_can_be_pasted() {
        let text = invitation(
            "0.0.0.0:8080".parse().expect("an address"),
            "127.0.0.1:8081".parse().expect("an address"),
            "dev_secret",
        );
        assert!(text.contains("curl -N http://127.0.0.1:8080/v1/chat -H 'Authorization: Bearer dev_secret' \\\n"));
        assert!(text.contains("http://127.0.0.1:8081/metrics"));
        assert!(!text.contains("0.0.0.0"));
    }

    #[tokio::test]
    async fn the_stub_steps_in_only_without_a_key_and_without_a_model() {
        let mut config = Config::default();
        let dev = Dev::prepare(&mut config).await.expect("loopback has free ports");
        assert!(config.model.base_url.is_some_and(|url| url.starts_with("http://127.0.0.1:")));
        assert!(dev.token().1.expose_secret().len() >= 32);
        dev.end().await;

        let mut config = Config::default();
        config.model.api_key = Some(SecretString::from("a key"));
        Dev::prepare(&mut config).await.expect("nothing to do").end().await;
        assert_eq!(config.model.base_url, None);
    }
}
