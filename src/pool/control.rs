//! What an operator and the settings say of a pool, and what it tells of itself.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Failure, Pool, Tally,
    stock::{Inventory, Refusal},
};
use crate::{
    config,
    sandbox::{
        census::{Counts, Generation},
        lifecycle::Recipe,
    },
};

/// What an operator lets a pool do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// All it is for.
    #[default]
    Active,
    /// Nothing is started; what is in stock is served.
    Paused,
    /// Nothing is kept and nobody is served; leases go on.
    Draining,
}

/// What changes in a pool by the operator's word, and what the warmer notes of it.
pub(super) struct Control {
    pub(super) recipe: Recipe,
    pub(super) generation: Generation,
    pub(super) settings: config::Pool,
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) mode: Mode,
    /// Its template is no longer in the settings: it goes when its last lease has ended.
    pub(super) removed: bool,
    /// The template changed, and the stock isn't full of fresh ones yet.
    pub(super) replacing: bool,
    pub(super) target: usize,
    pub(super) pause_until: Instant,
    pub(super) courtesy_until: Instant,
    pub(super) last_turn: u64,
    /// Warm sandboxes of a former run that are on their way into the stock.
    pub(super) coming: usize,
    /// Leases of a former run that were taken over: beyond what the settings allow, if they allow less now.
    pub(super) adopted: usize,
}

impl Control {
    pub(super) fn new(recipe: Recipe, settings: &config::Pool) -> Self {
        let now = Instant::now();
        let (min, max) = (recipe.template.min_warm(settings), recipe.template.max_warm(settings));
        Self {
            recipe,
            generation: Generation::default(),
            settings: settings.clone(),
            min,
            max,
            mode: Mode::Active,
            removed: false,
            replacing: false,
            target: min,
            pause_until: now,
            courtesy_until: now,
            last_turn: 0,
            coming: 0,
            adopted: 0,
        }
    }

    /// Says at once what bounds and mode make of the target; the warmer says the rest.
    fn aim(&mut self) {
        let bounded = self.target.clamp(self.min, self.max.max(self.min));
        self.target = if self.removed || self.mode == Mode::Draining { 0 } else { bounded };
    }
}

/// A pool's figures at one moment.
#[derive(Debug, Clone)]
pub struct PoolFigures {
    /// What its operator lets it do.
    pub mode: Mode,
    /// Sandboxes by state.
    pub counts: Counts,
    /// Those ready that were made before the template changed, or are too old.
    pub stale: usize,
    /// Opens that wait.
    pub waiting: usize,
    /// Warm sandboxes to keep, by demand.
    pub target: usize,
    /// The least of that.
    pub min: usize,
    /// The most of that.
    pub max: usize,
    /// Sandboxes in all, at most: as many as are allowed, or as many of this template as there is memory for.
    pub cap: usize,
    /// How opens came out.
    pub tally: Tally,
    /// The last failures, newest first, however long ago.
    pub failures: Vec<Failure>,
    /// The newest failure, if no start has worked since.
    pub failing: Option<Failure>,
    /// Whether there is no room for another one, even if all stock went.
    pub full: bool,
}

impl Pool {
    /// The figures of this moment.
    #[must_use]
    pub fn figures(&self) -> PoolFigures {
        let Inventory { stale, waiting, .. } = self.inventory(Instant::now());
        let capacity = self.census.capacity();
        let (mode, target, min, max, memory_mib) = {
            let control = self.control();
            let Control { mode, removed, target, min, max, recipe, .. } = &*control;
            let mode = if *removed { &Mode::Draining } else { mode };
            (*mode, *target, *min, *max, recipe.template.limits.memory_mib)
        };
        PoolFigures {
            mode,
            counts: self.census.counts(&self.name),
            stale,
            waiting,
            target,
            min,
            max,
            cap: capacity.sandboxes_of(memory_mib),
            tally: self.figures.tally(),
            failures: self.stock.failures().last(),
            failing: self.stock.failures().present(),
            full: self.census.is_full_without_stock(memory_mib),
        }
    }

    /// Keeps between `min` and `max` warm sandboxes from here on, until the settings are read again.
    pub fn resize(&self, min: usize, max: usize) {
        let mut control = self.control();
        (control.min, control.max) = (min, max);
        control.aim();
        drop(control);
        self.census.tell();
    }

    /// Lets it do this from here on.
    pub fn set_mode(&self, mode: Mode) {
        let mut control = self.control();
        control.mode = mode;
        control.aim();
        drop(control);
        self.tell_mode();
    }

    /// Takes the settings as they are now. Says whether its template changed; its stock is replaced then, and leases are left alone.
    pub(super) fn change(&self, recipe: Recipe, settings: &config::Pool) -> bool {
        let mut control = self.control();
        let changed = !control.recipe.makes_the_same(&recipe);
        if changed {
            control.generation.0 += 1;
            control.replacing = true;
            control.pause_until = Instant::now();
        }
        (control.min, control.max) = (recipe.template.min_warm(settings), recipe.template.max_warm(settings));
        self.egress.send_replace(Arc::new(recipe.template.egress.clone()));
        control.recipe = recipe;
        control.settings = settings.clone();
        if std::mem::take(&mut control.removed) {
            // It begins anew.
            control.mode = Mode::Active;
        }
        control.aim();
        if self.inner.status().max_size < settings.cap + control.adopted {
            self.inner.resize(settings.cap + control.adopted);
        }
        drop(control);
        self.tell_mode();
        changed
    }

    /// Its template is gone from the settings.
    pub(super) fn remove(&self) {
        self.control().removed = true;
        self.tell_mode();
    }

    /// Whether its template is gone from the settings.
    pub(super) fn is_removed(&self) -> bool {
        self.control().removed
    }

    /// Tells those in line, and those to come, what the mode means for them.
    pub(super) fn tell_mode(&self) {
        // Told while nobody can change it: of two who change it at once, the last one's word must stand.
        let control = self.control();
        let refusal = {
            match control.mode {
                _ if control.removed => Some(Refusal::Draining),
                Mode::Draining => Some(Refusal::Draining),
                _ if control.recipe.template.limits.memory_mib > self.census.capacity().memory_mib => {
                    Some(Refusal::TooBig)
                }
                Mode::Paused => Some(Refusal::Paused),
                Mode::Active => None,
            }
        };
        self.stock.refuse(refusal);
        drop(control);
    }
}
