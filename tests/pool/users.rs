//! Users, and what they do with a sandbox.

use greenroom::{
    agent::{AgentCommand, AgentEvent},
    ids::UserId,
    pool::Leased,
};
use serde_json::json;

use crate::wait::within;

/// A user.
pub fn user(number: u64) -> UserId {
    UserId::parse(&format!("user-{number}")).expect("a good id")
}

/// A user says something to the agent of their sandbox and hears the end of its answer.
pub async fn speak(leased: &mut Leased, words: &str) -> Result<(), String> {
    let (mut agent, _early) = leased.lease.take_agent().ok_or("the agent was handed over before")?;
    let content = vec![json!({ "type": "text", "text": words })];
    agent.commands.send(AgentCommand::Prompt { content }).await.map_err(|_| "the agent takes no commands")?;
    let answer = async {
        loop {
            match agent.events.recv().await {
                Some(AgentEvent::TurnEnded { .. }) => return Ok(()),
                Some(AgentEvent::TurnFailed(error) | AgentEvent::Gone(error)) => return Err(error.to_string()),
                Some(_) => {}
                None => return Err("the agent's task ended".to_owned()),
            }
        }
    };
    within("an answer of the agent", answer).await
}
