//! Budgets where sessions meet them: who pays for one, what is left, and a prompt that nothing is left for.

use jiff::{SignedDuration, Timestamp};

use super::Service;
use crate::{
    gateway::{Account, Cost, Exhausted, HourSpent, Standing},
    ids::{SessionId, TierName, UserId},
    problem::{Code, Problem},
    session::{SessionHandle, status::Tokens},
    store::{SpentRow, StoreError},
};

/// When to come again where nothing brings a budget back but another session.
const NEVER: std::time::Duration = std::time::Duration::from_secs(3600);

impl Service {
    /// The account a session's model calls are charged to; `spent` is what they have cost so far.
    pub(super) async fn account(
        &self,
        user: &UserId,
        tier: Option<TierName>,
        session: &SessionId,
        spent: Tokens,
    ) -> Result<Account, StoreError> {
        let spent = Cost { input: spent.input, output: spent.output };
        self.budgets.account(user, tier, session, spent, |hour| self.spent_since(user, hour)).await
    }

    /// How it stands with a user's budgets of the clock.
    pub(super) async fn standings(&self, user: &UserId, tier: Option<&TierName>) -> Result<Vec<Standing>, StoreError> {
        self.budgets.standings(user, tier, |hour| self.spent_since(user, hour)).await
    }

    async fn spent_since(&self, user: &UserId, hour: u64) -> Result<Vec<HourSpent>, StoreError> {
        let rows = self.store.spent_since(user, hour).await?;
        let spent = |SpentRow { hour, input, output }| HourSpent { hour, cost: Cost { input, output } };
        Ok(rows.into_iter().map(spent).collect())
    }
}

/// A prompt for which nothing is left would only fail, after a while.
pub(super) fn check(session: &SessionHandle) -> Result<(), Problem> {
    session.account().check().map_err(Problem::from)
}

impl From<Exhausted> for Problem {
    fn from(exhausted: Exhausted) -> Self {
        let wait = exhausted.resets_at.map(|at| at.duration_since(Timestamp::now()).max(SignedDuration::from_secs(1)));
        let wait = wait.and_then(|wait| wait.try_into().ok()).unwrap_or(NEVER);
        Self::new(Code::BudgetExhausted, exhausted.to_string()).retry_after(wait)
    }
}
