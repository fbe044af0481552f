//! From a name to addresses: looked up here, once, and never again for the same connection.
//!
//! Names of the settings are answered from there and nowhere else. Names that mean something on a local network only are not looked up at all.
//! One address of a name that isn't public is enough to refuse it: who mixes both is testing which of them we check.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{address::is_public, refusal::Refusal};
use crate::config::{self, HostName};

/// Deadline for an answer of the machine's resolver, waiting for a turn included.
const LOOKUP: Duration = Duration::from_secs(5);

/// Lookups at the same time, of all slots: each takes a thread for as long as the resolver likes.
const LOOKUPS: usize = 32;

/// Ends of names that are no public ones (RFC 6761, RFC 6762, RFC 8375, and what clouds and routers call their own).
const LOCAL: [&str; 8] = ["localhost", "local", "internal", "home.arpa", "lan", "onion", "alt", "invalid"];

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// At least one. All of them may be connected to.
    pub addresses: Vec<SocketAddr>,
    /// The operator said so.
    pub pinned: bool,
}

/// The names of the settings, and the machine's resolver.
#[derive(Debug)]
pub(in crate::gateway) struct Names {
    pinned: BTreeMap<HostName, IpAddr>,
    lookups: Arc<Semaphore>,
}

impl Names {
    /// Takes the settings' names; what is none is left out, the settings' check refuses it.
    pub fn new(settings: &config::Egress) -> Self {
        let pin = |(name, address): (&String, &IpAddr)| Some((HostName::parse(name).ok()?, *address));
        Self { pinned: settings.hosts.iter().filter_map(pin).collect(), lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }

    /// Where this name leads. Dropped in the middle, the resolver's thread goes on to its end and keeps its turn until then.
    pub(super) async fn find(&self, host: &HostName, port: u16) -> Result<Found, Refusal> {
        if let Some(address) = self.pinned.get(host) {
            return Ok(Found { addresses: vec![SocketAddr::new(*address, port)], pinned: true });
        }
        if is_local(host) {
            return Err(Refusal::NotPublic);
        }
        let found = tokio::time::timeout(LOOKUP, self.look_up(host, port)).await.map_err(|_| Refusal::Deadline)?;
        let addresses = found.map_err(|error| {
            tracing::debug!(egress.host = %host, %error, "a name could not be looked up");
            Refusal::Unresolved
        })?;
        judge(addresses)
    }

    async fn look_up(&self, host: &HostName, port: u16) -> io::Result<Vec<SocketAddr>> {
        let turn = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
        // The dot keeps the machine's search list out of it.
        let name = format!("{host}.");
        let asking = tokio::task::spawn_blocking(move || {
            let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
            drop(turn);
            found
        });
        asking.await.map_err(io::Error::other)?
    }
}

/// Whether all of them may be connected to.
fn judge(addresses: Vec<SocketAddr>) -> Result<Found, Refusal> {
    if addresses.is_empty() {
        return Err(Refusal::Unresolved);
    }
    if !addresses.iter().all(|address| is_public(address.ip())) {
        return Err(Refusal::NotPublic);
    }
    Ok(Found { addresses, pinned: false })
}

fn is_local(host: &HostName) -> bool {
    let name = host.as_str();
    let below = |end: &str| name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !name.contains('.') || LOCAL.iter().any(|end| below(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text).expect("a good name")
    }

    fn names(hosts: &[(&str, &str)]) -> Names {
        let pin = |(name, address): &(&str, &str)| ((*name).to_owned(), address.parse().expect("an address"));
        Names::new(&config::Egress { hosts: hosts.iter().map(pin).collect() })
    }

    #[tokio::test]
    async fn the_operators_word_is_the_only_way_to_an_address_of_ours() {
        let names = names(&[("Registry.Internal.", "127.0.0.1"), ("six.test", "fd00::7")]);
        let found = names.find(&name("registry.internal"), 443).await.expect("it is in the settings");
        assert_eq!(found, Found { addresses: vec!["127.0.0.1:443".parse().expect("an address")], pinned: true });
        assert_eq!(names.find(&name("six.test"), 80).await.map(|found| found.addresses.len()), Ok(1));
        for local in [
            "localhost",
            "a.localhost",
            "printer.local",
            "metadata.google.internal",
            "host.docker.internal",
            "registry",
            "x.home.arpa",
        ] {
            assert_eq!(names.find(&name(local), 80).await, Err(Refusal::NotPublic), "{local}");
        }
        assert!(!is_local(&name("local.example")) && !is_local(&name("notlocal.notinternal.example")));
    }

    #[test]
    fn one_address_that_is_not_public_is_enough() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<_>>();
        assert!(judge(addresses(&["8.8.8.8:443", "[2606:4700::1]:443"])).is_ok());
        for bad in
            [&["127.0.0.1:443"][..], &["10.0.0.1:443"], &["8.8.8.8:443", "10.0.0.1:443"], &["8.8.8.8:443", "[::1]:443"]]
        {
            assert_eq!(judge(addresses(bad)), Err(Refusal::NotPublic), "{bad:?}");
        }
        assert_eq!(judge(Vec::new()), Err(Refusal::Unresolved));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_turn_too_long_is_told() {
        let names = names(&[]);
        let _all = names.lookups.acquire_many(u32::try_from(LOOKUPS).expect("few")).await.expect("never closed");
        assert_eq!(names.find(&name("a.example"), 443).await, Err(Refusal::Deadline));
    }
}
