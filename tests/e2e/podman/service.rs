//! A Podman service of the test's own, as `scripts/podman` runs it: the machine's Podman isn't touched.
//!
//! Its images stay in `target/podman` for the next test; its containers are told apart by the server's instance, as on any engine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{engine::Engine, wait::within};

/// Says that Podman is to be left out, for machines where it can't run.
const LEFT_OUT: &str = "GREENROOM_NO_PODMAN";
/// Deadline for installing it where it is missing.
const INSTALL: Duration = Duration::from_secs(400);

/// Deadline for it to end when killed.
const STOP: Duration = Duration::from_secs(10);

/// A running service; it ends with the test.
#[derive(Debug)]
pub struct Service {
    folder: TempDir,
    child: Child,
}

impl Service {
    /// Starts a service that has these images. None where Podman is to be left out; where it can't run otherwise, the test fails.
    pub async fn start(images: &[&str]) -> Option<(Self, Engine)> {
        if std::env::var_os(LEFT_OUT).is_some_and(|value| !value.is_empty()) {
            eprintln!("left out: {LEFT_OUT} is set, so nothing is proven about Podman");
            return None;
        }
        let installed = within("Podman is installed", INSTALL, Command::new(script()).output()).await;
        let installed = installed.unwrap_or_else(|error| panic!("{}: {error}", script().display()));
        let said = String::from_utf8_lossy(&installed.stderr);
        assert!(installed.status.success(), "Podman can't be installed (set {LEFT_OUT}=1 to do without): {said}");

        let folder = tempfile::Builder::new().prefix("grp").tempdir_in("/var/tmp").expect("/var/tmp is writable");
        let child = spawn(folder.path());
        let mut service = Self { folder, child };
        let engine = service.answer().await;
        let machine = Engine::of_machine().await;
        for image in images {
            machine.copy_image(image, &engine).await;
        }
        Some((service, engine))
    }

    /// Kills the service; its containers go on.
    pub async fn crash(&mut self) {
        within("the killed service ends", STOP, self.child.kill()).await.expect("it can be killed");
    }

    /// Starts it again, with the same containers.
    pub async fn launch(&mut self) {
        self.child = spawn(self.folder.path());
        self.answer().await;
    }

    async fn answer(&mut self) -> Engine {
        let address = self.folder.path().join("socket").to_string_lossy().into_owned();
        tokio::select! {
            engine = Engine::at(&address) => engine,
            status = self.child.wait() => {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("Podman can't run here ({status:?}); set {LEFT_OUT}=1 to do without. It said:\n{log}")
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- what Podman said:\n{log}");
        }
    }
}

fn spawn(folder: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).expect("a log can be opened");
    Command::new(script())
        .arg(folder.join("socket"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be cloned"))
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("the script can be started")
}

fn script() -> PathBuf {
    let project = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&project).join("scripts/podman")
}
