//! A user who opens, prompts, answers and closes, tries again when the server went away, and notes what was acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::broadcast, time::sleep};

use super::patience::{PAUSE, get, persist, post};
use crate::{
    chance::Chance,
    client::{Client, Lost, id},
    follower::Follower,
    permissions::WRITE,
    settings::CONTAINER,
    stream::{Event, Events},
    wait::within,
};

/// Deadline of one thing that a user wants, over however many restarts.
const WANT: Duration = Duration::from_secs(100);

/// What a user is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Open,
    Turn,
    Permission,
    Close,
    /// Nothing that somebody waited for.
    Any,
}

impl Phase {
    /// All that can be waited for. Turns are what there is most of.
    pub const ALL: [Self; 6] = [Self::Open, Self::Turn, Self::Turn, Self::Turn, Self::Permission, Self::Close];
}

/// Who comes.
#[derive(Debug)]
pub struct Guest {
    pub client: Client,
    pub number: usize,
    pub template: &'static str,
    pub phases: broadcast::Sender<Phase>,
    /// Turns of all users that are over.
    pub turns: Arc<AtomicUsize>,
}

/// One prompt.
#[derive(Debug)]
pub struct Prompted {
    /// Is in the prompt, and in no other.
    pub marker: String,
    /// The turn, if the prompt was acknowledged.
    pub turn: Option<String>,
}

/// What one session's user has noted.
#[derive(Debug)]
pub struct Visit {
    pub client: Client,
    pub session: Value,
    pub workspace: String,
    pub template: &'static str,
    pub prompts: Vec<Prompted>,
    /// Answers to permissions that were acknowledged: permission and option.
    pub answers: Vec<(String, String)>,
    /// What was read of the log.
    pub follower: Follower,
    /// Whether the close was acknowledged.
    pub closed: bool,
    /// Whether the open was never answered, but had happened.
    pub found: bool,
}

/// Comes again and again.
pub async fn visits(guest: Guest, stop: Arc<AtomicBool>) -> Vec<Visit> {
    let (mut visits, mut chance) = (Vec::new(), Chance::of(guest.number));
    while !stop.load(Ordering::Relaxed) {
        let name = format!("w{}-{}", guest.number, visits.len());
        // A few leave without closing, early enough that the server has to carry them over many restarts.
        let stays = visits.is_empty() && guest.number.is_multiple_of(2);
        visits.push(guest.visit(name, stays, &mut chance).await);
    }
    visits
}

/// How many turns began with this marker in their prompt.
pub fn begun(events: &[Event], marker: &str) -> usize {
    events.iter().filter(|event| event.kind == "turn.started" && event.content.to_string().contains(marker)).count()
}

impl Guest {
    fn tell(&self, phase: Phase) {
        // Nobody may be listening.
        let _listeners = self.phases.send(phase);
    }

    async fn visit(&self, workspace: String, stays: bool, chance: &mut Chance) -> Visit {
        let (session, found) = within("a session", WANT, self.open(&workspace, chance.below(2) == 0)).await;
        let follower = Follower::of(&self.client, &session);
        let mut visit = Visit {
            client: self.client.clone(),
            session,
            workspace,
            template: self.template,
            prompts: Vec::new(),
            answers: Vec::new(),
            follower,
            closed: false,
            found,
        };
        for number in 0..1 + chance.below(3) {
            let what = format!("turn {number} of {}", id(&visit.session));
            within(&what, WANT, self.turn(&mut visit, number, chance)).await;
        }
        match chance.below(10) {
            _ if stays => {}
            0..3 => {
                within("a last prompt", WANT, self.prompt(&mut visit, 9, chance)).await;
                within("the close of a turn", WANT, self.close(&mut visit)).await;
            }
            _ => within("the close", WANT, self.close(&mut visit)).await,
        }
        visit
    }

    /// Opens a session, with a key or by looking what became of the try before.
    async fn open(&self, workspace: &str, with_key: bool) -> (Value, bool) {
        let body = json!({"template": self.template, "workspace": workspace, "queue_timeout_s": 20});
        let key = format!("open-{}-{workspace}", self.number);
        let headers: &[(&str, &str)] = if with_key { &[("idempotency-key", &key)] } else { &[] };
        let mut lost = false;
        loop {
            self.tell(Phase::Open);
            let Ok(reply) = post(&self.client, "/v1/sessions", headers, &body).await else {
                lost = true;
                sleep(PAUSE).await;
                continue;
            };
            match reply.status {
                StatusCode::CREATED => return (reply.json(), false),
                StatusCode::CONFLICT => {
                    assert!(lost, "nobody else opens this workspace: {}", reply.text());
                    let is_mine = |one: &&Value| one["workspace"] == workspace && one["state"] != "ended";
                    let list = get(&self.client, "/v1/sessions?limit=50").await;
                    if let Some(found) = list["items"].as_array().expect("a list").iter().find(is_mine)
                        && !with_key
                    {
                        return (found.clone(), true);
                    }
                }
                StatusCode::SERVICE_UNAVAILABLE => {}
                other => panic!("open: {other} {}", reply.text()),
            }
            sleep(PAUSE).await;
        }
    }

    async fn turn(&self, visit: &mut Visit, number: u64, chance: &mut Chance) {
        let Some(turn) = self.prompt(visit, number, chance).await else { return };
        loop {
            let is_next = |event: &Event| {
                ["permission.requested", "turn.ended", "turn.failed"].contains(&event.kind.as_str())
                    && event.turn.as_deref() == Some(&turn)
            };
            let event = visit.follower.until(is_next).await;
            if event.kind != "permission.requested" {
                self.turns.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.answer(visit, &event, chance).await;
        }
    }

    /// Prompts until one was taken, and gives back its turn. None: what was sent had happened unseen, and is over.
    async fn prompt(&self, visit: &mut Visit, number: u64, chance: &mut Chance) -> Option<String> {
        let path = format!("/v1/sessions/{}/turns", id(&visit.session));
        for attempt in 0.. {
            let marker = format!("m-{}-{number}-{attempt}-x", visit.workspace);
            let prompt = match (self.template, chance.below(3)) {
                ("gemini", 0) => format!("{WRITE} {marker}"),
                ("gemini", _) => format!("[chunks:12] [delay:15] {marker}"),
                (_, pace) => format!(
                    ": {marker}; echo container-$({CONTAINER}); for n in $(seq 1 {}); do echo line-$n; sleep 0.0{}; done",
                    5 + chance.below(25),
                    pace + 1
                ),
            };
            let body = json!({ "prompt": prompt });
            self.tell(Phase::Turn);
            match chance.below(3) {
                0 => {
                    let key = [("idempotency-key", marker.as_str())];
                    let reply = persist(&self.client, &path, &key, &body).await;
                    let turn = id(&reply.expect(StatusCode::ACCEPTED)).to_owned();
                    visit.prompts.push(Prompted { marker, turn: Some(turn.clone()) });
                    return Some(turn);
                }
                1 => {
                    let reply = post(&self.client, &path, &[], &body).await;
                    visit.prompts.push(Prompted { marker, turn: None });
                    if let Ok(reply) = reply {
                        if reply.status == StatusCode::ACCEPTED {
                            let turn = id(&reply.json()).to_owned();
                            visit.prompts.last_mut().expect("it was pushed").turn = Some(turn.clone());
                            return Some(turn);
                        }
                        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{}", reply.text());
                    }
                }
                _ => {
                    let turn = self.prompt_and_stream(&path, &body).await;
                    visit.prompts.push(Prompted { marker, turn: turn.clone() });
                    if turn.is_some() {
                        return turn;
                    }
                }
            }
            // Whether it was taken is not known: once nothing runs, the log tells.
            let last = self.until_ready(visit).await;
            while visit.follower.last() < last {
                visit.follower.next().await.expect("the session goes on");
            }
            if begun(&visit.follower.read, &visit.prompts.last().expect("one was sent").marker) > 0 {
                return None;
            }
        }
        unreachable!("attempts have no end")
    }

    /// A prompt whose answer is its stream; the turn, once its first event was read.
    async fn prompt_and_stream(&self, path: &str, body: &Value) -> Option<String> {
        let headers = [("content-type", "application/json"), ("accept", "text/event-stream")];
        let sent = self.client.try_send(Method::POST, path, &headers, Bytes::from(body.to_string())).await.ok()?;
        if sent.status() == StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let first = Events::of(sent).try_next().await.ok().flatten()?;
        assert_eq!(first.kind, "turn.started", "{first:?}");
        first.turn
    }

    /// Waits until the session has no turn, and gives back the number of its last event; what asks meanwhile is refused.
    async fn until_ready(&self, visit: &Visit) -> u64 {
        let path = format!("/v1/sessions/{}", id(&visit.session));
        loop {
            let session = get(&self.client, &path).await;
            match session["state"].as_str() {
                Some("ready") => return session["last_seq"].as_u64().expect("a number"),
                Some("waiting") => {
                    let open = get(&self.client, &format!("{path}/permissions")).await;
                    for one in open["items"].as_array().expect("a list") {
                        let path = format!("{path}/permissions/{}", id(one));
                        let _answered = post(&self.client, &path, &[], &json!({"cancelled": true})).await;
                    }
                }
                Some("running") => {}
                _ => panic!("lost: {session}"),
            }
            sleep(PAUSE).await;
        }
    }

    async fn answer(&self, visit: &mut Visit, asked: &Event, chance: &mut Chance) {
        let permission = asked.content["permission_id"].as_str().expect("an id");
        let kind = ["allow_once", "reject_once"][usize::try_from(chance.below(2)).expect("small")];
        let option = crate::permissions::option(asked, kind);
        self.tell(Phase::Permission);
        let path = format!("/v1/sessions/{}/permissions/{permission}", id(&visit.session));
        let reply = persist(&self.client, &path, &[], &json!({"option_id": option})).await;
        match reply.status {
            StatusCode::NO_CONTENT => visit.answers.push((permission.to_owned(), option)),
            // An answer before a crash was taken and not told.
            StatusCode::CONFLICT => {}
            other => panic!("answer: {other} {}", reply.text()),
        }
    }

    async fn close(&self, visit: &mut Visit) {
        let path = format!("/v1/sessions/{}", id(&visit.session));
        loop {
            self.tell(Phase::Close);
            match self.client.try_call(Method::DELETE, &path, &[], Bytes::new()).await {
                Ok(reply) if [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND].contains(&reply.status) => break,
                Ok(reply) => assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{}", reply.text()),
                Err(Lost) => {}
            }
            sleep(PAUSE).await;
        }
        visit.closed = true;
    }
}
