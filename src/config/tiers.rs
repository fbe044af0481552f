//! Tiers: what users of one kind have in place of the usual limits and budgets.
//!
//! What a tier doesn't say it has from `[limits]` and `[budget]`. That is done before the settings are typed ([`inherit`]): a type can't tell what was
//! left out from what was written and happens to be the default.

use serde::{Deserialize, Serialize};

use super::{
    Config, Limits,
    tree::{Node, Value, join},
};
use crate::ids::TierName;

/// The sections of a tier, each with what it inherits from.
const INHERITED: [&str; 2] = ["limits", "budget"];

/// Completes every tier with what is usual.
pub(super) fn inherit(tree: &mut Node) {
    let Value::Section(top) = &mut tree.value else { return };
    let usual: Vec<_> = INHERITED.iter().filter_map(|name| Some((*name, top.get(*name)?.clone()))).collect();
    let Some(Value::Section(tiers)) = top.get_mut("tiers").map(|node| &mut node.value) else { return };
    for tier in tiers.values_mut() {
        let (key, origin) = (tier.key.clone(), tier.origin.clone());
        let Value::Section(sections) = &mut tier.value else { continue };
        for (name, section) in &usual {
            let empty = || Node::section(&join(&key, name), &origin);
            sections.entry((*name).to_owned()).or_insert_with(empty).inherit(section);
        }
    }
}

/// What users of one tier have.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tier {
    /// How fast and how much.
    pub limits: Limits,
    /// What their model calls may cost.
    pub budget: Budget,
}

/// What model calls may cost, in tokens. What isn't set isn't limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Tokens a user's sessions may read in an hour of the clock (UTC).
    pub input_tokens_per_hour: Option<u64>,
    /// Tokens they may write in an hour.
    pub output_tokens_per_hour: Option<u64>,
    /// Tokens they may read in a day (UTC).
    pub input_tokens_per_day: Option<u64>,
    /// Tokens they may write in a day.
    pub output_tokens_per_day: Option<u64>,
    /// Tokens one session may read.
    pub input_tokens_per_session: Option<u64>,
    /// Tokens one session may write.
    pub output_tokens_per_session: Option<u64>,
    /// Bytes of a request that are taken for one token when it is reserved, before the model has counted. Default 1: no text has more tokens than
    /// bytes, so a budget is never overrun. With more (3 is usual for prose and code) less is held back, and a call may cost more than was reserved.
    pub bytes_per_token: Option<u64>,
}

impl Config {
    /// The budget of users of this tier; of a tier that isn't there: the usual one.
    #[must_use]
    pub fn budget_of(&self, tier: Option<&TierName>) -> &Budget {
        tier.and_then(|tier| self.tiers.get(tier.as_str())).map_or(&self.budget, |tier| &tier.budget)
    }

    /// The limits of users of this tier; of a tier that isn't there: the usual ones.
    #[must_use]
    pub fn limits_of(&self, tier: Option<&TierName>) -> &Limits {
        tier.and_then(|tier| self.tiers.get(tier.as_str())).map_or(&self.limits, |tier| &tier.limits)
    }
}
