//! What operators may do to a running server. Only their door calls this: nothing here asks who is there, but all of it is in the log.

use tracing::info;

use super::{
    Service,
    view::{PoolMode, PoolView, ResizePool, SandboxView},
};
use crate::{
    ids::{SlotId, TemplateName},
    pool::Pool,
    problem::{Code, Problem},
};

impl Service {
    /// Keeps other numbers of warm sandboxes from here on, until the settings are read again. What is left out stays as it is.
    ///
    /// # Errors
    /// No such template; numbers that contradict each other, or promise more than there may be.
    pub fn resize_pool(&self, template: &str, asked: ResizePool) -> Result<PoolView, Problem> {
        let pool = self.operated(template)?;
        let figures = pool.figures();
        let (min, max) = (asked.min.unwrap_or(figures.min), asked.max.unwrap_or(figures.max));
        if asked == ResizePool::default() {
            return Err(invalid("give min_warm, max_warm or both"));
        }
        if max < min {
            return Err(invalid(format!("max_warm ({max}) must not be less than min_warm ({min})")));
        }
        // As for the settings: the least is a promise, what goes beyond it gives way when the cap is reached.
        let others = self.pools.serving().into_iter().filter(|other| other.name() != pool.name());
        let others = others.map(|other| other.figures().min).fold(0, usize::saturating_add);
        if min > figures.min && others.saturating_add(min) > figures.cap {
            return Err(invalid(format!(
                "min_warm ({min}) and those of the other templates ({others}) must not be more than there is room for ({}: pool.cap, or what \
                 fits into the memory for sandboxes) together",
                figures.cap
            )));
        }
        info!(template = %pool.name(), min_warm = min, max_warm = max, "an operator resizes a pool");
        pool.resize(min, max);
        Ok(PoolView::of(&pool))
    }

    /// Lets a pool do this from here on.
    ///
    /// # Errors
    /// No such template.
    pub fn set_pool_mode(&self, template: &str, mode: PoolMode) -> Result<PoolView, Problem> {
        let pool = self.operated(template)?;
        let act = match mode {
            PoolMode::Active => "an operator resumes a pool",
            PoolMode::Paused => "an operator pauses a pool",
            PoolMode::Draining => "an operator drains a pool",
        };
        info!(template = %pool.name(), "{act}");
        pool.set_mode(mode);
        Ok(PoolView::of(&pool))
    }

    /// Every sandbox there is, oldest first.
    #[must_use]
    pub fn sandboxes(&self) -> Vec<SandboxView> {
        self.pools.sandboxes().into_iter().map(Into::into).collect()
    }

    /// Destroys a sandbox, whatever it is doing; a session in it ends as `sandbox_lost`.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn destroy_sandbox(&self, id: &SlotId) -> Result<(), Problem> {
        if self.pools.destroy(id) { Ok(()) } else { Err(Problem::not_found()) }
    }

    fn operated(&self, template: &str) -> Result<std::sync::Arc<Pool>, Problem> {
        let name = TemplateName::parse(template).ok();
        name.and_then(|name| self.pools.get(&name)).ok_or_else(Problem::not_found)
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}
