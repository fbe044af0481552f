//! Users, and what they do with a sandbox.

use greenroom::{
    agent::{AgentCommand, AgentEvent},
    ids::UserId,
    pool::Leased,
};
use serde_json::json;
use tokio::sync::oneshot;

use crate::wait::within;

/// A user.
pub fn user(number: u64) -> UserId {
    UserId::parse(&format!("user-{number}")).expect("a good id")
}

/// A user says something to the agent of their sandbox and hears the end of its answer.
pub async fn speak(leased: &mut Leased, words: &str) -> Result<(), String> {
    let (mut agent, _early) = leased.lease.take_agent().ok_or("the agent was handed over before")?;
    let content = vec![json!({ "type": "text", "text": words })];
    let (planned, _pieces) = oneshot::channel();
    let (allow, go) = oneshot::channel();
    let _waits_in_the_command = allow.send(());
    let prompt = AgentCommand::Prompt { request: 1, content, planned, go };
    agent.commands.send(prompt).await.map_err(|_| "the agent takes no commands")?;
    let answer = async {
        loop {
            let said = agent.events.recv().await.ok_or("the agent's task ended")?;
            agent.done_with.send_replace(said.mark.forgettable());
            match said.event {
                Some(AgentEvent::TurnEnded { .. }) => return Ok(()),
                Some(AgentEvent::TurnFailed(error) | AgentEvent::Gone(error)) => return Err(error.to_string()),
                _ => {}
            }
        }
    };
    within("an answer of the agent", answer).await
}
