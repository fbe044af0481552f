//! The fake engine as the pool sees it.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::{
    sync::{broadcast, mpsc},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Container, Engine,
    script::{Call, ENGINE_DEADLINE, SLOW, Way},
    supervisor,
};
use greenroom::{
    runtime::{BoxState, ContainerId, EngineEvent, EngineFacts, Found, Memory, Runtime, RuntimeError, RuntimeKind},
    sandbox::spec::SandboxSpec,
};

/// A [`Runtime`] that asks the fake engine.
#[derive(Debug, Clone)]
pub struct FakeRuntime(pub Arc<Engine>);

fn refused(call: &'static str, reason: &str) -> RuntimeError {
    RuntimeError::Refused { call, reason: reason.to_owned() }
}

const fn too_late(call: &'static str) -> RuntimeError {
    RuntimeError::Deadline { call, seconds: 0 }
}

impl FakeRuntime {
    /// Lets the engine do something the way its script says, whether the caller waits for the answer or not.
    async fn ask<T: Send + 'static>(
        &self,
        call: Call,
        name: &'static str,
        effect: impl FnOnce(&Arc<Engine>) -> Result<T, RuntimeError> + Send + 'static,
        over: impl FnOnce(&Engine) + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let engine = Arc::clone(&self.0);
        let way = engine.meet(call);
        let doing = tokio::spawn(async move {
            let answer = match way {
                Way::Ok => effect(&engine),
                Way::Error => Err(refused(name, "not today")),
                Way::Slow => {
                    sleep(SLOW).await;
                    effect(&engine)
                }
                Way::Twice => effect(&engine).and_then(|_| Err(refused(name, "it was asked for twice"))),
                Way::Never => {
                    let done = effect(&engine);
                    sleep(ENGINE_DEADLINE).await;
                    done.and_then(|_| Err(too_late(name)))
                }
                Way::Late => {
                    let engine = Arc::clone(&engine);
                    sleep(ENGINE_DEADLINE).await;
                    tokio::spawn(async move {
                        sleep(SLOW).await;
                        effect(&engine).map(drop)
                    });
                    Err(too_late(name))
                }
            };
            if answer.is_err() {
                over(&engine);
            }
            answer
        });
        doing.await.expect("the fake engine doesn't panic")
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Docker
    }

    fn workspace_inside(&self, _box_dir: &std::path::Path) -> String {
        "/sandbox/workspace".to_owned()
    }

    async fn engine(&self) -> Result<EngineFacts, RuntimeError> {
        Ok(EngineFacts { version: "fake".to_owned(), memory_bytes: None, notes: Vec::new() })
    }

    async fn resolve_image(&self, image: &str) -> Result<String, RuntimeError> {
        Ok(format!("id-of-{image}"))
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<ContainerId, RuntimeError> {
        self.0.start_begins(&spec.slot);
        let (spec, slot) = (spec.clone(), spec.slot.clone());
        let make = move |engine: &Arc<Engine>| Ok(ContainerId(engine.state().put(Container::of(&spec))));
        self.ask(Call::Create, "create", make, move |engine| engine.start_is_over(&slot)).await
    }

    async fn start(&self, container: &ContainerId) -> Result<i32, RuntimeError> {
        let (id, failed) = (container.0.clone(), container.0.clone());
        let start = move |engine: &Arc<Engine>| {
            let mut state = engine.state();
            let container = state.ours(&id, "start").ok_or_else(|| refused("start", "no such container"))?;
            let (deaths, orders) = mpsc::channel(4);
            let (own, slot, socket) = (Arc::clone(engine), container.slot.clone(), container.socket.clone());
            let playing = tokio::spawn(async move { supervisor::play(own, slot, &socket, orders).await });
            container.state = BoxState::Running;
            container.deaths = Some(deaths);
            container.supervisor = Some(AbortOnDropHandle::new(playing));
            Ok(i32::try_from(std::process::id()).expect("process ids fit"))
        };
        let over = move |engine: &Engine| {
            let slot = engine.state().containers.get(&failed).map(|container| container.slot.clone());
            if let Some(slot) = slot {
                engine.start_is_over(&slot);
            }
        };
        self.ask(Call::Start, "start", start, over).await
    }

    async fn init_of(&self, container: &ContainerId) -> Result<Option<i32>, RuntimeError> {
        let id = container.0.clone();
        let look = move |engine: &Arc<Engine>| {
            let runs = engine.state().ours(&id, "inspect").is_some_and(|found| found.state == BoxState::Running);
            Ok(runs.then(|| i32::try_from(std::process::id()).expect("process ids fit")))
        };
        self.ask(Call::Inspect, "inspect", look, |_| {}).await
    }

    async fn remove(&self, container: &ContainerId) -> Result<(), RuntimeError> {
        let id = container.0.clone();
        let remove = move |engine: &Arc<Engine>| {
            let mut state = engine.state();
            if state.ours(&id, "remove").is_some() {
                state.remove(&id);
            }
            Ok(())
        };
        self.ask(Call::Remove, "remove", remove, |_| {}).await
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let engine = Arc::clone(&self.0);
        let way = engine.meet(Call::List);
        match way {
            Way::Error => return Err(refused("list", "not today")),
            Way::Slow => sleep(SLOW).await,
            Way::Never | Way::Late => {
                sleep(ENGINE_DEADLINE).await;
                return Err(too_late("list"));
            }
            Way::Ok | Way::Twice => {}
        }
        let mut found = engine.list();
        if way == Way::Twice {
            found.extend(engine.list());
        }
        Ok(found)
    }

    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>, RuntimeError> {
        let events = self.0.events.subscribe();
        let told = |mut events: broadcast::Receiver<EngineEvent>| async {
            let event = events.recv().await.ok()?;
            Some((event, events))
        };
        Ok(stream::unfold(events, told).boxed())
    }

    async fn memory(&self, container: &ContainerId) -> Result<Option<Memory>, RuntimeError> {
        let id = container.0.clone();
        let look = move |engine: &Arc<Engine>| Ok(engine.state().ours(&id, "memory").and_then(|found| found.memory));
        self.ask(Call::Memory, "memory", look, |_| {}).await
    }

    async fn verify(&self, _container: &ContainerId, _spec: &SandboxSpec) -> Result<Vec<String>, RuntimeError> {
        Ok(Vec::new())
    }
}
