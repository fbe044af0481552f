use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

struct Place {
    folder: tempfile::TempDir,
    settings: config::Credentials,
}

impl Place {
    fn new() -> Self {
        let key = Some(MasterKeys::generate());
        let settings = config::Credentials { key, ..config::Credentials::default() };
        Self { folder: tempfile::tempdir().expect("a temporary folder"), settings }
    }

    fn store(&self) -> Arc<FileStore> {
        Arc::new(self.try_store().expect("a store"))
    }

    fn try_store(&self) -> Result<FileStore, CredentialsError> {
        FileStore::open(&self.settings, self.folder.path())
    }

    fn text(&self) -> String {
        fs::read_to_string(self.folder.path().join(FILE_NAME)).expect("there is a file")
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a good name")
}

fn name(name: &str) -> CredentialName {
    CredentialName::parse(name).expect("a good name")
}

fn put(store: &FileStore, of: &str, named: &str, key: &str) {
    store.put(&user(of), &name(named), &key.into()).expect("there is room");
}

/// The key, or why there is none.
fn look_up(store: &FileStore, of: &str, named: &str) -> String {
    match store.look_up(&user(of), &name(named)) {
        Ok(key) => key.expose_secret().to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_key_is_found_by_its_owner_and_name_only() {
    let place = Place::new();
    let store = place.store();
    put(&store, "ada", "work", "canary-1");
    put(&store, "ada", "home", "canary-2");
    assert_eq!(look_up(&store, "ada", "work"), "canary-1");
    for (of, named) in [("bob", "work"), ("ada", "other")] {
        assert_eq!(look_up(&store, of, named), "there is no key of this name");
    }
    let listed = store.list(Some(&user("ada"))).expect("a list");
    assert_eq!(listed.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["home", "work"]);
    assert!(store.list(Some(&user("bob"))).expect("a list").is_empty());
}

#[test]
fn the_file_is_private_and_has_no_key_in_it() {
    let place = Place::new();
    put(&place.store(), "ada", "work", "canary-key");
    let text = place.text();
    assert!(text.contains("\"ada\"") && !text.contains("canary"), "{text}");
    let mode = fs::metadata(place.folder.path().join(FILE_NAME)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn another_key_takes_the_place_of_the_first_and_keeps_its_birthday() {
    let place = Place::new();
    let (store, other) = (place.store(), place.store());
    put(&store, "ada", "work", "first");
    let before = store.list(None).expect("a list").remove(0);
    put(&other, "ada", "work", "second");
    assert_eq!(look_up(&store, "ada", "work"), "second", "a change by another process is seen");
    let after = store.list(None).expect("a list").remove(0);
    assert_eq!(after.created_at, before.created_at);
    assert!(after.updated_at > before.updated_at);
}

#[test]
fn a_key_that_was_removed_is_gone() {
    let place = Place::new();
    let store = place.store();
    put(&store, "ada", "work", "canary");
    assert!(store.remove(&user("ada"), &name("work")).expect("removed"));
    assert!(!store.remove(&user("ada"), &name("work")).expect("nothing to remove"));
    assert_eq!(look_up(&store, "ada", "work"), "there is no key of this name");
    assert!(!place.text().contains("ada"));
}

#[test]
fn entries_that_were_swapped_open_for_nobody() {
    let place = Place::new();
    let store = place.store();
    put(&store, "ada", "work", "of-ada");
    put(&store, "bob", "work", "of-bob");
    let swapped =
        place.text().replace("\"ada\"", "\"tmp\"").replace("\"bob\"", "\"ada\"").replace("\"tmp\"", "\"bob\"");
    fs::write(place.folder.path().join(FILE_NAME), swapped).expect("ours");
    for of in ["ada", "bob"] {
        assert_eq!(look_up(&store, of, "work"), "the key can't be used as it is kept");
    }
    place.try_store().expect("what is lost doesn't keep a server from its start");
    put(&store, "ada", "work", "anew");
    assert_eq!(look_up(&store, "ada", "work"), "anew");
}

#[test]
fn a_wrong_master_key_is_told_at_the_start_by_its_id() {
    let mut place = Place::new();
    put(&place.store(), "ada", "work", "canary");
    let sealed = place.store().keys.sealing().to_string();
    place.settings.key = Some(MasterKeys::generate());
    let error = place.try_store().expect_err("the wrong key").to_string();
    assert!(error.contains(&sealed) && error.contains("credentials.key"), "{error}");
}

#[test]
fn rekeying_leaves_the_old_master_key_without_use() {
    let mut place = Place::new();
    let (old, new) = (place.settings.key.clone().expect("it has one"), MasterKeys::generate());
    put(&place.store(), "ada", "work", "canary-1");
    put(&place.store(), "bob", "work", "canary-2");
    place.settings.key = Some(format!("{} {}", new.expose_secret(), old.expose_secret()).into());
    put(&place.store(), "bob", "work", "canary-3");
    assert_eq!(place.store().rekey().expect("both are given"), 1, "bob's was sealed with the new one already");
    assert_eq!(place.store().rekey().expect("both are given"), 0);
    place.settings.key = Some(new);
    assert_eq!(look_up(&place.store(), "ada", "work"), "canary-1");
    assert_eq!(look_up(&place.store(), "bob", "work"), "canary-3");
    place.settings.key = Some(old);
    assert!(place.try_store().is_err());
}

#[test]
fn a_user_can_not_fill_the_file() {
    let place = Place::new();
    let store = place.store();
    for number in 0..OF_A_USER_MAX {
        put(&store, "ada", &format!("key-{number}"), "canary");
    }
    let refused = store.put(&user("ada"), &name("another"), &"canary".into());
    assert!(matches!(refused, Err(FileStoreError::TooMany)));
    put(&store, "ada", "key-0", "changed");
    put(&store, "bob", "key-0", "canary");
    for bad in ["", "two words", "newline\n", &"x".repeat(KEY_MAX + 1)] {
        let refused = store.put(&user("bob"), &name("bad"), &bad.into());
        assert!(matches!(refused, Err(FileStoreError::NotAKey)), "{bad:?}");
    }
}

#[test]
fn a_file_that_is_not_ours_or_of_a_later_time_is_an_error() {
    let place = Place::new();
    let path = place.folder.path().join(FILE_NAME);
    let store = place.store();
    for (text, said) in [
        ("{\"entries\": []}", "is not a file of credentials"),
        ("{\"version\": 1, \"entries\": [], \"more\": 1}", "is not a file of credentials"),
        ("{\"version\": 2, \"else\": []}", "is of version 2"),
    ] {
        fs::write(&path, text).expect("ours");
        let error = place.try_store().expect_err("not ours").to_string();
        assert!(error.contains(said), "{error}");
        assert!(store.put(&user("ada"), &name("work"), &"canary".into()).is_err(), "it is not written over");
        assert_eq!(look_up(&store, "ada", "work"), "where keys are kept can't be reached");
    }
}

#[test]
fn a_key_file_that_everybody_can_read_is_refused() {
    let mut place = Place::new();
    let path = place.folder.path().join("master");
    let key = place.settings.key.take().expect("it has one");
    fs::write(&path, key.expose_secret()).expect("ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
    place.settings.key_file = Some(path.clone());
    let error = place.try_store().expect_err("refused").to_string();
    assert!(error.starts_with("credentials.key_file: ") && error.contains("chmod 600"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    put(&place.store(), "ada", "work", "canary");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_once() {
    let place = Place::new();
    let (store, other) = (place.store(), place.store());
    let quiet = tokio::time::timeout(Duration::from_secs(10), store.changed()).await;
    assert!(quiet.is_err(), "nothing was changed");
    put(&other, "ada", "work", "canary");
    tokio::time::timeout(Duration::from_secs(10), store.changed()).await.expect("it was changed");
    let quiet = tokio::time::timeout(Duration::from_secs(10), store.changed()).await;
    assert!(quiet.is_err(), "that was told already");
    assert_eq!(store.key(&user("ada"), &name("work")).await.expect("there").expose_secret(), "canary");
}
