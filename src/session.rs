//! Sessions: what a user sees of a lease, a workspace and an event log.
//!
//! Each session is owned by one [`driver`] task. Doors and service put requests in its queue and get answers on a oneshot; what it is
//! doing is read from its [`status`]; what happened is read from its log. Whether something may be asked now is decided in [`policy`].
//!
//! ```text
//!            prompt                    permission asked
//!   ready ───────────► running ───────────────────────► waiting
//!     ▲                  │ ▲                               │
//!     └──── turn over ───┘ └───────── last one answered ───┘
//!
//!   from anywhere: closed, idle (from ready only), expired, agent gone, shutdown ──► ended
//! ```

pub mod driver;
mod ending;
pub mod event;
mod given;
pub mod permission;
pub mod policy;
pub mod record;
pub mod recover;
pub mod registry;
pub mod status;
mod translate;

pub use driver::spawn;
pub use given::{ChangeError, ChosenKey, Command, FoundKey, Opened, SessionChange, Settings, Stop, Surroundings};
pub use registry::{Registry, SessionHandle};
