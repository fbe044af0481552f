//! The account in the end: what was acknowledged against what there is.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    time::Duration,
};

use hyper::StatusCode;
use serde_json::Value;

use super::visitor::{Visit, begun};
use crate::{
    client::{Client, id},
    follower::{lines, log},
    house::House,
    pools::{at_rest, no_orphans, sandboxes},
    processes::{files, in_sandboxes_of},
    stream::Event,
    wait::until,
};

/// By when every turn must be over once nobody kills any more.
const REST: Duration = Duration::from_secs(45);

/// What was found.
#[derive(Debug, Default)]
pub struct Account {
    sessions: usize,
    found: usize,
    prompts: usize,
    answers: usize,
    events: usize,
    ends: BTreeMap<String, usize>,
    /// Every breach of a promise, in words.
    breaches: Vec<String>,
}

impl Account {
    /// There must be no breach, and enough that could have been breached.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.breaches.is_empty(), "{} breaches:\n{}", self.breaches.len(), self.breaches.join("\n"));
        assert!(self.sessions >= 8 && self.prompts >= 10, "hardly anything happened: {self}");
    }

    fn breach(&mut self, visit: &Visit, what: impl fmt::Display) {
        self.breaches.push(format!("{} ({}): {what}", id(&visit.session), visit.workspace));
    }
}

impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, found, prompts, answers, events, ends, breaches } = self;
        write!(
            formatter,
            "{sessions} sessions ({found} found after an open without an answer), {prompts} prompts, {answers} answers, {events} events \
             acknowledged; ends {ends:?}; {} breaches",
            breaches.len()
        )
    }
}

/// Compares the notes with what there is, then closes everything and looks for what is left.
pub async fn settle(house: &House, users: usize, visits: Vec<Visit>) -> Account {
    let mut account = Account { sessions: visits.len(), ..Account::default() };
    for number in 0..users {
        nothing_runs(&house.user(number)).await;
    }
    let mut containers = HashMap::<String, String>::new();
    for visit in &visits {
        account.check(visit, &mut containers).await;
    }
    for number in 0..users {
        close_all(&house.user(number)).await;
    }
    for visit in &visits {
        account.check_agent(house, visit);
    }
    at_rest(house, "counting").await;
    at_rest(house, "gemini").await;
    no_orphans(house).await;
    let slots = async || {
        let slots = fs::read_dir(house.state().join("slots")).expect("the slots can be read").count();
        (slots == sandboxes(&house.operator()).await.len()).then_some(())
    };
    until("no slot is left over", REST, slots).await;
    let running = house.engine().running(&house.instance).await.len();
    let supervised = in_sandboxes_of(&house.state()).len();
    assert!(supervised >= running, "{running} containers run, with {supervised} processes");
    account
}

/// Waits until none of the user's sessions has a turn.
async fn nothing_runs(client: &Client) {
    let mut running = Value::Null;
    let resting = async || {
        running = client.get_json("/v1/sessions?state=running").await;
        let waiting = client.get_json("/v1/sessions?state=waiting").await;
        let none = |page: &Value| page["items"].as_array().is_some_and(Vec::is_empty);
        // A question whose asker was never told of it can be refused by nobody else.
        for session in waiting["items"].as_array().expect("a list") {
            let open = client.get_json(&format!("/v1/sessions/{}/permissions", id(session))).await;
            for one in open["items"].as_array().expect("a list") {
                let path = format!("/v1/sessions/{}/permissions/{}", id(session), id(one));
                client.post(&path, &serde_json::json!({"cancelled": true})).await;
            }
        }
        (none(&running) && none(&waiting)).then_some(())
    };
    until("no session runs like a ghost", REST, resting).await;
}

/// Closes all open sessions of the user, those included that nobody knows of.
async fn close_all(client: &Client) {
    until("everything is closed", REST, async || {
        let open = client.get_json("/v1/sessions?state=ready&limit=50").await;
        let open = open["items"].as_array().expect("a list").clone();
        for session in &open {
            client.delete(&format!("/v1/sessions/{}", id(session))).await;
        }
        open.is_empty().then_some(())
    })
    .await;
}

impl Account {
    async fn check(&mut self, visit: &Visit, containers: &mut HashMap<String, String>) {
        self.found += usize::from(visit.found);
        let path = format!("/v1/sessions/{}", id(&visit.session));
        let reply = visit.client.get(&path).await;
        if reply.status != StatusCode::OK {
            return self.breach(visit, format_args!("lost: {} {}", reply.status, reply.text()));
        }
        let session = reply.json();
        let reason = session["end"]["reason"].as_str().unwrap_or("open").to_owned();
        let as_expected = if visit.closed { reason == "closed" } else { reason == "open" };
        if !as_expected {
            self.breach(visit, format_args!("closed: {}, but ended: {}", visit.closed, session["end"]));
        }
        *self.ends.entry(reason).or_default() += 1;

        let log = log(&visit.client, id(&visit.session)).await;
        let last = log.last().map_or(0, |event| event.seq);
        if !log.iter().map(|event| event.seq).eq(1..=last) {
            self.breach(visit, "the log has holes");
        }
        let read = &visit.follower.read;
        self.events += read.len();
        if log.get(..read.len()) != Some(&read[..]) {
            self.breach(visit, "events that were read are lost or changed");
        }
        for prompt in &visit.prompts {
            let begun = begun(&log, &prompt.marker);
            if begun > 1 || (prompt.turn.is_some() && begun == 0) {
                self.breach(
                    visit,
                    format_args!("{} began {begun} times; acknowledged: {:?}", prompt.marker, prompt.turn),
                );
            }
            let Some(turn) = &prompt.turn else { continue };
            self.prompts += 1;
            let ends = ends_of(&log, turn);
            if ends.len() != 1 {
                self.breach(visit, format_args!("turn {turn} has {} ends", ends.len()));
            }
            let has_failed = ends.iter().any(|end| end.kind == "turn.failed");
            if has_failed && visit.template != "gemini" && !visit.closed {
                self.breach(visit, format_args!("turn {turn} failed: {ends:?}"));
            }
        }
        for (permission, option) in &visit.answers {
            self.answers += 1;
            let resolved = log.iter().filter(|event| {
                event.kind == "permission.resolved" && event.content["permission_id"] == permission.as_str()
            });
            let resolved = resolved.collect::<Vec<_>>();
            let [only] = resolved[..] else {
                self.breach(visit, format_args!("{permission} was resolved {} times", resolved.len()));
                continue;
            };
            if only.content["option_id"] != option.as_str() {
                self.breach(visit, format_args!("{permission} was answered {option} and resolved {only:?}"));
            }
        }
        for container in lines(&log, "container-") {
            let first = containers.entry(container.clone()).or_insert_with(|| id(&visit.session).to_owned());
            if first != id(&visit.session) {
                self.breach(visit, format_args!("in the same {container} as {first}"));
            }
        }
        let mut own = lines(&log, "container-");
        own.dedup();
        if own.len() > 1 {
            self.breach(visit, format_args!("went from container to container: {own:?}"));
        }
    }

    /// Counts the prompts that the agent got, by its own notes in its workspace, which is at home by now.
    fn check_agent(&mut self, house: &House, visit: &Visit) {
        if visit.template != "counting" {
            return;
        }
        let home = format!("/{}/prompts", visit.workspace);
        let files = files(&house.state().join("workspaces"));
        let Some(file) = files.iter().find(|file| file.to_string_lossy().ends_with(&home)) else {
            return self.breach(visit, "its workspace is not at home, or its agent never got a prompt");
        };
        let noted = fs::read_to_string(file).expect("notes can be read");
        for prompt in &visit.prompts {
            let times = noted.lines().filter(|line| line.contains(&prompt.marker)).count();
            let has_ended = prompt.turn.as_ref().is_some_and(|turn| {
                visit.follower.read.iter().any(|event| event.kind == "turn.ended" && event.turn.as_ref() == Some(turn))
            });
            if times > 1 || (has_ended && times != 1) {
                self.breach(
                    visit,
                    format_args!("the agent got {} {times} times; acknowledged: {:?}", prompt.marker, prompt.turn),
                );
            }
        }
    }
}

fn ends_of<'log>(log: &'log [Event], turn: &str) -> Vec<&'log Event> {
    let is_end = |event: &&Event| ["turn.ended", "turn.failed"].contains(&event.kind.as_str());
    log.iter().filter(is_end).filter(|event| event.turn.as_deref() == Some(turn)).collect()
}
