//! The process's memory while something happens: looked at by a thread of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

const LOOK: Duration = Duration::from_millis(2);

/// Watches from its making until it is dropped.
pub struct Memory {
    before: u64,
    most: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Memory {
    pub fn watch() -> Self {
        let before = resident();
        let (most, over) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
        let (seen, ended) = (Arc::clone(&most), Arc::clone(&over));
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                seen.fetch_max(resident(), Ordering::Relaxed);
                thread::park_timeout(LOOK);
            }
        });
        Self { before, most, over }
    }

    /// By how much it grew at most, in MiB.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn grown_mib(&self) -> f64 {
        (self.most.load(Ordering::Relaxed) - self.before) as f64 / 1024.0 / 1024.0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The resident set, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    kib * 1024
}
