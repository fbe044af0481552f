//! One server under test: a child process with a state folder, an instance name and ports of its own.
//!
//! `stop` ends it in order and checks that it leaves nothing. A test that fails before that drops the house: then the
//! server and its containers are removed by force, and the end of its log is shown.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use greenroom::cli::model_stub;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::{Semaphore, SemaphorePermit},
};

use crate::{
    client::Client,
    engine::Engine,
    settings::{ALICE, BOB, Settings, quoted, token_of},
    wait::{until, within},
};

/// Houses at the same time in one test process; they all share a few processors. One test has two: more such tests could wait for
/// each other.
static PERMITS: Semaphore = Semaphore::const_new(2);

/// Deadline for a server to be ready: its proof of the engine and its first sandboxes.
const START: Duration = Duration::from_secs(60);

/// Deadline for a server to stop in order.
const STOP: Duration = Duration::from_secs(20);

/// A server under test.
#[derive(Debug)]
pub struct House {
    settings: Settings,
    pub instance: String,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// The engine, seen with the test's own eyes; none for the process runtime.
    engine: Option<Engine>,
    folder: TempDir,
    server: Option<Child>,
    _permit: SemaphorePermit<'static>,
}

impl House {
    /// Starts a server on the machine's engine and waits until it is ready.
    pub async fn start(settings: Settings) -> Self {
        let engine = if settings.without_engine() { None } else { Some(Engine::of_machine().await) };
        Self::start_on(engine, settings).await
    }

    /// Starts a server on this engine and waits until it is ready.
    pub async fn start_on(engine: Option<Engine>, settings: Settings) -> Self {
        let mut house = Self::prepare(engine, settings).await;
        house.launch().await;
        house
    }

    /// All that a server needs, and no server yet.
    pub async fn prepare(engine: Option<Engine>, settings: Settings) -> Self {
        let permit = PERMITS.acquire().await.expect("the semaphore is never closed");
        // On a disk, not in a tmpfs, and short: socket paths end at 108 bytes.
        let folder = tempfile::Builder::new().prefix("gr").tempdir_in("/var/tmp").expect("/var/tmp is writable");
        // The agent of the process runtime has another uid.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("the folder is ours");
        let name = folder.path().file_name().expect("a temporary folder has a name").to_string_lossy();
        let instance =
            format!("e2e-{}", name.to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), ""));
        let [address, admin] = free_addresses();
        Self { settings, instance, address, admin, engine, folder, server: None, _permit: permit }
    }

    /// Starts the server, again with the same state, and waits until it is ready.
    pub async fn launch(&mut self) {
        self.launch_unready();
        let path = if self.settings.await_stock { "/readyz" } else { "/healthz" };
        let what = format!("{path} says 200");
        let started = until(&what, START, async || {
            let status = self.server.as_mut()?.try_wait().expect("the child can be asked");
            if status.is_some() {
                return Some(Err(status));
            }
            tokio::net::TcpStream::connect(self.address).await.ok()?;
            (self.visitor().get(path).await.status == 200).then_some(Ok(()))
        });
        if let Err(status) = started.await {
            panic!("the server ended while starting: {status:?}\n{}", self.log_end());
        }
    }

    /// Writes other settings into the file of a server, which isn't told.
    pub fn rewrite(&mut self, settings: Settings) {
        self.settings = settings;
        self.write_settings();
    }

    fn write_settings(&self) {
        let settings = self.settings.clone();
        let runtime_host = self.engine.as_ref().and_then(Engine::private_address);
        let settings =
            runtime_host.iter().fold(settings, |settings, host| settings.set("runtime", "host", &quoted(host)));
        let text = settings
            .set("server", "address", &quoted(&self.address.to_string()))
            .set("admin", "address", &quoted(&self.admin.to_string()))
            .set("state", "dir", &quoted(&self.state().to_string_lossy()))
            .set("runtime", "instance", &quoted(&self.instance))
            .set("sandbox", "supervisor", &quoted(&supervisor().to_string_lossy()))
            .to_toml();
        fs::write(self.settings_file(), text).expect("the settings can be written");
    }

    /// Starts the server and waits for nothing.
    pub fn launch_unready(&mut self) {
        self.write_settings();
        let log = fs::File::options().create(true).append(true).open(self.log_file()).expect("the log can be opened");
        let mut program = self.program();
        if let Some(uid) = self.settings.uid {
            std::os::unix::fs::chown(self.folder.path(), Some(uid), Some(uid)).expect("the tests run as root");
            program.uid(uid).gid(uid);
        }
        let server = program
            .args(["serve", "--config"])
            .arg(self.settings_file())
            .args((!self.settings.hands_over).then_some("--drain"))
            .envs(self.settings.variables().iter().map(|(name, value)| (name, value)))
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("the server's program can be started");
        self.server = Some(server);
    }

    /// The server's program; with names of its own it runs in a namespace of mounts where `/etc/hosts` is another file.
    fn program(&self) -> Command {
        let Some(names) = self.settings.hosts() else { return greenroom() };
        let hosts = self.folder.path().join("hosts");
        let usual = fs::read_to_string("/etc/hosts").unwrap_or_default();
        fs::write(&hosts, format!("{usual}\n{names}")).expect("the names can be written");
        let mut command = bare("unshare");
        // Each replaces the one before, so the server has the pid of the first.
        command
            .args(["--mount", "sh", "-c", r#"mount --bind "$0" /etc/hosts && exec "$@""#])
            .arg(hosts)
            .arg(greenroom_program());
        command
    }

    /// Runs another command of the program with this server's settings.
    pub async fn command(&self, arguments: &[&str]) -> Output {
        let output = greenroom().args(arguments).env("GREENROOM_CONFIG", self.settings_file()).output();
        within("the command ends", START, output).await.expect("the program can be started")
    }

    /// The same with the server's variables, and something on its standard input.
    pub async fn command_with(&self, arguments: &[&str], input: &str) -> Output {
        let file = self.folder.path().join("input");
        fs::write(&file, input).expect("the folder is ours");
        let input = fs::File::open(&file).expect("it was just written");
        fs::remove_file(&file).expect("it is ours");
        let variables = self.settings.variables().iter().map(|(name, value)| (name, value));
        let mut command = greenroom();
        command.args(arguments).env("GREENROOM_CONFIG", self.settings_file()).envs(variables).stdin(input);
        within("the command ends", START, command.output()).await.expect("the program can be started")
    }

    /// Kills the server as a crash would.
    pub async fn crash(&mut self) {
        let mut server = self.server.take().expect("the server runs");
        within("the killed server ends", STOP, server.kill()).await.expect("the server can be killed");
    }

    /// Tells the server to stop, and nothing else.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().and_then(Child::id).expect("the server runs")
    }

    /// Sends the server a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the server can be told");
    }

    /// Waits for the server to end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("the server runs");
        within("the server ends", STOP, server.wait()).await.expect("the server's end can be awaited")
    }

    /// Whether the server still runs.
    pub fn runs(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| server.try_wait().expect("the child can be asked").is_none())
    }

    /// Stops the server in order, and for good; it must leave no container and no complaint.
    pub async fn stop(mut self) {
        // Ends everything, whatever SIGTERM would do.
        self.signal(rustix::process::Signal::INT);
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{status:?}\n{}", self.log_end());
        if let Some(engine) = &self.engine {
            assert_eq!(engine.containers(&self.instance).await, [], "containers were left");
        }
    }

    /// Waits until every pool is full (again).
    pub async fn stocked(&self) {
        let full = async || {
            let pools = self.alice().get_json("/v1/pools").await;
            let pools = pools["items"].as_array().expect("a list of pools");
            pools.iter().all(|pool| pool["warm"] == pool["target"]).then_some(())
        };
        until("all pools are full", START, full).await;
    }

    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("this house has an engine")
    }

    pub fn alice(&self) -> Client {
        Client::new(self.address, Some(ALICE))
    }

    pub fn bob(&self) -> Client {
        Client::new(self.address, Some(BOB))
    }

    /// One of the numbered users.
    pub fn user(&self, number: usize) -> Client {
        Client::new(self.address, Some(&token_of(number)))
    }

    /// Someone without a token.
    pub fn visitor(&self) -> Client {
        Client::new(self.address, None)
    }

    /// An operator at the admin address.
    pub fn operator(&self) -> Client {
        Client::new(self.admin, None)
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// All that the server printed, over all its lives.
    pub fn log(&self) -> Vec<u8> {
        fs::read(self.log_file()).expect("the log can be read")
    }

    fn settings_file(&self) -> PathBuf {
        self.folder.path().join("greenroom.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log_end(&self) -> String {
        let log = String::from_utf8_lossy(&self.log()).into_owned();
        let lines = log.lines().collect::<Vec<_>>();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the server's log:\n{}", self.log_end());
        }
        // `kill_on_drop` ends a server that is left; its containers are removed once it can't make new ones.
        let server = self.server.take();
        if let Some(engine) = self.engine.clone().filter(|_| server.is_some() || std::thread::panicking()) {
            drop(server);
            engine.remove_all_of(self.instance.clone());
        }
    }
}

/// A model stub in this process; it ends with the test.
pub async fn model(required_key: Option<&str>) -> SocketAddr {
    let require_key = required_key.map(|key| key.to_owned().into());
    model_with(model_stub::Options { require_key, ..model_stub::Options::default() }).await
}

/// A model stub that refuses every key and repeats it in the refusal.
pub async fn model_that_repeats_keys() -> SocketAddr {
    let require_key = Some("a key that nobody has".to_owned().into());
    model_with(model_stub::Options { require_key, echo_key: true, ..model_stub::Options::default() }).await
}

async fn model_with(options: model_stub::Options) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a listener has an address");
    tokio::spawn(model_stub::serve(listener, options, std::future::pending()));
    address
}

/// Addresses nobody listens on, for a program that is told where to listen. Never the same one twice: each is held until all are found.
fn free_addresses<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let held = [(); COUNT].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port"));
    held.map(|listener| listener.local_addr().expect("a listener has an address"))
}

/// The program, in an environment that says nothing about it.
fn greenroom() -> Command {
    bare(greenroom_program())
}

/// A program in such an environment.
fn bare(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let kept = ["PATH", "HOME", "DOCKER_HOST"].map(|name| (name, std::env::var_os(name)));
    let mut command = Command::new(program);
    command.env_clear().envs(kept.into_iter().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The server's program. Nextest says where it is now; cargo said where it was built.
fn greenroom_program() -> PathBuf {
    std::env::var_os("NEXTEST_BIN_EXE_greenroom").map_or_else(|| env!("CARGO_BIN_EXE_greenroom").into(), PathBuf::from)
}

/// The static supervisor, two folders up from the server's program: `target/supervisor/` beside `target/debug/`.
fn supervisor() -> PathBuf {
    let program = greenroom_program();
    let target = program.parent().and_then(Path::parent).expect("programs are built in target/PROFILE");
    let file = target.join("supervisor/greenroom-supervisor");
    assert!(file.is_file(), "there is no {}: run `make supervisor`", file.display());
    file
}
