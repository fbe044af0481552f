//! A template: the recipe of one kind of sandbox.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ModelApi, PermissionPolicy, Pool, TemplateEgress};
use crate::sandbox::spec::Limits;

/// The recipe of one kind of sandbox.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Template {
    /// The image, as a name the engine has. Default `greenroom/gemini:latest`; `GEMINI_IMAGE`, `--image` set it for `gemini`.
    pub image: String,
    /// The agent's command in the image. Default: Gemini CLI in ACP mode.
    pub command: Vec<String>,
    /// How the agent talks. Default `acp`.
    pub protocol: Protocol,
    /// For `lines`: a turn without a `result` line ends after this silence. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub quiet_time: Duration,
    /// The agent's home folder, a tmpfs. Default `/home/agent`.
    pub home: String,
    /// More environment for the agent; nothing of any user belongs here.
    pub env: BTreeMap<String, String>,
    /// Warm sandboxes to keep, however few are asked for. Default: `pool.size`.
    pub min_warm: Option<usize>,
    /// Warm sandboxes to keep, however many are asked for. Default: twice `min_warm`; the same as `min_warm` switches sizing by demand off.
    pub max_warm: Option<usize>,
    /// What its agent may do without asking, and what not at all. Default: the user is asked. Sessions that open from a change on have it.
    pub permissions: PermissionPolicy,
    /// What its agent's tools may reach beside the model. Default: nothing. A change counts for open sessions too, at once.
    pub egress: TemplateEgress,
    /// What one sandbox may use.
    pub limits: Limits,
    /// The model API its agent may reach.
    pub model: ModelApi,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            image: "greenroom/gemini:latest".to_owned(),
            command: ["node", "/opt/gemini/node_modules/@google/gemini-cli/bundle/gemini.js", "--acp"]
                .map(str::to_owned)
                .to_vec(),
            protocol: Protocol::Acp,
            quiet_time: Duration::from_secs(1),
            home: "/home/agent".to_owned(),
            env: BTreeMap::new(),
            min_warm: None,
            max_warm: None,
            permissions: PermissionPolicy::default(),
            egress: TemplateEgress::default(),
            limits: Limits::default(),
            model: ModelApi::default(),
        }
    }
}

impl Template {
    /// Warm sandboxes to keep at least.
    #[must_use]
    pub fn min_warm(&self, pool: &Pool) -> usize {
        self.min_warm.unwrap_or(pool.size)
    }

    /// Warm sandboxes to keep at most. With a minimum of none and no maximum: none, every open is cold.
    #[must_use]
    pub fn max_warm(&self, pool: &Pool) -> usize {
        self.max_warm.unwrap_or_else(|| self.min_warm(pool).saturating_mul(2))
    }

    /// Whether sandboxes made from both are alike.
    #[must_use]
    pub fn same_recipe(&self, other: &Self) -> bool {
        self.recipe() == other.recipe()
    }

    /// What sandboxes are made from: everything but how many are kept warm, and what is decided in a session only.
    #[must_use]
    pub fn recipe(&self) -> Self {
        let (permissions, egress) = (PermissionPolicy::default(), TemplateEgress::default());
        Self { min_warm: None, max_warm: None, permissions, egress, ..self.clone() }
    }
}

/// How an agent talks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The Agent Client Protocol: newline-delimited JSON-RPC.
    #[default]
    Acp,
    /// One prompt a line in, lines out.
    Lines,
}
