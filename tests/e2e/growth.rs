//! How much more memory a process holds at most while something happens: its resident set, looked at a hundred times a second.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinHandle, time::sleep};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(10);

/// A process that is looked at.
#[derive(Debug)]
pub struct Growth {
    stop: Arc<AtomicBool>,
    /// KiB: at first, and at most.
    task: JoinHandle<(u64, u64)>,
}

impl Growth {
    /// Begins to look.
    pub fn watch(pid: u32) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let first = resident(pid);
        let task = tokio::spawn(async move {
            let mut most = first;
            while !told.load(Ordering::Relaxed) {
                most = most.max(resident(pid));
                sleep(PERIOD).await;
            }
            (first, most)
        });
        Self { stop, task }
    }

    /// By how many MiB it had grown at most.
    pub async fn mebibytes(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let (first, most) = self.task.await.expect("looking goes well");
        (most - first).div_ceil(1024)
    }
}

/// KiB of memory that a process holds.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number of KiB")
}
