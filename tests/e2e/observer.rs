//! An observer beside the server: it looks at the engine's own list twenty times a second and remembers the most it saw.

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    client::Client,
    engine::{Container, Engine},
    house::House,
    pools::{Sandbox, sandboxes},
};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(50);

/// An observer at work.
#[derive(Debug)]
pub struct Observer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Seen>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// How often it looked.
    pub looks: usize,
    /// The most containers at one look.
    pub most: usize,
    /// The most that were made but not yet started.
    pub most_created: usize,
    /// The most that were there while the server called them `starting`, both before and after the look.
    pub most_starting: usize,
    /// The most that the server itself called `starting` at one moment.
    pub most_told_starting: usize,
    /// How long a container was there that the server did not know, at the longest.
    pub longest_unknown: Duration,
    /// How many containers there were in all.
    pub containers: usize,
}

impl Observer {
    /// Watches the containers of a server, until told to finish.
    pub fn watch(house: &House) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(watch(house.engine().clone(), house.operator(), house.instance.clone(), stopped));
        Self { stop, task }
    }

    /// What was seen so far, which is all.
    pub async fn finish(self) -> Seen {
        let _it_has_failed = self.stop.send(());
        self.task.await.expect("the observer could look")
    }
}

async fn watch(engine: Engine, operator: Client, instance: String, mut stopped: oneshot::Receiver<()>) -> Seen {
    let (mut seen, mut met) = (Seen::default(), HashMap::<String, Option<Instant>>::new());
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = sandboxes(&operator).await;
    while stopped.try_recv().is_err() {
        tick.tick().await;
        let containers = engine.containers(&instance).await;
        let after = sandboxes(&operator).await;
        seen.look(&containers, &before, &after);
        for container in &containers {
            let known = before.iter().chain(&after).any(|sandbox| sandbox.is_in(container));
            let since = met.entry(container.id.clone()).or_default();
            *since =
                if known || container.state == "removing" { None } else { Some(since.unwrap_or_else(Instant::now)) };
            let unknown = since.map(|since| since.elapsed()).unwrap_or_default();
            seen.longest_unknown = seen.longest_unknown.max(unknown);
        }
        before = after;
    }
    seen.containers = met.len();
    seen
}

impl Seen {
    fn look(&mut self, containers: &[Container], before: &[Sandbox], after: &[Sandbox]) {
        let starting = |sandboxes: &[Sandbox], container: &Container| {
            sandboxes.iter().any(|sandbox| sandbox.state == "starting" && sandbox.is_in(container))
        };
        let during = containers.iter().filter(|one| starting(before, one) && starting(after, one)).count();
        let created = containers.iter().filter(|one| one.state == "created").count();
        self.looks += 1;
        self.most = self.most.max(containers.len());
        self.most_created = self.most_created.max(created);
        self.most_starting = self.most_starting.max(during);
        let told = after.iter().filter(|sandbox| sandbox.state == "starting").count();
        self.most_told_starting = self.most_told_starting.max(told);
    }
}
