//! Agents of other houses: their paths, their headers, their errors.

use serde_json::json;

use crate::{gateway::PORT, house::House, recorder::Recorder, settings::Settings};

/// The call as the agent of such a house makes it, with a key of its own.
fn call(path: &str, header: &str, body: &str) -> String {
    format!(
        "{PORT}; wget -Y off -S -q -O - --header 'content-type: application/json' --header '{header}: Bearer forged' \
         --header 'x-goog-api-key: forged' --post-data '{body}' http://127.0.0.1:$port{path} 2>&1 || true"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_speaks_the_api_of_its_house() {
    for (api, path, header, other, value) in [
        ("anthropic", "/v1/messages", "x-api-key", "authorization", "key-of-alice"),
        ("openai", "/v1/chat/completions", "authorization", "x-api-key", "Bearer key-of-alice"),
    ] {
        let model = Recorder::start().await;
        let settings = Settings::new().shell().model(model.address);
        let settings = settings.set("templates.shell.model", "api", &format!("{api:?}"));
        let house = House::start(settings.set("budget", "input_tokens_per_day", "100")).await;
        let alice = house.alice();
        let session = alice.open(json!({"template": "shell", "credential": {"api_key": "key-of-alice"}})).await;
        alice.ask(&session, &call(path, header, r#"{"max_tokens":5}"#)).await;
        let received = model.received();
        let last = received.last().expect("it came through");
        assert_eq!((last.path.as_str(), &last.headers[header]), (path, &value.parse().expect("a value")));
        for name in [other, "x-goog-api-key"] {
            assert!(!last.headers.contains_key(name), "{:?}", last.headers);
        }
        // What isn't a call of this house is refused in its own words, and so is what the budget has no room for.
        let calls = received.len();
        let said = alice.ask(&session, &call("/v1beta/models/m:generateContent", header, "{}")).await;
        assert!(said.contains("403"), "{said}");
        let long = format!(r#"{{"x":"{}"}}"#, "y".repeat(200));
        let events = alice.prompt(&session, &call(path, header, &long)).await.rest().await;
        let said = crate::stream::text(&events);
        assert!(said.contains("429"), "{said}");
        let last = events.last().expect("an end");
        assert_eq!(last.content["code"], "BUDGET_EXHAUSTED", "{events:#?}");
        assert_eq!(model.received().len(), calls);
        house.stop().await;
    }
}
