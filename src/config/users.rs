//! What users get: sessions and turns, how fast, the key of those who bring none.

use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::secret;

/// Sessions and turns.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// A session without a turn or an open permission ends after this long. Default 30 min.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// A session ends at this age. Default 8 h.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Deadline for a turn's first output. Default 120 s.
    #[serde(with = "humantime_serde")]
    pub first_output_timeout: Duration,
    /// Deadline for a whole turn. Default 30 min.
    #[serde(with = "humantime_serde")]
    pub turn_timeout: Duration,
    /// How long an agent may take to end a turn it was asked to cancel. Default 5 s; then it is killed.
    #[serde(with = "humantime_serde")]
    pub cancel_grace: Duration,
    /// How long a permission stays open. Default 10 min; then it is denied.
    #[serde(with = "humantime_serde")]
    pub permission_timeout: Duration,
    /// Events kept per session on disk, in bytes of their text. Default 64 MiB; the oldest go.
    pub log_bytes: usize,
    /// How long an ended session and its events can still be read, across restarts too. Default 24 h.
    #[serde(with = "humantime_serde")]
    pub keep_ended: Duration,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30 * 60),
            max_age: Duration::from_secs(8 * 3600),
            first_output_timeout: Duration::from_secs(120),
            turn_timeout: Duration::from_secs(30 * 60),
            cancel_grace: Duration::from_secs(5),
            permission_timeout: Duration::from_secs(600),
            log_bytes: 64 * 1024 * 1024,
            keep_ended: Duration::from_hours(24),
        }
    }
}

/// How fast and how much, per user.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Opens per minute. Default 60; 429 past it.
    pub opens_per_minute: u32,
    /// Opens in one burst. Default 20.
    pub opens_burst: u32,
    /// Prompts per minute. Default 120; 429 past it.
    pub prompts_per_minute: u32,
    /// Prompts in one burst. Default 30.
    pub prompts_burst: u32,
    /// All other calls per minute. Default 6000; 429 past it.
    pub reads_per_minute: u32,
    /// All other calls in one burst. Default 600.
    pub reads_burst: u32,
    /// Sessions at the same time. Default 8; 429 past it.
    pub sessions: usize,
    /// Event streams, and files and archives under way, at the same time. Default 64; 429 past it.
    pub streams: usize,
    /// Opens of one user that may wait. Default 2; 429 past it.
    pub waiting: usize,
    /// Largest file that is written, in bytes. Default 64 MiB; 413 past it.
    pub file_bytes: u64,
    /// Largest archive of a workspace, either way, in bytes. Default 1 GiB; 413 past it.
    pub archive_bytes: u64,
    /// Entries of such an archive. Default 100000; 413 past it.
    pub archive_entries: usize,
    /// Room a workspace may take on the disk, in bytes. Default 10 GiB. Past it nothing more is written through the API (413), and no turn begins (429).
    pub workspace_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            opens_per_minute: 60,
            opens_burst: 20,
            prompts_per_minute: 120,
            prompts_burst: 30,
            reads_per_minute: 6_000,
            reads_burst: 600,
            sessions: 8,
            streams: 64,
            waiting: 2,
            file_bytes: 64 * 1024 * 1024,
            archive_bytes: 1024 * 1024 * 1024,
            archive_entries: 100_000,
            workspace_bytes: 10 * 1024 * 1024 * 1024,
        }
    }
}

/// The model API's key when the caller brings none.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The key. Usually by `GEMINI_API_KEY`.
    #[serde(serialize_with = "secret::digest_of_any")]
    pub api_key: Option<SecretString>,
    /// Replaces the base URL of every template's model API; for the stub and for tests.
    pub base_url: Option<String>,
}
