//! A pool, as users and operators see it.

use std::time::Duration;

use poem_openapi::{Enum, Object, types::Example};

use super::Time;
use crate::{
    ids::TemplateName,
    service::view::{Counts, Histogram, PoolFailure, PoolFigures, PoolMisses, PoolMode, PoolView, Tally},
};

/// What an operator lets a pool do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum PoolState {
    /// All it is for.
    Active,
    /// Nothing is started; what is in stock is served.
    Paused,
    /// Nothing is kept and nobody is served; open sessions go on.
    Draining,
}

impl From<PoolMode> for PoolState {
    fn from(mode: PoolMode) -> Self {
        match mode {
            PoolMode::Active => Self::Active,
            PoolMode::Paused => Self::Paused,
            PoolMode::Draining => Self::Draining,
        }
    }
}

/// Why a sandbox could not be made ready.
#[derive(Debug, Clone, Object)]
pub struct StartFailure {
    /// When.
    pub time: Time,
    /// In which phase: `create`, `start`, `link`, `initialize` or `session`.
    pub phase: String,
    /// A sentence for people.
    pub detail: String,
}

impl From<PoolFailure> for StartFailure {
    fn from(failure: PoolFailure) -> Self {
        Self { time: Time(failure.time), phase: failure.phase.to_owned(), detail: failure.detail }
    }
}

/// Opens that were not served from stock at once, by reason, since the server started.
#[derive(Debug, Clone, Object)]
pub struct Misses {
    /// There should have been a sandbox in stock and there was none.
    pub empty: u64,
    /// An existing workspace needed a new agent session.
    pub workspace: u64,
    /// The stock was being replaced because the template changed.
    pub template_changed: u64,
    /// The template kept no stock.
    pub over_target: u64,
    /// Answered with an error.
    pub refused: u64,
    /// The caller hung up while waiting.
    pub given_up: u64,
}

impl From<PoolMisses> for Misses {
    fn from(misses: PoolMisses) -> Self {
        let PoolMisses { empty, workspace, template_changed, over_target, refused, given_up } = misses;
        Self { empty, workspace, template_changed, over_target, refused, given_up }
    }
}

/// How many durations fell between the bucket before and this one's bound.
#[derive(Debug, Clone, Object)]
pub struct Bucket {
    /// The upper bound, in milliseconds, itself included; null: everything above the others.
    #[oai(nullable)]
    pub le: Option<u64>,
    /// How many.
    pub count: u64,
}

fn buckets(histogram: &Histogram) -> Vec<Bucket> {
    histogram.buckets().map(|(le, count)| Bucket { le, count }).collect()
}

/// The sandboxes of one template.
#[derive(Debug, Clone, Object)]
#[oai(example)]
pub struct Pool {
    /// The template.
    pub template: String,
    /// What its operator lets it do.
    pub state: PoolState,
    /// Ready and waiting.
    pub warm: u64,
    /// Being started.
    pub starting: u64,
    /// Leased.
    pub leased: u64,
    /// Being destroyed.
    pub ending: u64,
    /// Those ready that were made before the template changed, or are too old: they go as soon as others are ready.
    pub stale: u64,
    /// Opens that wait for a sandbox.
    pub waiting: u64,
    /// Warm sandboxes it keeps now, by demand.
    pub target: u64,
    /// The least of that.
    pub min_warm: u64,
    /// The most of that.
    pub max_warm: u64,
    /// Sandboxes in all, at most; shared by all pools.
    pub cap: u64,
    /// Opens that are over, since the server started.
    pub opens: u64,
    /// Those served from stock at once. With the misses they make up the opens.
    pub hits: u64,
    /// The share of opens that were served from stock at once, 0 to 1; null: there was none yet.
    #[oai(nullable)]
    pub hit_rate: Option<f64>,
    /// The other opens, by reason.
    pub misses: Misses,
    /// How long opens waited for their sandbox, in milliseconds; those that got one.
    pub wait_ms: Vec<Bucket>,
    /// How long it took from the taking of a sandbox until its replacement was ready, in milliseconds.
    pub refill_lag_ms: Vec<Bucket>,
    /// The last failures, newest first.
    pub last_failures: Vec<StartFailure>,
}

impl From<PoolView> for Pool {
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    fn from(pool: PoolView) -> Self {
        let PoolView { template, figures } = pool;
        let PoolFigures { mode, counts, stale, waiting, target, min, max, cap, tally, failures, .. } = figures;
        Self {
            template: template.to_string(),
            state: mode.into(),
            warm: counts.ready as u64,
            starting: counts.starting as u64,
            leased: counts.leased as u64,
            ending: counts.ending as u64,
            stale: stale as u64,
            waiting: waiting as u64,
            target: target as u64,
            min_warm: min as u64,
            max_warm: max as u64,
            cap: cap as u64,
            opens: tally.opens,
            hits: tally.hits,
            hit_rate: (tally.opens > 0).then(|| tally.hits as f64 / tally.opens as f64),
            misses: tally.misses.into(),
            wait_ms: buckets(&tally.wait),
            refill_lag_ms: buckets(&tally.refill_lag),
            last_failures: failures.into_iter().map(Into::into).collect(),
        }
    }
}

/// What the document's example is made of.
fn example_view() -> PoolView {
    let (mut wait, mut refill_lag) = (Histogram::default(), Histogram::default());
    for micros in [300, 350, 400, 1_400_000] {
        wait.add(Duration::from_micros(micros));
    }
    for millis in [1_300, 1_700, 1_500] {
        refill_lag.add(Duration::from_millis(millis));
    }
    let misses = PoolMisses { empty: 1, ..PoolMisses::default() };
    let figures = PoolFigures {
        mode: PoolMode::Active,
        counts: Counts { starting: 1, ready: 3, leased: 2, ending: 0 },
        stale: 0,
        waiting: 0,
        target: 4,
        min: 4,
        max: 8,
        cap: 16,
        tally: Tally { opens: 4, hits: 3, misses, wait, refill_lag },
        failures: Vec::new(),
        failing: None,
        full: false,
    };
    PoolView { template: TemplateName::parse("gemini").expect("a good name"), figures }
}

impl Example for Pool {
    fn example() -> Self {
        example_view().into()
    }
}

/// The pools.
#[derive(Debug, Clone, Object)]
pub struct PoolList {
    /// The pools, by template.
    pub items: Vec<Pool>,
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::ToJSON as _;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_open_is_in_the_hits_or_in_one_kind_of_miss() {
        let pool = Pool::example();
        let Misses { empty, workspace, template_changed, over_target, refused, given_up } = pool.misses;
        assert_eq!(pool.hits + empty + workspace + template_changed + over_target + refused + given_up, pool.opens);
        assert_eq!(pool.hit_rate, Some(0.75));
    }

    #[test]
    fn buckets_are_counted_each_on_its_own_and_the_last_has_no_bound() {
        let pool = Pool::example().to_json().expect("JSON");
        let of = |name: &str| pool[name].as_array().cloned().unwrap_or_default();
        let bounds: Vec<Value> = of("wait_ms").iter().map(|bucket| bucket["le"].clone()).collect();
        assert_eq!(
            bounds,
            json!([1, 5, 10, 50, 100, 500, 1000, 5000, 10000, 30000, null]).as_array().cloned().unwrap_or_default()
        );
        let counts: Vec<Value> = of("wait_ms").iter().map(|bucket| bucket["count"].clone()).collect();
        assert_eq!(counts, json!([3, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).as_array().cloned().unwrap_or_default());
    }

    #[test]
    fn before_the_first_open_there_is_no_rate() {
        let PoolView { template, mut figures } = example_view();
        figures.tally = Tally::default();
        let pool = Pool::from(PoolView { template, figures }).to_json().expect("JSON");
        assert_eq!(pool["hit_rate"], Value::Null);
        assert!(pool.as_object().is_some_and(|pool| pool.contains_key("hit_rate")));
    }
}
