//! File descriptors: how many the process may have, and how many of them users' connections get.
//!
//! Whoever takes the last one stops all others: engine calls, links, model calls, the key file. So the soft limit is raised to the hard
//! one at start, and users get what everything else together can't need. The limit inside sandboxes is the template's business.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::gateway::{CONNECTIONS_PER_SLOT, EGRESS_CONNECTIONS_PER_SLOT};

/// Connections to the operators' door at the same time.
pub(super) const OPERATORS: usize = 64;

/// What a sandbox may take: each of its model calls and each of its tools' connections has two ends; three sockets that listen, its link, and some
/// change.
const PER_SANDBOX: usize = 2 * (CONNECTIONS_PER_SLOT + EGRESS_CONNECTIONS_PER_SLOT) + 8;

/// For everything that doesn't grow with sandboxes: operators, 64 idle connections to models, engine calls, files, the log.
const RESERVE: usize = 192 + OPERATORS;

/// Users get as many in any case: a server that takes nobody in is none.
const LEAST: usize = 64;

/// Raises the limit of this process and says how many connections users may have: as many as asked for, or fewer with a warning.
pub(super) fn make_room(sandboxes: usize, asked: usize) -> usize {
    let limit = raise();
    let connections = for_users(limit, sandboxes, asked);
    if connections < asked {
        warn!(
            limit,
            asked,
            connections,
            "server.connections is cut: the limit of open files is too low for it; raise the hard limit (LimitNOFILE=, ulimit -Hn)"
        );
    }
    connections
}

/// Raises the soft limit to the hard one; the limit then, or none if there is no limit.
fn raise() -> Option<u64> {
    let now = getrlimit(Resource::Nofile);
    if now.current == now.maximum {
        return now.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }) {
        Ok(()) => now.maximum,
        Err(error) => {
            warn!(%error, limit = now.current, "the limit of open files can't be raised");
            now.current
        }
    }
}

fn for_users(limit: Option<u64>, sandboxes: usize, asked: usize) -> usize {
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let left = limit.saturating_sub(RESERVE).saturating_sub(sandboxes.saturating_mul(PER_SANDBOX));
    asked.min(left.max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_get_what_sandboxes_and_the_server_itself_cannot_need() {
        for (limit, sandboxes, asked, given) in [
            (None, 16, 16_384, 16_384),
            (Some(1_048_576), 16, 16_384, 16_384),
            (Some(1024), 4, 16_384, 1024 - 256 - 4 * 104),
            (Some(2048), 16, 16_384, 128),
            (Some(2048), 16, 100, 100),
            (Some(1024), 1000, 16_384, 64),
            (Some(0), usize::MAX, 10, 10),
        ] {
            assert_eq!(for_users(limit, sandboxes, asked), given, "{limit:?} {sandboxes} {asked}");
        }
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(raise(), limit.maximum);
    }
}
