//! A lease: one user's exclusive hold on one sandbox.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use deadpool::managed::Object;

use super::{figures::Miss, manager::Handover};
use crate::sandbox::lifecycle::Sandbox;

/// One user's exclusive hold on one sandbox. Dropping it ends the sandbox.
pub struct Lease(Option<Object<Handover>>);

/// A lease and how it came about.
#[derive(Debug)]
pub struct Leased {
    /// The hold.
    pub lease: Lease,
    /// Why no ready sandbox was waiting; none: one was.
    pub miss: Option<Miss>,
    /// How long it took to get it.
    pub wait: Duration,
}

impl Lease {
    pub(super) const fn new(object: Object<Handover>) -> Self {
        Self(Some(object))
    }
}

impl Lease {
    /// Lets go of the sandbox without ending it: the next run of the server finds it as it is.
    pub fn leave(mut self) {
        if let Some(object) = self.0.take() {
            Object::take(object).leave();
        }
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
