//! The fake engine's containers, and what it saw happen to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Instant,
};

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{INSTANCE, script::Script, supervisor::Death};
use greenroom::{
    ids::{Epoch, SlotId, TemplateName},
    runtime::{BoxState, ContainerId, Found, Memory},
    sandbox::spec::SandboxSpec,
};

/// One container.
#[derive(Debug)]
pub struct Container {
    /// Whose it is.
    pub label: String,
    /// Its slot.
    pub slot: SlotId,
    /// Its template.
    pub template: TemplateName,
    /// The image it was made from.
    pub image: String,
    /// What it is doing.
    pub state: BoxState,
    /// Who spoke to its agent, in order.
    pub voices: Vec<String>,
    /// What it uses of its memory, if anybody can tell.
    pub(super) memory: Option<Memory>,
    pub(super) epoch: Epoch,
    /// Whether nobody asked for it in this run.
    pub(super) planted: bool,
    pub(super) socket: PathBuf,
    pub(super) deaths: Option<mpsc::Sender<Death>>,
    pub(super) supervisor: Option<AbortOnDropHandle<()>>,
}

/// What the engine saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Containers made here, at most at any instant.
    pub most: usize,
    /// Starts in progress, at most at any instant.
    pub most_starting: usize,
    /// Containers made here so far.
    pub made: usize,
    /// What was done to others' containers.
    pub trespasses: Vec<String>,
    /// Containers that heard more than one user.
    pub overlaps: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) script: Script,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) starting: BTreeSet<SlotId>,
    /// Starts that an operator gave up.
    pub(super) given_up: BTreeSet<SlotId>,
    pub(super) numbers: u64,
    pub(super) seen: Seen,
    /// Containers made here, at most at any instant since somebody asked.
    pub(super) most_since: usize,
    pub(super) dead: BTreeMap<SlotId, Instant>,
}

impl State {
    pub(super) fn put(&mut self, container: Container) -> String {
        self.numbers += 1;
        let id = format!("c{}", self.numbers);
        let planted = container.planted;
        self.containers.insert(id.clone(), container);
        if !planted {
            self.most_since = self.most_since.max(self.made_here());
            self.seen.most = self.seen.most.max(self.most_since);
            self.seen.made += 1;
        }
        id
    }

    pub(super) fn made_here(&self) -> usize {
        self.containers.values().filter(|found| !found.planted).count()
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(gone) = self.containers.remove(id) {
            self.starting.remove(&gone.slot);
        }
    }

    /// The container, if it is ours to touch.
    pub(super) fn ours(&mut self, id: &str, what: &str) -> Option<&mut Container> {
        let container = self.containers.get_mut(id)?;
        if container.label == INSTANCE {
            return Some(container);
        }
        self.seen.trespasses.push(format!("{what} {id} of {:?}", container.label));
        None
    }
}

impl Container {
    /// One that is made here.
    pub(super) fn of(spec: &SandboxSpec) -> Self {
        Self {
            image: spec.image.clone(),
            template: spec.template.clone(),
            epoch: spec.epoch.clone(),
            state: BoxState::Created,
            planted: false,
            socket: spec.run_dir.join("link.sock"),
            ..Self::planted(INSTANCE, &spec.slot)
        }
    }

    /// One that somebody else made.
    pub(super) fn planted(label: &str, slot: &SlotId) -> Self {
        Self {
            label: label.to_owned(),
            slot: slot.clone(),
            template: TemplateName::parse("planted").expect("a good name"),
            image: String::new(),
            state: BoxState::Running,
            voices: Vec::new(),
            memory: None,
            epoch: Epoch::random(),
            planted: true,
            socket: PathBuf::new(),
            deaths: None,
            supervisor: None,
        }
    }

    /// As the engine's list names it.
    pub(super) fn found(&self, id: &str) -> Found {
        Found {
            container: ContainerId(id.to_owned()),
            slot: self.slot.clone(),
            epoch: self.epoch.clone(),
            template: self.template.clone(),
            state: self.state,
        }
    }
}
