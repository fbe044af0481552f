//! Agents that are taken up again by another server: in a turn, between turns, before the prompt was there.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{REQUEST, chunk, end_turn, text, update};
use crate::{
    agent::{
        Agent, AgentCommand, AgentError, AgentEvent, AgentProtocol, Mark, Pieces, Place, ResumePlan, RunningTurn, Said,
        acp::{Acp, call::prompt_id, message},
        fake::{self, Fake, fake, fake_from},
    },
    sandbox::pipes::{AgentExit, FromAgent, PIECE_MAX, Stream},
    telemetry::SkippedLines,
};

fn resume_plan(turn: Option<RunningTurn>) -> ResumePlan {
    ResumePlan {
        memory: json!({"session": "two", "former": ["one"]}),
        mark: Mark::default(),
        input_received: 9,
        after_cancel: false,
        turn,
        answer_deadline: std::time::Duration::from_secs(20),
    }
}

/// A turn whose prompt was piece 9, and arrived.
fn turn() -> RunningTurn {
    RunningTurn {
        request: REQUEST,
        pieces: Pieces { first: 9, last: 9 },
        content: vec![text("hello")],
        spoken: true,
        cancelling: false,
        open: Vec::new(),
        answers: Vec::new(),
    }
}

fn resumed(plan: ResumePlan) -> (Fake, Agent) {
    let (fake, pipes) = fake();
    (fake, Acp::default().resume(pipes, plan).expect("is taken up"))
}

fn ask(id: &str) -> Value {
    let options = json!([{"optionId": "yes", "name": "Yes", "kind": "allow_once"}]);
    let params = json!({"sessionId": "two", "toolCall": {"toolCallId": "t"}, "options": options});
    json!({"jsonrpc": "2.0", "id": id, "method": "session/request_permission", "params": params})
}

#[tokio::test]
async fn a_turn_goes_on_and_ends_by_the_answer_to_its_old_prompt() {
    let (mut fake, mut agent) = resumed(resume_plan(Some(turn())));
    let piece = json!({"sessionUpdate": "agent_message_chunk", "content": text("on")});
    fake.say(&update("two", &piece)).await;
    assert!(matches!(agent.event().await, AgentEvent::Message(block) if block == text("on")));
    // Of the session that was left.
    fake.say(&chunk("stale")).await;
    end_turn(&mut fake, &prompt_id(REQUEST).into(), "end_turn").await;
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { .. }));
    agent.commands.send(fake::prompt(REQUEST + 1, vec![text("next")])).await.expect("the task lives");
    let call = fake.message().await;
    assert_eq!((&call["method"], &call["params"]["sessionId"]), (&json!("session/prompt"), &json!("two")));
}

#[tokio::test]
async fn an_agent_that_had_no_turn_takes_a_prompt() {
    let (mut fake, mut agent) = resumed(resume_plan(None));
    let (pieces, allow) = agent.plan(REQUEST, vec![text("hello")]).await;
    assert_eq!(pieces, Pieces { first: 10, last: 10 });
    allow.send(()).expect("it is waited for");
    let call = fake.message().await;
    end_turn(&mut fake, &call["id"], "end_turn").await;
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { .. }));
}

#[tokio::test]
async fn answers_and_a_cancel_are_given_again() {
    let answers = vec![(json!("a"), Some("yes".to_owned())), (json!(4), None)];
    let open = vec![(3, json!("open"))];
    let (mut fake, agent) = resumed(resume_plan(Some(RunningTurn { answers, open, cancelling: true, ..turn() })));
    let selected = json!({"outcome": {"outcome": "selected", "optionId": "yes"}});
    let cancelled = json!({"outcome": {"outcome": "cancelled"}});
    assert_eq!(fake.message().await, json!({"jsonrpc": "2.0", "id": "a", "result": selected}));
    assert_eq!(fake.message().await, json!({"jsonrpc": "2.0", "id": 4, "result": cancelled}));
    assert_eq!(fake.message().await["method"], "session/cancel");
    assert_eq!(fake.message().await, json!({"jsonrpc": "2.0", "id": "open", "result": cancelled}));
    drop(agent);
}

#[tokio::test]
async fn an_open_permission_keeps_its_number_and_new_ones_count_on() {
    let open = vec![(3, json!("open"))];
    let (mut fake, mut agent) = resumed(resume_plan(Some(RunningTurn { open, ..turn() })));
    fake.say(&ask("new")).await;
    let AgentEvent::PermissionRequested { request, agent_id, .. } = agent.event().await else { panic!("a request") };
    assert_eq!((request, agent_id), (4, json!("new")));
    for (request, id) in [(3, "open"), (4, "new")] {
        let answer = AgentCommand::AnswerPermission { request, option_id: Some("yes".to_owned()) };
        agent.commands.send(answer).await.expect("the task lives");
        assert_eq!(fake.message().await["id"], id);
    }
}

#[tokio::test]
async fn an_answer_to_a_call_of_the_server_before_is_nobody_s() {
    let (mut fake, mut agent) = resumed(resume_plan(None));
    let (reply, done) = oneshot::channel();
    agent.commands.send(AgentCommand::SetMode { mode: "plan".to_owned(), reply }).await.expect("the task lives");
    let call = fake.message().await;
    // Pieces up to 9 were sent by the other: these are all ids its calls may have.
    for id in 0..=2 * 9 + 1 {
        fake.say(&json!({"id": id, "error": {"message": "not meant for you"}})).await;
    }
    fake.say(&json!({"id": call["id"], "result": {}})).await;
    done.await.expect("a reply").expect("is set");
    fake.exit(0).await;
    agent.gone().await;
}

#[tokio::test]
async fn what_the_mark_covers_is_done_with_at_once() {
    let mark = Mark { stdout: Place { chunk: 40, offset: 7 }, ..Mark::default() };
    let (fake, _agent) = resumed(ResumePlan { mark, ..resume_plan(None) });
    assert_eq!(*fake.done_with.borrow(), 39, "nothing that is said again could say it");
}

#[tokio::test]
async fn a_memory_of_something_else_is_refused() {
    let (_fake, pipes) = fake();
    let error = Acp::default().resume(pipes, ResumePlan { memory: Value::Null, ..resume_plan(None) });
    assert!(matches!(error, Err(AgentError::Protocol(_))));
}

#[tokio::test]
async fn a_prompt_arrives_once_however_much_of_it_the_agent_has() {
    let content = vec![text(&"long ".repeat(3 * PIECE_MAX / 5))];
    let params = json!({"sessionId": "two", "prompt": content});
    let whole = message::request(prompt_id(REQUEST), "session/prompt", &params);
    let pieces: Vec<&[u8]> = whole.chunks(PIECE_MAX).collect();
    assert_eq!(pieces.len(), 4);
    // The supervisor has pieces 1 to 5, then the prompt's.
    for there in 0..=pieces.len() {
        let turn = RunningTurn { pieces: Pieces { first: 6, last: 9 }, content: content.clone(), ..turn() };
        let plan = ResumePlan { input_received: 5 + there as u64, ..resume_plan(Some(turn)) };
        let (mut fake, mut agent) = resumed(plan);
        agent.commands.send(AgentCommand::Cancel).await.expect("the task lives");
        let mut heard = pieces[..there].concat();
        while let Some(piece) = fake.input.recv().await {
            heard.extend_from_slice(&piece);
            if heard.ends_with(b"}\n") && heard.len() > whole.len() {
                break;
            }
        }
        let (prompt, cancel) = heard.split_at(whole.len());
        assert!(prompt == whole, "the prompt differs");
        assert!(String::from_utf8_lossy(cancel).contains("session/cancel"));
        end_turn(&mut fake, &prompt_id(REQUEST).into(), "cancelled").await;
        assert!(matches!(agent.event().await, AgentEvent::TurnEnded { .. }));
    }
}

/// Everything an agent says behind the mark, if it has written these chunks since chunk `first`, and then exits.
async fn sayings(plan: ResumePlan, first: u64, chunks: &[(Stream, Bytes)]) -> Vec<Said> {
    let (fake, pipes) = fake_from(first);
    let Fake { mut input, output, .. } = fake;
    let acp = Acp::new(TaskTracker::new(), SkippedLines::default());
    let Agent { commands: _commands, mut events, .. } = acp.resume(pipes, plan).expect("is taken up");
    let writing = async {
        for (seq, (stream, bytes)) in (first..).zip(chunks) {
            let chunk = FromAgent::Chunk { seq, stream: *stream, bytes: bytes.clone() };
            output.send(chunk).await.expect("someone reads");
        }
        let exit = FromAgent::Exited(AgentExit { code: Some(0), signal: None });
        output.send(exit).await.expect("someone reads");
    };
    let reading = async { while input.recv().await.is_some() {} };
    let mut said = Vec::new();
    let listening = async {
        while let Some(saying) = events.recv().await {
            said.push(saying);
        }
    };
    tokio::join!(writing, reading, listening);
    said
}

/// What an agent may write in a turn, line by line.
fn script() -> impl Strategy<Value = Vec<(Stream, Vec<u8>)>> {
    let message = |value: Value| (Stream::Stdout, format!("{value}\n").into_bytes());
    let piece = move |text: String| {
        message(update(
            "two",
            &json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}),
        ))
    };
    let line = prop_oneof![
        6 => "[a-z ]{0,30}".prop_map(piece),
        1 => Just(message(ask("p"))),
        1 => Just(message(chunk("stale"))),
        1 => Just(message(json!({"id": 1, "result": {}}))),
        1 => Just(message(json!({"id": 5, "method": "fs/read_text_file", "params": {}}))),
        1 => Just((Stream::Stdout, b"loaded 3 tools\n".to_vec())),
        1 => Just((Stream::Stdout, b"\n".to_vec())),
        2 => "[a-z]{0,20}\n".prop_map(|text| (Stream::Stderr, text.into_bytes())),
    ];
    prop::collection::vec(line, 0..25)
}

/// Cuts what was written into chunks as a supervisor does that reads both pipes whenever it likes.
fn cut(written: &[(Stream, Vec<u8>)], cuts: &[usize]) -> Vec<(Stream, Bytes)> {
    let mut chunks: Vec<(Stream, Vec<u8>)> = Vec::new();
    let mut cuts = cuts.iter().cycle();
    for (stream, bytes) in written {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(cuts.next().copied().unwrap_or(usize::MAX).clamp(1, rest.len()));
            match chunks.last_mut() {
                // Sometimes more than one line comes in one chunk.
                Some((last, bytes)) if last == stream && piece.len() % 2 == 0 => bytes.extend_from_slice(piece),
                _ => chunks.push((*stream, piece.to_vec())),
            }
            rest = behind;
        }
    }
    chunks.into_iter().map(|(stream, bytes)| (stream, Bytes::from(bytes))).collect()
}

fn events(said: &[Said]) -> Vec<String> {
    // A permission's number counts from where its server began; the agent's own id is what stays.
    let number = |event: &AgentEvent| match event {
        AgentEvent::PermissionRequested { agent_id, .. } => format!("asks {agent_id}"),
        event => format!("{event:?}"),
    };
    said.iter().filter_map(|said| said.event.as_ref().map(number)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A server may die with any number of an agent's sayings kept. The next one hears the rest of them, whether the supervisor has forgotten
    /// as much as it may, or nothing yet.
    #[test]
    fn a_server_may_die_behind_any_event(written in script(), cuts in prop::collection::vec(1_usize..90, 1..8), forgetful: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut written = written;
            let end = json!({"id": prompt_id(REQUEST), "result": {"stopReason": "end_turn"}});
            written.push((Stream::Stdout, format!("{end}\n").into_bytes()));
            let chunks = cut(&written, &cuts);
            let whole = sayings(resume_plan(Some(turn())), 1, &chunks).await;
            let mut over = false;
            for kept in 0..whole.len() {
                let mark = kept.checked_sub(1).map_or_else(Mark::default, |last| whole[last].mark);
                over |= kept > 0 && matches!(whole[kept - 1].event, Some(AgentEvent::TurnEnded { .. }));
                let plan = ResumePlan { mark, ..resume_plan((!over).then(turn)) };
                let forgotten = if forgetful { mark.forgettable() } else { 0 };
                let left = &chunks[usize::try_from(forgotten).expect("few")..];
                let rest = sayings(plan, forgotten + 1, left).await;
                if forgetful {
                    // Lines for people may lack their beginning.
                    let of_protocol = |said: &[Said]| -> Vec<String> {
                        events(said).into_iter().filter(|event| !event.contains("Stderr")).collect()
                    };
                    assert_eq!(of_protocol(&rest), of_protocol(&whole[kept..]), "behind {kept}");
                } else {
                    assert_eq!(events(&rest), events(&whole[kept..]), "behind {kept}");
                }
            }
        });
    }
}
