//! The real supervisor program as a plain process, small shell agents under it, and the server's end of the link.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

#[path = "link/servers.rs"]
mod servers;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use greenroom::{
    sandbox::{
        link::{Link, LinkConfig, LinkError, LinkListener, PingError},
        pipes::{AgentExit, AgentPipes, FromAgent, PIECE_MAX, Stream},
    },
    supervisor::probe::ProbeReport,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixListener},
    time::{Instant, sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(30);
const CONFIG: LinkConfig = LinkConfig { first_timeout: PATIENCE, relink_timeout: PATIENCE };

fn supervisor_program() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let program = std::env::var_os("GREENROOM_TEST_SUPERVISOR")
        .map_or_else(|| target.join("supervisor/greenroom-supervisor"), PathBuf::from);
    assert!(program.is_file(), "{} is missing: run make supervisor", program.display());
    program
}

/// A supervisor with its run folder. Dropped, it is asked to end and waited for.
struct Sandbox {
    run_dir: TempDir,
    supervisor: Child,
}

impl Sandbox {
    fn start(options: &[&str], agent: &[&str]) -> Self {
        let run_dir = tempfile::tempdir().unwrap();
        let supervisor = Command::new(supervisor_program())
            .arg("run")
            .arg("--run-dir")
            .arg(run_dir.path())
            .args(options)
            .arg("--")
            .args(agent)
            .current_dir(run_dir.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { run_dir, supervisor }
    }

    fn shell(options: &[&str], script: &str) -> Self {
        Self::start(options, &["sh", "-c", script])
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.supervisor.id()).unwrap()
    }

    fn listen(&self) -> LinkListener {
        LinkListener::bind(&self.run_dir.path().join("link.sock")).unwrap()
    }

    async fn link(&self) -> (Link, AgentPipes) {
        self.listen().connect(self.pid(), CONFIG).await.unwrap()
    }

    /// The supervisor's exit code, when it has ended by itself.
    async fn ended(&mut self) -> Option<i32> {
        let mut code = None;
        until("the supervisor ends", || {
            code = self.supervisor.try_wait().unwrap();
            code.is_some()
        })
        .await;
        code.and_then(|status| status.code())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.supervisor.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _gone = kill_process(Pid::from_raw(self.pid()).unwrap(), Signal::TERM);
            for _ in 0..100 {
                if self.supervisor.try_wait().is_ok_and(|ended| ended.is_some()) {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
            let _gone = self.supervisor.kill();
            let _gone = self.supervisor.wait();
        }
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The next thing from the agent, acknowledged at once.
async fn next(pipes: &mut AgentPipes) -> FromAgent {
    let event = timeout(PATIENCE, pipes.output.recv()).await.expect("in time").expect("not closed");
    if let FromAgent::Chunk { seq, .. } = &event {
        let _ended = pipes.done_with.send(*seq);
    }
    event
}

/// Everything the agent says until it ends.
async fn read_all(pipes: &mut AgentPipes) -> (Vec<u8>, Vec<u8>, AgentExit) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match next(pipes).await {
            FromAgent::Chunk { stream: Stream::Stdout, bytes, .. } => stdout.extend_from_slice(&bytes),
            FromAgent::Chunk { stream: Stream::Stderr, bytes, .. } => stderr.extend_from_slice(&bytes),
            FromAgent::Exited(exit) => return (stdout, stderr, exit),
            FromAgent::Lost(why) | FromAgent::Condemned(why) => panic!("lost: {why}"),
        }
    }
}

/// Reads stdout until it holds `count` lines.
async fn read_lines(pipes: &mut AgentPipes, count: usize) -> Vec<String> {
    let mut text = String::new();
    while text.lines().count() < count || !text.ends_with('\n') {
        match next(pipes).await {
            FromAgent::Chunk { bytes, .. } => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            other => panic!("{other:?} after {text:?}"),
        }
    }
    text.lines().map(str::to_owned).collect()
}

const fn exited(code: i32) -> AgentExit {
    AgentExit { code: Some(code), signal: None }
}

fn numbers(count: u32) -> Vec<u8> {
    (1..=count).map(|number| format!("{number}\n")).collect::<String>().into_bytes()
}

fn is_alive(pid: i32) -> bool {
    // A zombie can still be signalled; its state says what it is.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && !stat.contains(") Z ")
}

fn resident_kib(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn children(parent: i32) -> Vec<i32> {
    let stat = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("stat")).ok();
    let stats = fs::read_dir("/proc").unwrap().flatten().filter_map(stat);
    stats
        .filter(|stat| stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(&parent.to_string()))
        .filter_map(|stat| stat.split(' ').next().and_then(|pid| pid.parse().ok()))
        .collect()
}

#[tokio::test]
async fn what_goes_in_comes_out_and_the_end_of_input_ends_cat() {
    let mut sandbox = Sandbox::start(&[], &["/bin/cat"]);
    let (link, mut pipes) = sandbox.link().await;
    assert!(link.is_up() && link.relay_port() != 0 && link.agent_pid().is_some());
    pipes.input.send(Bytes::from_static(b"one\n")).await.unwrap();
    assert_eq!(read_lines(&mut pipes, 1).await, ["one"]);
    let big = Bytes::from(vec![b'x'; 3_000_000]);
    let AgentPipes { input, input_taken, output, done_with } = pipes;
    let mut rest = big.clone();
    let writer = tokio::spawn(async move {
        while !rest.is_empty() {
            input.send(rest.split_to(rest.len().min(PIECE_MAX))).await.unwrap();
        }
    });
    let mut pipes = AgentPipes { input: tokio::sync::mpsc::channel(1).0, input_taken, output, done_with };
    let (stdout, stderr, exit) = read_all(&mut pipes).await;
    writer.await.unwrap();
    assert_eq!((stdout.len(), stderr.len(), exit), (big.len(), 0, exited(0)));
    assert_eq!(sandbox.ended().await, Some(0));
}

#[tokio::test]
async fn a_stalled_reader_holds_the_agent_back_and_loses_nothing() {
    const RING: usize = 1_000_000;
    let sandbox = Sandbox::shell(&["--ring-bytes", &RING.to_string()], "seq 1 2800000; touch done");
    let idle = resident_kib(sandbox.pid());
    let (link, mut pipes) = sandbox.link().await;
    let mut last = 0;
    let mut still = 0;
    until("the supervisor's memory stands still", || {
        let now = resident_kib(sandbox.pid());
        still = if now == last { still + 1 } else { 0 };
        last = now;
        still > 30
    })
    .await;
    assert!(!sandbox.run_dir.path().join("done").exists(), "the agent was not held back");
    assert!(last < idle.max(1500) + RING * 2 / 1024, "{last} KiB for a ring of {RING} bytes");
    assert!(link.is_up());
    let (stdout, _, exit) = read_all(&mut pipes).await;
    assert_eq!(exit, exited(0));
    assert!(stdout == numbers(2_800_000), "20 MB differ");
}

#[tokio::test]
async fn a_server_that_is_replaced_in_the_middle_of_a_burst_loses_and_doubles_nothing() {
    let sandbox = Sandbox::shell(&["--ring-bytes", "500000"], "seq 1 1000000; exit 5");
    let mut chunks = BTreeMap::new();
    let mut servers = 0;
    let exit = 'servers: loop {
        let (_link, mut pipes) = sandbox.link().await;
        servers += 1;
        let mut acknowledged = chunks.len() as u64;
        for count in 0.. {
            match timeout(PATIENCE, pipes.output.recv()).await.unwrap().unwrap() {
                FromAgent::Chunk { seq, bytes, .. } => {
                    // What was not acknowledged comes again, the same under the same number; nothing is missing.
                    assert!(seq <= chunks.len() as u64 + 1, "hole before {seq}");
                    let before = chunks.insert(seq, bytes.clone());
                    assert!(before.is_none_or(|before| before == bytes), "chunk {seq} changed");
                    acknowledged = acknowledged.max(seq.saturating_sub(3));
                    pipes.done_with.send(acknowledged).unwrap();
                }
                FromAgent::Exited(exit) => break 'servers exit,
                FromAgent::Lost(why) | FromAgent::Condemned(why) => panic!("lost: {why}"),
            }
            if servers < 8 && count == 10 {
                break;
            }
        }
    };
    assert_eq!((servers, exit), (8, exited(5)));
    let all: Vec<u8> = chunks.into_values().flatten().collect();
    assert!(all == numbers(1_000_000), "the bursts differ");
}

#[tokio::test]
async fn without_a_server_the_agent_and_all_it_started_end() {
    let script = "trap '' TERM; sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait; wait";
    let mut sandbox = Sandbox::shell(&["--orphan-grace-ms", "300"], script);
    let (link, mut pipes) = sandbox.link().await;
    let pids: Vec<i32> = read_lines(&mut pipes, 2).await.iter().map(|line| line.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    let started = Instant::now();
    drop((link, pipes));
    assert_eq!(sandbox.ended().await, Some(128 + 9));
    assert!(started.elapsed() > Duration::from_millis(2200), "TERM was ignored: KILL comes 2 s after the grace");
    until("what the agent started is gone", || !pids.iter().any(|pid| is_alive(*pid))).await;
}

#[tokio::test]
async fn a_server_that_comes_back_in_time_keeps_the_agent() {
    let sandbox = Sandbox::start(&["--orphan-grace-ms", "5000"], &["/bin/cat"]);
    for text in ["first\n", "second\n", "third\n"] {
        let (_link, mut pipes) = sandbox.link().await;
        pipes.input.send(Bytes::from(text)).await.unwrap();
        // What the server before took without telling comes again first.
        while read_lines(&mut pipes, 1).await.last().unwrap() != text.trim() {}
    }
}

#[tokio::test]
async fn an_agent_that_ended_before_any_server_came_is_still_heard() {
    let mut sandbox = Sandbox::shell(&[], "echo out; echo err >&2; exit 7");
    until("the agent has ended", || children(sandbox.pid()).is_empty()).await;
    let (_link, mut pipes) = sandbox.link().await;
    let (stdout, stderr, exit) = read_all(&mut pipes).await;
    assert_eq!((stdout.as_slice(), stderr.as_slice(), exit), (b"out\n".as_slice(), b"err\n".as_slice(), exited(7)));
    assert_eq!(sandbox.ended().await, Some(7));
}

#[tokio::test]
async fn the_signal_that_ended_the_agent_is_told() {
    let mut sandbox = Sandbox::shell(&[], "kill -SEGV $$");
    let (_link, mut pipes) = sandbox.link().await;
    let (_, _, exit) = read_all(&mut pipes).await;
    assert_eq!(exit, AgentExit { code: None, signal: Some(11) });
    assert_eq!(sandbox.ended().await, Some(128 + 11));
}

#[tokio::test]
async fn a_command_that_can_not_be_started_is_an_exit_with_127_and_a_reason() {
    let mut sandbox = Sandbox::start(&[], &["/no/such/agent"]);
    let (link, mut pipes) = sandbox.link().await;
    assert_eq!(link.agent_pid(), None);
    let (_, stderr, exit) = read_all(&mut pipes).await;
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(stderr.contains("/no/such/agent") && stderr.contains("No such file"), "{stderr}");
    assert_eq!(exit, exited(127));
    assert_eq!(sandbox.ended().await, Some(127));
}

#[tokio::test]
async fn the_agent_inherits_no_socket_and_no_ignored_signal() {
    let sandbox = Sandbox::shell(&[], "grep SigIgn /proc/self/status; readlink /proc/self/fd/* | grep -c socket");
    let (_link, mut pipes) = sandbox.link().await;
    let (stdout, _, _) = read_all(&mut pipes).await;
    let stdout = String::from_utf8(stdout).unwrap();
    let (ignored, sockets) = stdout.trim().strip_prefix("SigIgn:").unwrap().trim().split_once('\n').unwrap();
    // The C library ignores two of its own real-time signals in every child it spawns.
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0x7fff_ffff, 0, "{ignored}");
    assert_eq!(sockets, "0");
}

#[tokio::test]
async fn no_zombie_stays() {
    let script = "for i in $(seq 60); do (sleep 0.05 & sleep 0.05 &); done; echo started; exec sleep 1000";
    let sandbox = Sandbox::shell(&[], script);
    let (_link, mut pipes) = sandbox.link().await;
    read_lines(&mut pipes, 1).await;
    until("only the agent is left", || children(sandbox.pid()).len() == 1).await;
}

#[tokio::test]
async fn what_the_agent_left_behind_does_not_hold_its_end_back() {
    let mut sandbox = Sandbox::shell(&[], "setsid sleep 1000 & echo $!; exit 4");
    let (_link, mut pipes) = sandbox.link().await;
    let started = Instant::now();
    let (stdout, _, exit) = read_all(&mut pipes).await;
    assert_eq!(exit, exited(4));
    assert!(started.elapsed() < Duration::from_secs(5));
    let left: i32 = String::from_utf8(stdout).unwrap().trim().parse().unwrap();
    assert_eq!(sandbox.ended().await, Some(4));
    until("the rest is gone", || !is_alive(left)).await;
}

#[tokio::test]
async fn only_the_sandbox_s_init_is_served() {
    let sandbox = Sandbox::start(&[], &["/bin/cat"]);
    let config = LinkConfig { first_timeout: Duration::from_millis(300), relink_timeout: PATIENCE };
    let refused = sandbox.listen().connect(sandbox.pid() + 1, config).await;
    assert!(matches!(refused, Err(LinkError::NoSupervisor { refused: 1.., .. })), "{refused:?}");

    let (link, mut pipes) = sandbox.link().await;
    let path = sandbox.run_dir.path().join("link.sock");
    let mut stranger = tokio::net::UnixStream::connect(&path).await.unwrap();
    assert_eq!(timeout(PATIENCE, stranger.read(&mut [0; 1])).await.unwrap().unwrap(), 0, "a stranger was let in");
    assert_eq!(link.refused_peers(), 1);
    pipes.input.send(Bytes::from_static(b"still here\n")).await.unwrap();
    assert_eq!(read_lines(&mut pipes, 1).await, ["still here"]);
}

#[tokio::test]
async fn a_stop_lets_a_polite_agent_say_goodbye_and_kills_a_stubborn_one() {
    let mut polite = Sandbox::shell(&[], "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done");
    let (link, mut pipes) = polite.link().await;
    read_lines(&mut pipes, 1).await;
    let (stopped, (stdout, _, exit)) = tokio::join!(link.stop(Duration::from_secs(20)), read_all(&mut pipes));
    assert_eq!((stopped, stdout.as_slice(), exit), ((), b"bye\n".as_slice(), exited(3)));
    assert_eq!(polite.ended().await, Some(3));

    let mut stubborn = Sandbox::shell(&[], "trap '' TERM; echo ready; while :; do sleep 0.02; done");
    let (link, mut pipes) = stubborn.link().await;
    read_lines(&mut pipes, 1).await;
    let (_, (_, _, exit)) = tokio::join!(link.stop(Duration::from_millis(100)), read_all(&mut pipes));
    assert_eq!(exit, AgentExit { code: None, signal: Some(9) });
    assert_eq!(stubborn.ended().await, Some(128 + 9));
}

#[tokio::test]
async fn a_connection_to_the_relay_reaches_the_gateway_and_back_with_its_half_close() {
    let sandbox = Sandbox::start(&[], &["/bin/cat"]);
    let gateway = UnixListener::bind(sandbox.run_dir.path().join("gateway.sock")).unwrap();
    let (link, _pipes) = sandbox.link().await;
    let echo = tokio::spawn(async move {
        let (mut connection, _) = gateway.accept().await.unwrap();
        let mut question = Vec::new();
        connection.read_to_end(&mut question).await.unwrap();
        connection.write_all(&question).await.unwrap();
    });
    let mut inside = TcpStream::connect(("127.0.0.1", link.relay_port())).await.unwrap();
    let question = numbers(50_000);
    inside.write_all(&question).await.unwrap();
    inside.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, inside.read_to_end(&mut answer)).await.unwrap().unwrap();
    echo.await.unwrap();
    assert!(answer == question, "the echo differs");
}

#[tokio::test]
async fn a_reader_that_goes_away_does_not_hold_the_agent() {
    let mut sandbox = Sandbox::shell(&["--ring-bytes", "200000"], "seq 1 500000; exit 6");
    let (_link, pipes) = sandbox.link().await;
    drop(pipes);
    assert_eq!(sandbox.ended().await, Some(6));
}

#[tokio::test]
async fn the_probe_reports_one_line_and_ends_with_its_input() {
    let program = supervisor_program();
    let sandbox = Sandbox::start(&[], &[program.to_str().unwrap(), "probe"]);
    let (_link, mut pipes) = sandbox.link().await;
    let lines = read_lines(&mut pipes, 1).await;
    let report = ProbeReport::from_line(&lines[0]).unwrap();
    assert_eq!(report.uid, rustix::process::getuid().as_raw());
    drop(std::mem::replace(&mut pipes.input, tokio::sync::mpsc::channel(1).0));
    assert_eq!(read_all(&mut pipes).await.2, exited(0));
}

#[test]
fn a_socket_path_the_kernel_can_not_take_is_told() {
    let path = PathBuf::from(format!("/tmp/{}/link.sock", "x".repeat(100)));
    assert!(matches!(LinkListener::bind(&path), Err(LinkError::PathTooLong { length: 115, max: 107, .. })));
}

#[tokio::test]
async fn a_ping_takes_less_than_a_moment_and_a_stopped_supervisor_gives_none() {
    let sandbox = Sandbox::shell(&[], "exec sleep 60");
    let (link, _pipes) = sandbox.link().await;
    let mut times = Vec::new();
    for _ in 0..200 {
        times.push(link.ping(PATIENCE).await.unwrap());
    }
    times.sort();
    // On a quiet machine half of them take some 100 µs; this one may be busy.
    println!("ping: median {:?}, 99 of 100 within {:?}", times[100], times[197]);
    assert!(times[100] < Duration::from_millis(5), "{:?}", times[100]);

    let pid = Pid::from_raw(sandbox.pid()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    assert!(matches!(link.ping(Duration::from_millis(100)).await, Err(PingError::Silent { .. })));
    kill_process(pid, Signal::CONT).unwrap();
    assert!(link.ping(PATIENCE).await.is_ok(), "it was only stopped");
}
