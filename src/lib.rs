//! Greenroom keeps AI agents booted, logged in and waiting, each in its own sandbox, and leases one to a user in milliseconds.
//!
//! The map of the house, from the street inwards. A room may use those below it; `tests/layering.rs` reads the `use` lines
//! and fails on a breach.
//!
//! | room | what it does |
//! |---|---|
//! | [`cli`] | commands, their arguments and exit codes |
//! | [`app`] | builds everything, starts and stops it in order |
//! | [`doors`] | ways in: REST + SSE for users, REST for operators |
//! | [`service`] | the use cases; limits and spans live here |
//! | [`session`] | one driver task per session |
//! | [`identity`], [`limits`] | who the caller is; how fast they may go |
//! | [`credentials`] | users' keys for model APIs, and where they are kept |
//! | [`log`], [`workspace`] | numbered events; users' folders |
//! | [`store`] | what outlives the server |
//! | [`pool`] | warm stock, leases, the warmer |
//! | [`gateway`] | host side of all traffic out of a sandbox |
//! | [`agent`] | the protocols agents speak |
//! | [`sandbox`], [`runtime`] | what a sandbox is; the engines that run it |
//! | [`supervisor`] | PID 1 of a sandbox, and the frames it shares with us |
//! | [`fetch`] | small documents from other services |
//! | [`private_file`] | small files that only the server's account may read |
//! | [`telemetry`], [`config`], [`ids`], [`problem`] | for everyone |

#[cfg(feature = "server")]
pub mod agent;
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod credentials;
#[cfg(feature = "server")]
pub mod doors;
#[cfg(feature = "server")]
pub mod fetch;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "server")]
pub mod gateway;
#[cfg(feature = "server")]
pub mod identity;
#[cfg(feature = "server")]
pub mod ids;
#[cfg(feature = "server")]
pub mod limits;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod pool;
#[cfg(feature = "server")]
pub mod private_file;
#[cfg(feature = "server")]
pub mod problem;
#[cfg(feature = "server")]
pub mod runtime;
#[cfg(feature = "server")]
pub mod sandbox;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "server")]
pub mod session;
#[cfg(feature = "server")]
pub mod store;
pub mod supervisor;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod workspace;
