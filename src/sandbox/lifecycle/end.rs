//! Ends sandboxes: whatever is left of one is destroyed here, however it came to an end.
//!
//! [`Remains`] hold what exists of a sandbox; dropping them posts it to the one [`Reaper`], unless the server stops and leaves it to the next. The reaper's queue is the only unbounded one in the
//! house, because `Drop` can't wait; it is bounded all the same by the census, which admits nothing new while the old takes up room.
//! Removal is repeated with growing pauses until the engine confirms it: a container we know is never forgotten.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{debug, error, warn};

use crate::{
    gateway::{Binding, SlotGateway},
    runtime::{ContainerId, PostMortem, Runtime, RuntimeError},
    sandbox::{
        census::{Entry, SandboxState},
        link::{Leaving, Link},
        slot::Slot,
    },
};

/// Containers destroyed at the same time; the engine gains nothing from more.
const PARALLEL: usize = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

type WhenGone = Box<dyn FnOnce(&Slot) + Send + Sync>;

/// What exists of a sandbox.
struct Parts {
    slot: Slot,
    container: Container,
    gateway: Option<SlotGateway>,
    link: Option<Link>,
    when_gone: Option<WhenGone>,
    entry: Entry,
    /// Its agent is booted and its slot says so: another run of the server can take it up.
    lasts: bool,
}

/// What we know of the container.
enum Container {
    None,
    /// The engine was asked to make it and refused, or isn't there: it may exist all the same.
    Asked,
    /// The engine was asked and has not answered in time: until this moment it may still make it. Until then it takes up room, or the engine's list
    /// would have more than the capacity.
    Late(Instant),
    Made(ContainerId),
}

/// Holds what exists of a sandbox; dropping it hands that to the reaper.
pub struct Remains {
    parts: Option<Box<Parts>>,
    reaper: Reaper,
    /// Whoever waits for the reaper waits for us too.
    token: TaskTrackerToken,
}

impl Remains {
    /// Begins with the folder.
    #[must_use]
    pub fn new(slot: Slot, entry: Entry, reaper: Reaper) -> Self {
        let parts =
            Parts { slot, container: Container::None, gateway: None, link: None, when_gone: None, entry, lasts: false };
        let token = reaper.tracker.token();
        Self { parts: Some(Box::new(parts)), reaper, token }
    }

    /// From here on a stopping server may leave it running for the next one: its slot says that it is ready.
    pub fn lasts(&mut self) {
        self.parts_mut().lasts = true;
    }

    /// Lets go of it without ending it: container, slot and workspace stay as they are for the next run of the server. Our sockets are closed.
    /// Before its agent is let go of, [`Reaper::leave_what_lasts`] has to be called, or the agent's stdin is closed.
    pub fn leave(mut self) {
        drop(self.parts.take());
    }

    /// The folder.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        &self.parts().slot
    }

    /// The container, if the engine has made it.
    #[must_use]
    pub fn container(&self) -> Option<&ContainerId> {
        match &self.parts().container {
            Container::Made(id) => Some(id),
            Container::None | Container::Asked | Container::Late(_) => None,
        }
    }

    /// The engine is about to be asked for a container.
    pub fn creating(&mut self) {
        self.parts_mut().container = Container::Asked;
    }

    /// The engine didn't answer within the deadline. It is given as long again to do what it was asked for.
    pub fn created_late(&mut self, deadline: Duration) {
        self.parts_mut().container = Container::Late(Instant::now() + deadline);
    }

    /// The engine has made it.
    pub fn container_is(&mut self, id: ContainerId) {
        let parts = self.parts_mut();
        parts.entry.container_is(id.clone());
        parts.container = Container::Made(id);
    }

    /// The slot's way out.
    pub fn gateway_is(&mut self, gateway: SlotGateway) {
        self.parts_mut().gateway = Some(gateway);
    }

    /// The slot's link.
    pub fn link_is(&mut self, link: Link) {
        let parts = self.parts_mut();
        parts.entry.condemner_is(link.condemner());
        parts.link = Some(link);
    }

    /// The slot's link, once its supervisor has called.
    #[must_use]
    pub fn link(&self) -> Option<&Link> {
        self.parts().link.as_ref()
    }

    /// See [`super::Sandbox::when_gone`].
    pub fn when_gone(&mut self, then: impl FnOnce(&Slot) + Send + Sync + 'static) {
        self.parts_mut().when_gone = Some(Box::new(then));
    }

    /// See [`super::Sandbox::bind`].
    pub fn bind(&self, binding: Binding) {
        if let Some(gateway) = &self.parts().gateway {
            gateway.bind(binding);
        }
    }

    /// See [`super::Sandbox::unbind`].
    pub fn unbind(&self) {
        if let Some(gateway) = &self.parts().gateway {
            gateway.unbind();
        }
    }

    /// Says in the census what the sandbox is doing.
    pub fn advance(&self, state: SandboxState) {
        self.parts().entry.advance(state);
    }

    /// See [`super::Sandbox::post_mortem`].
    pub async fn post_mortem(&self) -> Option<PostMortem> {
        let container = self.container()?;
        match self.reaper.runtime.post_mortem(container).await {
            Ok(found) => found,
            Err(error) => {
                debug!(%error, "the engine could not say how a container ended");
                None
            }
        }
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().expect("only drop takes the parts")
    }

    fn parts_mut(&mut self) -> &mut Parts {
        self.parts.as_mut().expect("only drop takes the parts")
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        if parts.lasts && self.reaper.leaving.has_begun() {
            debug!(slot = %parts.slot.id(), "a sandbox is left to the next run of the server");
            return;
        }
        parts.entry.advance(SandboxState::Ending);
        // The agent's way out closes now, not when the reaper gets to it.
        if let Some(gateway) = &parts.gateway {
            gateway.unbind();
        }
        if self.reaper.queue.send((parts, self.token.clone())).is_err() {
            warn!("a sandbox outlived the reaper; the next start of the server destroys it");
        }
    }
}

/// Posts remains to the task that destroys them. Cheap to clone.
#[derive(Clone)]
pub struct Reaper {
    queue: mpsc::UnboundedSender<(Box<Parts>, TaskTrackerToken)>,
    runtime: Arc<dyn Runtime>,
    /// Counts what exists and isn't destroyed yet.
    tracker: TaskTracker,
    leaving: Leaving,
}

impl Reaper {
    /// Starts the reaper. After `stop` it gives up on containers the engine won't remove; until then it never does.
    #[must_use]
    pub fn spawn(runtime: Arc<dyn Runtime>, stop: CancellationToken) -> Self {
        #[expect(clippy::disallowed_methods, reason = "fed from Drop, which can't wait; bounded by the census")]
        let (queue, mut arrivals) = mpsc::unbounded_channel::<(Box<Parts>, TaskTrackerToken)>();
        let tracker = TaskTracker::new();
        let engine = Arc::clone(&runtime);
        let permits = Arc::new(Semaphore::new(PARALLEL));
        tokio::spawn(async move {
            loop {
                let parts = tokio::select! {
                    parts = arrivals.recv() => parts,
                    () = stop.cancelled() => arrivals.try_recv().ok(),
                };
                let Some((parts, token)) = parts else { break };
                let (engine, permits, stop) = (Arc::clone(&engine), Arc::clone(&permits), stop.clone());
                tokio::spawn(async move {
                    destroy(&*engine, *parts, &permits, &stop).await;
                    drop(token);
                });
            }
        });
        Self { queue, runtime, tracker, leaving: Leaving::default() }
    }

    /// From here on whatever is dropped and can be taken up by the next run of the server is left running, its folder and its workspace as
    /// they are. What doesn't last is destroyed all the same, and so is what was posted before.
    pub fn leave_what_lasts(&self) {
        self.leaving.begin();
    }

    /// What the links of this server look at.
    #[must_use]
    pub fn leaving(&self) -> Leaving {
        self.leaving.clone()
    }

    /// Waits until nothing is left: neither remains that somebody holds, nor any that were posted. The caller sets the deadline.
    pub async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn destroy(runtime: &dyn Runtime, parts: Parts, permits: &Semaphore, stop: &CancellationToken) {
    let Parts { slot, container, gateway, link, when_gone, entry, lasts: _ } = parts;
    drop(gateway);
    let mut pause = FIRST_PAUSE;
    loop {
        match remove(runtime, &container, &slot, permits).await {
            Ok(Removed::Gone) => break,
            Ok(Removed::NotYet) => debug!(slot = %slot.id(), "a container may still come"),
            Err(error) => warn!(%error, slot = %slot.id(), "a container could not be removed; trying again"),
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = stop.cancelled() => {
                warn!(slot = %slot.id(), "a container is left behind; the next start of the server destroys it");
                return;
            }
        }
    }
    drop(link);
    // The entry goes last: until here the sandbox takes up room, and its slot is known to the sweep.
    let finished = tokio::task::spawn_blocking(move || {
        if let Some(then) = when_gone
            && std::panic::catch_unwind(AssertUnwindSafe(|| then(&slot))).is_err()
        {
            error!(slot = %slot.id(), "what was to happen after a sandbox's end panicked");
        }
        if let Err(error) = slot.remove() {
            error!(%error, slot = %slot.id(), "a slot's folder could not be removed");
        }
        drop(entry);
    });
    if finished.await.is_err() {
        error!("the end of a sandbox panicked");
    }
}

/// One try. It has a permit only for as long as it asks: a container that won't go must not keep others from going.
async fn remove(
    runtime: &dyn Runtime,
    container: &Container,
    slot: &Slot,
    permits: &Semaphore,
) -> Result<Removed, RuntimeError> {
    let _one_of_a_few = permits.acquire().await;
    match container {
        Container::None => Ok(Removed::Gone),
        Container::Made(id) => runtime.remove(id).await.map(|()| Removed::Gone),
        Container::Asked | Container::Late(_) => {
            let mut found_any = false;
            for found in runtime.list().await?.iter().filter(|found| found.slot == *slot.id()) {
                runtime.remove(&found.container).await?;
                found_any = true;
            }
            let may_come = matches!(container, Container::Late(until) if Instant::now() < *until);
            Ok(if may_come && !found_any { Removed::NotYet } else { Removed::Gone })
        }
    }
}

/// What one try came to.
enum Removed {
    Gone,
    /// There is nothing to remove, but there may be in a moment.
    NotYet,
}
