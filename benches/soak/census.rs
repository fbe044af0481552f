//! What there is: containers, mounts, cgroups, and what server and engine hold.

use std::{collections::HashMap, fmt, fs, path::Path};

use anyhow::Context as _;
use bollard::{
    Docker,
    query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder},
};
use http::{Method, StatusCode};
use serde::Serialize;

use super::{attacker::Blow, client::read, server::Server};

/// The engine, and its process.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    pid: Option<i32>,
}

/// What a process holds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Process {
    pub descriptors: u64,
    pub threads: u64,
    pub memory_mib: u64,
}

/// All of it, at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Census {
    /// The server's containers, by the engine's list.
    pub containers: u64,
    /// Its sandboxes, by its own list.
    pub sandboxes: u64,
    /// All containers, mounts and cgroups of the machine, other programs' too.
    pub all_containers: u64,
    pub mounts: u64,
    pub cgroups: u64,
    /// Tasks of the server's runtime.
    pub tasks: Option<u64>,
    pub server: Option<Process>,
    /// None when the engine's process can't be seen from here.
    pub engine: Option<Process>,
}

impl Engine {
    /// The machine's, or what `DOCKER_HOST` names.
    pub async fn connect() -> anyhow::Result<Self> {
        let docker = Docker::connect_with_defaults()?.negotiate_version().await.context("no engine answers")?;
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let pid = match host.strip_prefix("unix://") {
            // Whoever listens at the socket is the engine.
            Some(socket) => tokio::net::UnixStream::connect(socket).await?.peer_cred()?.pid(),
            None => None,
        };
        Ok(Self { docker, pid })
    }

    /// The ids of an instance's containers that run.
    pub async fn running(&self, instance: &str) -> anyhow::Result<Vec<String>> {
        self.list(Some(instance), false).await
    }

    /// Hits a container.
    pub async fn strike(&self, blow: Blow, container: &str) -> anyhow::Result<()> {
        match blow {
            Blow::Kill => self.docker.kill_container(container, None).await?,
            Blow::Pause => self.docker.pause_container(container).await?,
            Blow::Remove => {
                let force = RemoveContainerOptionsBuilder::default().force(true).build();
                self.docker.remove_container(container, Some(force)).await?;
            }
        }
        Ok(())
    }

    async fn list(&self, instance: Option<&str>, all: bool) -> anyhow::Result<Vec<String>> {
        let label = instance.map(|instance| format!("greenroom.instance={instance}"));
        let filters = HashMap::from_iter(label.map(|label| ("label", vec![label])));
        let options = ListContainersOptionsBuilder::default().all(all).filters(&filters).build();
        let list = self.docker.list_containers(Some(options)).await?;
        Ok(list.into_iter().filter_map(|container| container.id).collect())
    }
}

impl Census {
    /// Looks around; also at a server, if there is one.
    pub async fn take(engine: &Engine, server: Option<&Server>) -> anyhow::Result<Self> {
        let mut sandboxes = 0;
        let mut containers = 0;
        let mut tasks = None;
        if let Some(server) = server {
            let answer = server.operator.send(Method::GET, "/sandboxes", None, "application/json").await?;
            let list: serde_json::Value = serde_json::from_slice(&read(answer, StatusCode::OK).await?)?;
            sandboxes = list["items"].as_array().context("sandboxes come as a list")?.len() as u64;
            let answer = server.operator.send(Method::GET, "/metrics", None, "text/plain").await?;
            let metrics = String::from_utf8(read(answer, StatusCode::OK).await?.to_vec())?;
            let line = metrics.lines().find_map(|line| line.strip_prefix("greenroom_tasks "));
            tasks = Some(line.context("the server tells of its tasks")?.trim().parse()?);
            containers = engine.list(Some(&server.instance), true).await?.len() as u64;
        }
        Ok(Self {
            containers,
            sandboxes,
            all_containers: engine.list(None, true).await?.len() as u64,
            mounts: fs::read_to_string("/proc/self/mounts")?.lines().count() as u64,
            cgroups: folders(Path::new("/sys/fs/cgroup")),
            tasks,
            server: server.and_then(|server| Process::look(server.program.pid()?)),
            engine: engine.pid.and_then(Process::look),
        })
    }
}

impl Process {
    /// None of a process that we may not look at.
    fn look(pid: i32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
            threads: number("Threads")?,
            memory_mib: number("VmRSS")? / 1024,
        })
    }
}

/// How many folders there are, at any depth.
fn folders(root: &Path) -> u64 {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let inside = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    inside.map(|entry| 1 + folders(&entry.path())).sum()
}

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, memory_mib } = self;
        write!(formatter, "{descriptors} descriptors, {threads} threads, {memory_mib} MiB")
    }
}

impl fmt::Display for Census {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { containers, sandboxes, mounts, cgroups, .. } = self;
        write!(formatter, "{containers} containers, {sandboxes} sandboxes, {mounts} mounts, {cgroups} cgroups")?;
        for (name, process) in [("server", self.server), ("engine", self.engine)] {
            if let Some(process) = process {
                write!(formatter, "; {name}: {process}")?;
            }
        }
        Ok(())
    }
}
