//! Where the server listens, and what it takes from whom.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{WebHost, WebOrigin};

/// The listener for users.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address. Default 127.0.0.1:8080.
    pub address: SocketAddr,
    /// Names the server may be asked by, beside `localhost` and IP addresses, each with or without a port. Default none; 421 for any other.
    pub hosts: Vec<WebHost>,
    /// Origins of web pages that may use the server, exact. Default none; 403 for any other.
    pub origins: Vec<WebOrigin>,
    /// Largest request head, in bytes. Default 16384; 431 past it.
    pub head_bytes: usize,
    /// Largest request body, in bytes. Default 1 MiB; 413 past it.
    pub body_bytes: usize,
    /// Deadline for a request's head. Default 10 s; the connection closes.
    #[serde(with = "humantime_serde")]
    pub head_timeout: Duration,
    /// Deadline for a request's body. Default 30 s; the connection closes.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Connections in all. Default 16384; further ones are closed.
    pub connections: usize,
    /// Connections from one address. Default 1024; further ones are closed.
    pub connections_per_address: usize,
    /// Silence after which an SSE stream sends a comment line. Default 15 s.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// A reader that takes no bytes for this long is cut; it may resume. Default 20 s.
    #[serde(with = "humantime_serde")]
    pub write_stall: Duration,
    /// How long a stopping server waits for requests under way. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            hosts: Vec::new(),
            origins: Vec::new(),
            head_bytes: 16 * 1024,
            body_bytes: 1024 * 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            connections: 16_384,
            connections_per_address: 1_024,
            keep_alive: Duration::from_secs(15),
            write_stall: Duration::from_secs(20),
            drain: Duration::from_secs(10),
        }
    }
}

/// The listener for operators: metrics, and the calls that steer pools and sandboxes.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address; loopback by default, 127.0.0.1:8081.
    pub address: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 8081)) }
    }
}
