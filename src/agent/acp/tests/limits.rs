//! Bounds: long lines, slow readers, agents that don't read.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::{Acp, answer, booted, chunk, end_turn, prompt};
use crate::{
    agent::{
        AgentCommand, AgentEvent, AgentProtocol, EVENT_CAPACITY, LINE_HELD,
        fake::{Fake, fake, plan},
        framing::{LOG_LINE_LIMIT, STDOUT_LINE_LIMIT},
    },
    ids::TemplateName,
    sandbox::pipes::{AgentExit, CHUNK_COST, FromAgent, PIPE_CAPACITY, Stream},
    telemetry::{Metrics, SkippedLines},
};

/// Waits until this chunk is done with.
async fn done_with(fake: &mut Fake, chunk: u64) {
    let done = fake.done_with.wait_for(|done| *done == chunk);
    tokio::time::timeout(std::time::Duration::from_secs(10), done).await.expect("in time").expect("someone reads");
}

#[tokio::test]
async fn a_line_past_the_limit_is_the_end() {
    let (mut fake, mut agent) = booted().await;
    prompt(&mut fake, &agent).await;
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    for _ in 0..STDOUT_LINE_LIMIT / piece.len() {
        fake.write(piece.clone()).await;
    }
    fake.write("x").await;
    let wanted = format!("the agent broke its protocol: a line is longer than {STDOUT_LINE_LIMIT} bytes");
    assert_eq!(agent.gone().await, wanted);
}

#[tokio::test]
async fn a_line_of_exactly_the_limit_passes() {
    let (mut fake, mut agent) = booted().await;
    let empty = chunk("").to_string().len();
    let line = Bytes::from(format!("{}\n", chunk(&"x".repeat(STDOUT_LINE_LIMIT - empty))));
    for start in (0..line.len()).step_by(64 * 1024) {
        fake.write(line.slice(start..line.len().min(start + 64 * 1024))).await;
    }
    let AgentEvent::Message(block) = agent.event().await else { panic!("a piece") };
    assert_eq!(block["text"].as_str().map(str::len), Some(STDOUT_LINE_LIMIT - empty));
}

#[tokio::test]
async fn lines_for_people_are_cut_and_never_break_anything() {
    let (mut fake, mut agent) = booted().await;
    let long = Bytes::from(vec![b'e'; 2 * LOG_LINE_LIMIT]);
    fake.write_to(Stream::Stderr, long.clone()).await;
    fake.write_to(Stream::Stderr, Bytes::from_static(b"\nshort \xff\n")).await;
    fake.write(long).await;
    fake.write("\n[[[[\n").await;
    fake.write(format!("{}\n", "[".repeat(10_000))).await;
    let mut logs = Vec::new();
    for _ in 0..5 {
        let AgentEvent::Log { stream, text } = agent.event().await else { panic!("a line for people") };
        logs.push((stream, text));
    }
    let cut = format!("{}…", "e".repeat(LOG_LINE_LIMIT));
    assert_eq!(logs[0], (Stream::Stderr, cut.clone()));
    assert_eq!(logs[1], (Stream::Stderr, "short \u{fffd}".to_owned()));
    assert_eq!(logs[2], (Stream::Stdout, cut));
    assert_eq!(logs[3].1, "[[[[");
    assert_eq!(logs[4].1.len(), 10_000);
}

#[tokio::test]
async fn a_chunk_is_done_with_when_its_events_are_handed_on() {
    let (mut fake, mut agent) = booted().await;
    // The two answers of the boot.
    let before = 2;
    done_with(&mut fake, before).await;
    // The driver's queue takes all but the last two.
    let pieces = EVENT_CAPACITY + 2;
    let lines: String = (0..pieces).map(|_| format!("{}\n", chunk("x"))).collect();
    fake.write(lines).await;
    fake.write(format!("{}\n", chunk("y"))).await;
    while agent.events.len() < EVENT_CAPACITY {
        tokio::task::yield_now().await;
    }
    assert_eq!(*fake.done_with.borrow(), before, "two events of the chunk wait");
    for _ in 0..pieces {
        agent.event().await;
    }
    agent.event().await;
    done_with(&mut fake, before + 2).await;
}

#[tokio::test]
async fn cancel_gets_through_to_an_agent_nobody_listens_to() {
    let (mut fake, mut agent) = booted().await;
    let id = prompt(&mut fake, &agent).await;
    // Says more than all queues hold, until it is blocked.
    let mut said = 0;
    while said < EVENT_CAPACITY + PIPE_CAPACITY + 2 {
        if fake.output.capacity() == 0 && agent.events.len() == EVENT_CAPACITY {
            break;
        }
        if fake.output.capacity() > 0 {
            fake.say(&chunk("x")).await;
            said += 1;
        }
        tokio::task::yield_now().await;
    }
    agent.commands.send(AgentCommand::Cancel).await.expect("the task lives");
    assert_eq!(fake.message().await["method"], "session/cancel");
    for _ in 0..said {
        assert!(matches!(agent.event().await, AgentEvent::Message(_)));
    }
    end_turn(&mut fake, &id, "cancelled").await;
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { .. }));
}

#[tokio::test]
async fn an_agent_that_asks_and_never_reads_is_held_back() {
    let (mut fake, mut agent) = booted().await;
    let flood = async {
        for id in 0..100_000 {
            fake.say(&json!({"id": id, "method": "fs/read_text_file"})).await;
        }
    };
    let held = tokio::time::timeout(std::time::Duration::from_millis(200), flood).await;
    held.expect_err("the agent is blocked, nothing piles up");
    let Fake { mut input, output, .. } = fake;
    let read = async { while input.recv().await.is_some() {} };
    let exit = async { drop(output.send(FromAgent::Exited(AgentExit { code: Some(0), signal: None })).await) };
    let (gone, (), ()) = tokio::join!(agent.gone(), read, exit);
    assert_eq!(gone, "the agent exited (code 0)");
}

#[tokio::test]
async fn nothing_behind_a_request_that_we_answer_is_done_with_before_the_answer_has_arrived() {
    let (mut fake, mut agent) = booted().await;
    agent.said().await;
    // The two pieces of the boot.
    fake.taken.send_replace(2);
    fake.say(&chunk("before")).await;
    fake.say(&json!({"id": "f", "method": "fs/read_text_file"})).await;
    fake.say(&chunk("behind")).await;
    assert_eq!(agent.said().await.mark.forgettable(), 3);
    assert_eq!(fake.message().await["id"], "f");
    assert!(agent.events.try_recv().is_err(), "the question can be read again");
    fake.taken.send_replace(3);
    let (asked, behind) = (agent.said().await, agent.said().await);
    assert!(asked.event.is_none() && matches!(behind.event, Some(AgentEvent::Message(_))));
    assert_eq!((asked.mark.forgettable(), behind.mark.forgettable()), (4, 5));
}

#[tokio::test]
async fn an_agent_whose_lines_come_to_nothing_is_not_held_back() {
    let (mut fake, mut agent) = booted().await;
    agent.said().await;
    let late = format!("{}\n\n", json!({"id": 77, "result": {}}));
    let listening = async {
        let mut marks = 0;
        while agent.said().await.mark.forgettable() < 1002 {
            marks += 1;
        }
        marks
    };
    let writing = async {
        for _ in 0..1000 {
            fake.write(late.clone()).await;
        }
    };
    let (marks, ()) = tokio::join!(listening, writing);
    assert!(marks < 1000, "one for a chunk at most");
}

#[tokio::test]
async fn a_hundred_megabytes_without_an_end_are_refused_or_cut_and_kept_by_nobody() {
    let piece = Bytes::from(vec![0; 64 * 1024]);
    let (mut fake, mut agent) = booted().await;
    agent.said().await;
    for number in 1..=1600 {
        fake.write_to(Stream::Stderr, piece.clone()).await;
        assert_eq!(agent.said().await.mark.forgettable(), 2 + number, "nothing is held of it");
    }
    fake.write_to(Stream::Stderr, Bytes::from_static(b"\nnext\n")).await;
    let AgentEvent::Log { text, .. } = agent.event().await else { panic!("a line for people") };
    assert!(text.len() <= LOG_LINE_LIMIT + '…'.len_utf8());
    assert!(matches!(agent.event().await, AgentEvent::Log { text, .. } if text == "next"));
    // On standard output it is the end after 8 MiB; only the first half of one is held.
    for number in 0..STDOUT_LINE_LIMIT / piece.len() {
        fake.write(piece.clone()).await;
        if (number + 1) * (piece.len() + CHUNK_COST) > LINE_HELD {
            let said = agent.said().await;
            assert!(said.mark.torn && said.event.is_none());
        }
    }
    fake.write(piece).await;
    assert!(agent.gone().await.contains("a line is longer than"));
}

#[tokio::test]
async fn lines_that_are_no_message_are_counted_from_the_first_on() {
    let metrics = Metrics::new();
    let template = TemplateName::parse("gemini").expect("a good name");
    let acp = Acp::new(TaskTracker::new(), metrics.agent_skipped_lines(&template));
    let (mut fake, pipes) = fake();
    let shake = async {
        fake.write("Loaded 3 tools\n").await;
        answer(&mut fake, "initialize", json!({"protocolVersion": 1})).await;
        answer(&mut fake, "session/new", json!({"sessionId": "one"})).await;
        fake.write("one\n\n{}\n").await;
        fake.say(&chunk("a message")).await;
    };
    let (agent, ()) = tokio::join!(acp.boot(pipes, plan()), shake);
    let mut agent = agent.expect("boots");
    while !matches!(agent.event().await, AgentEvent::Message(_)) {}
    let line = "greenroom_agent_skipped_lines_total{template=\"gemini\"} 3\n";
    assert!(metrics.render().contains(line), "{}", metrics.render());
}

#[tokio::test]
async fn the_task_ends_when_its_driver_goes() {
    for keep_commands in [true, false] {
        let (mut fake, pipes) = fake();
        let tasks = TaskTracker::new();
        let acp = Acp::new(tasks.clone(), SkippedLines::default());
        let shake = async {
            answer(&mut fake, "initialize", json!({"protocolVersion": 1})).await;
            answer(&mut fake, "session/new", json!({"sessionId": "one"})).await;
        };
        let (agent, ()) = tokio::join!(acp.boot(pipes, plan()), shake);
        let agent = agent.expect("boots");
        assert_eq!(tasks.len(), 1);
        let kept = keep_commands.then(|| agent.commands.clone());
        drop(agent);
        tasks.close();
        tokio::time::timeout(std::time::Duration::from_secs(10), tasks.wait()).await.expect("the task ends");
        assert!(fake.output.is_closed(), "the pipes are let go");
        drop(kept);
    }
}

/// Some messages of an agent that follows no rule.
fn nonsense() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("4".to_owned()),
        Just("\"one\"".to_owned()),
        Just("[]".to_owned()),
        Just(r#"{"sessionId":"one","update":{"sessionUpdate":"tool_call","content":3}}"#.to_owned()),
        Just(r#"{"sessionId":"one","update":7,"options":[1,{"optionId":2}],"toolCall":[]}"#.to_owned()),
        Just(r#"{"stopReason":[]}"#.to_owned()),
    ];
    let method =
        prop_oneof![Just("session/update"), Just("session/request_permission"), Just("fs/read_text_file"), Just("")];
    prop_oneof![
        (method.clone(), value.clone())
            .prop_map(|(method, value)| format!(r#"{{"method":"{method}","params":{value}}}"#)),
        (value.clone(), method, value.clone())
            .prop_map(|(id, method, value)| format!(r#"{{"id":{id},"method":"{method}","params":{value}}}"#)),
        (0u64..5, value.clone()).prop_map(|(id, value)| format!(r#"{{"id":{id},"result":{value}}}"#)),
        (0u64..5, value).prop_map(|(id, value)| format!(r#"{{"id":{id},"error":{value}}}"#)),
        any::<String>().prop_map(|text| text.replace('\n', " ")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_agent_can_break_its_peer(
        messages in prop::collection::vec(nonsense(), 0..40),
        size in 1usize..300,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let (mut fake, mut agent) = booted().await;
            prompt(&mut fake, &agent).await;
            for bytes in (messages.join("\n") + "\n").into_bytes().chunks(size) {
                fake.write(bytes.to_vec()).await;
                while agent.events.try_recv().is_ok() {}
            }
            let Fake { mut input, output, .. } = fake;
            let read = async { while input.recv().await.is_some() {} };
            let exit = async {
                drop(output.send(FromAgent::Exited(AgentExit { code: Some(0), signal: None })).await);
                while !matches!(agent.event().await, AgentEvent::Gone(_)) {}
            };
            tokio::join!(read, exit);
        });
    }
}
