//! How much room all sandboxes together have: by number, and by the memory of the engine's machine.

use tracing::{info, warn};

use crate::{config::Config, runtime::Runtime, sandbox::census::Capacity};

const MIB: u64 = 1024 * 1024;

/// The room these settings give on a machine with so much memory. Of an engine that doesn't say how much it has, nothing is assumed.
pub(super) fn of(config: &Config, machine_bytes: Option<u64>) -> Capacity {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a machine's memory in MiB needs no more than 52 bits and is positive"
    )]
    let share = machine_bytes.map(|bytes| ((bytes / MIB) as f64 * config.pool.memory_share) as u64);
    let memory_mib = [share, config.runtime.memory_mib].into_iter().flatten().min().unwrap_or(u64::MAX);
    Capacity { sandboxes: config.pool.cap, memory_mib }
}

/// The ceiling that the kernel keeps over all sandboxes together is the same memory: what their limits promise, they may use, and no more.
pub(super) fn bound(runtime: &dyn Runtime, capacity: Capacity) {
    if capacity.memory_mib < u64::MAX {
        runtime.limit_all(capacity.memory_mib);
    }
}

/// Tells how much room there is: the smaller of two numbers, of which only one is in the settings.
pub(super) fn tell(capacity: Capacity) {
    let Capacity { sandboxes, memory_mib } = capacity;
    let memory_mib = (memory_mib < u64::MAX).then_some(memory_mib);
    info!(sandboxes, memory_mib, "room for sandboxes");
}

/// Tells an operator in time that the settings promise more than there is room for.
pub(super) fn warn_of_too_little(config: &Config, capacity: Capacity) {
    let wanted: u64 = config
        .templates
        .values()
        .map(|template| template.limits.memory_mib.saturating_mul(template.min_warm(&config.pool) as u64))
        .fold(0, u64::saturating_add);
    if wanted > capacity.memory_mib {
        warn!(
            wanted_mib = wanted,
            there_is_mib = capacity.memory_mib,
            "the warm sandboxes of all templates may use more memory than there is for sandboxes: fewer are kept; lower the templates' \
             limits.memory_mib or min_warm, or raise pool.memory_share"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(share: f64, ceiling: Option<u64>) -> Config {
        let mut config = Config::default();
        config.pool.memory_share = share;
        config.runtime.memory_mib = ceiling;
        config
    }

    #[test]
    fn memory_is_a_share_of_the_machine_and_never_above_the_ceiling() {
        let machine = Some(16 * 1024 * MIB);
        for (share, ceiling, machine, expected) in [
            (0.5, None, machine, 8 * 1024),
            (2.0, None, machine, 32 * 1024),
            (0.5, Some(1024), machine, 1024),
            (0.8, Some(4096), None, 4096),
            (0.8, None, None, u64::MAX),
        ] {
            assert_eq!(of(&config(share, ceiling), machine).memory_mib, expected, "{share} {ceiling:?} {machine:?}");
        }
    }
}
