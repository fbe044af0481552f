//! Small documents from other services: an identity provider's keys, a vault's secrets.
//!
//! Every call has a deadline and a cap on its answer, follows no redirect, and keeps what it sends and gets out of its errors.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Uri};
use reqwest::{Certificate, Client, ClientBuilder, redirect::Policy};

/// Deadline of one call, its answer included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Deadline for name, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The client can't be set up.
    #[error("the HTTP client could not be set up")]
    Setup(#[source] reqwest::Error),
    /// It can't be reached, broke off or took too long.
    #[error("{host} can't be reached")]
    Unreachable {
        /// Who.
        host: String,
        /// Why. Its address is taken out: it may hold a secret.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is too large.
    #[error("the answer of {host} has more than {ANSWER_BYTES} bytes")]
    TooLarge {
        /// Whose.
        host: String,
    },
}

/// An answer, whatever its status.
#[derive(Clone)]
pub struct Document {
    /// Its status.
    pub status: StatusCode,
    /// All of it.
    pub body: Bytes,
}

/// The client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher(Client);

impl Fetcher {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`FetchError::Setup`].
    pub fn new() -> Result<Self, FetchError> {
        Self::built(Client::builder())
    }

    /// One that trusts these certificates (PEM) and no others.
    ///
    /// # Errors
    /// [`FetchError::Setup`], also for what is no certificate.
    pub fn trusting(certificates: &[u8]) -> Result<Self, FetchError> {
        let certificates = Certificate::from_pem_bundle(certificates).map_err(FetchError::Setup)?;
        Self::built(Client::builder().tls_certs_only(certificates))
    }

    fn built(builder: ClientBuilder) -> Result<Self, FetchError> {
        let client = builder
            .timeout(DEADLINE)
            .connect_timeout(CONNECT)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .build()
            .map_err(FetchError::Setup)?;
        Ok(Self(client))
    }

    /// Asks, and gathers the answer.
    ///
    /// # Errors
    /// There is no answer, or it is too large.
    pub async fn call(
        &self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Document, FetchError> {
        let host = url.host().unwrap_or_default().to_owned();
        let failed =
            |source: reqwest::Error| FetchError::Unreachable { host: host.clone(), source: source.without_url() };
        let sent = self.0.request(method, url.to_string()).headers(headers).body(body).send();
        let mut answer = sent.await.map_err(failed)?;
        let status = answer.status();
        let mut gathered = BytesMut::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if gathered.len() + piece.len() > ANSWER_BYTES {
                return Err(FetchError::TooLarge { host });
            }
            gathered.extend_from_slice(&piece);
        }
        Ok(Document { status, body: gathered.freeze() })
    }
}

/// Whether secrets may be sent there: by https, or within this machine.
#[must_use]
pub fn is_private(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme_str() == Some("https") || (url.scheme_str() == Some("http") && here)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request with this text.
    async fn serve(answer: String) -> Uri {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let _request = stream.read(&mut [0; 4096]).await.expect("read");
            // The client may hang up on what is too large.
            let _sent = stream.write_all(answer.as_bytes()).await;
        });
        format!("http://{address}/keys?secret=canary").parse().expect("an address")
    }

    async fn get(url: &Uri) -> Result<Document, FetchError> {
        let fetcher = Fetcher::new().expect("a client");
        fetcher.call(Method::GET, url, HeaderMap::new(), Bytes::new()).await
    }

    #[tokio::test]
    async fn a_document_comes_whole_with_its_status() {
        let url = serve("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}".to_owned()).await;
        let document = get(&url).await.expect("an answer");
        assert_eq!((document.status, &*document.body), (StatusCode::NOT_FOUND, &b"{}"[..]));
    }

    #[tokio::test]
    async fn redirects_are_not_followed_and_large_answers_are_cut() {
        let url =
            serve("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
        assert_eq!(get(&url).await.expect("an answer").status, StatusCode::FOUND);
        let text = "x".repeat(ANSWER_BYTES + 1);
        let url = serve(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())).await;
        assert!(matches!(get(&url).await, Err(FetchError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn an_error_does_not_repeat_the_address() {
        let url: Uri = "http://127.0.0.1:1/?secret=canary".parse().expect("an address");
        let Err(error) = get(&url).await else { panic!("nobody listens there") };
        let told = format!("{error} {error:?}");
        assert!(!told.contains("canary") && told.contains("127.0.0.1"), "{told}");
    }

    #[test]
    fn secrets_go_by_https_or_stay_on_this_machine() {
        for good in ["https://vault.example", "http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost"] {
            assert!(is_private(&good.parse().expect("an address")), "{good}");
        }
        for bad in ["http://vault.example", "http://10.0.0.1", "http://127.0.0.1.evil.example", "/relative"] {
            assert!(!is_private(&bad.parse().expect("an address")), "{bad}");
        }
    }
}
