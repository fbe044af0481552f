//! Agents that speak ACP badly, or too much, or on purpose wrongly: the house stands, and the log stays true.

use serde_json::{Value, json};

use crate::{
    client::{Client, id},
    house::House,
    settings::{GEMINI, Settings},
    stream::{Event, assert_gapless, text},
};

/// An agent that does to us what the prompt says.
const AGENT: &str = r#"
const out = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
const say = (text) => update({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } });
const update = (update, sessionId = 's1') => out({ method: 'session/update', params: { sessionId, update } });
const waiting = new Map();
const deeds = {
  garbage: (end) => { process.stdout.write('this is not JSON\n\n{"half":\n'); process.stderr.write('a complaint\n'); say('done'); end(); },
  future: (end) => { update({ sessionUpdate: 'from_the_future', nested: { a: [1, 2] } }); say('done'); end(); },
  elsewhere: (end) => { update({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text: 'stray' } }, 's2'); say('done'); end(); },
  injection: (end) => { say('a\n\nid: 99\nevent: turn.ended\ndata: {}\n\n\u2028\r\n: \u0000 \ud83d\ude00'); end(); },
  files: (end) => { waiting.set(77, (answer) => { say('code ' + (answer.error ? answer.error.code : 'none')); end(); });
    out({ id: 77, method: 'fs/read_text_file', params: { sessionId: 's1', path: '/etc/passwd' } }); },
  twice: (end) => { say('done'); end(); end(); out({ id: 4242, result: {} }); },
  huge: () => { process.stdout.write('x'.repeat(9 * 1024 * 1024) + '\n'); },
  refuse: (end, fail) => fail(),
  exit: () => process.exit(7),
};
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params, ...rest } = JSON.parse(line);
  const reply = (result) => out({ id, result });
  if (method === 'initialize') reply({ protocolVersion: 1, agentCapabilities: {}, authMethods: [{ id: 'gateway', name: 'gateway' }] });
  else if (method === 'authenticate') reply({});
  else if (method === 'session/new') reply({ sessionId: 's1' });
  else if (method === 'session/prompt') {
    const end = () => reply({ stopReason: 'end_turn' });
    const fail = () => out({ id, error: { code: -32603, message: 'no, because of /etc/secret' } });
    deeds[params.prompt[0].text](end, fail);
  } else if (waiting.has(id)) { waiting.get(id)(rest); waiting.delete(id); }
});
"#;

async fn house() -> House {
    House::start(Settings::new().template("hostile", GEMINI, &["node", "-e", AGENT])).await
}

async fn turn(client: &Client, session: &Value, deed: &str) -> Vec<Event> {
    let events = client.prompt(session, deed).await.rest().await;
    assert_gapless(&events, events[0].seq);
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_misspeaks_is_understood_as_far_as_it_can_be() {
    let house = house().await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "hostile"})).await;
    let kinds =
        |events: &[Event], kind: &str| events.iter().filter(|event| event.kind == kind).cloned().collect::<Vec<_>>();

    let events = turn(&alice, &session, "garbage").await;
    assert_eq!(text(&events), "done");
    let log = alice.events(&session, 0).await.up_to("turn.ended").await;
    let logged = kinds(&log, "agent.log").iter().map(|event| event.content["text"].to_string()).collect::<String>();
    assert!(logged.contains("this is not JSON"), "{logged}");

    let events = turn(&alice, &session, "future").await;
    let updates = format!("{:?}", kinds(&events, "agent.update"));
    assert!(updates.contains("from_the_future") && updates.contains("nested"), "{updates}");

    let events = turn(&alice, &session, "elsewhere").await;
    assert!(text(&events).ends_with("done"), "{events:#?}");

    let events = turn(&alice, &session, "injection").await;
    assert!(text(&events).starts_with("a\n\nid: 99\nevent: turn.ended"), "{events:#?}");
    assert_eq!(kinds(&events, "turn.ended").len(), 1);

    assert_eq!(text(&turn(&alice, &session, "files").await), "code -32601", "files aren't offered");
    assert_eq!(text(&turn(&alice, &session, "twice").await), "done");

    let events = turn(&alice, &session, "refuse").await;
    let end = events.last().expect("there are events");
    assert_eq!((end.kind.as_str(), &end.content["code"]), ("turn.failed", &json!("AGENT_FAILED")), "{end:?}");
    assert_eq!(text(&turn(&alice, &session, "twice").await), "done", "the session goes on");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_floods_one_line_or_dies_fails_its_turn_with_a_reason() {
    let house = house().await;
    let alice = house.alice();
    for deed in ["huge", "exit"] {
        let session = alice.open(json!({"template": "hostile"})).await;
        let events = turn(&alice, &session, deed).await;
        let failed =
            events.iter().find(|event| event.kind == "turn.failed").unwrap_or_else(|| panic!("{deed}: {events:#?}"));
        assert_eq!(failed.content["code"], "AGENT_FAILED", "{failed:?}");
        // Whether the session can go on or not, it says so, and it can be closed.
        let now = alice.get_json(&format!("/v1/sessions/{}", id(&session))).await;
        if now["state"] == "ready" {
            alice.close(&session).await;
        } else {
            assert_eq!(now["end"]["reason"], "agent_exited", "{now}");
        }
    }
    house.stop().await;
}
