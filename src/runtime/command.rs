//! How a runtime starts the supervisor: the one place that spells its arguments.

use std::ffi::OsString;

use crate::sandbox::spec::SandboxSpec;

/// The port the supervisor's relay listens on where the loopback belongs to the sandbox alone.
pub(crate) const RELAY_PORT: u16 = 41_000;

/// The supervisor's arguments up to and with the `--` that the agent's command follows.
///
/// Port 0 lets the supervisor choose, for where the loopback is shared.
pub(crate) fn supervisor_arguments(spec: &SandboxSpec, run_dir: impl Into<OsString>, relay_port: u16) -> Vec<OsString> {
    vec![
        "run".into(),
        "--run-dir".into(),
        run_dir.into(),
        "--orphan-grace-ms".into(),
        spec.orphan_grace.as_millis().to_string().into(),
        "--ring-bytes".into(),
        spec.ring_bytes.to_string().into(),
        "--relay-port".into(),
        relay_port.to_string().into(),
        "--".into(),
    ]
}
