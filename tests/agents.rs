//! The agent protocols against real programs: the fakes in `tests/agents`, as plain child processes.
//!
//! Gemini CLI itself is talked to in its image, whose name is [`GEMINI`]. The end-to-end tests talk to it in its sandbox.

#![cfg(feature = "server")]

#[path = "agents/programs.rs"]
mod programs;

use std::time::{Duration, Instant};

use greenroom::agent::{
    AgentCommand, AgentError, AgentEvent, AgentProtocol, BootError, BootPlan, acp::Acp, lines::Lines,
};
use programs::{Program, plan, python};
use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// The image of the real agent.
const GEMINI: &str = "greenroom/gemini:latest";

#[tokio::test]
async fn a_turn_with_a_real_process_streams_every_delta_in_order() {
    let mut agent = Program::acp(&["--deltas", "5000"]).await;
    agent.prompt("hello").await;
    let (said, end) = agent.rest_of_turn().await;
    let wanted: String =
        std::iter::once("hello".to_owned()).chain((0..5000).map(|number| format!(" {number}"))).collect();
    assert_eq!(said, wanted);
    assert!(matches!(end, AgentEvent::TurnEnded { stop_reason } if stop_reason == "end_turn"));
}

#[tokio::test]
async fn a_permission_is_asked_for_and_answered() {
    for (option, wanted) in [(Some("yes"), "completed"), (Some("no"), "failed")] {
        let mut agent = Program::acp(&["--behaviour", "ask"]).await;
        agent.prompt("write").await;
        let AgentEvent::PermissionRequested { request, options, tool_call, .. } = agent.event().await else {
            panic!("a permission is asked for")
        };
        assert_eq!((options.len(), &tool_call["tool_call_id"]), (2, &json!("tool-1")));
        agent.send(AgentCommand::AnswerPermission { request, option_id: option.map(str::to_owned) }).await;
        assert!(matches!(agent.event().await, AgentEvent::Message(_)));
        assert!(matches!(agent.event().await, AgentEvent::ToolUpdated(tool) if tool["status"] == wanted));
        let (_, end) = agent.rest_of_turn().await;
        assert!(matches!(end, AgentEvent::TurnEnded { .. }));
    }
}

#[tokio::test]
async fn cancel_answers_the_open_permission_and_ends_the_turn() {
    let mut agent = Program::acp(&["--behaviour", "ask"]).await;
    agent.prompt("write").await;
    assert!(matches!(agent.event().await, AgentEvent::PermissionRequested { .. }));
    agent.send(AgentCommand::Cancel).await;
    let (said, end) = agent.rest_of_turn().await;
    assert_eq!(said, "permission: cancelled");
    assert!(matches!(end, AgentEvent::TurnEnded { stop_reason } if stop_reason == "cancelled"));
}

#[tokio::test]
async fn a_slow_turn_is_cancelled_at_once() {
    let mut agent = Program::acp(&["--deltas", "10000", "--delay", "0.02"]).await;
    agent.prompt("slow").await;
    assert!(matches!(agent.event().await, AgentEvent::Message(_)));
    let start = Instant::now();
    agent.send(AgentCommand::Cancel).await;
    let (_, end) = agent.rest_of_turn().await;
    assert!(matches!(end, AgentEvent::TurnEnded { stop_reason } if stop_reason == "cancelled"));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_new_session_takes_the_place_of_the_first() {
    let mut agent = Program::acp(&[]).await;
    let (reply, opened) = oneshot::channel();
    agent.send(AgentCommand::OpenSession { workspace: "/".to_owned(), reply }).await;
    opened.await.expect("a reply").expect("opens");
    agent.prompt("again").await;
    let (said, _) = agent.rest_of_turn().await;
    assert_eq!(said, "again 0 1 2");
}

#[tokio::test]
async fn noise_and_strange_messages_harm_no_turn() {
    for behaviour in ["garbage", "deep", "strange"] {
        let mut agent = Program::acp(&["--behaviour", behaviour]).await;
        for _ in 0..2 {
            agent.prompt("hello").await;
            let (said, end) = agent.rest_of_turn().await;
            assert_eq!(said, "hello 0 1 2", "{behaviour}");
            assert!(matches!(end, AgentEvent::TurnEnded { .. }), "{behaviour}");
        }
    }
}

#[tokio::test]
async fn a_line_without_end_is_the_end_of_the_agent() {
    let mut agent = Program::acp(&["--behaviour", "huge"]).await;
    agent.prompt("hello").await;
    let (_, end) = agent.rest_of_turn().await;
    assert!(matches!(end, AgentEvent::Gone(AgentError::Protocol(_))));
}

#[tokio::test]
async fn a_crash_in_a_turn_is_told_with_its_exit_code() {
    let mut agent = Program::acp(&["--behaviour", "crash"]).await;
    agent.prompt("hello").await;
    let (said, end) = agent.rest_of_turn().await;
    assert_eq!(said, "hello 0");
    let AgentEvent::Gone(error) = end else { panic!("the agent is gone") };
    assert_eq!(error.to_string(), "the agent exited (code 7)");
}

#[tokio::test]
async fn an_agent_that_ignores_cancel_goes_on_until_its_own_end() {
    let mut agent = Program::acp(&["--behaviour", "stubborn", "--deltas", "50", "--delay", "0.002"]).await;
    agent.prompt("on").await;
    agent.send(AgentCommand::Cancel).await;
    let (_, end) = agent.rest_of_turn().await;
    assert!(matches!(end, AgentEvent::TurnEnded { stop_reason } if stop_reason == "end_turn"));
}

#[tokio::test]
async fn agents_that_cannot_be_booted_say_why() {
    let cases = [
        ("exit", "the agent exited (code 3)"),
        ("refuse", "the agent refused authenticate: no such gateway"),
        ("mute", "the agent did not answer initialize within 1 s"),
    ];
    for (behaviour, wanted) in cases {
        let mut plan = plan();
        plan.answer_deadline = Duration::from_secs(if behaviour == "mute" { 1 } else { 20 });
        let pipes = python("fake_acp.py", &["--behaviour", behaviour]);
        let error = Acp::default().boot(pipes, plan).await.expect_err("does not boot");
        assert_eq!(error.to_string(), wanted);
    }
}

#[tokio::test]
async fn an_agent_that_stops_reading_holds_up_nobody_but_itself() {
    let agent = Program::acp(&["--behaviour", "deaf"]).await;
    // Far more than a pipe holds.
    agent.prompt(&"x".repeat(1024 * 1024)).await;
    let (reply, done) = oneshot::channel();
    agent.send(AgentCommand::SetMode { mode: "plan".to_owned(), reply }).await;
    agent.send(AgentCommand::Cancel).await;
    drop(agent);
    // Its driver is gone: whoever still waits is let go.
    done.await.expect_err("no answer");
}

#[tokio::test]
async fn a_program_of_json_lines_is_an_agent() {
    let mut agent = Program::lines(&[], Duration::from_secs(60)).await;
    agent.prompt("one\ntwo").await;
    assert!(matches!(agent.event().await, AgentEvent::Thought(block) if block["text"] == "2 words"));
    let (said, end) = agent.rest_of_turn().await;
    assert_eq!(said, "onetwo");
    assert!(matches!(end, AgentEvent::TurnEnded { stop_reason } if stop_reason == "end_turn"));
    agent.prompt("fail").await;
    let (_, end) = agent.rest_of_turn().await;
    assert!(matches!(end, AgentEvent::TurnFailed(error) if error.to_string().ends_with("told to fail")));
    agent.prompt("exit").await;
    let (_, end) = agent.rest_of_turn().await;
    assert!(matches!(end, AgentEvent::Gone(error) if error.to_string() == "the agent exited (code 5)"));
}

#[tokio::test]
async fn a_program_of_plain_lines_is_an_agent() {
    let mut agent = Program::lines(&["--plain"], Duration::from_millis(300)).await;
    agent.prompt("one two").await;
    let (said, end) = agent.rest_of_turn().await;
    assert_eq!(said, "2 words\none\ntwo\n");
    assert!(matches!(end, AgentEvent::TurnEnded { stop_reason } if stop_reason == "end_turn"));
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_its_boot() {
    let pipes = python("no_such_program.py", &[]);
    let lines = Lines::new(Duration::from_secs(1), TaskTracker::new());
    // Python may take longer to fail than a program takes to count as ready.
    let error = match lines.boot(pipes, plan()).await {
        Err(BootError { error, .. }) => error,
        Ok(agent) => {
            let (_, AgentEvent::Gone(error)) = Program(agent).rest_of_turn().await else { panic!("it is gone") };
            error
        }
    };
    assert!(matches!(error, AgentError::Exited(_)));
}

#[tokio::test]
async fn gemini_cli_boots_and_answers_help_without_a_model() {
    let home = tempfile::tempdir().expect("a folder");
    // The image's own command, without any of our sandbox: here it is the protocol that is tested.
    let pipes = programs::start("docker", &["run", "--rm", "-i", "--network", "none", GEMINI], home.path());
    let plan = BootPlan { workspace: "/tmp".to_owned(), ..plan() };
    let booted = Acp::default().boot(pipes, plan.clone()).await;
    let mut agent = Program(booted.expect("boots; the image is there after `make image`"));
    let (reply, opened) = oneshot::channel();
    agent.send(AgentCommand::OpenSession { workspace: plan.workspace.clone(), reply }).await;
    opened.await.expect("a reply").expect("opens");
    let (reply, set) = oneshot::channel();
    agent.send(AgentCommand::SetMode { mode: "plan".to_owned(), reply }).await;
    set.await.expect("a reply").expect("is set");
    let (reply, set) = oneshot::channel();
    agent.send(AgentCommand::SetModel { model: "gemini-2.5-flash".to_owned(), reply }).await;
    set.await.expect("a reply").expect("is set");
    let (reply, set) = oneshot::channel();
    agent.send(AgentCommand::SetMode { mode: "nonsense".to_owned(), reply }).await;
    let refused = set.await.expect("a reply").expect_err("is refused");
    assert_eq!(
        refused.to_string(),
        "the agent refused session/set_mode: Internal error: Invalid or unavailable mode: nonsense"
    );
    agent.prompt("/help").await;
    let (said, end) = agent.rest_of_turn().await;
    assert!(said.contains("Gemini CLI Help"), "{said}");
    assert!(matches!(end, AgentEvent::TurnEnded { stop_reason } if stop_reason == "end_turn"));
}

#[tokio::test]
async fn gemini_cli_is_asked_whether_it_lives_and_serves_on() {
    let home = tempfile::tempdir().expect("a folder");
    let pipes = programs::start("docker", &["run", "--rm", "-i", "--network", "none", GEMINI], home.path());
    let plan = BootPlan { workspace: "/tmp".to_owned(), ..plan() };
    let booted = Acp::default().boot(pipes, plan.clone()).await;
    let mut agent = Program(booted.expect("boots; the image is there after `make image`"));
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        let (reply, answer) = oneshot::channel();
        agent.send(AgentCommand::Probe { deadline: Duration::from_secs(10), reply }).await;
        answer.await.expect("a reply").expect("it lives");
        times.push(start.elapsed());
    }
    times.sort();
    println!("probe: median {:?}, slowest {:?}", times[25], times[49]);
    // One that nobody waits for, and one that comes too late.
    for deadline in [Duration::from_secs(10), Duration::from_nanos(1)] {
        agent.send(AgentCommand::Probe { deadline, reply: oneshot::channel().0 }).await;
    }
    let (reply, opened) = oneshot::channel();
    agent.send(AgentCommand::OpenSession { workspace: plan.workspace, reply }).await;
    opened.await.expect("a reply").expect("opens");
    agent.prompt("/help").await;
    let (said, end) = agent.rest_of_turn().await;
    assert!(said.contains("Gemini CLI Help"), "{said}");
    assert!(matches!(end, AgentEvent::TurnEnded { stop_reason } if stop_reason == "end_turn"));
}
