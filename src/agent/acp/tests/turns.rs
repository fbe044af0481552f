//! Prompts, what the agent says, and how turns end.

use serde_json::json;

use super::{booted, chunk, end_turn, prompt, text, update};
use crate::agent::{AgentCommand, AgentEvent, fake};

#[tokio::test]
async fn a_turn_is_its_pieces_in_order_and_then_its_end() {
    let (mut fake, mut agent) = booted().await;
    let id = prompt(&mut fake, &agent).await;
    let pieces: String = (0..1000).map(|piece| format!("{}\n", chunk(&format!("{piece}")))).collect();
    for bytes in pieces.as_bytes().chunks(777) {
        fake.write(bytes.to_vec()).await;
        while let Ok(event) = agent.events.try_recv() {
            let Some(AgentEvent::Message(block)) = event.event else { continue };
            assert_eq!(block["type"], "text");
        }
    }
    end_turn(&mut fake, &id, "end_turn").await;
    let last = loop {
        match agent.event().await {
            AgentEvent::Message(_) => {}
            event => break event,
        }
    };
    assert!(matches!(last, AgentEvent::TurnEnded { stop_reason } if stop_reason == "end_turn"));
}

#[tokio::test]
async fn every_kind_of_update_is_its_own_event() {
    let (mut fake, mut agent) = booted().await;
    let id = prompt(&mut fake, &agent).await;
    let thought = json!({"sessionUpdate": "agent_thought_chunk", "content": text("hm")});
    fake.say(&update("one", &thought)).await;
    assert!(matches!(agent.event().await, AgentEvent::Thought(block) if block == text("hm")));
    let tool = json!({"sessionUpdate": "tool_call", "toolCallId": "t", "rawInput": 1, "new": 2});
    fake.say(&update("one", &tool)).await;
    let wanted = json!({"tool_call_id": "t", "raw_input": 1, "new": 2});
    assert!(matches!(agent.event().await, AgentEvent::ToolStarted(tool) if tool == wanted));
    fake.say(&update("one", &json!({"sessionUpdate": "plan", "entries": []}))).await;
    assert!(matches!(agent.event().await, AgentEvent::Plan(plan) if plan == json!({"entries": []})));
    let strange = json!({"sessionUpdate": "dance", "steps": 3});
    fake.say(&update("one", &strange)).await;
    assert!(matches!(agent.event().await, AgentEvent::Update(raw) if raw == strange));
    fake.say(&json!({"method": "weather/changed", "params": "rain"})).await;
    let wanted = json!({"method": "weather/changed", "params": "rain"});
    assert!(matches!(agent.event().await, AgentEvent::Update(raw) if raw == wanted));
    fake.say(&json!({"method": "session/update", "params": "nothing"})).await;
    assert!(matches!(agent.event().await, AgentEvent::Update(raw) if raw.is_null()));
    end_turn(&mut fake, &id, "max_tokens").await;
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { stop_reason } if stop_reason == "max_tokens"));
}

#[tokio::test]
async fn a_failed_turn_leaves_an_agent_that_takes_the_next() {
    let (mut fake, mut agent) = booted().await;
    let id = prompt(&mut fake, &agent).await;
    fake.say(&json!({"id": id, "error": {"code": 429, "message": "Rate limit exceeded."}})).await;
    let AgentEvent::TurnFailed(error) = agent.event().await else { panic!("the turn fails") };
    assert_eq!(error.to_string(), "the agent refused session/prompt: Rate limit exceeded.");
    let id = prompt(&mut fake, &agent).await;
    fake.say(&json!({"id": id, "result": {}})).await;
    assert!(matches!(agent.event().await, AgentEvent::TurnFailed(_)));
    let id = prompt(&mut fake, &agent).await;
    end_turn(&mut fake, &id, "end_turn").await;
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { .. }));
}

#[tokio::test]
async fn a_second_prompt_while_a_turn_runs_is_dropped() {
    let (mut fake, mut agent) = booted().await;
    let id = prompt(&mut fake, &agent).await;
    agent.commands.send(fake::prompt(8, vec![text("again")])).await.expect("the task lives");
    agent.commands.send(AgentCommand::Cancel).await.expect("the task lives");
    assert_eq!(fake.message().await["method"], "session/cancel");
    end_turn(&mut fake, &id, "cancelled").await;
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { stop_reason } if stop_reason == "cancelled"));
}

#[tokio::test]
async fn a_cancelled_turn_ends_by_its_own_answer_with_what_came_before() {
    let (mut fake, mut agent) = booted().await;
    agent.commands.send(AgentCommand::Cancel).await.expect("the task lives");
    let id = prompt(&mut fake, &agent).await;
    for _ in 0..2 {
        agent.commands.send(AgentCommand::Cancel).await.expect("the task lives");
    }
    assert_eq!(
        fake.message().await,
        json!({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": "one"}})
    );
    fake.say(&chunk("late")).await;
    end_turn(&mut fake, &id, "cancelled").await;
    assert!(matches!(agent.event().await, AgentEvent::Message(_)));
    assert!(matches!(agent.event().await, AgentEvent::TurnEnded { stop_reason } if stop_reason == "cancelled"));
    // The agent was told once: what it hears next is the next prompt.
    prompt(&mut fake, &agent).await;
}

#[tokio::test]
async fn an_agent_that_dies_in_its_turn_is_gone_after_its_last_words() {
    let (mut fake, mut agent) = booted().await;
    prompt(&mut fake, &agent).await;
    fake.say(&chunk("I feel ")).await;
    fake.write(chunk("strange").to_string()).await;
    fake.exit(137).await;
    assert!(matches!(agent.event().await, AgentEvent::Message(_)));
    assert!(matches!(agent.event().await, AgentEvent::Message(_)));
    assert_eq!(agent.gone().await, "the agent exited (code 137)");
}
