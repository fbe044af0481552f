//! The terms of a session: what its user may ask for when it is opened, and change later. What doesn't need a look at anything else.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    config::HostPattern,
    gateway::Egress,
    problem::{Code, Problem},
};

/// Labels of one session.
const LABELS_MAX: usize = 16;
/// The longest key or value of a label, in characters.
const LABEL_LENGTH_MAX: usize = 64;
/// Hosts and patterns of one session.
const HOSTS_MAX: usize = 64;
/// Shortest idle time and age a session may ask for.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// Whether labels and times can be granted.
///
/// # Errors
/// Too many or too long labels, times that are none.
pub(super) fn check(
    labels: &BTreeMap<String, String>,
    idle_timeout: Option<Duration>,
    max_age: Option<Duration>,
) -> Result<(), Problem> {
    let invalid = |detail: String| Err(Problem::new(Code::InvalidRequest, detail));
    if labels.len() > LABELS_MAX {
        return invalid(format!("labels: at most {LABELS_MAX} are taken"));
    }
    let fits = |text: &str| text.chars().count() <= LABEL_LENGTH_MAX && !text.contains(char::is_control);
    if labels.iter().any(|(key, value)| key.is_empty() || !fits(key) || !fits(value)) {
        return invalid(format!(
            "labels: keys have 1 to {LABEL_LENGTH_MAX} characters, values at most {LABEL_LENGTH_MAX}, none a control character"
        ));
    }
    for (field, asked) in [("idle_timeout_s", idle_timeout), ("max_age_s", max_age)] {
        if asked.is_some_and(|asked| asked < SHORTEST_LIFE) {
            return invalid(format!("{field}: must be at least {}", SHORTEST_LIFE.as_secs()));
        }
    }
    Ok(())
}

/// Whether a session of this allowance may ask for these.
///
/// # Errors
/// Too many, or one that its template neither allows nor offers.
pub(super) fn egress(allowance: &Egress, asked: &[HostPattern]) -> Result<(), Problem> {
    if asked.len() > HOSTS_MAX {
        return Err(Problem::new(Code::InvalidRequest, format!("egress: at most {HOSTS_MAX} are taken")));
    }
    match allowance.refused(asked) {
        None => Ok(()),
        Some(pattern) => {
            Err(Problem::new(Code::Forbidden, format!("egress: {pattern} is not among what this template offers")))
        }
    }
}

/// What was asked for, but never more than configured.
pub(super) fn capped(asked: Option<Duration>, configured: Duration) -> Duration {
    asked.map_or(configured, |asked| asked.min(configured))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(labels: impl IntoIterator<Item = (String, String)>) -> String {
        check(&labels.into_iter().collect(), None, None).map_or_else(|problem| problem.detail, |()| String::new())
    }

    #[test]
    fn labels_are_few_and_short_in_characters() {
        let many = |count: usize| (0..count).map(|number| (number.to_string(), String::new()));
        assert_eq!(refusal(many(LABELS_MAX)), "");
        assert!(refusal(many(LABELS_MAX + 1)).starts_with("labels: at most 16"));
        let longest = "ж".repeat(LABEL_LENGTH_MAX);
        assert_eq!(refusal([(longest.clone(), longest.clone())]), "");
        for bad in ["", "line\nbreak", &format!("{longest}ж")] {
            assert!(refusal([(bad.to_owned(), String::new())]).starts_with("labels: keys"), "{bad}");
        }
        assert!(refusal([("k".to_owned(), format!("{longest}ж"))]).starts_with("labels: keys"));
        assert_eq!(refusal([("k".to_owned(), String::new())]), "");
    }

    #[test]
    fn a_session_lives_for_a_second_at_least() {
        let life = |seconds| Some(Duration::from_secs(seconds));
        let refused = |idle, age| {
            let outcome = check(&BTreeMap::new(), idle, age);
            outcome.map_or_else(|problem| problem.detail, |()| String::new())
        };
        assert_eq!(refused(life(1), life(1)), "");
        assert!(refused(life(0), None).starts_with("idle_timeout_s"));
        assert!(refused(None, life(0)).starts_with("max_age_s"));
    }
}
