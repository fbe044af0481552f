//! A sandbox: one container plus the one agent in it, used by one user once.
//!
//! This room knows what a sandbox is made of ([`spec`]), the folder it has on the host ([`slot`]), the connection its
//! supervisor keeps to us ([`link`]) and its way from creation to destruction ([`lifecycle`]). It knows no engine and no HTTP:
//! containers are made by a [`crate::runtime::Runtime`].

pub mod census;
pub mod lifecycle;
pub mod link;
pub mod pipes;
pub mod remove;
pub mod slot;
pub mod spec;
pub mod verdict;
