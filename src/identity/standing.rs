//! How long a credential is good for. What goes on for long, such as a stream, ends with it.
//!
//! Nothing is polled for it: all that are held by the same kind of credential watch one value, and each sleeps until its own time is up.

use std::{fmt, future::pending, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{sync::watch, time::sleep};

use super::{
    jwt::{KeyPrint, KeySet},
    register::{Grant, Grants},
    token::TokenHash,
};
use crate::ids::random_fraction;

/// The longest a sleep goes on without a look at the clock: a machine that was suspended, or whose clock was set, learns of it then.
const LOOK: Duration = Duration::from_secs(15);
/// All streams of an issuer's users may end at once, when it takes a key back. They end within this time, so that not all come back at once.
const SPREAD: Duration = Duration::from_secs(5);

/// A credential's life. Cheap to clone.
#[derive(Clone)]
pub struct Standing(Ground);

#[derive(Clone)]
enum Ground {
    ForEver,
    /// A token of ours: good while it stands for the same as at first.
    Granted {
        good: watch::Receiver<Arc<Grants>>,
        hash: TokenHash,
        grant: Arc<Grant>,
    },
    /// A token that an issuer signed: good until then, while its issuer has the key it was signed with.
    Signed {
        keys: watch::Receiver<Arc<KeySet>>,
        print: KeyPrint,
        ends_at: Timestamp,
    },
}

impl Standing {
    /// Of a token that lives as long as the process.
    #[must_use]
    pub const fn for_ever() -> Self {
        Self(Ground::ForEver)
    }

    pub(super) const fn granted(good: watch::Receiver<Arc<Grants>>, hash: TokenHash, grant: Arc<Grant>) -> Self {
        Self(Ground::Granted { good, hash, grant })
    }

    pub(super) const fn signed(keys: watch::Receiver<Arc<KeySet>>, print: KeyPrint, ends_at: Timestamp) -> Self {
        Self(Ground::Signed { keys, print, ends_at })
    }

    /// Whether the credential isn't good any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let revoked = match &self.0 {
            Ground::ForEver => false,
            Ground::Granted { good, hash, grant } => !is_granted(&good.borrow(), hash, grant),
            Ground::Signed { keys, print, .. } => !keys.borrow().has(print),
        };
        revoked || self.ends_at().is_some_and(|ends_at| ends_at <= Timestamp::now())
    }

    /// Waits until the credential isn't good any more. Safe to drop.
    pub async fn ended(&self) {
        let ends_at = self.ends_at();
        match &self.0 {
            Ground::ForEver => pending().await,
            Ground::Granted { good, hash, grant } => {
                hold(good.clone(), |good| is_granted(good, hash, grant), ends_at).await;
            }
            Ground::Signed { keys, print, .. } => {
                if hold(keys.clone(), |keys| keys.has(print), ends_at).await == End::Revoked {
                    sleep(SPREAD.mul_f64(random_fraction())).await;
                }
            }
        }
    }

    fn ends_at(&self) -> Option<Timestamp> {
        match &self.0 {
            Ground::ForEver => None,
            Ground::Granted { grant, .. } => grant.expires_at,
            Ground::Signed { ends_at, .. } => Some(*ends_at),
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Standing").field("ends_at", &self.ends_at()).finish_non_exhaustive()
    }
}

fn is_granted(good: &Grants, hash: &TokenHash, grant: &Arc<Grant>) -> bool {
    good.get(hash).is_some_and(|now| now == grant)
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Revoked,
    Expired,
}

/// Waits until it doesn't hold any more, or the time is up.
async fn hold<T>(mut value: watch::Receiver<Arc<T>>, holds: impl Fn(&T) -> bool, ends_at: Option<Timestamp>) -> End {
    loop {
        if !holds(&value.borrow_and_update()) {
            return End::Revoked;
        }
        let left = ends_at.map(|ends_at| ends_at.duration_since(Timestamp::now()));
        if left.is_some_and(|left| !left.is_positive()) {
            return End::Expired;
        }
        let changed = async {
            if value.changed().await.is_err() {
                // Nobody is left who could revoke it: the server stops.
                pending().await
            }
        };
        let time = async {
            match left {
                Some(left) => sleep(left.unsigned_abs().min(LOOK)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = time => {}
        }
    }
}
