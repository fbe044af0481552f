//! The protocol against a fake program, rule by rule.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::TaskTracker;

use super::Lines;
use crate::{
    agent::{
        Agent, AgentCommand, AgentError, AgentEvent, AgentProtocol, BootError, Mark, Pieces, ResumePlan, RunningTurn,
        fake::{self, Fake, fake, plan},
    },
    sandbox::pipes::Stream,
};

const QUIET: Duration = Duration::from_secs(1);

async fn booted() -> (Fake, Agent) {
    let (fake, pipes) = fake();
    let lines = Lines::new(QUIET, TaskTracker::new());
    let agent = lines.boot(pipes, plan()).await.expect("boots");
    (fake, agent)
}

async fn prompt(agent: &Agent, text: &str) {
    let content = vec![json!({"type": "text", "text": text})];
    agent.commands.send(fake::prompt(1, content)).await.expect("the task lives");
}

async fn cancel(agent: &Agent) {
    agent.commands.send(AgentCommand::Cancel).await.expect("the task lives");
}

async fn message(agent: &mut Agent) -> String {
    let AgentEvent::Message(block) = agent.event().await else { panic!("a piece of the answer") };
    block["text"].as_str().expect("a text block").to_owned()
}

async fn ended(agent: &mut Agent) -> String {
    let AgentEvent::TurnEnded { stop_reason } = agent.event().await else { panic!("the turn's end") };
    stop_reason
}

#[tokio::test(start_paused = true)]
async fn a_program_that_exits_at_once_fails_its_boot() {
    let (mut fake, pipes) = fake();
    fake.write("usage: program FILE\n").await;
    fake.exit(2).await;
    let agent = Lines::new(QUIET, TaskTracker::new()).boot(pipes, plan()).await;
    assert!(matches!(agent, Err(BootError { error: AgentError::Exited(_), .. })));
}

#[tokio::test(start_paused = true)]
async fn what_it_says_before_the_first_prompt_is_for_people() {
    let (mut fake, pipes) = fake();
    fake.write("Welcome!\n").await;
    let mut agent = Lines::new(QUIET, TaskTracker::new()).boot(pipes, plan()).await.expect("boots");
    fake.write("Ready.\n").await;
    for wanted in ["Welcome!", "Ready."] {
        assert!(matches!(agent.event().await, AgentEvent::Log { stream: Stream::Stdout, text } if text == wanted));
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_plain_lines_ends_after_the_quiet_time() {
    let (mut fake, mut agent) = booted().await;
    prompt(&agent, "one\ntwo").await;
    assert_eq!(fake.line().await, "one two");
    // Thinking is not silence: the time runs from the first line.
    tokio::time::sleep(QUIET * 50).await;
    let start = Instant::now();
    for line in ["a", "b"] {
        fake.write(format!("{line}\n")).await;
        assert_eq!(message(&mut agent).await, format!("{line}\n"));
        tokio::time::sleep(QUIET / 2).await;
    }
    fake.write_to(Stream::Stderr, Bytes::from_static(b"still here\n")).await;
    assert!(matches!(agent.event().await, AgentEvent::Log { stream: Stream::Stderr, .. }));
    assert_eq!(ended(&mut agent).await, "end_turn");
    let took = start.elapsed();
    assert!(took >= QUIET * 3 / 2 && took < QUIET * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_result_ends_the_turn_at_once_and_an_error_fails_it() {
    let (mut fake, mut agent) = booted().await;
    prompt(&agent, "go").await;
    fake.line().await;
    let start = Instant::now();
    let said = "{\"type\":\"thought\",\"content\":\"hm\"}\n{\"type\":\"tool_use\",\"name\":\"ls\"}\n{\"type\":\"result\",\"content\":\"done\"}\n";
    fake.write(said).await;
    assert!(matches!(agent.event().await, AgentEvent::Thought(_)));
    assert!(matches!(agent.event().await, AgentEvent::Update(raw) if raw["name"] == "ls"));
    assert_eq!(message(&mut agent).await, "done");
    assert_eq!(ended(&mut agent).await, "end_turn");
    assert!(start.elapsed() < QUIET);
    prompt(&agent, "again").await;
    fake.line().await;
    fake.write("{\"type\":\"error\",\"content\":\"out of coffee\"}\n").await;
    let AgentEvent::TurnFailed(error) = agent.event().await else { panic!("the turn fails") };
    assert_eq!(error.to_string(), "the agent refused prompt: out of coffee");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_turn_ends_at_once_and_the_rest_of_its_answer_is_thrown_away() {
    let (mut fake, mut agent) = booted().await;
    cancel(&agent).await;
    prompt(&agent, "first").await;
    assert_eq!(fake.line().await, "first");
    fake.write("some\n").await;
    assert_eq!(message(&mut agent).await, "some\n");
    cancel(&agent).await;
    assert_eq!(ended(&mut agent).await, "cancelled");
    prompt(&agent, "second").await;
    fake.write("more of the first\n{\"type\":\"result\",\"content\":\"first\"}\n").await;
    assert_eq!(fake.line().await, "second");
    fake.write("second\n{\"type\":\"result\"}\n").await;
    assert_eq!(message(&mut agent).await, "second\n");
    assert_eq!(ended(&mut agent).await, "end_turn");
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_waits_for_a_cancelled_turn_can_be_cancelled_too() {
    let (mut fake, mut agent) = booted().await;
    prompt(&agent, "first").await;
    fake.line().await;
    for _ in 0..2 {
        cancel(&agent).await;
    }
    assert_eq!(ended(&mut agent).await, "cancelled");
    prompt(&agent, "second").await;
    cancel(&agent).await;
    assert_eq!(ended(&mut agent).await, "cancelled");
    prompt(&agent, "third").await;
    // The first turn's answer comes only now, without a `result`: it is over after the quiet time.
    fake.write("the first\n").await;
    assert_eq!(fake.line().await, "third");
    fake.write("the third\n").await;
    assert_eq!(message(&mut agent).await, "the third\n");
}

#[tokio::test(start_paused = true)]
async fn silence_counts_only_while_someone_listens() {
    let (mut fake, mut agent) = booted().await;
    prompt(&agent, "go").await;
    fake.line().await;
    let pieces = crate::agent::EVENT_CAPACITY + 1;
    fake.write("x\n".repeat(pieces)).await;
    // One event has no room; the program has more to say meanwhile, but isn't heard.
    tokio::time::sleep(QUIET * 10).await;
    fake.write("last\n").await;
    for _ in 0..pieces {
        assert_eq!(message(&mut agent).await, "x\n");
    }
    assert_eq!(message(&mut agent).await, "last\n");
    assert_eq!(ended(&mut agent).await, "end_turn");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_exits_in_its_turn_is_gone_after_its_last_words() {
    let (mut fake, mut agent) = booted().await;
    prompt(&agent, "go").await;
    fake.line().await;
    fake.write("bye").await;
    fake.exit(0).await;
    assert_eq!(message(&mut agent).await, "bye\n");
    assert_eq!(agent.gone().await, "the agent exited (code 0)");
}

#[tokio::test(start_paused = true)]
async fn what_a_program_cannot_do_is_said() {
    let (_fake, mut agent) = booted().await;
    agent.commands.send(fake::prompt(1, vec![json!({"type": "image"})])).await.expect("the task lives");
    assert!(matches!(agent.event().await, AgentEvent::TurnFailed(AgentError::Refused { call: "prompt", .. })));
    let (reply, done) = oneshot::channel();
    agent.commands.send(AgentCommand::SetMode { mode: "plan".to_owned(), reply }).await.expect("the task lives");
    done.await.expect("a reply").expect_err("it has no modes");
    let (reply, done) = oneshot::channel();
    let workspace = "/sandbox/moved".to_owned();
    agent.commands.send(AgentCommand::OpenSession { workspace, reply }).await.expect("the task lives");
    done.await.expect("a reply").expect("nothing to do");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_has_not_exited_is_well() {
    let (_fake, agent) = booted().await;
    let (reply, answer) = oneshot::channel();
    let probe = AgentCommand::Probe { deadline: Duration::from_secs(1), reply };
    agent.commands.send(probe).await.expect("the task lives");
    assert!(answer.await.expect("answered").is_ok());
}

fn resumed(input_received: u64, turn: Option<RunningTurn>) -> (Fake, Agent) {
    resumed_after(false, input_received, turn)
}

fn resumed_after(after_cancel: bool, input_received: u64, turn: Option<RunningTurn>) -> (Fake, Agent) {
    let (fake, pipes) = fake();
    let plan = ResumePlan {
        memory: json!(null),
        mark: Mark::default(),
        input_received,
        after_cancel,
        turn,
        answer_deadline: QUIET,
    };
    (fake, Lines::new(QUIET, TaskTracker::new()).resume(pipes, plan).expect("is taken up"))
}

/// A turn whose prompt is piece 5.
fn turn(spoken: bool) -> RunningTurn {
    RunningTurn {
        request: 1,
        pieces: Pieces { first: 5, last: 5 },
        content: vec![json!({"type": "text", "text": "go"})],
        spoken,
        cancelling: false,
        open: Vec::new(),
        answers: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_taken_up_goes_on_and_ends_after_the_quiet_time() {
    let (mut fake, mut agent) = resumed(5, Some(turn(true)));
    fake.write("on\n").await;
    assert_eq!(message(&mut agent).await, "on\n");
    assert_eq!(ended(&mut agent).await, "end_turn");
    // A program that was done before the restart says no more.
    let (_fake, mut agent) = resumed(5, Some(turn(true)));
    assert_eq!(ended(&mut agent).await, "end_turn");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_had_not_spoken_may_think_on() {
    let (mut fake, mut agent) = resumed(5, Some(turn(false)));
    tokio::time::sleep(QUIET * 50).await;
    fake.write("at last\n").await;
    assert_eq!(message(&mut agent).await, "at last\n");
    assert_eq!(ended(&mut agent).await, "end_turn");
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_cancelled_turn_is_thrown_away_before_a_prompt_that_had_not_arrived_is_sent() {
    let (mut fake, mut agent) = resumed_after(true, 4, Some(turn(false)));
    fake.write("late\n").await;
    assert_eq!(fake.line().await, "go", "after the quiet time");
    fake.write("mine\n").await;
    assert_eq!(message(&mut agent).await, "mine\n");
    assert_eq!(ended(&mut agent).await, "end_turn");
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_had_not_arrived_is_sent_once() {
    let (mut fake, agent) = resumed(4, Some(turn(false)));
    assert_eq!(fake.line().await, "go");
    drop(agent);
    assert!(fake.input.recv().await.is_none(), "only once");
    for content in [turn(false).content, Vec::new()] {
        let (mut fake, mut agent) = resumed(5, Some(RunningTurn { content, ..turn(true) }));
        assert_eq!(ended(&mut agent).await, "end_turn");
        drop(agent);
        assert!(fake.input.recv().await.is_none(), "it is there already");
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_was_cancelled_or_refused_says_so_again() {
    let (_fake, mut agent) = resumed(5, Some(RunningTurn { cancelling: true, ..turn(true) }));
    assert_eq!(ended(&mut agent).await, "cancelled");
    let nothing =
        RunningTurn { content: vec![json!({"type": "image"})], pieces: Pieces { first: 5, last: 4 }, ..turn(false) };
    let (_fake, mut agent) = resumed(4, Some(nothing));
    assert!(matches!(agent.event().await, AgentEvent::TurnFailed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_prompt_is_written_when_it_may_go() {
    let (mut fake, agent) = booted().await;
    let content = vec![json!({"type": "text", "text": "go"})];
    let (pieces, allow) = agent.plan(1, content.clone()).await;
    assert_eq!(pieces, Pieces { first: 1, last: 1 });
    drop(allow);
    let (again, allow) = agent.plan(2, content).await;
    assert_eq!(again, pieces, "the first was taken back");
    assert!(fake.input.try_recv().is_err(), "nothing is written yet");
    allow.send(()).expect("it is waited for");
    assert_eq!(fake.line().await, "go");
    let (nothing, _allow) = {
        let (_fake, agent) = booted().await;
        agent.plan(1, vec![json!({"type": "image"})]).await
    };
    assert_eq!(nothing, Pieces { first: 1, last: 0 });
}
