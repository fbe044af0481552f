//! The container engine as the tests see it, beside the server: what containers there are, and what is in them.

use std::{collections::HashMap, io, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{ContainerCreateBody, ContainerInspectResponse, HostConfig},
    query_parameters::{
        CreateContainerOptionsBuilder, EventsOptionsBuilder, ImportImageOptionsBuilder, InspectContainerOptions,
        ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::{
    settings::{BUSYBOX, CHATTERBOX, GEMINI},
    wait::{until, within},
};

/// Deadline of one call; removing takes longest.
const CALL: Duration = Duration::from_secs(20);

/// Deadline for copying an image from one engine to another.
const COPY: Duration = Duration::from_secs(120);

/// How often a failed test looks for what it has left.
const LATE_LOOKS: usize = 5;

/// One container of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub id: String,
    pub name: String,
    /// `created`, `running`, `paused`, `exited`, `removing` or `dead`.
    pub state: String,
    pub labels: HashMap<String, String>,
}

/// A connection to an engine.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    /// Its address when it isn't the machine's own.
    private: Option<String>,
}

impl Engine {
    /// The machine's engine, with the images that the tests need.
    pub async fn of_machine() -> Self {
        let docker = Docker::connect_with_defaults().expect("DOCKER_HOST, if any, is an address");
        let docker = docker.negotiate_version().await.expect("no container engine answers: run `make engine`");
        for (image, target) in [(GEMINI, "image"), (BUSYBOX, "test-image"), (CHATTERBOX, "chatterbox")] {
            let found = within("the engine looks for an image", CALL, docker.inspect_image(image)).await;
            found.unwrap_or_else(|error| panic!("no image {image} ({error}): run `make {target}`"));
        }
        Self { docker, private: None }
    }

    /// An engine at this unix socket, once it answers.
    pub async fn at(socket: &str) -> Self {
        let address = format!("unix://{socket}");
        let docker = until("the private engine answers", Duration::from_secs(30), async || {
            let docker = Docker::connect_with_unix(&address, 20, API_DEFAULT_VERSION).ok()?;
            docker.ping().await.ok()?;
            docker.negotiate_version().await.ok()
        });
        Self { docker: docker.await, private: Some(address) }
    }

    pub fn private_address(&self) -> Option<String> {
        self.private.clone()
    }

    /// All containers, in any state, that carry this instance's name in one of their labels.
    pub async fn containers(&self, instance: &str) -> Vec<Container> {
        let all = ListContainersOptionsBuilder::default().all(true).build();
        // Podman's list can't be read while one of its containers is in a state that Docker doesn't have.
        let list = async {
            loop {
                match self.docker.list_containers(Some(all.clone())).await {
                    Ok(list) => return list,
                    Err(_for_a_moment) => tokio::time::sleep(Duration::from_millis(25)).await,
                }
            }
        };
        let all = within("the engine's list", CALL, list).await;
        let mut found = Vec::new();
        for summary in all {
            let labels = summary.labels.unwrap_or_default();
            if labels.values().any(|value| value == instance) {
                found.push(Container {
                    id: summary.id.expect("a container has an id"),
                    name: summary.names.unwrap_or_default().join(" "),
                    state: summary.state.map(|state| state.to_string()).unwrap_or_default(),
                    labels,
                });
            }
        }
        found
    }

    /// The ids of [`Self::containers`] that run.
    pub async fn running(&self, instance: &str) -> Vec<String> {
        self.containers(instance).await.into_iter().filter(|one| one.state == "running").map(|one| one.id).collect()
    }

    pub async fn inspect(&self, id: &str) -> ContainerInspectResponse {
        let options = None::<InspectContainerOptions>;
        within("inspect", CALL, self.docker.inspect_container(id, options)).await.expect("the container is there")
    }

    /// The container's first process, as the host sees it; none once it has ended.
    pub async fn init(&self, id: &str) -> Option<u32> {
        let options = None::<InspectContainerOptions>;
        let found = within("inspect", CALL, self.docker.inspect_container(id, options)).await.ok()?;
        found.state?.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0)
    }

    /// What differs from the image, as paths in the container.
    pub async fn changes(&self, id: &str) -> Vec<String> {
        let changes = within("changes", CALL, self.docker.container_changes(id)).await.expect("the container is there");
        changes.unwrap_or_default().into_iter().map(|change| change.path).collect()
    }

    /// Starts a container that isn't the server's, and gives back its id.
    pub async fn start_stranger(&self, name: &str, labels: HashMap<String, String>) -> String {
        let body = ContainerCreateBody {
            image: Some(BUSYBOX.to_owned()),
            cmd: Some(["sleep", "300"].map(str::to_owned).to_vec()),
            labels: Some(labels),
            host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let made = within("create", CALL, self.docker.create_container(Some(options), body)).await.expect("created");
        let start = self.docker.start_container(&made.id, None);
        within("start", CALL, start).await.expect("started");
        made.id
    }

    /// Freezes it, as an operator may.
    pub async fn pause(&self, id: &str) {
        within("pause", CALL, self.docker.pause_container(id)).await.expect("it runs");
    }

    pub async fn remove(&self, id: &str) {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        let removing = self.docker.remove_container(id, Some(options));
        // It may be gone, or going, already.
        let _gone = within("remove", CALL, removing).await;
    }

    /// Kills all that runs in a container, as `docker kill`.
    pub async fn kill(&self, id: &str) {
        let killing = self.docker.kill_container(id, None);
        // It may have ended already.
        let _ended = within("kill", CALL, killing).await;
    }

    /// Stops the time of a container, as `docker pause`; it may have ended already.
    pub async fn pause_if_running(&self, id: &str) {
        let _ended = within("pause", CALL, self.docker.pause_container(id)).await;
    }

    /// Counts the containers of an instance that are made while `during` runs, by the engine's own events.
    pub async fn count_creations(&self, instance: &str, during: impl Future<Output = ()>) -> usize {
        let filters = HashMap::from([("type", vec!["container"]), ("event", vec!["create"])]);
        let mut events = self.docker.events(Some(EventsOptionsBuilder::default().filters(&filters).build()));
        let mut count = 0;
        let counting = async {
            while let Some(event) = events.next().await {
                let labels = event.expect("events come").actor.and_then(|actor| actor.attributes).unwrap_or_default();
                count += usize::from(labels.values().any(|value| value == instance));
            }
        };
        tokio::select! {
            () = counting => panic!("the engine's events ended"),
            () = during => {}
        }
        count
    }

    /// Copies an image to another engine, unless it has the same one.
    pub async fn copy_image(&self, image: &str, other: &Self) {
        let copying = async {
            let (here, there) = (self.image_id(image).await, other.image_id(image).await);
            if here.is_some() && here == there {
                return;
            }
            let body = bollard::body_try_stream(self.docker.export_image(image).map_err(io::Error::other));
            let loading = other.docker.import_image(ImportImageOptionsBuilder::default().build(), body, None);
            loading.try_collect::<Vec<_>>().await.expect("the image can be loaded");
        };
        within("an image is copied", COPY, copying).await;
    }

    async fn image_id(&self, image: &str) -> Option<String> {
        self.docker.inspect_image(image).await.ok()?.id
    }

    /// Removes what a failed test has left. Runs on a thread of its own, since it is called while a test unwinds.
    pub fn remove_all_of(self, instance: String) {
        let name = instance.clone();
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                // A call that the killed server had made may still make one.
                for _ in 0..LATE_LOOKS {
                    for container in self.containers(&instance).await {
                        self.remove(&container.id).await;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
        });
        if removal.join().is_err() {
            eprintln!("containers of {name} may be left");
        }
    }
}
