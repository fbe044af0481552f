//! A key that is kept reaches the model and is found nowhere else, whether the model takes it or refuses it, with every word in the log.

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{file, vault};
use crate::{
    client::{Client, Reply, id},
    house::{House, model, model_that_repeats_keys},
    key_hunt::{search_container, search_folder},
    recorder::Recorder,
    secret::Canary,
    settings::Settings,
    stream::text,
    vault::{ROOT, Vault},
};

/// What a turn ends with whose key the model refused.
const REFUSED: &str = "API_KEY_INVALID";

/// Everything a user can ask, all of it looked through.
struct Asking<'a> {
    client: Client,
    canaries: &'a [&'a Canary],
}

impl Asking<'_> {
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let headers = [("content-type", "application/json")];
        let sent = Bytes::from(body.map(|body| body.to_string()).unwrap_or_default());
        let reply = self.client.call(method, path, &headers, sent).await;
        for canary in self.canaries {
            canary.assert_not_in(path, &reply.body);
            canary.assert_not_in("the head of an answer", format!("{:?}", reply.headers).as_bytes());
        }
        reply
    }
}

/// A session with this credential has a turn, the model says this, and then the keys are looked for everywhere.
async fn hunt(house: &House, collector: &Recorder, canaries: &[&Canary], credential: Value, said: &str) {
    let asking = Asking { client: house.alice(), canaries };
    let wish = json!({"template": "gemini", "credential": credential});
    let session = asking.ask(Method::POST, "/v1/sessions", Some(wish)).await.expect(StatusCode::CREATED);
    let mut events = asking.client.events(&session, 0).await;
    let turn = asking.client.prompt(&session, "[words:let in]").await.rest().await;
    let seen = events.up_to(&turn.last().expect("a turn has an end").kind).await;
    let told = format!("{} {seen:?}", text(&turn));
    assert!(told.contains(said), "{told}");
    let path = format!("/v1/sessions/{}", id(&session));
    let bad = json!({"credential": {"api_key": canaries[0].key, "name": "both"}});
    assert_eq!(asking.ask(Method::PATCH, &path, Some(bad)).await.status, StatusCode::BAD_REQUEST);
    let bare = json!({"credential": canaries[0].key});
    assert_eq!(asking.ask(Method::PATCH, &path, Some(bare)).await.status, StatusCode::BAD_REQUEST);
    for path in [path.as_str(), "/v1/sessions", "/v1/me", "/v1/credentials", "/v1/templates", "/v1/nowhere"] {
        asking.ask(Method::GET, path, None).await;
    }
    let containers = house.engine().running(&house.instance).await;
    assert!(!containers.is_empty());
    for canary in canaries {
        canary.assert_not_in("the events", told.as_bytes());
        for container in &containers {
            search_container(house, container, canary).await;
        }
    }
    asking.ask(Method::DELETE, &path, None).await;
    // All of them, now that there will be no more.
    asking.ask(Method::GET, &format!("{path}/events"), None).await;
    for canary in canaries {
        search_folder(&house.state(), canary);
        canary.assert_not_in("the log", &house.log());
        canary.assert_not_in("the metrics", &house.operator().get("/metrics").await.body);
        for received in collector.received() {
            canary.assert_not_in("the traces", &received.body);
        }
    }
}

/// A server that says everything it can.
fn talkative(collector: &Recorder) -> Settings {
    Settings::new()
        .set("telemetry", "log", "\"trace\"")
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", collector.address))
        .variable("OTEL_BSP_SCHEDULE_DELAY", "100")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_from_the_file_is_found_nowhere_else() {
    let (kept, own, servers) = (Canary::new(), Canary::new(), Canary::new());
    let canaries = [&kept, &own, &servers];
    for (model, said) in [(model(None).await, "let in"), (model_that_repeats_keys().await, REFUSED)] {
        let collector = Recorder::start().await;
        let settings = file(talkative(&collector).gemini(model)).variable("GEMINI_API_KEY", &servers.key);
        let house = House::start(settings).await;
        let asking = Asking { client: house.alice(), canaries: &canaries };
        let put = asking.ask(Method::PUT, "/v1/credentials/work", Some(json!({"api_key": kept.key}))).await;
        assert_eq!(put.status, StatusCode::NO_CONTENT);
        let output = house.command_with(&["credentials", "set", "--user", "bob", "work"], &own.key).await;
        canaries
            .iter()
            .for_each(|canary| canary.assert_not_in("the command's words", format!("{output:?}").as_bytes()));
        for credential in [json!({"name": "work"}), json!({"api_key": own.key})] {
            hunt(&house, &collector, &canaries, credential, said).await;
        }
        assert!(!collector.received().is_empty(), "there were no traces to look through");
        house.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_from_a_vault_is_found_nowhere_else() {
    let kept = Canary::new();
    let keys = Vault::start().await;
    keys.put("greenroom/alice/work", &kept.key);
    for (model, said) in [(model(Some(&kept.key)).await, "let in"), (model_that_repeats_keys().await, REFUSED)] {
        let collector = Recorder::start().await;
        let house = House::start(vault(talkative(&collector).gemini(model), &keys)).await;
        hunt(&house, &collector, &[&kept], json!({"name": "work"}), said).await;
        let log = house.log();
        assert!(!crate::secret::contains(&log, ROOT.as_bytes()), "the token for the vault is in the log");
        house.stop().await;
    }
}
