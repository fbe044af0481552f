//! Keys in a vault, as the server gets them: ways in, tokens that end, a vault that goes away, names that would go astray.

#[path = "credentials/vault.rs"]
mod vault;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use greenroom::{
    config::{self, VaultLogin},
    credentials::{Credentials, KeySource as _, KeySourceError, VaultSource},
    ids::{CredentialName, UserId},
};
use hyper::StatusCode;
use proptest::prelude::{ProptestConfig, proptest};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use vault::{JWT, ROOT, SECRET_ID, Vault};

const DEADLINE: Duration = Duration::from_secs(30);

fn settings(vault: &Vault) -> config::Vault {
    config::Vault { address: Some(vault.url()), token: Some(ROOT.into()), ..config::Vault::default() }
}

fn source(settings: &config::Vault) -> VaultSource {
    VaultSource::open(settings).expect("good settings")
}

async fn look_up(source: &VaultSource, user: &str, name: &str) -> Result<String, KeySourceError> {
    let (user, name) = (UserId::parse(user).expect("a good name"), CredentialName::parse(name).expect("a good name"));
    source.key(&user, &name).await.map(|key| key.expose_secret().to_owned())
}

fn private(folder: &Path, name: &str, content: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).expect("the folder is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    path
}

/// Waits until something holds, within a deadline.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what} in time"));
}

#[tokio::test]
async fn a_key_is_found_changed_and_taken_away_without_a_restart() {
    let vault = Vault::start().await;
    let source = source(&settings(&vault));
    assert!(matches!(look_up(&source, "ada", "work").await, Err(KeySourceError::NotThere)));
    for key in ["canary-1", "canary-2"] {
        vault.put("greenroom/ada/work", key);
        assert_eq!(look_up(&source, "ada", "work").await.expect("it is there"), key);
    }
    assert!(matches!(look_up(&source, "bob", "work").await, Err(KeySourceError::NotThere)));
    vault.delete("greenroom/ada/work");
    assert!(matches!(look_up(&source, "ada", "work").await, Err(KeySourceError::NotThere)));
    assert_eq!(vault.asked("/v1/auth/token/lookup-self"), 1, "one token for all");
}

#[tokio::test]
async fn there_are_three_ways_in() {
    let vault = Vault::start().await;
    vault.put("greenroom/ada/work", "canary");
    let folder = tempfile::tempdir().expect("a folder for the test");
    let base = settings(&vault);
    // As Kubernetes mounts it: open to everybody in the container.
    let jwt_file = private(folder.path(), "jwt", JWT);
    fs::set_permissions(&jwt_file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let kubernetes =
        config::Vault { login: VaultLogin::Kubernetes, role: Some("greenroom".to_owned()), jwt_file, ..base.clone() };
    let approle = config::Vault {
        login: VaultLogin::AppRole,
        role_id: Some("greenroom".to_owned()),
        secret_id: Some(SECRET_ID.into()),
        ..base.clone()
    };
    let from_a_file = config::Vault {
        secret_id: None,
        secret_id_file: Some(private(folder.path(), "secret-id", &format!("{SECRET_ID}\n"))),
        ..approle.clone()
    };
    for settings in [&base, &kubernetes, &approle, &from_a_file] {
        let found = look_up(&source(settings), "ada", "work").await;
        assert_eq!(found.expect("it is there"), "canary", "{:?}", settings.login);
    }
    let mount = config::Vault { login_mount: Some("elsewhere".to_owned()), ..approle.clone() };
    let wrong = config::Vault { secret_id: Some("wrong".into()), ..approle };
    for settings in [mount, wrong] {
        let refused = look_up(&source(&settings), "ada", "work").await.expect_err("no such login");
        assert!(matches!(refused, KeySourceError::Refused(_)), "{refused:?}");
        assert!(!format!("{refused:?}").contains("wrong"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_token_file_is_read_again_when_it_changes_and_must_be_private() {
    let vault = Vault::start().await;
    vault.put("greenroom/ada/work", "canary");
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = private(folder.path(), "token", ROOT);
    let source = source(&config::Vault { token: None, token_file: Some(path.clone()), ..settings(&vault) });
    assert!(look_up(&source, "ada", "work").await.is_ok());
    vault.revoke_all();
    vault.admit("hvs.the-next");
    fs::rename(private(folder.path(), "fresh", "hvs.the-next\n"), &path).expect("the folder is writable");
    assert!(look_up(&source, "ada", "work").await.is_ok());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    fs::rename(&path, folder.path().join("open")).expect("the folder is writable");
    assert!(look_up(&source, "ada", "work").await.is_ok(), "a file that is gone for a moment tells nothing");
    fs::rename(folder.path().join("open"), &path).expect("the folder is writable");
    vault.revoke_all();
    until("a file that everybody can read is refused", async || {
        matches!(look_up(&source, "ada", "work").await, Err(KeySourceError::Refused(_)))
    })
    .await;
}

fn approle(vault: &Vault) -> config::Vault {
    config::Vault {
        login: VaultLogin::AppRole,
        role_id: Some("greenroom".to_owned()),
        secret_id: Some(SECRET_ID.into()),
        token: None,
        ..settings(vault)
    }
}

#[tokio::test]
async fn a_token_that_was_revoked_is_got_anew_once() {
    let vault = Vault::start().await;
    vault.put("greenroom/ada/work", "canary");
    let source = source(&approle(&vault));
    assert!(look_up(&source, "ada", "work").await.is_ok());
    vault.revoke_all();
    // A token that is only just there isn't thrown away for a no.
    until("there is another token", async || look_up(&source, "ada", "work").await.is_ok()).await;
    assert_eq!(vault.asked("/v1/auth/approle/login"), 2);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_got_anew_when_it_can_not_be() {
    let vault = Vault::start().await;
    vault.put("greenroom/ada/work", "canary");
    vault.lease(3, true);
    let credentials = Credentials::Vault(Arc::new(source(&approle(&vault))));
    let stop = CancellationToken::new();
    let house = tokio::spawn(credentials.clone().keep_house(stop.clone()));
    until("it is renewed twice", async || vault.asked("/v1/auth/token/renew-self") >= 2).await;
    assert_eq!(vault.asked("/v1/auth/approle/login"), 1, "nobody had to come in again");
    vault.lease(3, false);
    vault.revoke_all();
    until("it is got anew", async || vault.asked("/v1/auth/approle/login") >= 3).await;
    let source = credentials.source().expect("there is one");
    let (user, name) = (UserId::parse("ada").expect("good"), CredentialName::parse("work").expect("good"));
    assert!(source.key(&user, &name).await.is_ok());
    stop.cancel();
    house.await.expect("it ends when it is told to");
}

#[tokio::test]
async fn a_vault_that_is_away_or_refuses_is_told_apart_from_a_key_that_is_not_there() {
    let vault = Vault::start().await;
    vault.put("greenroom/ada/work", "canary");
    let source = source(&settings(&vault));
    assert!(look_up(&source, "ada", "work").await.is_ok());
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY, StatusCode::TOO_MANY_REQUESTS] {
        vault.away(Some(status));
        assert!(matches!(look_up(&source, "ada", "work").await, Err(KeySourceError::Unreachable(_))), "{status}");
    }
    vault.away(Some(StatusCode::FORBIDDEN));
    assert!(matches!(look_up(&source, "ada", "work").await, Err(KeySourceError::Refused(_))));
    vault.away(Some(StatusCode::TEMPORARY_REDIRECT));
    assert!(matches!(look_up(&source, "ada", "work").await, Err(KeySourceError::Unreachable(_))), "nobody follows");
    vault.away(None);
    until("it is back", async || look_up(&source, "ada", "work").await.is_ok()).await;
    // A mount that isn't there is a fault of the settings, not of the user's.
    let elsewhere = self::source(&config::Vault { mount: "elsewhere".to_owned(), ..settings(&vault) });
    assert!(matches!(look_up(&elsewhere, "ada", "work").await, Err(KeySourceError::Refused(_))));
    let nobody = self::source(&config::Vault { address: Some("http://127.0.0.1:1".to_owned()), ..settings(&vault) });
    assert!(matches!(look_up(&nobody, "ada", "work").await, Err(KeySourceError::Unreachable(_))));
}

#[tokio::test]
async fn what_is_no_key_is_broken_and_not_repeated() {
    let vault = Vault::start().await;
    let source = source(&settings(&vault));
    for fields in [
        serde_json::json!({"api_key": "canary key"}),
        serde_json::json!({"api_key": ["canary"]}),
        serde_json::json!({"api_key": {"canary": "canary"}}),
        serde_json::json!({"api_key": 7}),
        serde_json::json!({"api_key": ""}),
        serde_json::json!({"canary": "canary"}),
    ] {
        vault.put_fields("greenroom/ada/work", fields.clone());
        let error = look_up(&source, "ada", "work").await.expect_err("no key");
        assert!(matches!(error, KeySourceError::Broken(_)), "{fields}: {error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    vault.put_fields("greenroom/ada/work", serde_json::json!({"api_key": "canary\n", "other": [1, null, true, 1.5]}));
    assert_eq!(look_up(&source, "ada", "work").await.expect("a key"), "canary", "line ends are nobody's key");
}

#[tokio::test]
async fn a_silent_vault_costs_no_more_than_the_deadline() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = Some(format!("http://{}", silent.local_addr().expect("bound")));
    let vault = config::Vault {
        address,
        token: Some(ROOT.into()),
        timeout: Duration::from_millis(200),
        ..config::Vault::default()
    };
    let error = look_up(&source(&vault), "ada", "work").await.expect_err("nobody answers");
    assert!(matches!(error, KeySourceError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn no_name_of_a_user_leads_to_anothers_key() {
    let vault = Vault::start().await;
    vault.put("greenroom/bob/work", "of-bob");
    vault.put("greenroom/work", "of-all");
    let source = source(&settings(&vault));
    for user in [
        "..", ".", "../bob", "x/../bob", "bob/", "/bob", "bob/work", "%62ob", "bob%2f", "%2e%2e", "..%2fbob", "bob?",
        "bob#", "bob;a=b", "\\bob", "*", "+", "{user}", "b~6Fb", "BOB", "x/..",
    ] {
        let found = look_up(&source, user, "work").await;
        assert!(matches!(found, Err(KeySourceError::NotThere)), "{user}: {found:?}");
    }
    assert_eq!(look_up(&source, "bob", "work").await.expect("his own"), "of-bob");
    let depth = |path: &String| path.split('/').count();
    assert!(vault.looked_up().iter().all(|path| depth(path) == 3 && path.starts_with("greenroom/")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_user_has_a_place_of_their_own(one in "[!-~]{1,12}", other in "[!-~]{1,12}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let vault = Vault::start().await;
            let source = source(&settings(&vault));
            for user in [&one, &other] {
                let _not_there = look_up(&source, user, "work").await;
            }
            let asked = vault.looked_up();
            assert_eq!(asked.len(), 2, "{asked:?}");
            assert_eq!(asked[0] == asked[1], one == other, "{asked:?}");
        });
    }
}
