//! The ways in. A door translates: parse, one service call, render. What may be done, and how much of it, is decided behind the service.
//!
//! | file | noun |
//! |---|---|
//! | [`server`] | connections: the accept loop, deadlines, caps, drain |
//! | [`rest`] | REST + SSE under `/v1`, and its OpenAPI document |
//! | [`admin`] | the operators' listener |
//! | `trace` | one span, one request id and one rendered answer for every request |

pub mod admin;

pub mod server;

pub use admin::admin_app;

pub use server::serve;
