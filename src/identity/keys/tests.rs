//! The key file: what it holds, who may write it, and what becomes of it when several do.

use std::{
    fs,
    os::unix::fs::{self as unix_fs, MetadataExt as _, PermissionsExt as _},
    thread,
};

use super::*;

fn store() -> (tempfile::TempDir, KeyStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyStore::in_folder(&folder.path().join("state"));
    (folder, store)
}

fn alice() -> NewKey {
    NewKey::of(UserId::parse("alice").unwrap())
}

#[test]
fn a_missing_file_holds_no_keys() {
    assert!(store().1.list().unwrap().is_empty());
}

#[test]
fn the_file_is_private_and_does_not_hold_the_token() {
    let (_folder, store) = store();
    let (key, token) = store.create(NewKey { name: Some("laptop".to_owned()), ..alice() }).unwrap();
    let text = fs::read_to_string(store.path()).unwrap();
    assert!(text.contains(&key.id) && !text.contains(token.expose_secret()));
    assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_revoked_key_is_gone_and_the_others_stay() {
    let (_folder, store) = store();
    let (first, _) = store.create(alice()).unwrap();
    let (second, _) = store.create(alice()).unwrap();
    assert!(store.revoke(&first.id).unwrap());
    assert!(!store.revoke(&first.id).unwrap());
    assert_eq!(store.list().unwrap().into_iter().map(|key| key.id).collect::<Vec<_>>(), [second.id]);
}

#[test]
fn writers_at_the_same_time_lose_no_key() {
    let (_folder, store) = store();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| drop(store.create(alice()).unwrap())));
        }
    });
    assert_eq!(store.list().unwrap().len(), 20);
}

#[test]
fn files_made_as_root_belong_to_the_owner_of_the_folder() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_folder, store) = store();
    let folder = store.path().parent().unwrap();
    fs::create_dir(folder).unwrap();
    unix_fs::chown(folder, Some(10_001), Some(10_002)).unwrap();
    for _ in 0..2 {
        store.create(alice()).unwrap();
        for file in [store.path(), &store.path().with_extension("lock")] {
            let data = fs::metadata(file).unwrap();
            assert_eq!((data.uid(), data.gid()), (10_001, 10_002), "{}", file.display());
        }
        // As one that was made by root before.
        unix_fs::chown(store.path().with_extension("lock"), Some(0), Some(0)).unwrap();
    }
}

#[test]
fn a_lock_that_leads_elsewhere_is_not_followed() {
    let (folder, store) = store();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(store.path().parent().unwrap()).unwrap();
    unix_fs::symlink(&elsewhere, store.path().with_extension("lock")).unwrap();
    assert!(matches!(store.create(alice()), Err(KeyStoreError::File(PrivateFileError::Io { action: "open", .. }))));
    assert!(!elsewhere.exists());
}

#[test]
fn a_file_that_is_not_ours_is_an_error_not_an_empty_list() {
    let (_folder, store) = store();
    store.create(alice()).unwrap();
    fs::write(store.path(), "{\"keys\": [{\"id\": 1}]}").unwrap();
    assert!(matches!(store.list(), Err(KeyStoreError::Format { .. })));
    assert!(matches!(store.create(alice()), Err(KeyStoreError::Format { .. })));
}

#[test]
fn a_key_says_what_it_allows_and_until_when() {
    let (_folder, store) = store();
    let (usual, _) = store.create(alice()).unwrap();
    assert_eq!((usual.scopes, usual.tier, usual.expires_at), (vec![Scope::Sessions], None, None));
    let (scopes, tier) = (vec![Scope::Read, Scope::Admin, Scope::Read], TierName::parse("gold").ok());
    let lifetime = Some(Duration::from_secs(60));
    store.create(NewKey { scopes, tier: tier.clone(), lifetime, ..alice() }).unwrap();
    let key = store.list().unwrap().pop().unwrap();
    assert_eq!((key.scopes.as_slice(), &key.tier), (&[Scope::Read, Scope::Admin][..], &tier));
    assert!(!key.is_expired(key.created_at) && key.is_expired(key.created_at + Duration::from_secs(60)));
    let endless = store.create(NewKey { lifetime: Some(Duration::MAX), ..alice() }).unwrap();
    assert_eq!(endless.0.expires_at, None);
}

#[test]
fn the_file_of_a_former_version_opens_and_its_keys_allow_what_they_did() {
    let (_folder, store) = store();
    store.create(alice()).unwrap();
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let former = format!(
        r#"{{"keys": [{{"id": "key_1", "user": "ada", "created_at": "2026-01-01T00:00:00Z", "prefix": "gr_abcd", "sha256": "{hash}"}}]}}"#
    );
    fs::write(store.path(), former).unwrap();
    let key = store.list().unwrap().remove(0);
    assert_eq!((key.scopes, key.tier, key.expires_at), (vec![Scope::Sessions], None, None));
}

#[test]
fn keys_that_expired_long_ago_are_forgotten_when_one_is_made() {
    let (_folder, store) = store();
    let (old, _) = store.create(NewKey { lifetime: Some(Duration::from_secs(1)), ..alice() }).unwrap();
    let text = fs::read_to_string(store.path()).unwrap();
    let expires_at = old.expires_at.unwrap();
    let long_ago = (expires_at - REMEMBERED - SignedDuration::from_secs(60)).to_string();
    fs::write(store.path(), text.replace(&expires_at.to_string(), &long_ago)).unwrap();
    let (recent, _) = store.create(NewKey { lifetime: Some(Duration::ZERO), ..alice() }).unwrap();
    let (last, _) = store.create(alice()).unwrap();
    assert_eq!(store.list().unwrap().into_iter().map(|key| key.id).collect::<Vec<_>>(), [recent.id, last.id]);
}

#[test]
fn a_name_that_would_garble_a_list_is_refused() {
    let (_folder, store) = store();
    for bad in ["", "two\nlines", "\u{1b}[31m", &"x".repeat(NAME_MAX + 1)] {
        assert!(matches!(store.create(NewKey { name: Some(bad.to_owned()), ..alice() }), Err(KeyStoreError::Name)));
    }
}
