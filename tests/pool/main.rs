//! The pool's promises, held against an engine that fails, hangs, is slow or answers twice.
//!
//! Nothing here needs a container: [`engine`] is a runtime in memory that keeps its own list, measures by itself, and plays the supervisor
//! and the agent of each of its containers over the slot's real link socket. Everything above it is the real thing: starter, reaper,
//! census, gateway sockets, slot folders, pool. `House` is one server's worth of it.

// The harness.
mod engine;
mod house;
mod users;
mod wait;

// The promises.
mod adoption;
mod age;
mod cap;
mod destroyed;
mod hang_ups;
mod leases;
mod memory;
mod model;
mod recovery;
mod templates;
mod waiters;
