//! How a runtime starts the supervisor: the one place that spells its arguments.

use std::ffi::OsString;

use crate::sandbox::spec::SandboxSpec;

/// The ports the supervisor's relays listen on where the loopback belongs to the sandbox alone.
pub(crate) const PORTS: Ports = Ports { relay: 41_000, proxy: 41_001 };

/// Ports of a sandbox's loopback. 0 lets the supervisor choose, for where the loopback is shared.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ports {
    /// To the model.
    pub(crate) relay: u16,
    /// To the proxy for the agent's tools.
    pub(crate) proxy: u16,
}

/// The supervisor's arguments up to and with the `--` that the agent's command follows.
pub(crate) fn supervisor_arguments(spec: &SandboxSpec, run_dir: impl Into<OsString>, ports: Ports) -> Vec<OsString> {
    vec![
        "run".into(),
        "--run-dir".into(),
        run_dir.into(),
        "--orphan-grace-ms".into(),
        spec.orphan_grace.as_millis().to_string().into(),
        "--ring-bytes".into(),
        spec.ring_bytes.to_string().into(),
        "--relay-port".into(),
        ports.relay.to_string().into(),
        "--proxy-port".into(),
        ports.proxy.to_string().into(),
        "--".into(),
    ]
}
