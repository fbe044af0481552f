//! Where an issuer's keys come from: an address, a file, or wherever its discovery document says.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::keyset::{KeySet, KeySetError};
use crate::{
    config,
    fetch::{FetchError, Fetcher, is_private},
};

/// The largest file of keys, in bytes.
const FILE_BYTES: u64 = 1024 * 1024;
/// Where a provider's discovery document is, below its issuer (OpenID Connect Discovery 1.0, 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A setting is no address.
    #[error("it is not an address")]
    Address(#[from] http::uri::InvalidUri),
    /// Nobody answers, or not as they should.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The answer is not what was asked for.
    #[error("{host} answered with status {status}")]
    Status {
        /// Who.
        host: String,
        /// With what.
        status: StatusCode,
    },
    /// The discovery document can't be read.
    #[error("it is not a discovery document")]
    Discovery(#[source] serde_json::Error),
    /// The discovery document is another issuer's.
    #[error(
        "the discovery document is not that of the issuer in the settings: `issuer` must be the same to the letter"
    )]
    Stranger,
    /// The discovery document leads where nothing is fetched from.
    #[error("the discovery document leads to keys that are neither at an https address nor on this machine")]
    Exposed,
    /// The file can't be read.
    #[error("the file can't be read: {0}")]
    File(#[from] io::Error),
    /// What was found holds no keys.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
    /// It took too long.
    #[error("it took too long")]
    Deadline,
}

/// Where keys come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Address(Uri),
    Discovered { issuer: String, document: Uri },
    File(PathBuf),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Source {
    pub(super) fn of(settings: &config::Issuer) -> Result<Self, SourceError> {
        if let Some(path) = &settings.jwks_file {
            return Ok(Self::File(path.clone()));
        }
        if let Some(url) = &settings.jwks_url {
            return Ok(Self::Address(url.parse()?));
        }
        let issuer = settings.issuer.clone();
        // An issuer may end with a slash, its documents' addresses have one all the same.
        let document = format!("{}{DISCOVERY}", issuer.trim_end_matches('/')).parse()?;
        Ok(Self::Discovered { issuer, document })
    }

    /// The keys as they are now.
    pub(super) async fn fetch(&self, fetcher: &Fetcher) -> Result<KeySet, SourceError> {
        let text = match self {
            Self::Address(url) => get(fetcher, url).await?,
            Self::Discovered { issuer, document } => {
                let found = serde_json::from_slice(&get(fetcher, document).await?).map_err(SourceError::Discovery)?;
                let Discovery { issuer: told, jwks_uri } = found;
                if told != *issuer {
                    return Err(SourceError::Stranger);
                }
                let url = jwks_uri.parse()?;
                if !is_private(&url) {
                    return Err(SourceError::Exposed);
                }
                get(fetcher, &url).await?
            }
            Self::File(path) => {
                let path = path.clone();
                let read = spawn_blocking(move || read(&path)).await;
                return read.map_err(io::Error::other)?;
            }
        };
        Ok(KeySet::parse(&text)?)
    }
}

/// Reads a file of keys. Blocks.
pub(super) fn read(path: &Path) -> Result<KeySet, SourceError> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large").into());
    }
    Ok(KeySet::parse(&text)?)
}

async fn get(fetcher: &Fetcher, url: &Uri) -> Result<Bytes, SourceError> {
    let answer = fetcher.call(Method::GET, url, HeaderMap::new(), Bytes::new()).await?;
    if answer.status != StatusCode::OK {
        let host = url.host().unwrap_or_default().to_owned();
        return Err(SourceError::Status { host, status: answer.status });
    }
    Ok(answer.body)
}
