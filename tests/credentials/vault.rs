//! A tiny vault: the KV engine of version 2, three ways to come in, tokens that end, and a switch to be away. For tests, on loopback.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The token of an operator, which never ends.
pub const ROOT: &str = "hvs.root-of-the-tiny-vault";
/// What it takes to come in as a service account.
pub const JWT: &str = "eyJ.the-service-accounts.token";
/// What it takes to come in with a role.
pub const SECRET_ID: &str = "the-secret-id";

/// The vault; it ends with the test.
#[derive(Debug, Clone)]
pub struct Vault {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// By path below `secret/data/`; none: deleted.
    secrets: HashMap<String, Option<Value>>,
    tokens: HashMap<String, Token>,
    /// How long a token is good for that is got by a login.
    lease: Duration,
    renewable: bool,
    /// What every request is answered with, for a while.
    away: Option<StatusCode>,
    /// Paths of all requests, in their order.
    asked: Vec<String>,
    made: usize,
}

#[derive(Debug)]
struct Token {
    ends: Option<Instant>,
    renewable: bool,
}

impl Vault {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = State {
            secrets: HashMap::new(),
            tokens: HashMap::from([(ROOT.to_owned(), Token { ends: None, renewable: false })]),
            lease: Duration::from_secs(3600),
            renewable: true,
            away: None,
            asked: Vec::new(),
            made: 0,
        };
        let vault = Self { address, state: Arc::new(Mutex::new(state)) };
        tokio::spawn(vault.clone().serve(listener));
        vault
    }

    /// Its address for the settings.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts a secret with one field, `api_key`.
    pub fn put(&self, path: &str, key: &str) {
        self.put_fields(path, json!({ "api_key": key }));
    }

    /// Puts a secret.
    pub fn put_fields(&self, path: &str, fields: Value) {
        self.state().secrets.insert(path.to_owned(), Some(fields));
    }

    /// Deletes a secret's latest version.
    pub fn delete(&self, path: &str) {
        self.state().secrets.insert(path.to_owned(), None);
    }

    /// How long tokens of later logins are good for, and whether they can be renewed.
    pub fn lease(&self, seconds: u64, renewable: bool) {
        let mut state = self.state();
        (state.lease, state.renewable) = (Duration::from_secs(seconds), renewable);
    }

    /// Takes a token that somebody chose.
    pub fn admit(&self, token: &str) {
        self.state().tokens.insert(token.to_owned(), Token { ends: None, renewable: false });
    }

    /// No token is good any more, whoever got it.
    pub fn revoke_all(&self) {
        self.state().tokens.clear();
    }

    /// Answers everything with this from now on; none: as it should.
    pub fn away(&self, status: Option<StatusCode>) {
        self.state().away = status;
    }

    /// How often a path was asked for that begins so.
    pub fn asked(&self, begin: &str) -> usize {
        self.state().asked.iter().filter(|path| path.starts_with(begin)).count()
    }

    /// The paths of all secrets that were asked for.
    pub fn looked_up(&self) -> Vec<String> {
        let state = self.state();
        state.asked.iter().filter_map(|path| path.strip_prefix("/v1/secret/data/").map(str::to_owned)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((socket, _)) = listener.accept().await {
            let vault = self.clone();
            let service = service_fn(move |request| vault.clone().answer(request));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let token = head.headers.get("x-vault-token").and_then(|token| token.to_str().ok()).unwrap_or_default();
        let asked = head.headers.get("x-vault-request").is_some_and(|value| value == "true");
        let (status, answer) = if asked {
            // As the real one does: what is percent-encoded is decoded before the path is taken apart.
            self.state().answer(&head.method, &decoded(head.uri.path()), token, &body)
        } else {
            (StatusCode::BAD_REQUEST, json!({"errors": ["missing required header"]}))
        };
        let mut response = Response::new(Full::from(answer.to_string()));
        *response.status_mut() = status;
        Ok(response)
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, token: &str, body: &Value) -> (StatusCode, Value) {
        self.asked.push(path.to_owned());
        if let Some(status) = self.away {
            return (status, json!({"errors": ["the tiny vault is away"]}));
        }
        let denied = (StatusCode::FORBIDDEN, json!({"errors": ["permission denied"]}));
        let now = Instant::now();
        let good = |token: &Token| token.ends.is_none_or(|ends| now < ends);
        let proof = |field: &str, value: &str| body[field] == value;
        match (method.as_str(), path) {
            ("POST", "/v1/auth/kubernetes/login") if proof("jwt", JWT) && proof("role", "greenroom") => self.grant(),
            ("POST", "/v1/auth/approle/login") if proof("secret_id", SECRET_ID) && proof("role_id", "greenroom") => {
                self.grant()
            }
            (_, path) if path.ends_with("/login") => (StatusCode::BAD_REQUEST, json!({"errors": ["invalid login"]})),
            _ if !self.tokens.get(token).is_some_and(good) => denied,
            ("GET", "/v1/auth/token/lookup-self") => {
                let token = &self.tokens[token];
                let ttl = token.ends.map_or(0, |ends| (ends - now).as_secs());
                (StatusCode::OK, json!({"data": {"ttl": ttl, "renewable": token.renewable, "id": "hidden"}}))
            }
            ("POST", "/v1/auth/token/renew-self") => {
                let (lease, held) = (self.lease, self.tokens.get_mut(token).expect("it is good"));
                if !held.renewable {
                    return (StatusCode::BAD_REQUEST, json!({"errors": ["lease is not renewable"]}));
                }
                held.ends = Some(now + lease);
                (StatusCode::OK, granted(token, lease, true))
            }
            ("GET", path) => match path.strip_prefix("/v1/secret/data/").map(|path| self.secrets.get(path)) {
                Some(Some(Some(fields))) => {
                    let data = json!({"data": fields, "metadata": {"version": 1, "destroyed": false}});
                    (StatusCode::OK, json!({"request_id": "r", "data": data, "warnings": null}))
                }
                Some(Some(None)) => {
                    let data =
                        json!({"data": null, "metadata": {"version": 1, "deletion_time": "2026-01-01T00:00:00Z"}});
                    (StatusCode::NOT_FOUND, json!({ "data": data }))
                }
                Some(None) => (StatusCode::NOT_FOUND, json!({"errors": []})),
                None => (StatusCode::NOT_FOUND, json!({"errors": ["no handler for route"]})),
            },
            _ => (StatusCode::METHOD_NOT_ALLOWED, json!({"errors": []})),
        }
    }

    fn grant(&mut self) -> (StatusCode, Value) {
        self.made += 1;
        let token = format!("hvs.made-{}", self.made);
        let ends = Some(Instant::now() + self.lease);
        self.tokens.insert(token.clone(), Token { ends, renewable: self.renewable });
        (StatusCode::OK, granted(&token, self.lease, self.renewable))
    }
}

fn granted(token: &str, lease: Duration, renewable: bool) -> Value {
    json!({"auth": {"client_token": token, "lease_duration": lease.as_secs(), "renewable": renewable, "policies": []}})
}

fn decoded(path: &str) -> String {
    let mut bytes = path.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let digits = if byte == b'%' { bytes.next().zip(bytes.next()) } else { None };
        let text = digits.map(|(high, low)| [high, low]);
        let value = text.and_then(|text| u8::from_str_radix(std::str::from_utf8(&text).ok()?, 16).ok());
        decoded.push(value.unwrap_or(byte));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
