//! Conversations recorded with Gemini CLI 0.61: our side must say the same again, and make these events of its side.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::sync::oneshot;

use crate::agent::{
    Agent, AgentCommand, AgentError, AgentEvent, AgentProtocol,
    acp::Acp,
    fake::{self, Fake, fake, plan},
};

const BOOT: &str = include_str!("../../../../tests/fixtures/acp/gemini-boot.jsonl");

macro_rules! scene {
    ($name:literal) => {
        play(include_str!(concat!("../../../../tests/fixtures/acp/gemini-", $name, ".jsonl")))
    };
}

fn lines(scene: &str) -> impl Iterator<Item = Value> {
    scene.lines().map(|line| serde_json::from_str(line).expect("a fixture is JSON"))
}

/// The ids of our requests: the recorded one and the one of now. How we count is our own business.
#[derive(Default)]
struct Ids(BTreeMap<u64, Value>);

impl Ids {
    /// A message of ours as it was recorded.
    fn recorded(&mut self, mut said: Value, wanted: &Value) -> Value {
        if let (true, Some(recorded)) = (said["method"].is_string(), wanted["id"].as_u64()) {
            self.0.insert(recorded, std::mem::replace(&mut said["id"], recorded.into()));
        }
        said
    }

    /// A message of the agent as it has to be now.
    fn now(&self, recorded: &Value) -> Value {
        let mut message = recorded.clone();
        if let (true, Some(id)) = (message["method"].is_null(), message["id"].as_u64()) {
            message["id"] = self.0[&id].clone();
        }
        message
    }
}

/// Plays the agent's side of the handshake; ours must be the same but for who we are.
async fn boot() -> (Fake, Agent) {
    let (mut fake, pipes) = fake();
    let shake = async {
        let mut ids = Ids::default();
        for mut line in lines(BOOT) {
            if line["us"].is_null() {
                fake.say(&ids.now(&line["agent"])).await;
                continue;
            }
            let mut said = ids.recorded(fake.message().await, &line["us"]);
            said["params"].as_object_mut().expect("fields").remove("clientInfo");
            assert_eq!(said, line["us"].take());
        }
    };
    let acp = Acp::default();
    let (agent, ()) = tokio::join!(acp.boot(pipes, plan()), shake);
    (fake, agent.expect("boots"))
}

/// Plays a scene behind the handshake; the events, in short.
async fn play(scene: &str) -> Vec<String> {
    let (mut fake, mut agent) = boot().await;
    let mut events = Vec::new();
    let mut ids = Ids::default();
    let mut permission = 0;
    let mut settings = Vec::new();
    for line in lines(scene) {
        let message = &line["us"];
        if message.is_null() {
            fake.say(&ids.now(&line["agent"])).await;
            if line["agent"]["method"] == "session/request_permission" {
                while permission == 0 {
                    let event = agent.event().await;
                    if let AgentEvent::PermissionRequested { request, .. } = &event {
                        permission = *request;
                    }
                    events.push(short(&event));
                }
            }
            continue;
        }
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let params = &message["params"];
        let (reply, answer) = oneshot::channel();
        let command = match message["method"].as_str() {
            Some("session/prompt") => fake::prompt(1, params["prompt"].as_array().expect("blocks").clone()),
            Some("session/cancel") => AgentCommand::Cancel,
            Some("session/set_mode") => AgentCommand::SetMode { mode: text(&params["modeId"]), reply },
            Some("session/set_model") => AgentCommand::SetModel { model: text(&params["modelId"]), reply },
            _ => {
                let option_id = message["result"]["outcome"]["optionId"].as_str().map(str::to_owned);
                AgentCommand::AnswerPermission { request: permission, option_id }
            }
        };
        if matches!(command, AgentCommand::SetMode { .. } | AgentCommand::SetModel { .. }) {
            settings.push(answer);
        }
        agent.commands.send(command).await.expect("the task lives");
        assert_eq!(&ids.recorded(fake.message().await, message), message);
    }
    for setting in settings {
        events.push(setting.await.expect("a reply").map_or_else(|error| error.to_string(), |()| "set".to_owned()));
    }
    fake.exit(0).await;
    loop {
        match agent.event().await {
            AgentEvent::Gone(AgentError::Exited(_)) => return events,
            event => events.push(short(&event)),
        }
    }
}

fn short(event: &AgentEvent) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    match event {
        AgentEvent::Message(block) => format!("message {}", text(&block["text"])),
        AgentEvent::Thought(block) => format!("thought {}", text(&block["text"])),
        AgentEvent::ToolStarted(tool) => format!("started {} {}", text(&tool["kind"]), text(&tool["status"])),
        AgentEvent::ToolUpdated(tool) => format!("updated {} {}", text(&tool["kind"]), text(&tool["status"])),
        AgentEvent::PermissionRequested { tool_call, options, .. } => {
            let options: Vec<&str> = options.iter().map(|option| option.option_id.as_str()).collect();
            assert!(tool_call["tool_call_id"].is_string());
            format!("asks {} {}", text(&tool_call["title"]), options.join(","))
        }
        AgentEvent::Update(raw) => format!("update {}", text(&raw["sessionUpdate"])),
        AgentEvent::TurnEnded { stop_reason } => format!("ended {stop_reason}"),
        AgentEvent::TurnFailed(error) => format!("failed: {error}"),
        AgentEvent::Plan(_) | AgentEvent::Log { .. } | AgentEvent::Gone(_) => format!("{event:?}"),
    }
}

const COMMANDS: &str = "update available_commands_update";
const ANSWER: [&str; 5] = ["message word0 ", "message word1 ", "message word2 ", "message .", "ended end_turn"];

fn with_answer(first: &[&str]) -> Vec<String> {
    [COMMANDS].iter().chain(first).chain(&ANSWER).map(|event| (*event).to_owned()).collect()
}

#[tokio::test]
async fn a_turn_of_text() {
    assert_eq!(scene!("text").await, with_answer(&["thought **Subject**\ndeep thought"]));
}

#[tokio::test]
async fn a_tool_that_needs_no_permission() {
    assert_eq!(scene!("read").await, with_answer(&["started read in_progress", "updated read completed"]));
    assert_eq!(scene!("failed-tool").await, with_answer(&["updated edit failed"]));
}

#[tokio::test]
async fn a_tool_that_was_allowed_is_only_ever_updated() {
    let asks = "asks Writing to a.txt proceed_always,proceed_once,cancel";
    assert_eq!(scene!("allowed").await, with_answer(&[asks, "updated edit completed"]));
    let asks = "asks echo_x_$HOME proceed_always,proceed_once,cancel";
    assert_eq!(scene!("shell").await, with_answer(&[asks, "updated execute completed"]));
}

#[tokio::test]
async fn a_tool_that_was_rejected_is_never_heard_of_again() {
    let asks = "asks Writing to a.txt proceed_always,proceed_once,cancel";
    assert_eq!(scene!("rejected").await, with_answer(&[asks]));
}

#[tokio::test]
async fn a_cancelled_turn() {
    let events = scene!("cancelled").await;
    assert_eq!(events.last().map(String::as_str), Some("ended cancelled"));
    assert_eq!(events.len(), 8);
}

#[tokio::test]
async fn a_model_that_fails() {
    let events = scene!("model-error").await;
    assert!(events[1].starts_with("failed: the agent refused session/prompt: "), "{events:?}");
    assert!(events[1].contains("stub says no"));
}

#[tokio::test]
async fn settings() {
    assert_eq!(scene!("model-set").await, ["set", COMMANDS]);
    let events = scene!("mode-refused").await;
    assert!(events[0].ends_with("Cannot enable privileged approval modes in an untrusted folder."), "{events:?}");
}
