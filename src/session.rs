//! Sessions: what a user sees of a lease, a workspace and an event log.

pub mod event;
