//! Token budgets and what is left of them.

use poem_openapi::{Enum, Object};

use super::Time;
use crate::service::view::{Standing, Window};

/// What a budget is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum BudgetWindow {
    /// An hour of the clock (UTC).
    Hour,
    /// A day (UTC).
    Day,
    /// A session's life.
    Session,
}

/// Tokens of one kind. What is used, reserved and left together is the limit.
#[derive(Debug, Clone, Object)]
pub struct Allowance {
    /// How many there are; null: as many as one likes.
    #[oai(nullable)]
    pub limit: Option<u64>,
    /// What calls that are over have used.
    pub used: u64,
    /// What is held for model calls that are under way: the most they can use.
    pub reserved: u64,
    /// What is neither used nor reserved; null: as many as one likes.
    #[oai(nullable)]
    pub left: Option<u64>,
}

/// How it stands with a budget.
#[derive(Debug, Clone, Object)]
pub struct Budget {
    /// What it is of.
    pub window: BudgetWindow,
    /// When it begins anew; null: never.
    #[oai(nullable)]
    pub resets_at: Option<Time>,
    /// Tokens read by the model.
    pub input_tokens: Allowance,
    /// Tokens written by the model.
    pub output_tokens: Allowance,
}

impl From<Standing> for Budget {
    fn from(standing: Standing) -> Self {
        let allowance = |limit: Option<u64>, used: u64, reserved: u64| Allowance {
            limit,
            used,
            reserved,
            left: limit.map(|limit| limit.saturating_sub(used.saturating_add(reserved))),
        };
        let Standing { window, resets_at, limit: (input, output), spent, reserved } = standing;
        Self {
            window: match window {
                Window::Hour => BudgetWindow::Hour,
                Window::Day => BudgetWindow::Day,
                Window::Session => BudgetWindow::Session,
            },
            resets_at: resets_at.map(Time),
            input_tokens: allowance(input, spent.input, reserved.input),
            output_tokens: allowance(output, spent.output, reserved.output),
        }
    }
}
