//! The key for the model API, where it is one that is kept: changed there, it is changed here.

use tracing::{info, warn};

use super::Driver;
use crate::{ids::CredentialName, session::given::FoundKey};

impl Driver {
    /// Takes what was found under a name, if that is still the name of the session's key. Calls under way go on with the key they have.
    pub(super) fn key_found(&mut self, name: &CredentialName, found: FoundKey) {
        let bound = self.session.with_status(|status| {
            let same = status.preferences.credential.as_ref() == Some(name);
            same.then_some(status.needs_credential)
        });
        let Some(needs_credential) = bound else { return };
        let (key, gone) = match found {
            FoundKey::Key(key) => (Some(key), false),
            FoundKey::Gone => (None, true),
            FoundKey::Unknown => (None, false),
        };
        let same = match (&self.binding.key, &key) {
            (Some(bound), Some(key)) => bound.is_same(key),
            (bound, key) => bound.is_none() && key.is_none(),
        };
        if same && self.binding.key_missing == key.is_none() && needs_credential == gone {
            return;
        }
        match &key {
            Some(_) => info!(credential = %name, "a session goes on with the key that is kept now"),
            None => warn!(credential = %name, gone, "a session goes on without a key"),
        }
        self.binding.key_missing = key.is_none();
        self.binding.key = key;
        self.lease.bind(self.binding.clone());
        self.session.locked().needs_credential = gone;
    }
}
