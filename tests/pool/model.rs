//! Random sequences: users open, hang up, speak and leave; sandboxes die; the engine fails, hangs, is slow and answers twice; the operator
//! changes templates, sizes, room and modes. After each step the pool's promises hold, and at the end everything drains to nothing.
//!
//! What is played is random, when it meets what is not: a sequence that fails is shrunk and kept in `tests/proptest-regressions`.

mod play;
mod promises;
mod step;

use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use self::{play::Play, step::Step};

/// Steps of one sequence.
const STEPS: usize = 40;

fn settings() -> ProptestConfig {
    // More with PROPTEST_CASES.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24);
    ProptestConfig { cases, max_shrink_time: 20_000, ..ProptestConfig::default() }
}

fn run(runtime: &Runtime, steps: Vec<Step>) {
    runtime.block_on(async {
        let mut play = Play::new();
        for step in steps {
            play.step(step).await;
        }
        play.end().await;
    });
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn the_promises_hold_through_any_sequence_on_one_thread(steps in prop::collection::vec(step::any(), 0..STEPS)) {
        run(&Builder::new_current_thread().enable_all().build().expect("a runtime"), steps);
    }

    #[test]
    fn the_promises_hold_through_any_sequence_on_several_threads(steps in prop::collection::vec(step::any(), 0..STEPS)) {
        run(&Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"), steps);
    }
}
