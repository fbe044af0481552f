//! What the operators' door gets of the app: the use cases, the settings and the metrics.

use std::{collections::HashMap, sync::Arc};

use tracing::{info, warn};

use super::App;
use crate::{
    doors::admin::{Operators, Reload, RenderMetrics},
    ids::TemplateName,
    pool::{Misses, Pool, PoolFigures, Pools},
    problem::Problem,
    sandbox::census::{Record, SandboxState},
    telemetry::{
        labels::{self, MissReason},
        metrics::pools::{PoolSample, StateSample},
    },
};

impl App {
    /// What the operators' door serves.
    pub(super) fn operators(&self) -> Operators {
        let service = Arc::clone(&self.service);
        Operators { service, reload: self.asked_reload(), render_metrics: self.metrics_text() }
    }

    fn asked_reload(&self) -> Reload {
        let reload = Arc::clone(&self.reload);
        Arc::new(move || {
            let reload = Arc::clone(&reload);
            Box::pin(async move {
                info!("an operator asks for the settings to be read again");
                reload.reload().await.map_err(|error| {
                    warn!(%error, "settings are not reloaded; those in effect stay so");
                    Problem::from(error)
                })
            })
        })
    }

    /// Renders the metrics; what can be counted now is counted at that moment.
    fn metrics_text(&self) -> RenderMetrics {
        let (metrics, pools) = (self.engine.metrics.clone(), Arc::clone(&self.pools));
        let runtime = tokio::runtime::Handle::current();
        Arc::new(move || {
            metrics.set_tasks(runtime.metrics().num_alive_tasks());
            metrics.render_with(samples(&pools))
        })
    }
}

fn samples(pools: &Pools) -> Vec<PoolSample> {
    let mut memory: HashMap<(TemplateName, SandboxState), u64> = HashMap::new();
    for Record { template, state, memory_bytes, .. } in pools.sandboxes().into_iter().map(|sandbox| sandbox.record) {
        if let Some(bytes) = memory_bytes {
            *memory.entry((template, state)).or_default() += bytes;
        }
    }
    let used = |pool: &Pool, state| memory.get(&(pool.name().clone(), state)).copied();
    pools.all().iter().map(|pool| sample(pool, |state| used(pool, state))).collect()
}

fn sample(pool: &Pool, memory_bytes: impl Fn(SandboxState) -> Option<u64>) -> PoolSample {
    let PoolFigures { counts, stale, waiting, target, min, max, tally, .. } = pool.figures();
    let Misses { empty, template_changed, over_target, workspace, refused, given_up } = tally.misses;
    let state = |label, state, count| {
        // None of them use nothing; of those nobody has looked at yet, nothing is told.
        let nobody = (count == 0).then_some(0);
        StateSample { state: label, count, memory_bytes: memory_bytes(state).or(nobody) }
    };
    PoolSample {
        template: pool.name().clone(),
        states: [
            state(labels::SandboxState::Starting, SandboxState::Starting, counts.starting),
            state(labels::SandboxState::Ready, SandboxState::Ready, counts.ready),
            state(labels::SandboxState::Leased, SandboxState::Leased, counts.leased),
            state(labels::SandboxState::Ending, SandboxState::Ending, counts.ending),
        ],
        waiting,
        target,
        min,
        max,
        stale,
        hits: tally.hits,
        misses: [
            (MissReason::Empty, empty),
            (MissReason::Workspace, workspace),
            (MissReason::TemplateChanged, template_changed),
            (MissReason::OverTarget, over_target),
            (MissReason::Refused, refused),
            (MissReason::GivenUp, given_up),
        ],
    }
}
