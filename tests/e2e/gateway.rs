//! The one way out of a sandbox: the model's calls, in the name of the one who leases it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    client::id,
    house::House,
    recorder::Recorder,
    settings::{BUSYBOX, Settings},
};

/// The relay to the model, inside: it listens before the agent starts.
pub const PORT: &str = "port=41000";

/// Makes the model's call. This `wget` doesn't know `no_proxy`.
pub const CALL: &str = "wget -Y off -q -O - --header 'content-type: application/json' --header 'x-goog-api-key: forged' --post-data '{}' http://127.0.0.1:$port/v1beta/models/m:generateContent";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_lets_the_models_calls_through_and_nothing_else() {
    let model = Recorder::start().await;
    let house = House::start(Settings::new().shell_with_node().model(model.address)).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "credential": {"api_key": "key-of-this-session"}})).await;

    // The only listeners inside are the supervisor's, which lead to the gateway: to the model, and to the proxy for tools.
    let list = r#"cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == "0A" {split($2, a, ":"); printf "%s ", a[2]}'"#;
    let listeners = alice.ask(&session, list).await;
    let ports =
        listeners.split_whitespace().map(|port| u16::from_str_radix(port, 16).expect("hex")).collect::<Vec<_>>();
    assert_eq!(BTreeSet::from_iter(ports), BTreeSet::from([41_000, 41_001]), "listeners inside");
    let port = 41_000;

    let call = async |method: &str, path: &str, host: &str| {
        let script = format!(
            "const r=require('http').request({{host:'127.0.0.1',port:{port},method:'{method}',path:'{path}',headers:{{host:'{host}',\
             'content-type':'application/json','x-goog-api-key':'forged'}}}},a=>{{console.log(a.statusCode);process.exit()}});\
             r.on('error',e=>{{console.log(e.code);process.exit()}});r.on('connect',a=>{{console.log(a.statusCode);process.exit()}});\
             r.setTimeout(5000,()=>{{console.log('silence');process.exit()}});r.end('{{}}')"
        );
        alice.ask(&session, &format!("node -e \"{script}\"")).await.trim().to_owned()
    };
    for (method, path, host) in [
        ("GET", "/", "localhost"),
        ("GET", "/v1beta/models", "localhost"),
        ("POST", "/v1beta/models/../files", "localhost"),
        ("POST", "/v1beta/models/a:streamGenerateContent/../../x", "localhost"),
        ("POST", "/v1beta/models/a%2f..%2f..%2fx:generateContent/", "localhost"),
        ("POST", "//elsewhere.example/v1beta/models/a:generateContent/x", "localhost"),
        ("POST", "http://elsewhere.example/v1/upload", "elsewhere.example"),
        ("CONNECT", "elsewhere.example:443", "elsewhere.example"),
    ] {
        let outcome = call(method, path, host).await;
        let refused = outcome.parse::<u16>().map_or(outcome == "ECONNRESET", |status| (400..500).contains(&status));
        assert!(refused, "{method} {path}: {outcome}");
    }
    assert!(model.received().is_empty(), "{:?}", model.received());

    assert_eq!(call("POST", "/v1beta/models/gemini-x:generateContent", "elsewhere.example").await, "200");
    let received = model.received();
    let [only] = &received[..] else { panic!("{received:?}") };
    assert_eq!((only.method.as_str(), only.path.as_str()), ("POST", "/v1beta/models/gemini-x:generateContent"));
    assert_eq!(only.headers["host"], model.address.to_string().as_str(), "the template says where, not the agent");
    let keys = only.headers.get_all("x-goog-api-key").iter().collect::<Vec<_>>();
    assert_eq!(keys, ["key-of-this-session"], "the agent's own key is not passed on");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_lease_the_gateway_refuses() {
    let model = Recorder::start().await;
    // An agent that calls the model as soon as it runs, long before anybody leases it.
    let eager = format!("{PORT}; {CALL} >/tmp/early 2>&1; {}", crate::settings::SHELL);
    let settings = Settings::new().lines("eager", BUSYBOX, &["sh", "-c", &eager]).model(model.address);
    let house = House::start(settings.variable("GEMINI_API_KEY", "key-of-the-server")).await;
    let session = house.alice().open(json!({"template": "eager"})).await;
    let early = house.alice().ask(&session, "cat /tmp/early").await;
    assert!(early.contains("HTTP/1.1 403") || early.contains("HTTP/1.1 401") || early.contains("reset"), "{early}");
    assert!(model.received().is_empty(), "{:?}", model.received());
    // The very same call goes through once the sandbox has somebody to call for.
    house.alice().ask(&session, &format!("{PORT}; {CALL}")).await;
    assert_eq!(model.received().len(), 1);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_session_calls_with_its_own_key_and_else_with_the_servers() {
    let model = Recorder::start().await;
    let settings = Settings::new().shell().model(model.address).set("pool", "size", "3");
    let house = House::start(settings.variable("GEMINI_API_KEY", "key-of-the-server")).await;
    let (alice, bob) = (house.alice(), house.bob());
    let call = format!("{PORT}; {CALL}");
    for (client, credential, expected) in [
        (&alice, json!({"api_key": "key-of-alice"}), "key-of-alice"),
        (&bob, json!({"api_key": "key-of-bob"}), "key-of-bob"),
        (&bob, json!(null), "key-of-the-server"),
    ] {
        let mut wish = json!({"template": "shell"});
        if !credential.is_null() {
            wish["credential"] = credential;
        }
        let session = client.open(wish).await;
        let said = client.ask(&session, &call).await;
        let last = model.received().pop().unwrap_or_else(|| panic!("the call didn't come through: {said}"));
        assert_eq!(last.headers["x-goog-api-key"], expected, "{}", id(&session));
    }
    house.stop().await;
}
