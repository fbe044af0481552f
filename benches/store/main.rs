//! `cargo bench --bench store`: what the store can take, and how long one change takes to be durable.
//!
//! Sessions talk at once, each with a few writes under way, as their logs do; then one writes alone at a steady pace. Figures are of the store and nothing
//! else: no agent, no reader. `SECONDS=5` says how long each part runs, `FOLDER` where the files are.

use std::{
    env,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use greenroom::{
    ids::{SessionId, UserId},
    store::{
        Change, SessionRow, Store as _,
        sqlite::{FILE_NAME, Settings, Sqlite},
    },
};
use tokio::{
    sync::{Semaphore, oneshot},
    time,
};

/// Writes a session has under way.
const UNDER_WAY: usize = 4;
/// Events of one write.
const BATCHES: [u64; 4] = [10, 50, 120, 200];
/// A steady pace, in writes a second.
const PACE: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let seconds = env::var("SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let length = Duration::from_secs(seconds);
    let base = env::var_os("FOLDER").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    println!(
        "{:<46} {:>10} {:>8} {:>9} {:>9} {:>9} {:>8}",
        "", "events/s", "MB/s", "p50 ms", "p99 ms", "max ms", "log MiB"
    );
    for sessions in [1, 10, 100] {
        Flood { sessions, ..Flood::default() }.run(&base, length).await;
    }
    Flood { sessions: 100, keep: Some(20_000), ..Flood::default() }.run(&base, length).await;
    Flood { sessions: 100, rate: Some(1000), ..Flood::default() }.run(&base, length).await;
    pace(&base, length).await;
    pace_beside_readers(&base, length).await;
}

/// A store in a folder that goes with it.
struct House {
    folder: PathBuf,
    store: Arc<Sqlite>,
}

impl House {
    fn open(base: &Path, name: &str) -> Self {
        let folder = base.join(format!("bench-store-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let store = Sqlite::open(&folder.join(FILE_NAME), &Settings::default()).expect("the store opens");
        Self { folder, store }
    }

    /// The log of changes, in MiB. It is cut back when it begins anew, so this is about its longest.
    fn log_mib(&self) -> u64 {
        let log = self.folder.join(format!("{FILE_NAME}-wal"));
        std::fs::metadata(log).map_or(0, |data| data.len() >> 20)
    }

    async fn close(self) {
        self.store.close(PATIENCE).await;
        std::fs::remove_dir_all(&self.folder).expect("the folder can be removed");
    }
}

fn session(number: usize) -> SessionId {
    SessionId::from_client(&format!("ses_{number}"))
}

async fn put(store: &Sqlite, sessions: usize) {
    let user = UserId::parse("ada").expect("it is one");
    for number in 0..sessions {
        let row =
            SessionRow { session: session(number), user: user.clone(), ended_at: None, document: "{}".to_owned() };
        store.write(vec![Change::Session(row)], Box::new(|| {}));
    }
    store.flush(PATIENCE).await.expect("it is written");
}

/// An event as agents make them.
fn event(seq: u64) -> Bytes {
    format!(
        r#"{{"seq":{seq},"type":"message.delta","session_id":"ses_0123456789abcdef0123456789abcdef","turn_id":"turn_0123456789abcdef","at":"2026-11-20T12:00:00.123Z","content":{{"type":"text","text":"a few words"}}}}"#
    )
    .into()
}

fn events(session: &SessionId, first: u64, count: u64) -> Vec<Change> {
    vec![
        Change::Events { session: session.clone(), first, events: (first..first + count).map(event).collect() },
        Change::Mark { session: session.clone(), document: r#"{"stdout":{"chunk":1,"offset":2}}"#.to_owned() },
    ]
}

type Times = Arc<Mutex<Vec<Duration>>>;

/// Sessions that write at once.
#[derive(Clone, Copy, Default)]
struct Flood {
    sessions: usize,
    /// How many of its newest events each session keeps; all without.
    keep: Option<u64>,
    /// Events a second and session; as many as the store takes without.
    rate: Option<u64>,
}

/// What a flood came to.
#[derive(Default)]
struct Sums {
    events: AtomicU64,
    bytes: AtomicU64,
    times: Times,
}

impl Flood {
    fn name(&self) -> String {
        let rate = self.rate.map_or_else(|| "as fast as it goes".to_owned(), |rate| format!("{rate} events/s each"));
        format!("{} sessions, {rate}{}", self.sessions, if self.keep.is_some() { ", old ones go" } else { "" })
    }

    async fn run(self, base: &Path, length: Duration) {
        let house = House::open(base, "flood");
        put(&house.store, self.sessions).await;
        let sums = Arc::new(Sums::default());
        let begun = Instant::now();
        let writers: Vec<_> = (0..self.sessions)
            .map(|number| tokio::spawn(self.write(number, Arc::clone(&house.store), Arc::clone(&sums), begun + length)))
            .collect();
        for writer in writers {
            writer.await.expect("it ends well");
        }
        house.store.flush(PATIENCE).await.expect("it is written");
        let took = begun.elapsed().as_secs_f64();
        let per_second = |number: &AtomicU64| number.load(Ordering::Relaxed) as f64 / took;
        report(&self.name(), per_second(&sums.events), per_second(&sums.bytes), &sums.times, &house);
        house.close().await;
    }

    /// One session.
    async fn write(self, number: usize, store: Arc<Sqlite>, sums: Arc<Sums>, end: Instant) {
        let id = session(number);
        let permits = Arc::new(Semaphore::new(UNDER_WAY));
        let mut next = 1;
        let mut due = time::Instant::now();
        for batch in BATCHES.iter().copied().cycle().skip(number) {
            if let Some(rate) = self.rate {
                time::sleep_until(due).await;
                due +=
                    Duration::from_secs(1) * u32::try_from(batch).expect("small") / u32::try_from(rate).expect("small");
            }
            let permit = Arc::clone(&permits).acquire_owned().await.expect("never closed");
            if Instant::now() >= end {
                break;
            }
            let mut changes = events(&id, next, batch);
            if let Change::Events { events, .. } = &changes[0] {
                let bytes = events.iter().map(Bytes::len).sum::<usize>();
                sums.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            next += batch;
            if let Some(up_to) = self.keep.and_then(|keep| next.checked_sub(keep)) {
                changes.push(Change::Trim { session: id.clone(), up_to });
            }
            let (sums, given) = (Arc::clone(&sums), Instant::now());
            let done = move || {
                sums.events.fetch_add(batch, Ordering::Relaxed);
                sums.times.lock().expect("nobody panics").push(given.elapsed());
                drop(permit);
            };
            store.write(changes, Box::new(done));
        }
    }
}

/// One event at a time, at a steady pace.
async fn pace(base: &Path, length: Duration) {
    let house = House::open(base, "pace");
    put(&house.store, 1).await;
    let (times, took) = steady(&house.store, length).await;
    let count = times.lock().expect("nobody panics").len() as f64;
    report("1 event a write, 1,000 a second", count / took, 0.0, &times, &house);
    house.close().await;
}

/// The same, while others read without a pause.
async fn pace_beside_readers(base: &Path, length: Duration) {
    let house = House::open(base, "readers");
    put(&house.store, 1).await;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let store = Arc::clone(&house.store);
            tokio::spawn(async move {
                loop {
                    store.events(&session(0), 0, 256, 1 << 20).await.expect("it can be read");
                    time::sleep(Duration::from_micros(500)).await;
                }
            })
        })
        .collect();
    let (times, took) = steady(&house.store, length).await;
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    let count = times.lock().expect("nobody panics").len() as f64;
    report("the same beside 4 readers", count / took, 0.0, &times, &house);
    house.close().await;
}

async fn steady(store: &Arc<Sqlite>, length: Duration) -> (Times, f64) {
    let times = Times::default();
    let begun = Instant::now();
    let mut beat = time::interval(Duration::from_micros(1_000_000 / PACE));
    let mut next = 1;
    while begun.elapsed() < length {
        beat.tick().await;
        let (told, durable) = oneshot::channel();
        let (times, given) = (Arc::clone(&times), Instant::now());
        let done = move || {
            times.lock().expect("nobody panics").push(given.elapsed());
            told.send(()).expect("it is waited for");
        };
        store.write(events(&session(0), next, 1), Box::new(done));
        durable.await.expect("it is written");
        next += 1;
    }
    (times, begun.elapsed().as_secs_f64())
}

fn report(name: &str, events: f64, bytes: f64, times: &Times, house: &House) {
    let mut times = std::mem::take(&mut *times.lock().expect("nobody panics"));
    times.sort_unstable();
    let part = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    let (p50, p99, max) = (part(0.5), part(0.99), part(1.0));
    println!("{name:<46} {events:>10.0} {:>8.1} {p50:>9.3} {p99:>9.3} {max:>9.3} {:>8}", bytes / 1e6, house.log_mib());
}
