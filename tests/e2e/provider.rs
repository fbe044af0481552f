//! A tiny OpenID Connect provider: a discovery document, a key set, and tokens signed with RS256, ES256 or EdDSA.
//!
//! It listens on loopback, makes its keys anew on [`Provider::rotate`], can go away and come back, and counts how often its keys were asked for.
//! The library's own tests use this file too.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Whom its tokens are for, unless they say otherwise.
pub const AUDIENCE: &str = "greenroom";
/// How long its tokens are good for unless they say otherwise, in seconds.
const LIFETIME: u64 = 300;

/// The provider; it ends with the test.
#[derive(Clone)]
pub struct Provider {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    keys: Mutex<Keys>,
    /// What is served in place of the keys.
    published: Mutex<Option<Value>>,
    rotations: AtomicUsize,
    requests: AtomicUsize,
    away: AtomicBool,
}

/// One key of each kind.
struct Keys {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    round: usize,
}

impl Provider {
    /// Makes keys and listens on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Shared {
            keys: Mutex::new(Keys::make(0)),
            published: Mutex::default(),
            rotations: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            away: AtomicBool::new(false),
        };
        let provider = Self { address, shared: Arc::new(shared) };
        tokio::spawn(provider.clone().serve(listener));
        provider
    }

    /// What its tokens say as `iss`.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its entry in `auth.issuers`, as TOML; it is found by its discovery document.
    pub fn setting(&self, name: &str) -> String {
        format!(r#"{{name="{name}",issuer="{}",audience="{AUDIENCE}"}}"#, self.issuer())
    }

    /// A token signed with RS256. `iss`, `aud`, `iat` and `exp` are filled in where they aren't given; null takes a claim out.
    pub fn token(&self, claims: &Value) -> String {
        self.signed("RS256", &json!({}), claims)
    }

    /// A token signed with this algorithm (RS256, ES256 or EdDSA), with more in its header than `alg`, `typ` and `kid`; null takes out.
    pub fn signed(&self, algorithm: &str, header: &Value, claims: &Value) -> String {
        let usual = json!({"alg": algorithm, "typ": "JWT", "kid": self.keys().name(algorithm)});
        self.signed_text(algorithm, &merged(usual, header).to_string(), &self.claims(claims).to_string())
    }

    /// A token of these very texts.
    pub fn signed_text(&self, algorithm: &str, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.keys().sign(algorithm, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token that says this.
    pub fn claims(&self, claims: &Value) -> Value {
        let now = now();
        merged(json!({"iss": self.issuer(), "aud": AUDIENCE, "iat": now, "exp": now + LIFETIME}), claims)
    }

    /// The key set that is served.
    pub fn key_set(&self) -> Value {
        let published = self.shared.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        published.unwrap_or_else(|| self.keys().public())
    }

    /// Serves this in place of its keys, whatever it is.
    pub fn publish(&self, key_set: Value) {
        *self.shared.published.lock().unwrap_or_else(PoisonError::into_inner) = Some(key_set);
    }

    /// Replaces all keys; tokens of the former ones are worthless as soon as that is known.
    pub fn rotate(&self) {
        let round = 1 + self.shared.rotations.fetch_add(1, Ordering::Relaxed);
        *self.keys() = Keys::make(round);
    }

    /// How often the keys were asked for.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Answers nobody from here on; or does again.
    pub fn be_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::Relaxed);
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((socket, _)) = listener.accept().await {
            let provider = self.clone();
            let service = service_fn(move |request| std::future::ready(provider.answer(&request)));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let issuer = self.issuer();
        let is_keys = request.uri().path() == "/keys";
        self.shared.requests.fetch_add(usize::from(is_keys), Ordering::Relaxed);
        if self.shared.away.load(Ordering::Relaxed) {
            // The connection breaks off.
            return Err(io::Error::other("away"));
        }
        let document = match request.uri().path() {
            "/keys" => self.key_set(),
            "/.well-known/openid-configuration" => json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}),
            _ => return Ok(Response::builder().status(404).body(Full::default()).expect("a plain answer")),
        };
        Ok(Response::new(Full::from(document.to_string())))
    }
}

impl Keys {
    fn make(round: usize) -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be made"),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made"),
            ed: Ed25519KeyPair::generate().expect("a key can be made"),
            round,
        }
    }

    /// The `kid` of the key for this algorithm.
    fn name(&self, algorithm: &str) -> String {
        format!("{algorithm}-{}", self.round)
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "RS256" => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("RSA signs");
                signature
            }
            "ES256" => self.ec.sign(&random, message).expect("ECDSA signs").as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            other => panic!("no key for {other}"),
        }
    }

    fn public(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public_key());
        // An uncompressed point: 4, then x and y.
        let (x, y) = self.ec.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [
            {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.name("RS256"), "n": text(&rsa.n), "e": text(&rsa.e)},
            {"kty": "EC", "use": "sig", "crv": "P-256", "kid": self.name("ES256"), "x": text(x), "y": text(y)},
            {"kty": "OKP", "use": "sig", "crv": "Ed25519", "kid": self.name("EdDSA"), "x": text(self.ed.public_key().as_ref())},
        ]})
    }
}

/// `given` laid over `usual`; null takes out.
fn merged(mut usual: Value, given: &Value) -> Value {
    for (name, value) in given.as_object().expect("an object is given") {
        if value.is_null() {
            usual.as_object_mut().expect("an object").remove(name);
        } else {
            usual[name] = value.clone();
        }
    }
    usual
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}
