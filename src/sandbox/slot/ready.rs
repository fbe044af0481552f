//! What a slot says of its sandbox once its agent is booted: enough for another run of the server to take it up.
//!
//! The file is written before anybody may have the sandbox, and appears whole or not at all. It holds nothing of any user: a template's settings
//! and what the agent was told at its boot.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Slot;
use crate::{config::Template, ids::TemplateName};

const READY: &str = "ready";
const UNFINISHED: &str = ".ready.new";

/// A digest of everything a sandbox is made from: two sandboxes with the same are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub(in crate::sandbox) String);

/// What a slot says of its sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// The template's name.
    pub template: TemplateName,
    /// What it was made from.
    pub fingerprint: Fingerprint,
    /// The template's settings then: a leased sandbox goes on as it was made.
    pub settings: Template,
    /// What the protocol must know to take the agent up again.
    pub memory: Value,
    /// When its boot was done.
    pub since: Timestamp,
}

impl Ready {
    /// How long ago that was. A clock that was set back makes nothing younger than it is now.
    #[must_use]
    pub fn age(&self) -> Duration {
        Timestamp::now().duration_since(self.since).try_into().unwrap_or_default()
    }
}

impl Slot {
    /// Writes down that the sandbox is ready.
    ///
    /// # Errors
    /// The file system says no.
    pub fn mark_ready(&self, ready: &Ready) -> io::Result<()> {
        let new = self.dir.join(UNFINISHED);
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(ready)?)?;
        fs::rename(new, self.dir.join(READY))
    }

    /// What is written down of a sandbox that is ready. None: it never was, or another version of this program wrote what can't be understood.
    #[must_use]
    pub fn ready(&self) -> Option<Ready> {
        serde_json::from_slice(&fs::read(self.dir.join(READY)).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::SlotId,
        sandbox::slot::{Owner, Slots},
    };

    fn ready() -> Ready {
        Ready {
            template: TemplateName::parse("gemini").expect("a good name"),
            fingerprint: Fingerprint("f".to_owned()),
            settings: Template::default(),
            memory: serde_json::json!({"session": "s"}),
            since: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_is_written_is_read_and_half_of_it_is_nothing() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let slots = Slots::open(state.path(), Owner::own()).expect("a temporary folder takes folders");
        let slot = slots.create(&SlotId::random()).expect("made");
        assert_eq!(slot.ready(), None);
        slot.mark_ready(&ready()).expect("written");
        assert_eq!(slot.ready(), Some(ready()));
        let text = fs::read(slot.dir.join(READY)).expect("there");
        fs::write(slot.dir.join(READY), &text[..text.len() / 2]).expect("written");
        assert_eq!(slot.ready(), None);
    }
}
