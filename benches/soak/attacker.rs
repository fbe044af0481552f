//! Somebody who kills, removes and pauses containers of the server, whatever they are doing.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use super::{census::Engine, tally::Tally, visitors::Chance};

/// Between two blows, at least and at most.
const PAUSE_S: (u64, u64) = (2, 6);

/// Somebody at work.
pub struct Attacker {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What is done to a container.
#[derive(Debug, Clone, Copy)]
pub enum Blow {
    Kill,
    Remove,
    Pause,
}

impl Attacker {
    /// Begins.
    pub fn begin(engine: Engine, instance: String, seed: u64, tally: &Arc<Tally>) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let (tally, mut chance) = (Arc::clone(tally), Chance(seed ^ 0xb10));
        let task = tokio::spawn(async move {
            loop {
                let pause = PAUSE_S.0 * 1000 + chance.below((PAUSE_S.1 - PAUSE_S.0) * 1000);
                if timeout(Duration::from_millis(pause), &mut stopped).await.is_ok() {
                    return;
                }
                let containers = engine.running(&instance).await.unwrap_or_default();
                let Ok(many) = u64::try_from(containers.len()) else { continue };
                let Some(target) = containers.get(usize::try_from(chance.below(many.max(1))).unwrap_or_default())
                else {
                    continue;
                };
                let blow =
                    [Blow::Kill, Blow::Remove, Blow::Pause][usize::try_from(chance.below(3)).unwrap_or_default()];
                // It may have ended by itself meanwhile.
                if engine.strike(blow, target).await.is_ok() {
                    tally.blow(blow);
                }
            }
        });
        Self { stop, task }
    }

    /// Ends, after the blow under way.
    pub async fn end(self) {
        let _it_has_panicked = self.stop.send(());
        let _told_by_the_panic = self.task.await;
    }
}
