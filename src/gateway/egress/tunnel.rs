//! A tunnel: a greeting that is looked at, then bytes both ways until either end or a rule ends it.

use std::{sync::Arc, time::Duration};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional_with_sizes},
    time::timeout,
};

use super::{
    dial::{Counted, Use},
    door, hello,
    refusal::Refusal,
};

/// Deadline for the tool's greeting, once the host is reached.
const GREETING: Duration = Duration::from_secs(10);
/// Buffer of each direction, in bytes.
const BUFFER: usize = 16 * 1024;

/// A tunnel that was promised to the tool.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// Becomes the tool's end once it has our answer.
    pub inside: OnUpgrade,
    /// The host's end.
    pub outside: Counted,
    /// For what.
    pub used: Arc<Use>,
}

impl Tunnel {
    /// Carries it to its end. Dropped at any point, both ends are closed.
    pub async fn carry(self) {
        let Self { inside, mut outside, used } = self;
        let greeted = timeout(GREETING, async {
            // The tool is gone already: nobody to tell.
            let Ok(inside) = inside.await else { return Ok(None) };
            let mut inside = TokioIo::new(inside);
            let greeting = hello::read(&mut inside, &used.asked.host).await?;
            Ok(greeting.map(|greeting| (inside, greeting)))
        });
        let (mut inside, greeting) = match greeted.await.unwrap_or(Err(Refusal::NotTls)) {
            Ok(Some(greeted)) => greeted,
            Ok(None) => return,
            // There is no way to say why: the answer was given when the host was reached.
            Err(refusal) => return door::tell(&used, refusal.outcome()),
        };
        let carried = async {
            outside.write_all(&greeting).await?;
            drop(greeting);
            copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER).await
        };
        if let Err(error) = carried.await {
            tracing::debug!(%error, egress.host = %used.asked.host, "a tunnel broke off");
        }
    }
}
