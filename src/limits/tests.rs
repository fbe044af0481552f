use super::*;
use crate::{
    config::{self, Tier},
    problem::Code,
};

fn config(limits: config::Limits) -> Config {
    Config { limits, ..Config::default() }
}

fn limits(settings: config::Limits) -> Limits {
    Limits::new(&config(settings)).unwrap()
}

/// Usual users may have one session, those of the tier `gold` three.
fn with_gold() -> Limits {
    let usual = config::Limits { sessions: 1, opens_per_minute: 1, opens_burst: 2, ..config::Limits::default() };
    let gold = Tier { limits: config::Limits { sessions: 3, opens_burst: 3, ..usual.clone() }, ..Tier::default() };
    let tiers = [("gold".to_owned(), gold)].into();
    Limits::new(&Config { tiers, ..config(usual) }).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn tier(name: &str) -> TierName {
    TierName::parse(name).unwrap()
}

#[test]
fn a_pace_of_zero_is_refused_by_name() {
    let zero = config::Limits { prompts_burst: 0, ..config::Limits::default() };
    assert_eq!(Limits::new(&config(zero.clone())).unwrap_err().setting, "limits.prompts_burst");
    let tiers = [("gold".to_owned(), Tier { limits: zero, ..Tier::default() })].into();
    let fault = Limits::new(&Config { tiers, ..Config::default() }).unwrap_err();
    assert_eq!(fault.setting, "tiers.gold.limits.prompts_burst");
}

#[test]
fn who_opens_too_fast_learns_when_to_come_back() {
    let limits = limits(config::Limits { opens_per_minute: 1, opens_burst: 1, ..config::Limits::default() });
    let (usual, alice) = (limits.of(None), user("alice"));
    assert_eq!(usual.check_open(&alice).unwrap().remaining, 0);
    let asked = usual.check_open(&alice).unwrap_err();
    let looked = usual.may_open(&alice).unwrap_err();
    for problem in [asked, looked] {
        assert_eq!(problem.code, Code::RateLimited);
        let delay = problem.retry_after.unwrap();
        assert!(delay > Duration::from_secs(50) && delay <= Duration::from_secs(60), "{delay:?}");
        assert_eq!(problem.rate.unwrap().window, Some(Duration::from_secs(60)));
    }
}

#[test]
fn each_kind_of_call_and_each_user_has_a_pace_of_its_own() {
    let slow = config::Limits {
        opens_per_minute: 1,
        opens_burst: 1,
        reads_per_minute: 1,
        reads_burst: 1,
        ..config::Limits::default()
    };
    let limits = limits(slow);
    let (usual, alice) = (limits.of(None), user("alice"));
    usual.check_open(&alice).unwrap();
    usual.check_open(&alice).unwrap_err();
    usual.check_read(&alice).unwrap();
    assert_eq!(usual.check_read(&alice).unwrap_err().rate.unwrap().policy, "read");
    usual.may_prompt(&alice).unwrap();
    usual.check_prompt(&alice).unwrap();
    usual.check_open(&user("bob")).unwrap();
}

#[test]
fn a_held_session_counts_until_its_permit_is_dropped() {
    let limits = limits(config::Limits { sessions: 1, ..config::Limits::default() });
    let (usual, alice) = (limits.of(None), user("alice"));
    let permit = usual.hold_session(&alice).unwrap();
    assert_eq!(usual.sessions(&alice), (1, 1));
    assert_eq!(usual.hold_session(&alice).unwrap_err().code, Code::ResourceLimit);
    drop(permit);
    assert_eq!(usual.sessions(&alice), (0, 1));
    assert!(usual.hold_session(&alice).is_ok());
}

#[test]
fn a_tier_has_limits_of_its_own_over_the_same_count() {
    let limits = with_gold();
    let (gold, alice) = (limits.of(Some(&tier("gold"))), user("alice"));
    let permits: Vec<_> = (0..3).map(|_| gold.hold_session(&alice).unwrap()).collect();
    gold.hold_session(&alice).unwrap_err();
    assert_eq!(limits.of(None).sessions(&alice), (3, 1), "the same user by a token without the tier");
    assert_eq!(limits.of(None).hold_session(&alice).unwrap_err().rate.unwrap().quota, 1);
    drop(permits);
    for _ in 0..3 {
        gold.check_open(&alice).unwrap();
    }
    limits.of(None).may_open(&alice).unwrap_err();
    limits.of(None).check_open(&user("bob")).unwrap();
}

#[test]
fn a_tier_that_is_not_there_has_the_usual_limits_and_is_remembered_for_the_log_within_bounds() {
    let limits = with_gold();
    for number in 0..100 {
        let unknown = limits.of(Some(&tier(&format!("tier-{number}"))));
        assert_eq!(unknown.sessions(&user("alice")).1, 1);
    }
    assert_eq!(limits.unknown.lock().unwrap().len(), UNKNOWN_TIERS_MAX);
}

#[test]
fn a_session_of_a_former_run_is_kept_whatever_the_limit() {
    let limits = with_gold();
    let alice = user("alice");
    let kept: Vec<_> = (0..2).map(|_| limits.keep_session(&alice)).collect();
    assert_eq!(limits.of(None).sessions(&alice), (2, 1));
    limits.of(None).hold_session(&alice).unwrap_err();
    drop(kept);
    assert!(limits.of(None).hold_session(&alice).is_ok());
}

#[tokio::test(start_paused = true)]
async fn housekeeping_ends_with_its_token() {
    let token = CancellationToken::new();
    let task = tokio::spawn(Arc::new(limits(config::Limits::default())).keep_house(token.clone()));
    tokio::time::advance(SWEEP_PERIOD * 3).await;
    token.cancel();
    tokio::time::timeout(Duration::from_secs(1), task).await.unwrap().unwrap();
}
