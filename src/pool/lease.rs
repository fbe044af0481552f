//! A lease: one user's exclusive hold on one sandbox.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use deadpool::managed::Object;

use super::manager::StockManager;
use crate::sandbox::lifecycle::Sandbox;

/// One user's exclusive hold on one sandbox. Dropping it ends the sandbox.
pub struct Lease(Option<Object<StockManager>>);

/// A lease and how it came about.
#[derive(Debug)]
pub struct Leased {
    /// The hold.
    pub lease: Lease,
    /// Whether a ready sandbox was waiting.
    pub warm: bool,
    /// How long it took to get it.
    pub wait: Duration,
}

impl Lease {
    pub(super) const fn new(object: Object<StockManager>) -> Self {
        Self(Some(object))
    }
}

impl Deref for Lease {
    type Target = Sandbox;
    fn deref(&self) -> &Sandbox {
        self.0.as_ref().expect("only drop takes it")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Sandbox {
        self.0.as_mut().expect("only drop takes it")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Taking the object out frees deadpool's permit; dropping the sandbox posts it to the reaper.
        drop(self.0.take().map(Object::take));
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Lease").field(&**self).finish()
    }
}
