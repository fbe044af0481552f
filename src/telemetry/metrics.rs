//! Every instrument of the server: name, unit, labels, meaning.
//!
//! | name | unit, kind | labels | meaning |
//! |---|---|---|---|
//! | `greenroom_build_info` | 1, gauge | version | which build this is |
//! | `greenroom_sandboxes` | gauge | template, state | sandboxes by state |
//! | `greenroom_sandbox_starts_total` | counter | template, outcome, phase | starts that ended, and in which phase |
//! | `greenroom_sandbox_start_duration_seconds` | histogram | template, phase | how long each phase of a start took |
//! | `greenroom_sandbox_memory_bytes` | bytes, gauge | template, state | memory they use, all of a state together |
//! | `greenroom_sandboxes_discarded_total` | counter | template, why | warm sandboxes that left the stock unused |
//! | `greenroom_pool_target` | gauge | template | warm sandboxes to keep now, by demand |
//! | `greenroom_pool_min`, `greenroom_pool_max` | gauge | template | the least and the most of that |
//! | `greenroom_pool_stale` | gauge | template | warm sandboxes that wait to be replaced |
//! | `greenroom_pool_waiting` | gauge | template | opens that wait for a sandbox |
//! | `greenroom_pool_hits_total` | counter | template | opens served from stock at once |
//! | `greenroom_pool_misses_total` | counter | template, reason | the other opens, by reason |
//! | `greenroom_pool_refill_lag_seconds` | histogram | template | the taking of a sandbox to its replacement's being ready |
//! | `greenroom_opens_total` | counter | template, start, outcome | opens that ended |
//! | `greenroom_open_duration_seconds` | histogram | template, start | request to session |
//! | `greenroom_open_wait_seconds` | histogram | template | the part of it spent waiting for a sandbox |
//! | `greenroom_sessions` | gauge | | sessions that are open |
//! | `greenroom_turns_total` | counter | template, outcome | turns that ended |
//! | `greenroom_turn_first_output_seconds` | histogram | template | prompt to the agent's first output |
//! | `greenroom_turn_duration_seconds` | histogram | template | prompt to the end of the turn |
//! | `greenroom_agent_skipped_lines_total` | counter | template | lines of agents that were no protocol |
//! | `greenroom_gateway_requests_total` | counter | outcome | model calls of agents |
//! | `greenroom_egress_requests_total` | counter | outcome | hosts that agents' tools asked for |
//! | `greenroom_egress_bytes_total` | bytes, counter | direction | bytes that passed between tools and hosts |
//! | `greenroom_tokens_total` | counter | direction | tokens, as the model counted them |
//! | `greenroom_http_requests_total` | counter | route, method, status | requests of users and operators |
//! | `greenroom_http_request_duration_seconds` | histogram | route, method | request to the head of its answer |
//! | `greenroom_audit_lines_total` | counter | outcome | lines for the audit log |
//! | `greenroom_event_streams` | gauge | | event streams that are open |
//! | `greenroom_tasks` | gauge | | tasks of the server's runtime: grows with sandboxes, sessions and connections, and falls with them |
//!
//! Labels are the names of templates and values of the enums in [`super::labels`], never anything a user chose: their number
//! is bounded. Each [`Metrics`] has a registry of its own and there is no global one, so tests don't share counts.

pub mod pools;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _, UpDownCounter},
};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider};
use prometheus::{Registry, TextEncoder};

use super::labels::{
    AuditOutcome, Discard, EgressOutcome, GatewayOutcome, OpenOutcome, OpenStart, Phase, StartTimes, TurnOutcome,
    method_label,
};
use crate::ids::TemplateName;
use pools::PoolSample;

/// Upper bounds of the histograms' buckets, in seconds: 0.5 ms (a warm open) to 30 s (a queue's patience).
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// All instruments. A clone counts into the same registry.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    registry: Registry,
    /// Keeps the reader behind `registry` alive.
    _provider: SdkMeterProvider,
    /// The hits each pool told at the last scrape. A few lines at a time.
    hits: Mutex<HashMap<TemplateName, u64>>,
    sandbox_starts: Counter<u64>,
    sandbox_start_duration: Histogram<f64>,
    sandboxes_discarded: Counter<u64>,
    refill_lag: Histogram<f64>,
    opens: Counter<u64>,
    open_duration: Histogram<f64>,
    open_wait: Histogram<f64>,
    sessions: UpDownCounter<i64>,
    turns: Counter<u64>,
    turn_first_output: Histogram<f64>,
    turn_duration: Histogram<f64>,
    agent_skipped_lines: Counter<u64>,
    gateway_requests: Counter<u64>,
    egress_requests: Counter<u64>,
    egress_bytes: Counter<u64>,
    tokens: Counter<u64>,
    http_requests: Counter<u64>,
    http_request_duration: Histogram<f64>,
    audit_lines: Counter<u64>,
    event_streams: UpDownCounter<i64>,
    tasks: Gauge<u64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        // Names below are whole names: nothing is added to them.
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .expect("a new registry has no collector that ours could clash with");
        let provider =
            SdkMeterProvider::builder().with_resource(Resource::builder_empty().build()).with_reader(reader).build();
        let meter = provider.meter("greenroom");
        let build = meter.u64_gauge("greenroom_build_info").with_description("Which build this is").build();
        build.record(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]);
        Self(Arc::new(Instruments::new(registry, provider, &meter)))
    }
}

impl Instruments {
    fn new(registry: Registry, provider: SdkMeterProvider, meter: &Meter) -> Self {
        let counter = |name: &'static str, text: &'static str| meter.u64_counter(name).with_description(text).build();
        let level = |name: &'static str, text: &'static str| {
            let level = meter.i64_up_down_counter(name).with_description(text).build();
            level.add(0, &[]);
            level
        };
        let seconds = |name: &'static str, text: &'static str| {
            meter.f64_histogram(name).with_description(text).with_unit("s").with_boundaries(SECONDS.to_vec()).build()
        };
        Self {
            registry,
            _provider: provider,
            hits: Mutex::default(),
            sandbox_starts: counter("greenroom_sandbox_starts_total", "Starts that ended, and in which phase"),
            sandbox_start_duration: seconds(
                "greenroom_sandbox_start_duration_seconds",
                "How long each phase of a start took",
            ),
            sandboxes_discarded: counter(
                "greenroom_sandboxes_discarded_total",
                "Warm sandboxes that left the stock unused",
            ),
            refill_lag: seconds(
                "greenroom_pool_refill_lag_seconds",
                "The taking of a sandbox to its replacement's being ready",
            ),
            opens: counter("greenroom_opens_total", "Opens that ended"),
            open_duration: seconds("greenroom_open_duration_seconds", "Request to session"),
            open_wait: seconds("greenroom_open_wait_seconds", "Time an open waited for a sandbox"),
            sessions: level("greenroom_sessions", "Sessions that are open"),
            turns: counter("greenroom_turns_total", "Turns that ended"),
            turn_first_output: seconds("greenroom_turn_first_output_seconds", "Prompt to the agent's first output"),
            turn_duration: seconds("greenroom_turn_duration_seconds", "Prompt to the end of the turn"),
            agent_skipped_lines: counter(
                "greenroom_agent_skipped_lines_total",
                "Lines of agents that were no protocol",
            ),
            gateway_requests: counter("greenroom_gateway_requests_total", "Model calls of agents"),
            egress_requests: counter("greenroom_egress_requests_total", "Hosts that agents' tools asked for"),
            egress_bytes: counter("greenroom_egress_bytes_total", "Bytes that passed between tools and hosts"),
            tokens: counter("greenroom_tokens_total", "Tokens, as the model counted them"),
            http_requests: counter("greenroom_http_requests_total", "Requests of users and operators"),
            http_request_duration: seconds(
                "greenroom_http_request_duration_seconds",
                "Request to the head of its answer",
            ),
            audit_lines: counter("greenroom_audit_lines_total", "Lines for the audit log"),
            event_streams: level("greenroom_event_streams", "Event streams that are open"),
            tasks: meter.u64_gauge("greenroom_tasks").with_description("Tasks of the server's runtime").build(),
        }
    }
}

fn of(template: &TemplateName) -> KeyValue {
    KeyValue::new("template", template.to_string())
}

impl Metrics {
    /// Instruments with a registry of their own, all at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that was counted, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_with(Vec::new())
    }

    /// The same, and how the pools are now.
    #[must_use]
    pub fn render_with(&self, mut pools: Vec<PoolSample>) -> String {
        self.never_fewer_hits(&mut pools);
        let mut families = self.0.registry.gather();
        families.extend(pools::families(&pools));
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics can't be written as text");
            String::new()
        })
    }

    /// A hit may turn out to be a miss a moment later, when its workspace needs a new agent session. To Prometheus a counter that goes back has
    /// begun anew, and all of it would count once more; so it stays where it was until the pool is there again.
    fn never_fewer_hits(&self, pools: &mut [PoolSample]) {
        let mut told = self.0.hits.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in &mut *pools {
            pool.hits = pool.hits.max(told.get(&pool.template).copied().unwrap_or_default());
        }
        *told = pools.iter().map(|pool| (pool.template.clone(), pool.hits)).collect();
    }

    /// A sandbox became ready.
    pub fn sandbox_started(&self, template: &TemplateName, times: &StartTimes) {
        let labels = [of(template), KeyValue::new("outcome", "ok"), KeyValue::new("phase", Phase::Total.as_str())];
        self.0.sandbox_starts.add(1, &labels);
        for (phase, time) in times.each() {
            let labels = [of(template), KeyValue::new("phase", phase.as_str())];
            self.0.sandbox_start_duration.record(time.as_secs_f64(), &labels);
        }
    }

    /// A sandbox could not be made ready; it got as far as `phase`.
    pub fn sandbox_failed(&self, template: &TemplateName, phase: Phase) {
        let labels = [of(template), KeyValue::new("outcome", "error"), KeyValue::new("phase", phase.as_str())];
        self.0.sandbox_starts.add(1, &labels);
    }

    /// A warm sandbox left the stock without having been leased.
    pub fn sandbox_discarded(&self, template: &TemplateName, why: Discard) {
        self.0.sandboxes_discarded.add(1, &[of(template), KeyValue::new("why", why.as_str())]);
    }

    /// A sandbox that was taken has been replaced.
    pub fn refilled(&self, template: &TemplateName, after: Duration) {
        self.0.refill_lag.record(after.as_secs_f64(), &[of(template)]);
    }

    /// An open ended. `wait` is the part of `total` spent waiting for a sandbox; durations are recorded for opens that succeeded.
    pub fn opened(
        &self,
        template: &TemplateName,
        start: OpenStart,
        outcome: OpenOutcome,
        wait: Duration,
        total: Duration,
    ) {
        let start = KeyValue::new("start", start.as_str());
        self.0.opens.add(1, &[of(template), start.clone(), KeyValue::new("outcome", outcome.as_str())]);
        if outcome == OpenOutcome::Ok {
            self.0.open_duration.record(total.as_secs_f64(), &[of(template), start]);
            self.0.open_wait.record(wait.as_secs_f64(), &[of(template)]);
        }
    }

    /// A session is open until the answer is dropped.
    #[must_use = "the session counts as open until this is dropped"]
    pub fn session(&self) -> Counted {
        Counted::new(self.0.sessions.clone())
    }

    /// How many tasks the server's runtime has now.
    pub fn set_tasks(&self, count: usize) {
        self.0.tasks.record(count as u64, &[]);
    }

    /// This became of lines for the audit log.
    pub fn audit_lines(&self, outcome: AuditOutcome, count: u64) {
        self.0.audit_lines.add(count, &[KeyValue::new("outcome", outcome.as_str())]);
    }

    /// An event stream is open until the answer is dropped.
    #[must_use = "the stream counts as open until this is dropped"]
    pub fn event_stream(&self) -> Counted {
        Counted::new(self.0.event_streams.clone())
    }

    /// A turn's first output came.
    pub fn turn_first_output(&self, template: &TemplateName, after: Duration) {
        self.0.turn_first_output.record(after.as_secs_f64(), &[of(template)]);
    }

    /// A turn ended.
    pub fn turn_ended(&self, template: &TemplateName, outcome: TurnOutcome, after: Duration) {
        self.0.turns.add(1, &[of(template), KeyValue::new("outcome", outcome.as_str())]);
        self.0.turn_duration.record(after.as_secs_f64(), &[of(template)]);
    }

    /// Counts lines that are no protocol, of all agents of a template.
    #[must_use]
    pub fn agent_skipped_lines(&self, template: &TemplateName) -> SkippedLines {
        SkippedLines(Some((self.0.agent_skipped_lines.clone(), of(template))))
    }

    /// A model call of an agent ended.
    pub fn gateway_request(&self, outcome: GatewayOutcome) {
        self.0.gateway_requests.add(1, &[KeyValue::new("outcome", outcome.as_str())]);
    }

    /// A tool asked for a host, or lost one that it had.
    pub fn egress(&self, outcome: EgressOutcome) {
        self.0.egress_requests.add(1, &[KeyValue::new("outcome", outcome.as_str())]);
    }

    /// A tool's connection to a host is over.
    pub fn egress_bytes(&self, sent: u64, received: u64) {
        self.0.egress_bytes.add(sent, &[KeyValue::new("direction", "sent")]);
        self.0.egress_bytes.add(received, &[KeyValue::new("direction", "received")]);
    }

    /// The model counted tokens.
    pub fn tokens(&self, input: u64, output: u64) {
        self.0.tokens.add(input, &[KeyValue::new("direction", "input")]);
        self.0.tokens.add(output, &[KeyValue::new("direction", "output")]);
    }

    /// A request was answered. `route` is the pattern of the route (`/v1/sessions/{id}`), never the path: a path is the user's.
    pub fn http_request(&self, route: &str, method: &str, status: u16, after: Duration) {
        let labels = [KeyValue::new("route", route.to_owned()), KeyValue::new("method", method_label(method))];
        self.0.http_request_duration.record(after.as_secs_f64(), &labels);
        let [route, method] = labels;
        self.0.http_requests.add(1, &[route, method, KeyValue::new("status", i64::from(status))]);
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

/// Lines that are no protocol. The default counts nowhere.
#[derive(Clone, Default)]
pub struct SkippedLines(Option<(Counter<u64>, KeyValue)>);

impl SkippedLines {
    /// An agent wrote one.
    pub fn count(&self) {
        if let Some((counter, template)) = &self.0 {
            counter.add(1, std::slice::from_ref(template));
        }
    }
}

impl std::fmt::Debug for SkippedLines {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SkippedLines")
    }
}

/// Something that is counted while it lives.
pub struct Counted(UpDownCounter<i64>);

impl Counted {
    fn new(level: UpDownCounter<i64>) -> Self {
        level.add(1, &[]);
        Self(level)
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Counted")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add(-1, &[]);
    }
}

#[cfg(test)]
mod tests;
