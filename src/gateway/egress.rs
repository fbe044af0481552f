//! The way out of a sandbox for its agent's tools: an HTTP(S) proxy that lets through what template and session allow, and nothing else.
//!
//! ```text
//!   tool ──▶ 127.0.0.1:41001 ──relay──▶ egress.sock ──▶ asked for what? ──▶ allowed? ──▶ name ──▶ addresses, all public? ──▶ host
//!                                                        └── no ──▶ 403      └── no ──▶ 403         └── no ──▶ 403
//! ```
//!
//! A name is looked up here, once, and the connection goes to the addresses that were looked at. In a tunnel the first thing said must be a TLS
//! greeting for the very host it was asked for; plain requests are taken apart and put together anew. No key is ever added. What passes is
//! counted for the session. A connection ends at once with its lease, and when a rule that let it through is taken away.
//!
//! | file | noun |
//! |---|---|
//! | `allowance` | what a session may reach, and what it has sent and received: [`Egress`] |
//! | `door` | the slot's socket, its connections, when one is cut |
//! | `asked` | where a request wants to go |
//! | `names`, `address` | from a name to addresses; which of them are public |
//! | `dial` | a connection to a checked address, counted |
//! | `forward`, `tunnel`, `hello` | a plain request; a tunnel; the greeting at its beginning |
//! | `refusal` | why not |
//! | `verdicts` | the log of decisions |

mod address;
mod allowance;
mod asked;
mod dial;
mod door;
mod forward;
mod hello;
mod names;
mod refusal;
mod tunnel;
mod verdicts;

pub use allowance::{Egress, Traffic};
pub(crate) use door::CONNECTIONS;
pub(super) use door::serve;
pub(super) use names::Names;

#[cfg(test)]
mod tests;
