//! Keeps the keys of living sessions as they are where they are kept: looked up again and again, told where they are others.
//!
//! Each key is looked up once, however many sessions use it, and few at a time. What fails is tried again soon; the log says once that it fails, and once
//! that it is well again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{KeysAtHand, Named, Service, tell};
use crate::{
    credentials::{KeySource, KeySourceError},
    gateway::ModelKey,
    session::FoundKey,
};

/// When what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Keys that are looked up at the same time.
const AT_ONCE: usize = 8;
/// How long a start waits for the keys of sessions that go on.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// What is known of a key that sessions use.
struct Known {
    /// When somebody last could say what is kept.
    told: Instant,
    failing: bool,
}

impl Service {
    /// Keeps the keys of living sessions up to date, until told to stop.
    pub async fn keep_credentials(self: Arc<Self>, stop: CancellationToken) {
        let Some(source) = self.credentials.source() else { return };
        let mut known = BTreeMap::new();
        let keeping = async {
            loop {
                let well = self.refresh(source, &mut known).await;
                let pause = if well { self.key_refresh } else { self.key_refresh.min(RETRY) };
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.credentials.changed() => {}
                }
            }
        };
        stop.run_until_cancelled(keeping).await;
    }

    /// Looks all keys up that are in use. False: not all could be.
    async fn refresh(&self, source: &dyn KeySource, known: &mut BTreeMap<Named, Known>) -> bool {
        let wanted = self.keys_in_use();
        known.retain(|named, _| wanted.contains(named));
        for named in &wanted {
            known.entry(named.clone()).or_insert_with(|| Known { told: Instant::now(), failing: false });
        }
        let mut found = look_up(source, wanted);
        let mut well = true;
        while let Some((named, outcome)) = found.next().await {
            let Some(known) = known.get_mut(&named) else { continue };
            let found = match outcome {
                Ok(key) => FoundKey::Key(key),
                Err(KeySourceError::NotThere) => FoundKey::Gone,
                Err(error) => {
                    well = false;
                    if !std::mem::replace(&mut known.failing, true) {
                        tell(&error, &named.0, &named.1);
                    }
                    if known.told.elapsed() < self.key_outage {
                        continue;
                    }
                    FoundKey::Unknown
                }
            };
            if !matches!(found, FoundKey::Unknown) {
                known.told = Instant::now();
                if std::mem::replace(&mut known.failing, false) {
                    info!(user = %named.0, credential = %named.1, "a key can be looked up again");
                }
            }
            self.tell_sessions(&named, &found).await;
        }
        well
    }

    /// Those keys of living sessions that can be looked up within a moment.
    pub(in crate::service) async fn keys_at_hand(&self) -> KeysAtHand {
        let mut at_hand = KeysAtHand::new();
        let Some(source) = self.credentials.source() else { return at_hand };
        let mut found = look_up(source, self.keys_in_use());
        let deadline = Instant::now() + START_PATIENCE;
        while let Ok(Some((named, outcome))) = timeout_at(deadline, found.next()).await {
            match outcome {
                Ok(key) => drop(at_hand.insert(named, key)),
                Err(error) => tell(&error, &named.0, &named.1),
            }
        }
        at_hand
    }

    fn keys_in_use(&self) -> BTreeSet<Named> {
        let alive = self.around.registry.live().into_iter();
        let named = alive.filter_map(|session| {
            let name = session.with_status(|status| status.preferences.credential.clone())?;
            Some((session.identity.user.clone(), name))
        });
        named.collect()
    }
}

fn look_up(
    source: &dyn KeySource,
    wanted: BTreeSet<Named>,
) -> impl Stream<Item = (Named, Result<ModelKey, KeySourceError>)> + Unpin {
    let looked = stream::iter(wanted).map(move |named| async move {
        let key = source.key(&named.0, &named.1).await;
        (named, key.map(|key| ModelKey(Arc::new(key))))
    });
    Box::pin(looked.buffer_unordered(AT_ONCE))
}
