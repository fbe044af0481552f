//! A container engine of the test's own, which may be killed.
//!
//! It lives in a network namespace of its own: a second engine beside the machine's would otherwise take away the first one's
//! bridge. What is left of it when a test fails is found by its folder, which nothing else uses, and removed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    engine::Engine,
    wait::{until, within},
};

/// Deadline for the engine to end when told.
const STOP: Duration = Duration::from_secs(20);

/// A private `dockerd`.
#[derive(Debug)]
pub struct Daemon {
    folder: TempDir,
    child: Option<Child>,
}

impl Daemon {
    /// Starts an engine that knows no image.
    pub async fn start() -> (Self, Engine) {
        let folder = tempfile::Builder::new().prefix("grd").tempdir_in("/var/tmp").expect("/var/tmp is writable");
        let mut daemon = Self { folder, child: None };
        let engine = daemon.launch().await;
        (daemon, engine)
    }

    /// Starts the engine, perhaps again, and waits until it answers.
    pub async fn launch(&mut self) -> Engine {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).expect("a log can be opened");
        let child = Command::new("unshare")
            .args(["--net", "dockerd", "--bridge=none", "--iptables=false", "--ip-forward=false"])
            .args(["--containerd-namespace=e2e", "--containerd-plugins-namespace=e2e-plugins"])
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("pid"))
            .arg("-H")
            .arg(format!("unix://{}", self.path("socket").display()))
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("`unshare` and `dockerd` are there, and the tests are run as root");
        self.child = Some(child);
        Engine::at(&self.path("socket").to_string_lossy()).await
    }

    /// Kills the engine as a crash would; containers go on running.
    pub async fn crash(&mut self) {
        let mut child = self.child.take().expect("the engine runs");
        within("the killed engine ends", STOP, child.kill()).await.expect("the engine can be killed");
        // Pid files of the dead keep the next engine from starting while the numbers are in use, be it by unreaped processes.
        for file in ["pid", "exec/containerd/containerd.pid"] {
            fs::remove_file(self.path(file)).expect("the engine has written its pids");
        }
    }

    /// Sends the engine a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(Child::id).and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(pid.expect("the engine runs"), signal).expect("the engine can be told");
    }

    /// Ends the engine in order.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("the engine runs");
        within("the engine ends", STOP, child.wait()).await.expect("the engine's end can be awaited");
        until("nothing of the engine is left", STOP, async || remains(self.folder.path()).is_empty().then_some(()))
            .await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            let lines = log.lines().collect::<Vec<_>>();
            eprintln!("--- the end of the engine's log:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"));
            for pid in remains(self.folder.path()) {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                eprintln!("--- still there: {}", String::from_utf8_lossy(&command).replace('\0', " "));
            }
        }
        drop(self.child.take());
        for pid in remains(self.folder.path()) {
            // It may have ended by itself meanwhile.
            let _ended = kill_process(pid, Signal::KILL);
        }
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|row| row.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(self.folder.path())) {
            let _unmounted = unmount(point, UnmountFlags::DETACH);
        }
    }
}

/// The engine's helpers: they all have its folder in their command line.
fn remains(folder: &Path) -> Vec<Pid> {
    let folder = folder.to_string_lossy();
    let entries = fs::read_dir("/proc").expect("/proc can be read").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = pids.filter(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(folder.as_ref())
    });
    ours.filter_map(Pid::from_raw).collect()
}
