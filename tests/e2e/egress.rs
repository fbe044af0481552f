//! What the agent's tools may reach beside the model: nothing, unless template and session say so; then those hosts and nothing else.
//!
//! The hosts are on this machine, under names that the settings of the test alone map to its loopback.

mod host;

use std::{fs, slice, time::Duration};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use self::host::{CERTIFICATE, Host};
use crate::{
    client::{Client, id},
    house::{House, model},
    settings::Settings,
    wait::until,
};

const SOON: Duration = Duration::from_secs(20);

/// Settings whose names lead to this machine, and whose template allows and offers these.
fn settings(template: &str, allow: &[String], offer: &[String]) -> Settings {
    let list = |hosts: &[String]| serde_json::to_string(hosts).expect("texts are JSON");
    let names = ["registry.test", "a.registry.test", "other.test", "forbidden.test"];
    let hosts = names.map(|name| format!("\"{name}\" = \"127.0.0.1\"")).join(", ");
    let section = format!("templates.{template}.egress");
    Settings::new().set("egress", "hosts", &format!("{{ {hosts} }}")).set(&section, "allow", &list(allow)).set(
        &section,
        "offer",
        &list(offer),
    )
}

/// Asks the proxy as plain http does, with this address and this `Host`; status, place of a redirect, and what came.
fn ask_proxy(address: &str, host: &str) -> String {
    format!(
        "node -e \"require('http').get({{host:'127.0.0.1',port:41001,path:'{address}',headers:{{host:'{host}'}}}},\
         a=>{{console.log(a.statusCode,a.headers.location??'');a.pipe(process.stdout)}})\""
    )
}

/// Asks for a host's front page.
fn get(host: &str) -> String {
    ask_proxy(&format!("http://{host}/"), host)
}

/// Asks for a tunnel; the status.
fn connect(host: &str) -> String {
    format!(
        "node -e \"require('http').request({{host:'127.0.0.1',port:41001,method:'CONNECT',path:'{host}'}})\
         .on('connect',a=>{{console.log(a.statusCode);process.exit()}}).end()\""
    )
}

/// Asks for an address with the agent's own tool, over TLS that is checked.
fn fetch(address: &str) -> String {
    format!(
        "NODE_NO_WARNINGS=1 NODE_USE_ENV_PROXY=1 NODE_EXTRA_CA_CERTS=/sandbox/workspace/ca.pem node -e \"fetch('{address}').then(async a=>console.log(a.status,await a.text()))\
         .catch(e=>console.log('failed',e.cause?.code,e.cause?.message))\""
    )
}

async fn now(client: &Client, session: &Value) -> Value {
    client.get_json(&format!("/v1/sessions/{}", id(session))).await
}

async fn patch(client: &Client, session: &Value, egress: &[&str]) -> Value {
    let path = format!("/v1/sessions/{}", id(session));
    client.patch(&path, &json!({ "egress": egress })).await.expect(StatusCode::OK)
}

async fn give_certificate(client: &Client, session: &Value) {
    let path = format!("/v1/sessions/{}/files/ca.pem", id(session));
    let put = client.call(Method::PUT, &path, &[], Bytes::from_static(CERTIFICATE.as_bytes())).await;
    assert!(put.status.is_success(), "{}", put.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_rule_tools_reach_nothing() {
    let host = Host::plain();
    let house = House::start(settings("shell", &[], &[]).shell_with_node()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    assert_eq!(session["egress"], json!({"hosts": [], "bytes_sent": 0, "bytes_received": 0}), "{session}");

    let told = alice.ask(&session, "echo $HTTP_PROXY $HTTPS_PROXY $http_proxy $https_proxy $NO_PROXY $no_proxy").await;
    let (proxy, none) = ("http://127.0.0.1:41001", "127.0.0.1,localhost,::1");
    assert_eq!(told.trim(), format!("{proxy} {proxy} {proxy} {proxy} {none} {none}"));
    let registry = host.under("registry.test");
    for address in [
        &*registry,
        "forbidden.test",
        &host.under("127.0.0.1"),
        &host.under("localhost"),
        "169.254.169.254",
        "example.com",
    ] {
        let said = alice.ask(&session, &get(address)).await;
        assert!(said.starts_with("403"), "{address}: {said}");
        let said = alice.ask(&session, &connect(address)).await;
        assert!(said.starts_with('4'), "{address}: {said}");
    }
    // Asking doesn't help where nothing is offered.
    let refused = alice.post("/v1/sessions", &json!({"template": "shell", "egress": [registry]})).await;
    assert!(refused.problem(403, "FORBIDDEN")["detail"].as_str().is_some_and(|detail| detail.contains(&registry)));
    assert!(host.asked().is_empty(), "{:?}", host.asked());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_sandbox_reaches_what_its_template_allows_over_http_and_https_and_nothing_else() {
    let (plain, tls) = (Host::plain(), Host::tls());
    let allow = [plain.under("registry.test"), tls.under("*.registry.test")];
    let house = House::start(settings("shell", &allow, &[]).shell_with_node()).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell"})).await;
    assert_eq!(session["lease"]["start"], "warm", "{session}");
    assert_eq!(session["egress"]["hosts"], json!(allow), "{session}");
    give_certificate(&alice, &session).await;

    // Plain: the tool asks the proxy for the whole address.
    let registry = plain.under("registry.test");
    let said = alice.ask(&session, &ask_proxy(&format!("http://{registry}/a?b=c"), &registry)).await;
    assert!(said.starts_with("200") && said.contains("hello"), "{said}");
    let asked = plain.asked().pop().expect("it was asked").to_lowercase();
    assert!(
        asked.starts_with("get /a?b=c http/1.1\r\n") && asked.contains(&format!("host: {registry}\r\n")),
        "{asked}"
    );
    assert!(!asked.contains("proxy") && !asked.contains("key"), "{asked}");
    // A redirect is told, and leads nowhere.
    let said = alice.ask(&session, &ask_proxy(&format!("http://{registry}/redirect-to/127.0.0.1:1"), &registry)).await;
    assert!(said.starts_with("302 http://127.0.0.1:1/"), "{said}");

    // TLS: the tool's own, end to end.
    let said = alice.ask(&session, &fetch(&format!("https://{}/", tls.under("a.registry.test")))).await;
    assert_eq!(said.trim(), "200 hello");
    let used = now(&alice, &session).await["egress"].clone();
    assert!(used["bytes_sent"].as_u64() > Some(500) && used["bytes_received"].as_u64() > Some(500), "{used}");

    let (asked_plain, asked_tls) = (plain.asked().len(), tls.asked().len());
    for (target, host, status) in [
        (format!("http://{}/", plain.under("forbidden.test")), plain.under("forbidden.test"), "403"),
        (format!("http://{}/", plain.under("a.registry.test")), plain.under("a.registry.test"), "403"),
        ("http://registry.test/".to_owned(), "registry.test".to_owned(), "403"),
        (format!("http://{}/", plain.under("127.0.0.1")), plain.under("127.0.0.1"), "403"),
        (format!("http://{}/", plain.under("2130706433")), plain.under("2130706433"), "403"),
        (format!("http://{registry}/"), plain.under("forbidden.test"), "400"),
        (format!("http://user@{registry}/"), registry.clone(), "400"),
        ("/".to_owned(), registry.clone(), "400"),
    ] {
        let said = alice.ask(&session, &ask_proxy(&target, &host)).await;
        assert!(said.starts_with(status), "{target} {host}: {said}");
    }
    // A tunnel to one host that greets another one, or is no TLS, ends before the host hears a word.
    for (asked, named, allowed) in [
        (tls.under("a.registry.test"), "a.registry.test", true),
        (tls.under("a.registry.test"), "registry.test", false),
        (tls.under("a.registry.test"), "forbidden.test", false),
        (tls.under("registry.test"), "registry.test", false),
        (tls.under("127.0.0.1"), "a.registry.test", false),
    ] {
        let tunnel = format!(
            "openssl s_client -proxy 127.0.0.1:41001 -connect {asked} -servername {named} </dev/null 2>&1 | grep -c 'BEGIN CERTIFICATE'"
        );
        let said = alice.ask(&session, &tunnel).await;
        assert_eq!(said.trim(), if allowed { "1" } else { "0" }, "{asked} {named}");
    }
    assert_eq!((plain.asked().len(), tls.asked().len()), (asked_plain, asked_tls), "somebody was reached");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_asks_for_what_is_offered_and_changes_it_while_it_runs() {
    let host = Host::plain();
    let [registry, other, forbidden] = ["registry.test", "other.test", "forbidden.test"].map(|name| host.under(name));
    let house =
        House::start(settings("shell", slice::from_ref(&registry), slice::from_ref(&other)).shell_with_node()).await;
    let alice = house.alice();

    let wish = |egress: Value| json!({"template": "shell", "egress": egress});
    let refused = alice.post("/v1/sessions", &wish(json!([other, forbidden]))).await.problem(403, "FORBIDDEN");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(&forbidden)), "{refused}");
    for nonsense in [
        json!(["10.0.0.1"]),
        json!(["http://other.test"]),
        json!(["*"]),
        json!(["a:b"]),
        json!("other.test"),
        json!([7]),
    ] {
        alice.post("/v1/sessions", &wish(nonsense)).await.problem(400, "INVALID_REQUEST");
    }

    let session = alice.open(wish(json!([other]))).await;
    assert_eq!(session["lease"]["start"], "warm", "{session}");
    assert_eq!(session["egress"]["hosts"], json!([registry, other]), "{session}");
    assert!(alice.ask(&session, &get(&other)).await.contains("hello"));
    // Something that goes on and on ends when its host is taken away, and at once.
    let endless = ask_proxy(&format!("http://{other}/endless"), &other);
    alice.ask(&session, &format!("({endless} >/tmp/endless 2>&1; echo over >/tmp/over) & sleep 0.1")).await;
    let begun = async || alice.ask(&session, "cat /tmp/endless").await.contains("on and on").then_some(());
    until("it comes in", SOON, begun).await;
    let path = format!("/v1/sessions/{}", id(&session));
    alice.patch(&path, &json!({"egress": [forbidden]})).await.problem(403, "FORBIDDEN");
    alice.patch(&path, &json!({"labels": {"a": "b"}})).await.expect(StatusCode::OK);
    assert!(!alice.ask(&session, "cat /tmp/over").await.contains("over\n"), "what doesn't touch it leaves it alone");
    assert_eq!(patch(&alice, &session, &[]).await["egress"]["hosts"], json!([registry]));
    let over = async || alice.ask(&session, "cat /tmp/over").await.starts_with("over").then_some(());
    until("it is over", Duration::from_secs(5), over).await;

    assert!(alice.ask(&session, &get(&other)).await.starts_with("403"));
    assert!(alice.ask(&session, &get(&registry)).await.contains("hello"), "the template's stays");
    patch(&alice, &session, &[&other]).await;
    assert!(alice.ask(&session, &get(&other)).await.contains("hello"));

    // Somebody else's session has its own.
    let neighbour = house.bob().open(json!({"template": "shell", "queue_timeout_s": 20})).await;
    assert!(house.bob().ask(&neighbour, &get(&other)).await.starts_with("403"));

    alice.close(&session).await;
    let ended = now(&alice, &session).await["egress"].clone();
    assert!(ended["hosts"] == json!([]) && ended["bytes_received"].as_u64() > Some(0), "{ended}");
    let log = String::from_utf8(house.log()).expect("text");
    let told = |verdict: &str| log.contains(&format!("\"egress.host\":\"{other}\",\"egress.verdict\":\"{verdict}\""));
    assert!(told("allowed") && told("not_allowed") && told("revoked"), "every decision is in the log");
    assert!(!log.contains("/endless"), "paths are not");
    let written = async || {
        let lines = fs::read_to_string(house.state().join("audit.jsonl")).unwrap_or_default();
        let line = |action: &str, reason: &str| {
            lines.lines().any(|line| [action, reason, &*other, id(&session)].iter().all(|part| line.contains(part)))
        };
        (line("egress.allowed", "ok") && line("egress.refused", "revoked") && line("egress.refused", "not_allowed"))
            .then_some(())
    };
    until("the audit log has it", SOON, written).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_may_reach_outlives_a_restart_and_follows_the_settings() {
    let host = Host::plain();
    let [registry, other] = ["registry.test", "other.test"].map(|name| host.under(name));
    let with = |allow: &[String], offer: &[String]| {
        settings("shell", allow, offer).shell_with_node().set("sandbox", "orphan_grace", "\"60s\"")
    };
    let mut house = House::start(with(slice::from_ref(&registry), slice::from_ref(&other))).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "shell", "egress": [other]})).await;
    assert!(alice.ask(&session, &get(&other)).await.contains("hello"));
    let before = now(&alice, &session).await["egress"].clone();

    house.crash().await;
    house.launch().await;
    let after = now(&alice, &session).await["egress"].clone();
    assert_eq!((&after["hosts"], &after["bytes_received"]), (&before["hosts"], &before["bytes_received"]), "{after}");
    for address in [&registry, &other] {
        assert!(alice.ask(&session, &get(address)).await.contains("hello"), "{address}");
    }
    assert!(now(&alice, &session).await["egress"]["bytes_received"].as_u64() > before["bytes_received"].as_u64());

    // The settings take the template's own host away, and the offer: for this session too. The stock isn't made anew for that.
    house.rewrite(with(&[], &[]));
    let changes = house.operator().post("/reload", &json!({})).await.expect(StatusCode::OK);
    assert_eq!((&changes["egress"], &changes["changed"]), (&json!(["shell"]), &json!([])), "{changes}");
    assert_eq!(now(&alice, &session).await["egress"]["hosts"], json!([]));
    for address in [&registry, &other] {
        assert!(alice.ask(&session, &get(address)).await.starts_with("403"), "{address}");
    }
    // And gives it back; what the session asked for is remembered.
    house.rewrite(with(&[], slice::from_ref(&other)));
    house.operator().post("/reload", &json!({})).await.expect(StatusCode::OK);
    assert!(alice.ask(&session, &get(&other)).await.contains("hello"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_agents_tools_get_out_while_it_speaks_to_its_model() {
    let host = Host::plain();
    let allow = [host.under("registry.test")];
    let settings = settings("gemini", &allow, &[]).gemini(model(None).await);
    let house = House::start(settings.set("templates.gemini.permissions", "default", "\"allow\"")).await;
    let alice = house.alice();
    let session = alice.open(json!({"template": "gemini"})).await;
    assert_eq!(session["lease"]["start"], "warm", "{session}");
    let clone = format!("git ls-remote http://{}/repository.git", allow[0]);
    let events =
        alice.prompt(&session, &format!("[tool:run_shell_command command={clone}] [words:as told]")).await.rest().await;
    assert_eq!(events.last().map(|event| event.kind.as_str()), Some("turn.ended"), "{events:#?}");
    let asked = host.asked();
    assert!(asked.iter().any(|head| head.starts_with("GET /repository.git/info/refs")), "{asked:?}\n{events:#?}");
    assert!(now(&alice, &session).await["egress"]["bytes_received"].as_u64() > Some(0));
    house.stop().await;
}
