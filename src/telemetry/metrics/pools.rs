//! The pools' instruments that are read, not counted: each scrape has them as the pools tell them at that moment, and nothing of a pool that is gone.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, proto::MetricFamily};

use super::super::labels::{MissReason, SandboxState};
use crate::ids::TemplateName;

/// One pool at the moment of a scrape.
#[derive(Debug, Clone)]
pub struct PoolSample {
    /// Its template.
    pub template: TemplateName,
    /// Its sandboxes, state by state.
    pub states: [StateSample; 4],
    /// Opens that wait.
    pub waiting: usize,
    /// Warm sandboxes to keep now.
    pub target: usize,
    /// The least of that.
    pub min: usize,
    /// The most of that.
    pub max: usize,
    /// Those in stock that wait to be replaced.
    pub stale: usize,
    /// Opens served from stock at once, since the pool exists.
    pub hits: u64,
    /// The other opens, since the pool exists.
    pub misses: [(MissReason, u64); 6],
}

/// The sandboxes of one pool that are in one state.
#[derive(Debug, Clone, Copy)]
pub struct StateSample {
    /// What they are doing.
    pub state: SandboxState,
    /// How many.
    pub count: usize,
    /// The memory they use together, in bytes, as far as it was looked at; none: nobody looked at any of them yet.
    pub memory_bytes: Option<u64>,
}

/// Instruments that live for one scrape.
struct Scrape {
    sandboxes: IntGaugeVec,
    memory: IntGaugeVec,
    waiting: IntGaugeVec,
    target: IntGaugeVec,
    min: IntGaugeVec,
    max: IntGaugeVec,
    stale: IntGaugeVec,
    hits: IntCounterVec,
    misses: IntCounterVec,
}

/// What the samples come to.
pub(super) fn families(samples: &[PoolSample]) -> Vec<MetricFamily> {
    let registry = Registry::new();
    let scrape = Scrape::new(&registry);
    for sample in samples {
        scrape.note(sample);
    }
    registry.gather()
}

impl Scrape {
    fn new(registry: &Registry) -> Self {
        let by_template = ["template"];
        let by_state = ["template", "state"];
        Self {
            sandboxes: gauge(registry, "greenroom_sandboxes", "Sandboxes by state", &by_state),
            memory: gauge(registry, "greenroom_sandbox_memory_bytes", "Memory that sandboxes use", &by_state),
            waiting: gauge(registry, "greenroom_pool_waiting", "Opens that wait for a sandbox", &by_template),
            target: gauge(registry, "greenroom_pool_target", "Warm sandboxes to keep now, by demand", &by_template),
            min: gauge(registry, "greenroom_pool_min", "Warm sandboxes to keep at least", &by_template),
            max: gauge(registry, "greenroom_pool_max", "Warm sandboxes to keep at most", &by_template),
            stale: gauge(registry, "greenroom_pool_stale", "Warm sandboxes that wait to be replaced", &by_template),
            hits: counter(registry, "greenroom_pool_hits_total", "Opens served from stock at once", &by_template),
            misses: counter(registry, "greenroom_pool_misses_total", "The other opens", &["template", "reason"]),
        }
    }

    fn note(&self, sample: &PoolSample) {
        let template = sample.template.as_str();
        for StateSample { state, count, memory_bytes } in sample.states {
            let labels = [template, state.as_str()];
            self.sandboxes.with_label_values(&labels).set(level(count));
            if let Some(bytes) = memory_bytes {
                self.memory.with_label_values(&labels).set(level(bytes));
            }
        }
        for (gauge, count) in [
            (&self.waiting, sample.waiting),
            (&self.target, sample.target),
            (&self.min, sample.min),
            (&self.max, sample.max),
            (&self.stale, sample.stale),
        ] {
            gauge.with_label_values(&[template]).set(level(count));
        }
        self.hits.with_label_values(&[template]).inc_by(sample.hits);
        for (reason, count) in sample.misses {
            self.misses.with_label_values(&[template, reason.as_str()]).inc_by(count);
        }
    }
}

fn level(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn gauge(registry: &Registry, name: &str, text: &str, labels: &[&str]) -> IntGaugeVec {
    let gauge = IntGaugeVec::new(Opts::new(name, text), labels).expect("the name and the labels are good ones");
    registry.register(Box::new(gauge.clone())).expect("no other instrument has this name");
    gauge
}

fn counter(registry: &Registry, name: &str, text: &str, labels: &[&str]) -> IntCounterVec {
    let counter = IntCounterVec::new(Opts::new(name, text), labels).expect("the name and the labels are good ones");
    registry.register(Box::new(counter.clone())).expect("no other instrument has this name");
    counter
}
