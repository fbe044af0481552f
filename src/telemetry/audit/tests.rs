//! The log as a whole: what is said arrives, what can't be written is counted and told.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct House {
    folder: tempfile::TempDir,
    metrics: Metrics,
    audit: Audit,
}

impl House {
    fn new(settings: &config::Audit) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let metrics = Metrics::new();
        let audit = Audit::open(settings, folder.path(), metrics.clone()).expect("it can be written");
        Self { folder, metrics, audit }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// All lines so far, without their times.
    async fn lines(&self) -> Vec<Value> {
        self.audit.settle(PATIENCE).await;
        let text = fs::read_to_string(self.path()).expect("it is there");
        text.lines().map(without_time).collect()
    }

    fn counted(&self, outcome: &str) -> bool {
        self.metrics.render().contains(&format!("greenroom_audit_lines_total{{outcome=\"{outcome}\"}}"))
    }
}

fn without_time(line: &str) -> Value {
    let mut line: Value = serde_json::from_str(line).expect("a line is JSON");
    let time = line.as_object_mut().and_then(|line| line.remove("time"));
    assert!(time.is_some_and(|time| time.as_str().is_some_and(|time| time.ends_with('Z'))));
    line
}

fn asked(operation: &'static str, changes: bool) -> Asked {
    Asked { operation, operators: false, changes, request_id: "req-1".to_owned(), remote: Some("127.0.0.1".to_owned()) }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a good name")
}

fn of_session(audit: &Audit) -> SessionAudit {
    let template = TemplateName::parse("shell").expect("a good name");
    let workspace = WorkspaceName::parse("notes").expect("a good name");
    audit.of_session(&user("ada"), &SessionId::from_client("ses_1"), &template, &workspace)
}

#[tokio::test]
async fn a_call_leaves_one_line_with_what_was_found_on_its_way() {
    let house = House::new(&config::Audit::default());
    let call = house.audit.call(asked("close_session", true));
    let trail = call.trail();
    trail.caller(&user("root"), "key_7");
    let (template, workspace) = (TemplateName::parse("shell"), WorkspaceName::parse("notes"));
    let session = SessionId::from_client("ses_1");
    trail.session(&user("ada"), &session, &template.expect("good"), &workspace.expect("good"));
    call.answered(204, None).await;
    let line = json!({
        "action": "close_session", "outcome": "ok", "status": 204, "user": "root", "credential": "key_7", "owner": "ada",
        "session": "ses_1", "template": "shell", "workspace": "notes", "request_id": "req-1", "remote": "127.0.0.1"
    });
    assert_eq!(house.lines().await, [line]);
}

#[tokio::test]
async fn looks_are_not_written_down_unless_they_are_refused_or_wanted() {
    let house = House::new(&config::Audit::default());
    for (status, code) in
        [(200, None), (404, Some(Code::NotFound)), (403, Some(Code::Forbidden)), (401, Some(Code::Unauthenticated))]
    {
        house.audit.call(asked("get_session", false)).answered(status, code).await;
    }
    let lines = house.lines().await;
    let told: Vec<_> = lines.iter().map(|line| (line["action"].as_str(), line["call"].as_str())).collect();
    assert_eq!(told, [(Some("get_session"), None), (Some("auth.failed"), Some("get_session"))]);
    let house = House::new(&config::Audit { reads: true, ..config::Audit::default() });
    house.audit.call(asked("get_session", false)).answered(200, None).await;
    assert_eq!(house.lines().await.len(), 1);
}

#[tokio::test]
async fn a_call_whose_client_left_is_written_down_if_it_may_have_changed_something() {
    let house = House::new(&config::Audit::default());
    drop(house.audit.call(asked("get_session", false)));
    drop(house.audit.call(asked("start_turn", true)));
    let lines = house.lines().await;
    assert_eq!(
        lines,
        [json!({"action": "start_turn", "outcome": "client_left", "request_id": "req-1", "remote": "127.0.0.1"})]
    );
}

#[tokio::test]
async fn what_happens_in_a_session_says_whose_it_is() {
    let house = House::new(&config::Audit::default());
    let session = of_session(&house.audit);
    session.egress_allowed("registry.example:443");
    session.egress_refused("evil.example\n{\"action\":1}:22", "not_allowed");
    session.budget_exhausted("input_tokens_per_hour");
    session.key_refused();
    let (permission, turn) = (PermissionId::from_client("perm_1"), TurnId::from_client("turn_1"));
    session.permission_resolved(&permission, &turn, "policy", "allow_once");
    session.ended("closed");
    let of = |mut more: Value| {
        let whose = json!({"user": "ada", "session": "ses_1", "template": "shell", "workspace": "notes"});
        more.as_object_mut().expect("an object").extend(whose.as_object().expect("an object").clone());
        more
    };
    let expected = [
        json!({"action": "egress.allowed", "outcome": "ok", "target": "registry.example:443"}),
        json!({"action": "egress.refused", "outcome": "FORBIDDEN", "target": "evil.exampleaction:1:22", "reason": "not_allowed"}),
        json!({"action": "budget.exhausted", "outcome": "BUDGET_EXHAUSTED", "reason": "input_tokens_per_hour"}),
        json!({"action": "key.refused", "outcome": "API_KEY_INVALID"}),
        json!({
            "action": "permission.resolved", "outcome": "ok", "permission": "perm_1", "turn": "turn_1", "by": "policy",
            "reason": "allow_once"
        }),
        json!({"action": "session.ended", "outcome": "ok", "reason": "closed"}),
    ];
    assert_eq!(house.lines().await, expected.map(of));
}

#[tokio::test]
async fn noise_is_cut_short_and_the_file_says_how_much_is_left_out() {
    let house = House::new(&config::Audit::default());
    for _ in 0..1000 {
        house.audit.call(asked("open_session", true)).answered(401, Some(Code::Unauthenticated)).await;
    }
    let session = of_session(&house.audit);
    (0..1000).for_each(|_| session.egress_refused("10.0.0.1:1", "private"));
    session.ended("closed");
    // Whatever the machine's pace: every line is written or told of as left out.
    let all = async || {
        let lines = house.lines().await;
        let written = |action: &str| lines.iter().filter(|line| line["action"] == action).count() as u64;
        let left_out = |line: &&Value| line["action"] == "audit.left_out";
        let left_out: Vec<_> = lines.iter().filter(left_out).cloned().collect();
        let told = |session: &Value| {
            let of = left_out.iter().filter(|line| line["session"] == *session);
            of.map(|line| line["lines"].as_u64().expect("a number")).sum::<u64>()
        };
        let nobodys = written("auth.failed") + told(&Value::Null);
        let agents = written("egress.refused") + told(&json!("ses_1"));
        assert_eq!(written("session.ended"), 1);
        assert!(lines.len() < 1000, "{}", lines.len());
        (nobodys, agents) == (1000, 1000)
    };
    let deadline = Instant::now() + PATIENCE;
    while !all().await {
        assert!(Instant::now() < deadline, "what is left out is not told");
        tokio::task::yield_now().await;
    }
    assert!(house.counted("left_out") && !house.counted("lost"));
}

#[tokio::test]
async fn a_full_queue_holds_a_call_up_for_a_moment_and_then_loses_its_line() {
    let (queue, _nobody_reads) = mpsc::channel(2);
    let metrics = Metrics::new();
    let (pace, lost, told) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
    let shared = Arc::new(Shared { queue, reads: false, pace, lost, told, metrics: metrics.clone() });
    let audit = Audit(Some(Arc::clone(&shared)));
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        audit.call(asked("open_session", true)).answered(201, None).await;
    }
    let waited = begun.elapsed();
    assert!(waited >= WAIT && waited < 2 * WAIT, "{waited:?}");
    of_session(&audit).ended("closed");
    assert_eq!(begun.elapsed(), waited, "a session's end waits for nothing");
    assert_eq!(shared.lost.load(Ordering::Relaxed), 2);
    assert!(metrics.render().contains("greenroom_audit_lines_total{outcome=\"lost\"} 2"));
}

#[tokio::test]
async fn without_a_file_nothing_is_written_and_nothing_waits() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let settings = config::Audit { file: "none".into(), ..config::Audit::default() };
    let audit = Audit::open(&settings, folder.path(), Metrics::new()).expect("nothing to open");
    audit.call(asked("open_session", true)).answered(201, None).await;
    of_session(&audit).ended("closed");
    audit.settle(PATIENCE).await;
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

/// A disk of the test's own; the tests are run as root.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "greenroom-test"]).arg(folder.path());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let ballast = self.0.path().join("ballast");
        let mut file = fs::File::create(&ballast).expect("there is room for its name");
        while file.write_all(&[7; 512]).is_ok() {}
        while file.write_all(&[7]).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_loses_lines_whole_and_the_file_says_how_many_once_there_is_room() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let disk = SmallDisk::mount().expect("root may mount");
    let metrics = Metrics::new();
    let audit = Audit::open(&config::Audit::default(), disk.0.path(), metrics.clone()).expect("it can be written");
    let say = async |request: &str| {
        let asked = Asked { request_id: request.to_owned(), ..asked("open_session", true) };
        audit.call(asked).answered(201, None).await;
    };
    say("before").await;
    audit.settle(PATIENCE).await;
    let ballast = disk.fill();
    // The last page of the file has room for a few more; the lines are long enough to need the next.
    let long = "x".repeat(1000);
    for _ in 0..20 {
        say(&long).await;
    }
    audit.settle(PATIENCE).await;
    fs::remove_file(ballast).expect("it is there");
    say("after").await;
    audit.settle(PATIENCE).await;
    let text = fs::read_to_string(disk.0.path().join("audit.jsonl")).expect("it is there");
    let lines: Vec<Value> = text.lines().map(without_time).collect();
    let lost = lines.iter().find(|line| line["action"] == "audit.lost").expect("it says that lines are missing");
    let written = lines.iter().filter(|line| line["request_id"] == long.as_str()).count() as u64;
    assert_eq!(lost["lines"].as_u64(), Some(20 - written));
    assert!(lines.iter().any(|line| line["request_id"] == "after"));
    assert!(metrics.render().contains("greenroom_audit_lines_total{outcome=\"lost\"}"));
}
