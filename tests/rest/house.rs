//! Both doors with a real service behind them, whose pools keep nothing warm unless they are told to; and the requests to try them with.

use std::sync::Arc;

use greenroom::{
    config::{self, Changes, Config, Template},
    credentials::{Credentials, seal::MasterKeys},
    doors::{
        admin::{self, Operators, Reload},
        rest,
    },
    gateway::{Budgets, Gateway},
    identity::{Authenticator, Scope},
    ids::{Epoch, SlotId, TemplateName, UserId},
    limits::Limits,
    pool::{Pools, PoolsParts},
    problem::{Code, Problem},
    runtime::{Runtime, process::Process},
    sandbox::{
        census::{Admission, Capacity, Census, Entry, Generation},
        lifecycle::{Reaper, Recipe, Starter, start::StarterParts},
        slot::Slots,
    },
    service::{Parts, Service},
    store::AnyStore,
    telemetry::{Audit, Metrics},
    workspace::Workspaces,
};
use poem::{
    Endpoint as _, Request, RequestBuilder, Response,
    endpoint::BoxEndpoint,
    http::{HeaderName, HeaderValue, Method, header},
};
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::store::Moody;

pub const TOKEN: &str = "test-token-0123456789";
/// Another user's.
pub const BOBS: &str = "test-token-of-bob-012345";
/// Of an administrator.
pub const ROOT_TOKEN: &str = "root-token-0123456789";
/// Of somebody who may only look.
pub const GUEST_TOKEN: &str = "guest-token-0123456789";
/// Sandboxes in all.
pub const CAP: usize = 6;

/// Doors under test; the folder lives as long.
pub struct House {
    folder: tempfile::TempDir,
    pub metrics: Metrics,
    pub census: Arc<Census>,
    pub store: Arc<Moody>,
    audit: Audit,
    pub users: BoxEndpoint<'static>,
    pub operators: BoxEndpoint<'static>,
}

/// A house with nothing to lease.
pub fn house() -> House {
    house_of(&[])
}

/// A house with a pool for each of these templates.
pub fn house_of(templates: &[&str]) -> House {
    house_with(templates, Config::default())
}

/// Settings with which users' keys are kept in a file.
pub fn keeping() -> Config {
    let (store, key) = (config::CredentialStore::File, Some(MasterKeys::generate()));
    Config { credentials: config::Credentials { store, key, ..config::Credentials::default() }, ..Config::default() }
}

/// A house with settings of its own, for the doors and for what users may.
pub fn house_with(templates: &[&str], config: Config) -> House {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let state = config::State { dir: folder.path().to_owned(), ..config::State::default() };
    let metrics = Metrics::default();
    let runtime: Arc<dyn Runtime> = Arc::new(Process::new());
    let census = Census::new(Capacity { sandboxes: CAP, memory_mib: u64::MAX });
    let starter = Starter::new(StarterParts {
        runtime: Arc::clone(&runtime),
        gateway: Gateway::new(metrics.clone()).expect("a client for the model API"),
        slots: Slots::open(&state.dir, runtime.owner()).expect("the folder is writable"),
        epoch: Epoch::random(),
        supervisor: "/nowhere/greenroom-supervisor".into(),
        settings: config::Sandbox::default(),
        reaper: Reaper::spawn(Arc::clone(&runtime), CancellationToken::new()),
        metrics: metrics.clone(),
    });
    let pools = Pools::start(PoolsParts {
        recipes: templates.iter().map(|name| recipe(name)).collect(),
        former: Vec::new(),
        settings: config::Pool { size: 0, cap: CAP, ..config::Pool::default() },
        census: Arc::clone(&census),
        starter: Arc::new(starter),
        runtime: Arc::clone(&runtime),
        start_limit: 1,
        metrics: metrics.clone(),
    });
    let store = Moody::open(&state.dir);
    let audit = Audit::open(&config::Audit::default(), &state.dir, metrics.clone()).expect("the folder is writable");
    let user = |name: &str| UserId::parse(name).expect("a good name");
    let token =
        |user, token: &str, scope| config::Token { scopes: vec![scope], ..config::Token::new(user, token.into()) };
    let tokens = vec![
        token(user("alice"), TOKEN, Scope::Sessions),
        token(user("bob"), BOBS, Scope::Sessions),
        token(user("root"), ROOT_TOKEN, Scope::Admin),
        token(user("guest"), GUEST_TOKEN, Scope::Read),
    ];
    let auth = config::Auth { tokens, ..config::Auth::default() };
    let authenticator = Arc::new(Authenticator::load(&auth, &state).expect("no keys are no fault"));
    let service = Arc::new(Service::new(Parts {
        pools: Arc::clone(&pools),
        workspaces: Workspaces::open(&state.dir).expect("the folder is writable"),
        identity: Arc::clone(&authenticator),
        limits: Arc::new(Limits::new(&config).expect("the defaults are good")),
        budgets: Budgets::new(&config::Budget::default(), &std::collections::BTreeMap::new()),
        store: Arc::clone(&store) as AnyStore,
        runtime,
        session: config::Session::default(),
        model_key: None,
        credentials: Credentials::open(&config.credentials, &state).expect("good settings"),
        key_refresh: config.credentials.refresh,
        key_outage: config.credentials.outage,
        state_dir: state.dir.clone(),
        metrics: metrics.clone(),
        audit: audit.clone(),
    }));
    let tiers = [("gold".to_owned(), config::Tier::default())].into();
    let config = Arc::new(Config { state, tiers, ..config });
    let for_operators =
        Operators { service: Arc::clone(&service), reload: reload(), render_metrics: Arc::new(|| "up 1\n".to_owned()) };
    let operators = admin::app(for_operators, Arc::clone(&config), metrics.clone());
    let users = rest::app(service, authenticator, config, metrics.clone());
    House { folder, metrics, census, store, audit, users, operators }
}

fn recipe(name: &str) -> Recipe {
    let name = TemplateName::parse(name).expect("a good name");
    Recipe::compile(name, Template::default(), None, &TaskTracker::new(), &Metrics::default())
        .expect("the default template is good")
}

/// Settings that are fine the first time and faulty from then on.
fn reload() -> Reload {
    let read = Arc::new(std::sync::atomic::AtomicBool::new(false));
    Arc::new(move || {
        let faulty = read.swap(true, std::sync::atomic::Ordering::Relaxed);
        Box::pin(async move {
            if faulty {
                return Err(Problem::new(Code::InvalidRequest, "2 faults in the settings\n  one\n  two"));
            }
            let restart_needed = vec!["server.address".to_owned()];
            Ok(Changes { changed: vec!["gemini".to_owned()], restart_needed, ..Changes::default() })
        })
    })
}

impl House {
    /// Asks the door for users, as alice.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        self.ask_as(TOKEN, method, path, body).await
    }

    /// Asks the door for users with this token.
    pub async fn ask_as(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Response {
        let request = visitor().header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.users.get_response(finish(request, method, path, body)).await
    }

    /// Asks the door for users, as alice, with more headers.
    pub async fn ask_with(&self, method: Method, path: &str, headers: &[(&str, &[u8])], body: &Value) -> Response {
        let mut request = finish(alice(), method, path, Some(body.clone()));
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).expect("a name");
            request.headers_mut().append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        self.users.get_response(request).await
    }

    pub async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, None).await
    }

    /// Asks the door for operators, as curl would.
    pub async fn operate(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let request = Request::builder().header(header::HOST, "127.0.0.1:8081");
        self.operators.get_response(finish(request, method, path, body)).await
    }

    /// The lines of the audit log so far, without their times.
    pub async fn audited(&self) -> Vec<Value> {
        self.audit.settle(std::time::Duration::from_secs(20)).await;
        let text = std::fs::read_to_string(self.folder.path().join("audit.jsonl")).expect("it is there");
        let line = |line: &str| {
            let mut line: Value = serde_json::from_str(line).expect("a line is JSON");
            line.as_object_mut().expect("an object").remove("time").expect("a time");
            line
        };
        text.lines().map(line).collect()
    }

    /// A sandbox as the census knows it, without a container behind it.
    pub fn admit(&self, template: &str) -> (SlotId, Entry) {
        let slot = SlotId::random();
        let admission = Admission {
            slot: slot.clone(),
            template: TemplateName::parse(template).expect("a good name"),
            generation: Generation::default(),
            memory_mib: 1,
        };
        (slot, self.census.admit(admission).expect("there is room"))
    }
}

fn alice() -> RequestBuilder {
    visitor().header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
}

/// A request of somebody without a token.
pub fn visitor() -> RequestBuilder {
    Request::builder().header(header::HOST, "127.0.0.1:8080")
}

fn finish(request: RequestBuilder, method: Method, path: &str, body: Option<Value>) -> Request {
    let request = request.method(method).uri_str(path).header("x-request-id", "same");
    match body {
        Some(body) => request.content_type("application/json").body(body.to_string()),
        None => request.finish(),
    }
}

pub async fn json_of(response: Response) -> Value {
    response.into_body().into_json().await.expect("JSON")
}
