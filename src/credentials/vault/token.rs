//! Our token for the vault, while it lasts.
//!
//! ```text
//!   none ──log in──► fresh ──two thirds of its time──► due ──renew──► fresh
//!    ▲                 │                                │ can't be renewed, or not for long enough
//!    └──doubted, its file replaced, its time over◄──────┘
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::{
    VaultSource,
    answer::{Call, Granted, VaultError},
};
use crate::{ids::random_fraction, private_file::Stamp};

/// A token younger than this is not thrown away because the vault refuses something: then it isn't the token.
const YOUNG: Duration = Duration::from_secs(1);
/// Between two tries to get or renew a token in the background.
const PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked whether there is something to do.
const LOOK: Duration = Duration::from_secs(1);

/// A token.
#[derive(Debug)]
pub(super) struct Token {
    header: HeaderValue,
    got: Instant,
    /// How long it was good for when it was new.
    whole: Duration,
    /// None: for ever.
    ends: Option<Instant>,
    due: Option<Instant>,
    renewable: bool,
    /// The file it is from.
    stamp: Option<Stamp>,
}

impl Token {
    pub fn new(header: HeaderValue, granted: &Granted, stamp: Option<Stamp>) -> Self {
        let now = Instant::now();
        let whole = Duration::from_secs(granted.seconds);
        let mut token = Self { header, got: now, whole, ends: None, due: None, renewable: granted.renewable, stamp };
        token.prolong(whole);
        token
    }

    fn prolong(&mut self, time: Duration) {
        let lasts = !time.is_zero();
        // Many servers that came in together don't all come again together.
        let until_due = time.mul_f64(2.0 / 3.0 * (1.0 - 0.1 * random_fraction()));
        let now = Instant::now();
        self.ends = lasts.then(|| now + time);
        self.due = lasts.then(|| now + until_due);
    }

    fn is_over(&self) -> bool {
        self.ends.is_some_and(|ends| Instant::now() >= ends)
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| Instant::now() >= due)
    }
}

impl VaultSource {
    /// The token of now, got if there is none.
    pub(super) async fn token(&self) -> Result<HeaderValue, VaultError> {
        let mut held = self.token.lock().await;
        let stamp = self.login.stamp();
        match &*held {
            // A file that is gone for a moment tells nothing.
            Some(token) if !token.is_over() && (stamp.is_none() || token.stamp == stamp) => Ok(token.header.clone()),
            _ => {
                *held = None;
                Ok(held.insert(self.log_in().await?).header.clone())
            }
        }
    }

    /// The vault refused something: the next one asks with another token, if there can be one.
    pub(super) async fn doubt_token(&self) {
        let mut held = self.token.lock().await;
        if held.as_ref().is_some_and(|token| token.got.elapsed() >= YOUNG) {
            *held = None;
        }
    }

    /// Keeps the token alive while nobody asks for keys. Never returns; safe to drop.
    pub(in crate::credentials) async fn keep_token(&self) {
        let mut well = true;
        loop {
            let pause = match tokio::time::timeout(self.timeout, self.tend()).await {
                Ok(Ok(())) => {
                    if !std::mem::replace(&mut well, true) {
                        tracing::info!("the vault takes our token again");
                    }
                    LOOK
                }
                Ok(Err(error)) => {
                    if std::mem::replace(&mut well, false) {
                        tracing::error!(error = &error as &dyn std::error::Error, "there is no token for the vault");
                    }
                    PAUSE
                }
                Err(_elapsed) => PAUSE,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Gets a token if there is none, and renews the one there is when it is due.
    async fn tend(&self) -> Result<(), VaultError> {
        self.token().await?;
        let mut held = self.token.lock().await;
        let Some(token) = held.as_mut().filter(|token| token.is_due()) else { return Ok(()) };
        if token.renewable && self.renew(token).await? {
            return Ok(());
        }
        // What is left of it is used until there is another.
        let fresh = self.log_in().await?;
        *held = Some(fresh);
        Ok(())
    }

    /// Prolongs a token. False: it can't be, or not for long enough.
    async fn renew(&self, token: &mut Token) -> Result<bool, VaultError> {
        let body = Bytes::from_static(b"{}");
        let renewed = self.call(Call::Renew, Method::POST, "auth/token/renew-self", Some(token.header.clone()), body);
        let granted = match renewed.await?.granted() {
            Ok(granted) => granted,
            Err(error @ VaultError::Status { status, .. }) if status.is_server_error() => return Err(error),
            Err(_refused) => return Ok(false),
        };
        let time = Duration::from_secs(granted.seconds);
        token.renewable = granted.renewable;
        token.prolong(time);
        tracing::debug!(seconds = granted.seconds, "the token for the vault is renewed");
        // Near the end of its longest life each renewal is shorter than the one before.
        Ok(time.is_zero() || time * 2 >= token.whole)
    }
}
