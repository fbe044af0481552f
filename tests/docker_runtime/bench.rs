//! A workbench: a runtime with an instance label of its own, folders for slots, and a tidy end.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use greenroom::{
    config,
    ids::{Epoch, SlotId, TemplateName},
    runtime::{ContainerId, Runtime as _, docker::Docker},
    sandbox::spec::{Limits, SandboxSpec},
};
use tempfile::TempDir;

const IMAGE: &str = "greenroom/busybox:test";
const PATIENCE: Duration = Duration::from_secs(30);

/// Stands in for the supervisor: becomes the command that follows the two dashes.
const STAND_IN: &str = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n";

/// The workbench of one test.
pub struct Bench {
    /// Its label.
    pub instance: String,
    /// The runtime under test.
    pub runtime: Arc<Docker>,
    /// The engine's real address.
    pub address: String,
    /// Everything of this test on disk.
    pub folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let instance = format!("test-{}", SlotId::random());
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let address = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        fs::write(folder.path().join("supervisor"), STAND_IN).expect("written");
        fs::set_permissions(folder.path().join("supervisor"), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let runtime = Arc::new(connect(&address, &instance, |_| ()));
        Self { instance, runtime, address, folder }
    }

    /// Another runtime with the same label, at another address or with other settings.
    pub fn runtime_at(&self, address: &str, change: impl FnOnce(&mut config::Runtime)) -> Docker {
        connect(address, &self.instance, change)
    }

    /// A sandbox of its own slot that runs this shell script.
    pub async fn spec(&self, script: &str) -> SandboxSpec {
        let slot = SlotId::random();
        let folder = self.folder.path().join(slot.as_str());
        fs::create_dir_all(folder.join("run")).expect("a folder");
        fs::create_dir_all(folder.join("box")).expect("a folder");
        let owner = self.runtime.owner();
        chown(folder.join("box"), Some(owner.uid), Some(owner.gid)).expect("ours to give");
        SandboxSpec {
            slot,
            epoch: Epoch::random(),
            template: TemplateName::parse("test").expect("a good name"),
            image: self.runtime.resolve_image(IMAGE).await.expect("the test image is there: run scripts/test-image"),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            home: "/home/agent".to_owned(),
            limits: Limits { memory_mib: 128, tmp_mib: 16, home_mib: 16, ..Limits::default() },
            supervisor: self.folder.path().join("supervisor"),
            run_dir: folder.join("run"),
            box_dir: folder.join("box"),
            orphan_grace: Duration::from_secs(60),
            ring_bytes: 4 * 1024 * 1024,
        }
    }

    /// Makes and starts it.
    pub async fn start(&self, spec: &SandboxSpec) -> ContainerId {
        let container = self.runtime.create(spec).await.expect("made");
        let pid = self.runtime.start(&container).await.expect("started");
        assert!(Path::new("/proc").join(pid.to_string()).exists(), "the process id is one of this host's");
        container
    }

    /// What the script prints inside.
    pub async fn told(&self, script: &str) -> String {
        let spec =
            self.spec(&format!("({script}) > /sandbox/part 2>&1; mv /sandbox/part /sandbox/told; sleep 60")).await;
        self.start(&spec).await;
        self.wait_told(&spec).await
    }

    /// Waits for the script's `/sandbox/told`.
    pub async fn wait_told(&self, spec: &SandboxSpec) -> String {
        let path = spec.box_dir.join("told");
        until("the script tells", || async { path.exists() }).await;
        fs::read_to_string(path).expect("it is there")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let filter = format!("label=greenroom.instance={}", self.instance);
        let left = docker(&["ps", "--all", "--quiet", "--filter", &filter]);
        let left: Vec<&str> = left.split_whitespace().collect();
        if !left.is_empty() {
            docker(&[["rm", "--force", "--volumes"].as_slice(), left.as_slice()].concat());
        }
        // The parent cgroup stays with the kernel: a server keeps its one, a test has a new one each time.
        let name = format!("greenroom-{}", self.instance);
        let _not_everywhere = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&name));
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _not_everywhere = fs::remove_dir(controller.path().join(&name));
        }
    }
}

fn connect(address: &str, instance: &str, change: impl FnOnce(&mut config::Runtime)) -> Docker {
    let mut config = config::Runtime {
        host: Some(address.to_owned()),
        // Other tests keep the engine busy.
        call_timeout: Duration::from_secs(20),
        start_timeout: Duration::from_secs(30),
        ..config::Runtime::default()
    };
    change(&mut config);
    Docker::connect(&config, instance.to_owned()).expect("good settings")
}

/// The engine's own command line, so that what we see doesn't come from the code under test.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("the docker command is there");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks again until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let asking = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}
