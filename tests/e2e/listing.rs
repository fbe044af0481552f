//! Lists of sessions: a page at a time, by label and state, also while sessions come and go.

use std::collections::{BTreeMap, HashSet};

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    client::{Client, id},
    house::House,
    settings::Settings,
};

/// All pages of a list, of `limit` each; between two of them `between` happens.
async fn pages(client: &Client, query: &str, limit: usize, mut between: impl AsyncFnMut(usize)) -> Vec<Value> {
    let (mut items, mut cursor, mut number) = (Vec::new(), String::new(), 0);
    loop {
        let page = client.get_json(&format!("/v1/sessions?limit={limit}{query}{cursor}")).await;
        let found = page["items"].as_array().unwrap_or_else(|| panic!("no items: {page}"));
        assert!(found.len() <= limit, "{page}");
        items.extend(found.iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { return items };
        assert!(!found.is_empty(), "an empty page is the last");
        cursor = format!("&cursor={next}");
        number += 1;
        between(number).await;
    }
}

fn ids(sessions: &[Value]) -> Vec<&str> {
    sessions.iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_is_on_one_page_whatever_comes_and_goes() {
    let settings = Settings::new().unlimited().shell().stock("shell", 4, 4).set("sandbox", "orphan_grace", "\"60s\"");
    let settings = [("memory_mib", "128"), ("tmp_mib", "16"), ("home_mib", "16")]
        .into_iter()
        .fold(settings, |settings, (limit, value)| settings.set("templates.shell.limits", limit, value));
    let mut house = House::start(settings.set("pool", "cap", "20")).await;
    let (alice, bob) = (house.alice(), house.bob());
    let mut opened = BTreeMap::new();
    for number in 0..9 {
        let labels = json!({"number": number.to_string(), "odd": (number % 2 == 1).to_string(), "who": "alice"});
        let session = alice.open(json!({"template": "shell", "labels": labels})).await;
        opened.insert(number, session);
    }
    let bobs = bob.open(json!({"template": "shell", "labels": {"odd": "true"}})).await;
    let nothing = async |_| {};

    let all = pages(&alice, "", 2, nothing).await;
    let newest_first = opened.values().rev().map(id).collect::<Vec<_>>();
    assert_eq!(ids(&all), newest_first);
    assert_eq!(ids(&pages(&alice, "", 3, nothing).await), newest_first);
    assert_eq!(ids(&pages(&bob, "", 3, nothing).await), [id(&bobs)]);

    let odd = pages(&alice, "&label=odd:true", 2, nothing).await;
    assert_eq!(ids(&odd), [7, 5, 3, 1].map(|number| id(&opened[&number])));
    let one = pages(&alice, "&label=odd:true&label=number:5", 2, nothing).await;
    assert_eq!(ids(&one), [id(&opened[&5])]);
    assert_eq!(pages(&alice, "&label=odd:perhaps", 2, nothing).await, Vec::<Value>::new());

    alice.close(&opened[&3]).await;
    assert_eq!(ids(&pages(&alice, "&state=ended", 2, nothing).await), [id(&opened[&3])]);
    let odd_and_open = pages(&alice, "&state=ready&label=odd:true", 2, nothing).await;
    assert_eq!(ids(&odd_and_open), [7, 5, 1].map(|number| id(&opened[&number])));

    // One is opened and one closed between any two pages; those that are there all the time are seen, each once.
    let mut gone = HashSet::from([3]);
    let seen = pages(&alice, "&state=ready", 2, async |number| {
        alice.open(json!({"template": "shell"})).await;
        let victim = [0, 8, 4][number % 3];
        if gone.insert(victim) {
            alice.close(&opened[&victim]).await;
        }
    })
    .await;
    let seen = ids(&seen);
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len(), "one is on two pages: {seen:?}");
    for number in (0..9).filter(|number| !gone.contains(number)) {
        assert!(seen.contains(&id(&opened[&number])), "session {number} isn't listed");
    }

    // A place in the list holds over a restart.
    let page = alice.get_json("/v1/sessions?limit=4").await;
    let cursor = page["next_cursor"].as_str().expect("there is more").to_owned();
    let rest = alice.get_json(&format!("/v1/sessions?limit=50&cursor={cursor}")).await;
    house.crash().await;
    house.launch().await;
    let again = alice.get_json(&format!("/v1/sessions?limit=50&cursor={cursor}")).await;
    assert_eq!(ids(again["items"].as_array().expect("a list")), ids(rest["items"].as_array().expect("a list")));

    for query in ["limit=0", "limit=many", "state=asleep", "label=odd", "cursor=no-such-place", "cursor=%00"] {
        let reply = alice.get(&format!("/v1/sessions?{query}")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{query}: {}", reply.text());
        reply.problem(400, "INVALID_REQUEST");
    }
    // Somebody else's place leads to nothing of theirs.
    let others = bob.get(&format!("/v1/sessions?cursor={cursor}")).await;
    assert!(others.status == StatusCode::BAD_REQUEST || !others.text().contains("alice"), "{}", others.text());
    house.stop().await;
}
