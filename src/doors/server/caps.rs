//! How many connections there may be, in all and from one address.
//!
//! One IPv6 customer has at least 2^64 addresses, so a /64 counts as one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The connections there are.
#[derive(Debug)]
pub(super) struct Caps {
    total: usize,
    per_address: usize,
    /// Locked for one count, never across an await.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    /// Only addresses that hold a connection are in it.
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    caps: Arc<Caps>,
    address: IpAddr,
}

impl Caps {
    pub(super) fn new(total: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { total, per_address, held: Mutex::default() })
    }

    /// A place for a connection from this address, if there is one.
    pub(super) fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = one_customer(address);
        let mut held = self.lock();
        let from_address = held.by_address.get(&address).copied().unwrap_or(0);
        if held.total >= self.total || from_address >= self.per_address {
            return None;
        }
        held.total += 1;
        held.by_address.insert(address, from_address + 1);
        Some(Place { caps: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing panics while it is held; a poisoned count is still a right count.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.caps.lock();
        held.total -= 1;
        if let Some(count) = held.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.by_address.remove(&self.address);
            }
        }
    }
}

fn one_customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_at_its_cap_leaves_room_for_others_up_to_the_total() {
        let caps = Caps::new(3, 2);
        let _first = caps.place(address("192.0.2.1")).unwrap();
        let second = caps.place(address("::ffff:192.0.2.1")).unwrap();
        assert!(caps.place(address("192.0.2.1")).is_none());
        let _third = caps.place(address("192.0.2.2")).unwrap();
        assert!(caps.place(address("192.0.2.3")).is_none());
        drop(second);
        assert!(caps.place(address("192.0.2.1")).is_some());
    }

    #[test]
    fn all_of_an_ipv6_network_counts_as_one_address() {
        let caps = Caps::new(9, 1);
        let place = caps.place(address("2001:db8::1")).unwrap();
        assert!(caps.place(address("2001:db8::ffff:1")).is_none());
        assert!(caps.place(address("2001:db8:0:1::1")).is_some());
        drop(place);
        assert!(caps.lock().by_address.is_empty());
    }
}
