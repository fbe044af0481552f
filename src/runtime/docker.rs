//! Sandboxes as containers of Docker, or of Podman, which speaks the same API.
//!
//! Holds nothing that can't be read back from the engine but the connection ([`connection`]), which is made when first needed and made
//! anew when it broke: the engine may be down when the server starts and may restart under it. What a container looks like is in
//! [`hardening`]; whether the engine obeyed, in [`verify`]; what Podman wants otherwise, in [`podman`].

mod ceiling;
mod connection;
mod events;
mod facts;
mod fault;
mod hardening;
mod labels;
mod podman;
mod post_mortem;
#[cfg(test)]
mod sample;
mod usage;
mod verify;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bollard::{
    models::{ContainerInspectResponse, ContainerState, ContainerSummary, ContainerSummaryStateEnum, SystemInfo},
    query_parameters::{
        CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StatsOptionsBuilder,
    },
};
use futures_util::{StreamExt as _, stream::BoxStream};

use self::{
    connection::{Connection, Engine},
    fault::Fault,
    hardening::Setting,
    podman::Manner,
};
use super::{
    BoxState, ContainerId, EngineEvent, EngineFacts, Found, Memory, Owner, PostMortem, Runtime, RuntimeError,
    RuntimeKind,
};
use crate::{
    config,
    sandbox::spec::{SandboxSpec, inside},
};

/// Where the engine listens unless the settings or `DOCKER_HOST` say otherwise.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// The user and group of sandboxes when the server is root; images need no entry for it.
const SANDBOX_UID: u32 = 10_001;
/// How often a removal that somebody else began is looked at.
const GONE_POLL: Duration = Duration::from_millis(50);

/// How long what ends with a container may take to leave its cgroup; Podman has helpers that outlive it for a moment.
const TIDY_PATIENCE: Duration = Duration::from_secs(1);

/// The container runtime.
pub struct Docker {
    connection: Connection,
    instance: String,
    owner: Owner,
    oci_runtime: Option<String>,
    /// The memory ceiling of all containers together, in MiB; 0: none was set.
    memory_mib: AtomicU64,
    call_timeout: Duration,
    start_timeout: Duration,
    odd_labels_told: Once,
}

impl Docker {
    /// Takes the settings; the engine is not called yet and may be down. `instance` is the label of this server's containers.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] when the settings can't work on any engine: an address of an unknown kind, or root as the agent's user.
    pub fn connect(config: &config::Runtime, instance: String) -> Result<Self, RuntimeError> {
        let refused = |reason| RuntimeError::Refused { call: "the settings", reason };
        let address = config.host.clone().or_else(|| std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()));
        let address = address.unwrap_or_else(|| DEFAULT_HOST.to_owned());
        if !["unix://", "tcp://", "http://"].iter().any(|scheme| address.starts_with(scheme)) {
            return Err(refused(format!("runtime.host {address}: must be unix://… or tcp://…")));
        }
        Ok(Self {
            connection: Connection::new(address, config.call_timeout),
            instance,
            owner: choose_owner(config.uid, Owner::own()).map_err(refused)?,
            oci_runtime: config.oci_runtime.clone(),
            memory_mib: AtomicU64::new(0),
            call_timeout: config.call_timeout,
            start_timeout: config.start_timeout,
            odd_labels_told: Once::new(),
        })
    }

    fn setting(&self, engine: &Engine) -> Setting {
        Setting {
            instance: self.instance.clone(),
            owner: self.owner,
            oci_runtime: self.oci_runtime.clone(),
            cgroup_parent: ceiling::parent(&engine.info, &self.instance),
            podman: Manner::of(&engine.version, &engine.info),
        }
    }

    /// Sets the ceiling anew each time it is looked at: it is gone after a reboot, and an empty cgroup may be cleaned away.
    fn set_ceiling(&self, info: &SystemInfo) -> Option<Result<u64, String>> {
        let mib = Some(self.memory_mib.load(Ordering::Relaxed)).filter(|mib| *mib > 0)?;
        Some(ceiling::set(info, &ceiling::parent(info, &self.instance), mib).map(|()| mib))
    }

    async fn inspect(&self, container: &ContainerId) -> Result<ContainerInspectResponse, Fault> {
        let call = "inspect";
        let answer =
            self.connection.call(call, |client| async move { client.inspect_container(&container.0, None).await });
        podman::read_again(answer.await)
    }

    /// Waits until a removal that is under way is done.
    async fn until_gone(&self, container: &ContainerId) -> Result<(), RuntimeError> {
        let gone = async {
            loop {
                match self.inspect(container).await {
                    Err(Fault::Status { code: 404, .. }) => return Ok(()),
                    Err(fault) => return Err(fault.refused("inspect")),
                    Ok(_) => tokio::time::sleep(GONE_POLL).await,
                }
            }
        };
        let late = |_elapsed| Fault::late("remove", self.call_timeout).refused("remove");
        tokio::time::timeout(self.call_timeout, gone).await.map_err(late)?
    }

    fn found(&self, summary: ContainerSummary) -> Option<Found> {
        let marks = summary.labels.as_ref().and_then(|labels| labels::read(labels, &self.instance));
        let (Some(container), Some(marks)) = (summary.id, marks) else {
            self.odd_labels_told.call_once(|| {
                tracing::warn!("containers with this server's label lack the others: they are left alone");
            });
            return None;
        };
        Some(Found {
            container: ContainerId(container),
            slot: marks.slot,
            epoch: marks.epoch,
            template: marks.template,
            state: state(summary.state),
        })
    }
}

#[async_trait]
impl Runtime for Docker {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Docker
    }

    fn owner(&self) -> Owner {
        self.owner
    }

    fn workspace_inside(&self, _box_dir: &Path) -> String {
        inside::WORKSPACE.to_owned()
    }

    fn manner(&self) -> String {
        format!("{:?} {:?}", self.owner, self.oci_runtime)
    }

    async fn engine(&self) -> Result<EngineFacts, RuntimeError> {
        let engine = self.connection.engine_now().await.map_err(|fault| fault.refused("version"))?;
        let ceiling = self.set_ceiling(&engine.info);
        Ok(facts::facts(&engine.version, &engine.info, self.oci_runtime.as_deref(), ceiling.as_ref()))
    }

    fn limit_all(&self, memory_mib: u64) {
        self.memory_mib.store(memory_mib, Ordering::Relaxed);
    }

    async fn tidy_up(&self) {
        let Ok(engine) = self.connection.engine().await else { return };
        let parent = ceiling::parent(&engine.info, &self.instance);
        let cleared = async {
            while !ceiling::clear(&engine.info, &parent) {
                tokio::time::sleep(GONE_POLL).await;
            }
        };
        let _not_empty = tokio::time::timeout(TIDY_PATIENCE, cleared).await;
    }

    async fn alive(&self) -> Result<(), RuntimeError> {
        let call = "ping";
        let answer = self.connection.call(call, |client| async move { client.ping().await }).await;
        answer.map(|_ok| ()).map_err(|fault| fault.refused(call))
    }

    async fn resolve_image(&self, image: &str) -> Result<String, RuntimeError> {
        let call = "image inspect";
        let answer = self.connection.call(call, |client| async move { client.inspect_image(image).await }).await;
        match answer {
            Ok(found) => found.id.ok_or_else(|| RuntimeError::NoImage { image: image.to_owned() }),
            Err(Fault::Status { code: 404, .. }) => Err(RuntimeError::NoImage { image: image.to_owned() }),
            Err(fault) => Err(fault.refused(call)),
        }
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<ContainerId, RuntimeError> {
        let call = "create";
        let engine = self.connection.engine().await.map_err(|fault| fault.refused(call))?;
        if let Some(Err(reason)) = self.set_ceiling(&engine.info) {
            tracing::debug!(reason, "the pool's memory ceiling is not set");
        }
        let setting = self.setting(&engine);
        if setting.podman.is_some() {
            podman::place_files(spec).map_err(|error| RuntimeError::Refused {
                call,
                reason: format!("its files can't be written: {error}"),
            })?;
        }
        let body = hardening::container(spec, &setting);
        let options = CreateContainerOptionsBuilder::default().name(&hardening::container_name(spec)).build();
        let answer = self
            .connection
            .call_within(call, self.start_timeout, |client| async move {
                client.create_container(Some(options), body).await
            })
            .await;
        match answer {
            Ok(created) => {
                if !created.warnings.is_empty() {
                    tracing::debug!(slot = %spec.slot, warnings = ?created.warnings, "the engine warns");
                }
                Ok(ContainerId(created.id))
            }
            Err(Fault::Status { code: 404, message }) if message.to_lowercase().contains("image") => {
                Err(RuntimeError::NoImage { image: spec.image.clone() })
            }
            Err(fault) => Err(fault.refused(call)),
        }
    }

    async fn start(&self, container: &ContainerId) -> Result<i32, RuntimeError> {
        let call = "start";
        self.connection
            .call_within(
                call,
                self.start_timeout,
                |client| async move { client.start_container(&container.0, None).await },
            )
            .await
            .map_err(|fault| fault.refused(call))?;
        let state = self.inspect(container).await.map_err(|fault| fault.refused("inspect"))?.state.unwrap_or_default();
        init(&state).ok_or_else(|| RuntimeError::Refused {
            call,
            reason: format!("it ended at once with code {}", state.exit_code.unwrap_or_default()),
        })
    }

    async fn init_of(&self, container: &ContainerId) -> Result<Option<i32>, RuntimeError> {
        match self.inspect(container).await {
            Ok(found) => Ok(found.state.filter(|state| state.paused != Some(true)).as_ref().and_then(init)),
            Err(Fault::Status { code: 404, .. }) => Ok(None),
            Err(fault) => Err(fault.refused("inspect")),
        }
    }

    async fn remove(&self, container: &ContainerId) -> Result<(), RuntimeError> {
        let call = "remove";
        // The volumes too: an image may declare some, and they would stay for ever.
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let answer = self
            .connection
            .call(call, |client| async move { client.remove_container(&container.0, Some(options)).await })
            .await;
        match answer {
            Ok(()) | Err(Fault::Status { code: 404, .. }) => Ok(()),
            // Somebody is at it already.
            Err(Fault::Status { code: 409, .. }) => self.until_gone(container).await,
            Err(fault) => Err(fault.refused(call)),
        }
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let call = "list";
        let filters = HashMap::from([("label", vec![format!("{}={}", labels::INSTANCE, self.instance)])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let answer = self.connection.call(call, |client| async move { client.list_containers(Some(options)).await });
        let containers: Vec<ContainerSummary> =
            podman::read_again(answer.await).map_err(|fault| fault.refused(call))?;
        Ok(containers.into_iter().filter_map(|summary| self.found(summary)).collect())
    }

    async fn verify(&self, container: &ContainerId, spec: &SandboxSpec) -> Result<Vec<String>, RuntimeError> {
        let engine = self.connection.engine().await.map_err(|fault| fault.refused("version"))?;
        let setting = self.setting(&engine);
        let asked = hardening::container(spec, &setting);
        let mut applied = self.inspect(container).await.map_err(|fault| fault.refused("inspect"))?;
        if let Some(podman) = &setting.podman {
            applied = podman.heard(&asked, applied);
        }
        Ok(verify::differences(&asked, &applied))
    }

    async fn post_mortem(&self, container: &ContainerId) -> Result<Option<PostMortem>, RuntimeError> {
        let engine = self.connection.engine().await.map_err(|fault| fault.refused("version"))?;
        let parent = ceiling::parent(&engine.info, &self.instance);
        let podman = podman::is(&engine.version);
        let killed = podman && podman::kills::seen(&engine.info, &parent, &container.0);
        let state = match self.inspect(container).await {
            Ok(inspected) => inspected.state.unwrap_or_default(),
            Err(Fault::Status { code: 404, .. }) => return Ok(None),
            Err(fault) => return Err(fault.refused("inspect")),
        };
        if podman {
            return Ok(Some(post_mortem::read(&state, killed)));
        }
        let seen = self
            .connection
            .call("events", |client| async move { post_mortem::was_out_of_memory(&client, &container.0).await })
            .await
            .map_err(|fault| fault.refused("events"))?;
        Ok(Some(post_mortem::read(&state, seen)))
    }

    async fn events(&self) -> Result<BoxStream<'static, EngineEvent>, RuntimeError> {
        let question = events::question(&self.instance);
        // The stream itself says nothing until something happens: this shows that somebody is there.
        self.alive().await?;
        let engine = self.connection.engine().await.map_err(|fault| fault.refused("events"))?;
        Ok(events::answer(&engine.client, question, self.instance.clone()))
    }

    async fn memory(&self, container: &ContainerId) -> Result<Option<Memory>, RuntimeError> {
        let pid = match self.inspect(container).await {
            Ok(inspected) => inspected.state.and_then(|state| state.pid).filter(|pid| *pid > 0),
            Err(Fault::Status { code: 404, .. }) => return Ok(None),
            Err(fault) => return Err(fault.refused("inspect")),
        };
        let Some(pid) = pid else { return Ok(None) };
        if let Some(memory) = usage::of_process(&container.0, pid) {
            return Ok(Some(memory));
        }
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let answer = self
            .connection
            .call("stats", |client| async move {
                std::pin::pin!(client.stats(&container.0, Some(options))).next().await.transpose()
            })
            .await;
        match answer {
            Ok(stats) => Ok(stats.and_then(|stats| stats.memory_stats).as_ref().and_then(usage::of_stats)),
            Err(Fault::Status { code: 404, .. }) => Ok(None),
            Err(fault) => Err(fault.refused("stats")),
        }
    }
}

/// The process id of the init of a container that runs.
fn init(state: &ContainerState) -> Option<i32> {
    state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0)
}

fn state(said: Option<ContainerSummaryStateEnum>) -> BoxState {
    match said {
        Some(ContainerSummaryStateEnum::CREATED) => BoxState::Created,
        Some(ContainerSummaryStateEnum::RUNNING) => BoxState::Running,
        Some(ContainerSummaryStateEnum::PAUSED) => BoxState::Paused,
        _ => BoxState::Ended,
    }
}

/// The engine's way to write a time: seconds and billionths.
fn seconds(time: Duration) -> String {
    format!("{}.{:09}", time.as_secs(), time.subsec_nanos())
}

/// Whom agents run as: never root, whoever runs the server. Only root can give files away, so anybody else is their own agents' user.
fn choose_owner(configured: Option<u32>, own: Owner) -> Result<Owner, String> {
    match configured {
        Some(0) => Err("runtime.uid is 0: agents never run as root".to_owned()),
        Some(uid) => Ok(Owner { uid, gid: uid }),
        None if own.uid == 0 => Ok(Owner { uid: SANDBOX_UID, gid: SANDBOX_UID }),
        None => Ok(Owner { uid: own.uid, gid: if own.gid == 0 { own.uid } else { own.gid } }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_never_run_as_root() {
        let owner = |uid, gid| Owner { uid, gid };
        assert_eq!(choose_owner(None, owner(0, 0)), Ok(owner(10_001, 10_001)));
        assert_eq!(choose_owner(None, owner(1_000, 1_000)), Ok(owner(1_000, 1_000)));
        assert_eq!(choose_owner(None, owner(1_000, 0)), Ok(owner(1_000, 1_000)));
        assert_eq!(choose_owner(Some(7), owner(0, 0)), Ok(owner(7, 7)));
        assert!(choose_owner(Some(0), owner(0, 0)).is_err());
    }

    #[tokio::test]
    async fn it_can_be_made_while_the_engine_is_down_and_says_where_it_looked() {
        let config =
            config::Runtime { host: Some("unix:///nowhere/engine.sock".to_owned()), ..config::Runtime::default() };
        let docker = Docker::connect(&config, "test".to_owned()).expect("nothing is called");
        let error = docker.engine().await.expect_err("nobody is there");
        assert!(
            matches!(&error, RuntimeError::Unreachable { reason } if reason.contains("/nowhere/engine.sock")),
            "{error}"
        );
    }

    #[test]
    fn an_address_of_an_unknown_kind_is_refused_at_once() {
        let config = config::Runtime { host: Some("ssh://host".to_owned()), ..config::Runtime::default() };
        assert!(Docker::connect(&config, "test".to_owned()).is_err());
    }
}
