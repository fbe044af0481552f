//! Users who open, prompt, abort, hang up and walk away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    client::Client,
    server::{Server, TOKEN},
    stream::EventStream,
    tally::{Tally, Went},
};

/// The small image, and an agent in it that runs each prompt as a shell command.
pub const IMAGE: &str = "greenroom/busybox:test";
pub const AGENT: &str = r#"while IFS= read -r line; do (eval "$line") 2>&1; echo; echo '{"type":"result"}'; done"#;

/// A command for that agent: the id of its container, as the engine's own mounts tell it.
const CONTAINER: &str = r"sed -n 's|.*/containers/\([0-9a-f]*\)/hostname .*|\1|p' /proc/self/mountinfo";

/// How many of each kind.
const OF_SHELL: u64 = 3;
const OF_GEMINI: u64 = 2;

/// Nobody's visit takes longer, whatever happens to their sandbox.
const VISIT: Duration = Duration::from_secs(90);

/// Numbers by chance (SplitMix64).
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// All that are there.
pub struct Visitors {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Visitors {
    /// They come.
    pub fn come(server: &Server, seed: u64, tally: &Arc<Tally>) -> anyhow::Result<Self> {
        let (stop, mut tasks) = (Arc::<AtomicBool>::default(), JoinSet::new());
        let (address, _) = server.program.addresses().context("the server listens")?;
        for number in 0..OF_SHELL + OF_GEMINI {
            let template = if number < OF_SHELL { "shell" } else { "gemini" };
            // Clients of their own: their connections end with them.
            let visitor = Visitor { client: Client::new(address, TOKEN)?, template, tally: Arc::clone(tally) };
            let (stop, mut chance) = (Arc::clone(&stop), Chance(seed * 1000 + number));
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let went = timeout(VISIT, visitor.visit(&mut chance)).await;
                    visitor.tally.visit(template, went.context("a visit takes for ever")??);
                    sleep(Duration::from_millis(chance.below(300))).await;
                }
                Ok(())
            });
        }
        Ok(Self { stop, tasks })
    }

    /// They finish what they do, and go. What one of them did not understand is an error.
    pub async fn leave(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(visitor) = self.tasks.join_next().await {
            visitor??;
        }
        Ok(())
    }
}

/// One of them.
struct Visitor {
    client: Client,
    template: &'static str,
    tally: Arc<Tally>,
}

impl Visitor {
    async fn visit(&self, chance: &mut Chance) -> anyhow::Result<Went> {
        // Should it be left alone, the session ends by itself, soon after.
        let wish = json!({"template": self.template, "queue_timeout_s": 20, "idle_timeout_s": 4});
        let open = self.client.send(Method::POST, "/v1/sessions", Some(wish), "application/json");
        let opened = if chance.below(6) == 0 {
            match timeout(Duration::from_millis(chance.below(700)), open).await {
                Ok(opened) => opened?,
                Err(_hung_up) => return Ok(Went::HungUp),
            }
        } else {
            open.await?
        };
        let (status, session) = whole(opened).await?;
        if status != StatusCode::CREATED {
            return Ok(Went::Refused(status, code(&session)));
        }
        let id = session["id"].as_str().context("a session has an id")?;
        let went = match chance.below(6) {
            0 => self.abort(id).await?,
            1 => self.hang_up_on_a_turn(id, chance).await?,
            2 => {
                self.ask(id).await?;
                return Ok(Went::WalkedAway);
            }
            // Some stay for a while, and may be hit.
            3 => {
                sleep(Duration::from_secs(2)).await;
                self.ask(id).await?
            }
            _ => self.ask(id).await?,
        };
        // It may have ended already.
        let path = format!("/v1/sessions/{id}");
        let (status, problem) = whole(self.client.send(Method::DELETE, &path, None, "application/json").await?).await?;
        match status {
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(went),
            _ => Ok(Went::Refused(status, code(&problem))),
        }
    }

    /// A whole turn.
    async fn ask(&self, session: &str) -> anyhow::Result<Went> {
        let prompt = if self.template == "shell" { &format!("{CONTAINER}; sleep 0.5") } else { "Hello" };
        let Some(mut turn) = self.prompt(session, prompt).await? else { return Ok(Went::Lost) };
        let Ok(said) = turn.until("message.delta").await else { return Ok(Went::Lost) };
        if self.template == "shell" {
            let said: Value = serde_json::from_str(&said.data)?;
            let container = said["content"]["text"].as_str().context("a line has text")?;
            self.tally.met(container.trim(), session);
        }
        Ok(if turn.until("turn.ended").await.is_ok() { Went::Served } else { Went::Lost })
    }

    /// A turn that would take long, cancelled.
    async fn abort(&self, session: &str) -> anyhow::Result<Went> {
        let prompt = if self.template == "shell" { "echo working; sleep 3" } else { "[hang]" };
        let Some(mut turn) = self.prompt(session, prompt).await? else { return Ok(Went::Lost) };
        let Ok(started) = turn.until("turn.started").await else { return Ok(Went::Lost) };
        let started: Value = serde_json::from_str(&started.data)?;
        let turn_id = started["turn_id"].as_str().context("a turn has an id")?;
        let path = format!("/v1/sessions/{session}/turns/{turn_id}/cancel");
        whole(self.client.send(Method::POST, &path, Some(json!({})), "application/json").await?).await?;
        Ok(if turn.until("turn.ended").await.is_ok() { Went::Aborted } else { Went::Lost })
    }

    /// A turn whose reader goes away in the middle.
    async fn hang_up_on_a_turn(&self, session: &str, chance: &mut Chance) -> anyhow::Result<Went> {
        let prompt = if self.template == "shell" { "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done" } else { "Hello" };
        let Some(mut turn) = self.prompt(session, prompt).await? else { return Ok(Went::Lost) };
        let _hung_up = timeout(Duration::from_millis(chance.below(400)), turn.until("turn.ended")).await;
        Ok(Went::HungUp)
    }

    /// A turn's stream; none if the session has ended meanwhile.
    async fn prompt(&self, session: &str, prompt: &str) -> anyhow::Result<Option<EventStream>> {
        let path = format!("/v1/sessions/{session}/turns");
        let answer =
            self.client.send(Method::POST, &path, Some(json!({"prompt": prompt})), "text/event-stream").await?;
        if answer.status() == StatusCode::OK {
            return Ok(Some(EventStream::new(answer.into_body())));
        }
        let (status, problem) = whole(answer).await?;
        self.tally.refused(status, &code(&problem));
        Ok(None)
    }
}

/// The whole answer, as JSON if it is any.
async fn whole(answer: Response<Incoming>) -> anyhow::Result<(StatusCode, Value)> {
    let status = answer.status();
    let body = answer.into_body().collect().await.context("an answer broke off")?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

fn code(problem: &Value) -> String {
    problem["code"].as_str().unwrap_or("NO_CODE").to_owned()
}
