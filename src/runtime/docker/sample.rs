//! A sandbox for the tests of this room.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::hardening::Setting;
use crate::{
    ids::{Epoch, SlotId, TemplateName},
    runtime::Owner,
    sandbox::spec::{Limits, SandboxSpec},
};

pub(super) fn spec() -> SandboxSpec {
    SandboxSpec {
        slot: SlotId::from_client("slot-one"),
        epoch: Epoch::from_client("epoch-one"),
        template: TemplateName::parse("gemini").expect("a good name"),
        image: "sha256:0123".to_owned(),
        command: vec!["agent".to_owned(), "--acp".to_owned()],
        env: BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]),
        home: "/home/agent".to_owned(),
        limits: Limits::default(),
        supervisor: PathBuf::from("/opt/greenroom-supervisor"),
        run_dir: PathBuf::from("/state/slots/one/run"),
        box_dir: PathBuf::from("/state/slots/one/box"),
        orphan_grace: Duration::from_secs(60),
        ring_bytes: 4 * 1024 * 1024,
    }
}

pub(super) fn setting() -> Setting {
    Setting {
        instance: "test".to_owned(),
        owner: Owner { uid: 10_001, gid: 10_001 },
        oci_runtime: None,
        cgroup_parent: "/greenroom-test".to_owned(),
        podman: None,
    }
}
