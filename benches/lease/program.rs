//! A child process: started with a clean environment, its log kept, stopped by SIGTERM.

use std::{
    collections::VecDeque,
    fs::File,
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// What a child gets of our environment: nothing else may change what is measured.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "TMPDIR", "DOCKER_HOST", "GEMINI_IMAGE"];
/// Lines of its log that are told when it fails.
const TAIL: usize = 20;
const FIRST_LINE: Duration = Duration::from_secs(10);
/// For a server to listen: the proof at its start comes first.
const UP: Duration = Duration::from_secs(60);
/// How often it is looked whether it does.
const POLL: Duration = Duration::from_millis(50);
/// Longer than any of the server's own deadlines for stopping.
const STOP: Duration = Duration::from_secs(60);

/// A child that runs. Dropping it kills it.
pub struct Program {
    name: &'static str,
    child: Child,
    log: Arc<Mutex<Log>>,
    reader: JoinHandle<()>,
    /// What it said first on its stdout, if that was asked for.
    pub greeting: String,
}

/// What it wrote on stderr.
#[derive(Debug, Default)]
struct Log {
    tail: VecDeque<String>,
    /// From its line "listening": the addresses for users and for operators.
    addresses: Option<(SocketAddr, SocketAddr)>,
    /// `total_ms` of its lines "sandbox ready": start to ready, as the server measured it.
    ready_ms: Vec<f64>,
}

impl Program {
    /// Starts a program with these arguments. Its log goes to `<folder>/<name>.log`.
    pub fn start(name: &'static str, path: &Path, arguments: &[&str], folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join(format!("{name}.log"));
        let file = File::create(&file).with_context(|| format!("can't write {}", file.display()))?;
        let mut child = Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us: we stop it in order then.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {}", path.display()))?;
        let log = Arc::<Mutex<Log>>::default();
        let stderr = child.stderr.take().context("the child has no stderr")?;
        let reader = tokio::spawn(read(BufReader::new(stderr).lines(), file, Arc::clone(&log)));
        Ok(Self { name, child, log, reader, greeting: String::new() })
    }

    /// Starts the model stub; its address is the last word of the greeting.
    pub async fn stub(name: &'static str, path: &Path, folder: &Path) -> anyhow::Result<Self> {
        let mut program = Self::start(name, path, &["model-stub", "--address", "127.0.0.1:0"], folder)?;
        let stdout = program.child.stdout.take().context("the child has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = timeout(FIRST_LINE, lines.next_line()).await.context("the stub says nothing")??;
        program.greeting = first.with_context(|| program.failure("ended"))?;
        Ok(program)
    }

    /// Where it listens, once it does: for users, and for operators.
    pub fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.log().addresses
    }

    /// Waits until it listens; says where: for users, and for operators.
    pub async fn wait_up(&mut self) -> anyhow::Result<(SocketAddr, SocketAddr)> {
        let begun = Instant::now();
        loop {
            if let Some(addresses) = self.addresses() {
                return Ok(addresses);
            }
            if let Some(status) = self.ended() {
                // Its last lines are still on their way.
                sleep(POLL).await;
                bail!(self.failure(&format!("ended with {status}")));
            }
            if begun.elapsed() > UP {
                bail!(self.failure("does not serve"));
            }
            sleep(POLL).await;
        }
    }

    /// Start to ready of every sandbox so far, in milliseconds.
    pub fn ready_times(&self) -> Vec<f64> {
        self.log().ready_ms.clone()
    }

    /// Its number, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|id| i32::try_from(id).ok())
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What happened, and its last words.
    pub fn failure(&self, what: &str) -> String {
        let tail: Vec<_> = self.log().tail.iter().cloned().collect();
        format!("{} {what}; its last words:\n{}", self.name, tail.join("\n"))
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid().and_then(Pid::from_raw);
        let Some(pid) = pid else { bail!(self.failure("had ended before it was asked to")) };
        kill_process(pid, Signal::TERM).context("can't send SIGTERM")?;
        let status = match timeout(STOP, self.child.wait()).await {
            Ok(status) => status?,
            Err(_elapsed) => bail!(self.failure("did not end when asked to")),
        };
        // Its stderr is closed now: the reader ends.
        (&mut self.reader).await?;
        if !status.success() {
            bail!(self.failure(&format!("ended with {status}")));
        }
        Ok(())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(mut lines: Lines<impl AsyncBufRead + Unpin>, mut file: File, log: Arc<Mutex<Log>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let _a_log_is_not_worth_a_failure = writeln!(file, "{line}");
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.understand(&line);
        log.tail.push_back(line);
        if log.tail.len() > TAIL {
            log.tail.pop_front();
        }
    }
}

impl Log {
    fn understand(&mut self, line: &str) {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { return };
        let address = |field: &str| line[field].as_str()?.parse().ok();
        match line["message"].as_str() {
            Some("listening") => self.addresses = address("address").zip(address("admin")),
            Some("sandbox ready") => self.ready_ms.extend(line["total_ms"].as_f64()),
            _ => {}
        }
    }
}
