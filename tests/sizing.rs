//! Sizing by demand, in virtual time: what it gives (opens that find a warm sandbox) and what it costs (idle sandboxes), against stocks of
//! fixed size. `cargo test --test sizing -- --nocapture` prints the figures that `docs/performance.md` shows.

mod sizing {
    pub mod arrivals;
    pub mod machine;
}

use sizing::{
    arrivals::{self, Arrivals, Chance, DAY, HOUR},
    machine::{GEMINI, Machine, Outcome, run, simulate},
};

/// Runs a trace, by demand and with each of these stocks of fixed size, and prints what came of it.
fn compare<const FIXED: usize>(name: &str, arrivals: &Arrivals, fixed: [usize; FIXED]) -> (Outcome, [Outcome; FIXED]) {
    let told = |name: &str, machine: &Machine| {
        let outcome = run(machine, arrivals);
        println!("{name:<26} | {outcome}");
        outcome
    };
    (told(name, &GEMINI), fixed.map(|stock| told(&format!("  fixed at {stock}"), &GEMINI.fixed(stock))))
}

#[test]
fn at_a_steady_demand_99_of_100_opens_are_warm_and_hardly_anything_is_retired() {
    // The second and third are the fixed stocks below and above: the operator would have to know them.
    for (seed, rate, fixed) in [(1, 0.02, [1, 2]), (2, 0.1, [1, 2]), (3, 0.5, [3, 4]), (4, 1.0, [5, 6])] {
        let trace = arrivals::steady(seed, 4.0 * HOUR, rate);
        let (ours, [less, more]) = compare(&format!("steady, {rate} opens a second"), &trace, fixed);
        assert!(ours.hit_rate() > 0.99 && ours.hit_rate() >= less.hit_rate(), "{ours}");
        assert!(ours.idle < more.idle + 1.0, "{ours}");
        assert!(ours.retired * 100 < ours.starts, "{ours}");
    }
}

#[test]
fn close_to_what_can_be_started_the_stock_grows_and_still_serves() {
    // Two starts at a time of 1.05 s are 1.9 a second; this is four fifths of it.
    let (ours, [fixed]) = compare("steady, 1.5 opens a second", &arrivals::steady(5, 4.0 * HOUR, 1.5), [11]);
    assert!(ours.hit_rate() > 0.98 && ours.idle < 3.0 * fixed.idle, "{ours}");
}

#[test]
fn a_daily_wave_is_followed_with_fewer_idle_than_a_fixed_stock_as_good() {
    let (ours, [same_cost, as_good]) = compare("daily wave, 0.4 on average", &arrivals::daily(6, 1.0, 0.4), [4, 5]);
    assert!(ours.hit_rate() > 0.995 && ours.hits > same_cost.hits && ours.idle < same_cost.idle, "{ours}");
    assert!(ours.hit_rate() > as_good.hit_rate() - 0.001 && ours.idle < 0.8 * as_good.idle, "{ours}");
}

#[test]
fn a_sudden_demand_is_met_within_a_minute() {
    let (ours, _) = compare("0.03 and 1.0 in turns", &arrivals::steps(7, 4.0 * HOUR, 0.03, 1.0), [5]);
    // Six times the demand rises to the thirtyfold; each costs a handful of cold opens.
    assert!(ours.opens - ours.hits < 6 * 15 && ours.longest_wait < 5.0, "{ours}");
}

#[test]
fn groups_that_open_at_once_cost_two_thirds_of_a_fixed_stock_as_good() {
    let (ours, [same_cost, as_good]) = compare("groups of 8 to 20, 9 to 17", &arrivals::bursts(8, 2.0), [5, 8]);
    assert!(ours.hits > same_cost.hits && ours.hit_rate() > as_good.hit_rate() - 0.02, "{ours}");
    assert!(ours.idle < 0.7 * as_good.idle, "{ours}");
}

/// Each user opens three sessions a day, more by day than by night, each for ten minutes; a balancer sends each open to one of 20 machines by
/// chance. A machine has 32 processors, so that 8 agents boot at a time as fast as one, and room for 300 sandboxes.
#[test]
fn a_day_of_a_hundred_thousand_users_on_twenty_machines() {
    const USERS: usize = 100_000;
    const MACHINES: usize = 20;
    const OPENS_A_SECOND: f64 = 3.0 * 100_000.0 / DAY;
    let machine = Machine { start_limit: 8, cap: 300, session: 600.0, ..GEMINI };

    let mut chance = Chance::seeded(9);
    let mut traces = vec![(Arrivals::new(), Vec::new()); MACHINES];
    for open in arrivals::independent(&mut chance, DAY, 1.95 * OPENS_A_SECOND, arrivals::wave(OPENS_A_SECOND)) {
        let (trace, users) = &mut traces[chance.below(MACHINES)];
        trace.push(open);
        users.push(chance.below(USERS));
    }
    let fleet = |machine: &Machine| {
        let mut waited = vec![false; USERS];
        let outcomes = traces.iter().map(|(trace, users)| simulate(machine, trace, |open| waited[users[open]] = true));
        let all = outcomes.fold(Outcome::default(), Outcome::beside);
        (all, waited.iter().filter(|waited| **waited).count())
    };
    let (ours, waited) = fleet(&machine);
    println!("100,000 users, 20 machines | {ours} | {waited} users waited");
    let (fixed, waited_there) = fleet(&machine.fixed(3));
    println!("  fixed at 3 on each       | {fixed} | {waited_there} users waited");
    assert!(ours.opens > 290_000 && ours.hit_rate() > 0.998, "{ours}");
    assert!(waited < USERS / 100 && ours.longest_wait < 3.0, "{ours}");
    assert!(ours.idle < fixed.idle, "{ours}");
}
