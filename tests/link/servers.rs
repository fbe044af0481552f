//! Servers that die in the middle of an agent's turn, one after the other, and what those after them make of it: the real supervisor, a real
//! agent, and a driver that keeps some of what it heard.

use greenroom::agent::{
    Agent, AgentCommand, AgentEvent, AgentProtocol as _, BootPlan, Mark, Pieces, ResumePlan, RunningTurn, Said,
    acp::Acp,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Duration, PATIENCE, Sandbox, timeout};
use greenroom::sandbox::{link::Link, pipes::AgentPipes};

/// The image of the real agent.
const GEMINI: &str = "greenroom/gemini:latest";

/// What outlives a server.
#[derive(Debug, Default)]
struct Kept {
    memory: Value,
    mark: Mark,
    pieces: Option<Pieces>,
    text: String,
    ended: Option<String>,
}

/// A number that looks like chance and isn't.
fn chance(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

fn agent(arguments: &[&str]) -> Sandbox {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents/fake_acp.py");
    let mut words = vec!["python3", "-u", program];
    words.extend(arguments);
    Sandbox::start(&["--ring-bytes", "1048576"], &words)
}

async fn boot(pipes: AgentPipes) -> Agent {
    let plan = BootPlan {
        workspace: "/tmp".to_owned(),
        model_base_url: "http://127.0.0.1:9".to_owned(),
        answer_deadline: PATIENCE,
    };
    Acp::default().boot(pipes, plan).await.unwrap()
}

impl Kept {
    fn content(text: &str) -> Vec<Value> {
        vec![json!({"type": "text", "text": text})]
    }

    /// Plans a prompt and writes the plan down; the word that lets it go.
    async fn plan(&mut self, agent: &Agent, text: &str) -> oneshot::Sender<()> {
        self.memory = agent.memory.clone();
        let (planned, pieces) = oneshot::channel();
        let (allow, go) = oneshot::channel();
        let prompt = AgentCommand::Prompt { request: 1, content: Self::content(text), planned, go };
        agent.commands.send(prompt).await.unwrap();
        self.pieces = Some(pieces.await.unwrap());
        allow
    }

    fn resume(&self, link: &Link, pipes: AgentPipes, prompt: &str) -> Agent {
        let turn = self.pieces.filter(|_| self.ended.is_none()).map(|pieces| RunningTurn {
            request: 1,
            pieces,
            content: Self::content(prompt),
            spoken: !self.text.is_empty(),
            cancelling: false,
            open: Vec::new(),
            answers: Vec::new(),
        });
        let plan = ResumePlan {
            memory: self.memory.clone(),
            mark: self.mark,
            input_received: link.input_received(),
            after_cancel: false,
            turn,
            answer_deadline: PATIENCE,
        };
        Acp::default().resume(pipes, plan).unwrap()
    }

    /// Hears `heard` sayings, keeps the first `kept`, acknowledges the first `acknowledged` of these.
    async fn hear(&mut self, agent: &mut Agent, heard: u64, kept: u64, acknowledged: u64) {
        for number in 0..heard {
            if self.ended.is_some() {
                return;
            }
            let said = timeout(PATIENCE, agent.events.recv()).await.unwrap().unwrap();
            if number >= kept {
                continue;
            }
            self.keep(said);
            if number < acknowledged {
                agent.done_with.send_replace(self.mark.forgettable());
            }
        }
    }

    fn keep(&mut self, said: Said) {
        self.mark = said.mark;
        match said.event {
            Some(AgentEvent::Message(block)) => self.text.push_str(block["text"].as_str().unwrap()),
            Some(AgentEvent::TurnEnded { stop_reason }) => self.ended = Some(stop_reason),
            Some(AgentEvent::Log { .. } | AgentEvent::Update(_)) | None => {}
            Some(other) => panic!("{other:?}"),
        }
    }

    /// Keeps what comes until nothing has come for a while; whether anything was heard before that at all.
    async fn hear_all_there_is(&mut self, agent: &mut Agent) -> bool {
        while let Ok(said) = timeout(Duration::from_millis(500), agent.events.recv()).await {
            self.keep(said.unwrap());
        }
        !self.text.is_empty()
    }
}

/// As a killed server would go: nothing more is said on the link.
fn kill(link: Link, agent: Agent) {
    drop(link);
    drop(agent);
}

#[tokio::test]
async fn every_word_of_a_turn_is_heard_once_though_eight_servers_die_in_it() {
    const DELTAS: u64 = 20_000;
    let wanted: String =
        std::iter::once("hello".to_owned()).chain((0..DELTAS).map(|number| format!(" {number}"))).collect();
    let sandbox = agent(&["--deltas", &DELTAS.to_string()]);
    let (mut kept, mut seed) = (Kept::default(), 7);
    let (link, pipes) = sandbox.link().await;
    let mut agent = boot(pipes).await;
    kept.plan(&agent, "hello").await.send(()).unwrap();
    let mut link = link;
    for _ in 0..8 {
        let heard = 1 + chance(&mut seed, DELTAS / 5);
        let written = chance(&mut seed, heard);
        let acknowledged = chance(&mut seed, written + 1);
        kept.hear(&mut agent, heard, written, acknowledged).await;
        kill(link, agent);
        let (next, pipes) = sandbox.link().await;
        link = next;
        agent = kept.resume(&link, pipes, "hello");
    }
    kept.hear(&mut agent, u64::MAX, u64::MAX, u64::MAX).await;
    assert_eq!(kept.ended.as_deref(), Some("end_turn"));
    assert!(kept.text == wanted, "{} bytes instead of {}", kept.text.len(), wanted.len());
}

#[tokio::test]
async fn a_server_that_acknowledged_nothing_holds_nobody_up_behind_it() {
    // More than a window of output is kept before it dies, and nothing of it was acknowledged; the supervisor sends no more than a window.
    let sandbox = agent(&["--deltas", "20000"]);
    let mut kept = Kept::default();
    let (link, pipes) = sandbox.link().await;
    let mut agent = boot(pipes).await;
    kept.plan(&agent, "hello").await.send(()).unwrap();
    // It is held back by its own window then.
    let held_back = async { while !kept.hear_all_there_is(&mut agent).await {} };
    timeout(PATIENCE, held_back).await.unwrap();
    assert!(kept.ended.is_none(), "all of it fits into a window");
    kill(link, agent);
    let (link, pipes) = sandbox.link().await;
    let mut agent = kept.resume(&link, pipes, "hello");
    kept.hear(&mut agent, u64::MAX, u64::MAX, u64::MAX).await;
    assert_eq!(kept.ended.as_deref(), Some("end_turn"));
    assert!(kept.text.ends_with(" 19999"));
    drop(link);
}

#[tokio::test]
async fn a_prompt_arrives_once_though_servers_die_while_it_goes_out() {
    // 2 MB, and the agent gives it back as its first delta.
    let prompt = "0123456789abcdef".repeat(128 * 1024);
    for patience in [0, 1, 2, 5, 10, 30] {
        let sandbox = agent(&[]);
        let mut kept = Kept::default();
        let (mut link, pipes) = sandbox.link().await;
        let mut agent = boot(pipes).await;
        let allow = kept.plan(&agent, &prompt).await;
        assert!(kept.pieces.is_some_and(|pieces| pieces.last - pieces.first == 32));
        // The first may die before it lets the prompt go.
        if patience > 0 {
            allow.send(()).unwrap();
        }
        for _ in 0..3 {
            // However far it comes in this time: the test holds for any.
            let heard = timeout(Duration::from_millis(patience), kept.hear(&mut agent, 1, 0, 0)).await;
            kill(link, agent);
            let (next, pipes) = sandbox.link().await;
            link = next;
            agent = kept.resume(&link, pipes, &prompt);
            let _heard_or_not = heard;
        }
        kept.hear(&mut agent, u64::MAX, u64::MAX, u64::MAX).await;
        assert!(kept.text == format!("{prompt} 0 1 2"), "{} bytes came back", kept.text.len());
    }
}

#[tokio::test]
async fn gemini_cli_is_taken_up_between_turns_and_in_a_turn() {
    let sandbox = Sandbox::start(&[], &["docker", "run", "--rm", "-i", "--network", "none", GEMINI]);
    let (link, pipes) = sandbox.link().await;
    let agent = boot(pipes).await;
    let mut kept = Kept { memory: agent.memory.clone(), ..Kept::default() };
    kill(link, agent);
    let (link, pipes) = sandbox.link().await;
    let agent = kept.resume(&link, pipes, "");
    // Answered without a model. The server dies with the prompt anywhere between its own queue and the agent.
    kept.plan(&agent, "/help").await.send(()).unwrap();
    kill(link, agent);
    let (link, pipes) = sandbox.link().await;
    let mut agent = kept.resume(&link, pipes, "/help");
    kept.hear(&mut agent, u64::MAX, u64::MAX, u64::MAX).await;
    assert_eq!(
        (kept.ended.as_deref(), kept.text.matches("Gemini CLI Help").count()),
        (Some("end_turn"), 1),
        "{kept:?}"
    );
    drop(link);
}
