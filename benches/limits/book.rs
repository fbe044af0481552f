//! Users without end who go through the limits, in this process: what is remembered of them.

use anyhow::Context as _;
use greenroom::{config::Config, ids::UserId, limits::Limits};
use serde::Serialize;
use std::time::Instant;

use super::server::resident;

/// What a million users left.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Book {
    /// Distinct users, each with an open, a prompt and another call.
    pub users: u64,
    /// Those who could be counted; others wait until somebody is forgotten.
    pub granted: u64,
    /// Nanoseconds for one call.
    pub each_ns: f64,
    /// What the limits took, in MiB: growth of this process's resident set.
    pub growth_mib: f64,
}

/// Sends all users through limits of their own.
pub fn measure(users: u64) -> anyhow::Result<Book> {
    let limits = Limits::new(&Config::default())?;
    let usual = limits.of(None);
    let before = resident("self")?;
    let begun = Instant::now();
    let mut granted = 0;
    for number in 0..users {
        let user = UserId::parse(&format!("a-user-as-an-identity-provider-names-them-{number:020}"))?;
        let counted =
            [usual.check_open(&user).is_ok(), usual.check_prompt(&user).is_ok(), usual.check_read(&user).is_ok()];
        granted += u64::from(counted == [true; 3]);
    }
    let took = begun.elapsed();
    let after = resident("self").context("this process is gone")?;
    drop(limits);
    #[expect(clippy::cast_precision_loss, reason = "millions")]
    Ok(Book {
        users,
        granted,
        each_ns: (took.as_nanos() as f64 / users as f64 / 3.0).round(),
        growth_mib: (after.saturating_sub(before) as f64 / 1024.0 / 1024.0 * 100.0).round() / 100.0,
    })
}
