//! Names, labels and the pages that list them.

use super::{
    super::labels::{MissReason, SandboxState},
    pools::StateSample,
    *,
};

fn template(name: &str) -> TemplateName {
    TemplateName::parse(name).expect("a good name")
}

fn sample(name: &str) -> PoolSample {
    let state = |state| StateSample { state, count: 3, memory_bytes: Some(700) };
    PoolSample {
        template: template(name),
        states: [SandboxState::Starting, SandboxState::Ready, SandboxState::Leased, SandboxState::Ending].map(state),
        waiting: 2,
        target: 4,
        min: 1,
        max: 8,
        stale: 1,
        hits: 10,
        misses: [
            MissReason::Empty,
            MissReason::Workspace,
            MissReason::TemplateChanged,
            MissReason::OverTarget,
            MissReason::Refused,
            MissReason::GivenUp,
        ]
        .map(|reason| (reason, 1)),
    }
}

fn every_instrument_used() -> Metrics {
    let metrics = Metrics::default();
    let template = template("gemini");
    let second = Duration::from_secs(1);
    metrics.sandbox_started(&template, &StartTimes { link: second, total: second, ..StartTimes::default() });
    metrics.sandbox_failed(&template, Phase::Initialize);
    metrics.sandbox_discarded(&template, Discard::Silent);
    metrics.refilled(&template, second);
    metrics.opened(&template, OpenStart::Warm, OpenOutcome::Ok, Duration::ZERO, Duration::from_micros(700));
    metrics.turn_first_output(&template, second);
    metrics.turn_ended(&template, TurnOutcome::from_stop_reason("end_turn"), second);
    metrics.agent_skipped_lines(&template).count();
    metrics.gateway_request(GatewayOutcome::Forwarded);
    metrics.audit_lines(AuditOutcome::Written, 1);
    metrics.egress(EgressOutcome::Allowed);
    metrics.egress_bytes(1, 1);
    metrics.tokens(10, 20);
    metrics.set_tasks(3);
    metrics.http_request("/v1/sessions/{id}", "GET", 200, second);
    metrics
}

/// Every name in the table at the head of the file.
fn documented() -> Vec<&'static str> {
    let rows = include_str!("../metrics.rs").lines().filter(|line| line.starts_with("//! | `"));
    let names = rows.filter_map(|row| row.split(" | ").nth(1));
    names.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`')).collect()
}

#[test]
fn names_come_out_as_they_are_documented() {
    let text = every_instrument_used().render_with(vec![sample("gemini")]);
    let documented = documented();
    assert_eq!(documented.len(), 31);
    for name in &documented {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing in:\n{text}");
    }
    let types = text.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(types, documented.len(), "an instrument isn't documented:\n{text}");
}

#[test]
fn the_operations_page_names_every_instrument() {
    let page = include_str!("../../../docs/operations.md");
    for name in documented() {
        assert!(page.contains(&format!("`{name}`")), "docs/operations.md doesn't mention {name}");
    }
}

#[test]
fn labels_and_values_are_where_prometheus_looks_for_them() {
    let text = every_instrument_used().render_with(vec![sample("gemini")]);
    for line in [
        r#"greenroom_sandboxes{state="ready",template="gemini"} 3"#,
        r#"greenroom_sandbox_memory_bytes{state="leased",template="gemini"} 700"#,
        r#"greenroom_pool_target{template="gemini"} 4"#,
        r#"greenroom_pool_hits_total{template="gemini"} 10"#,
        r#"greenroom_pool_misses_total{reason="over_target",template="gemini"} 1"#,
        r#"greenroom_sandboxes_discarded_total{template="gemini",why="silent"} 1"#,
        r#"greenroom_pool_refill_lag_seconds_bucket{template="gemini",le="0.5"} 0"#,
        r#"greenroom_opens_total{outcome="ok",start="warm",template="gemini"} 1"#,
        r#"greenroom_open_duration_seconds_bucket{start="warm",template="gemini",le="0.001"} 1"#,
        r#"greenroom_open_duration_seconds_bucket{start="warm",template="gemini",le="0.0005"} 0"#,
        r#"greenroom_http_requests_total{method="GET",route="/v1/sessions/{id}",status="200"} 1"#,
        r#"greenroom_tokens_total{direction="output"} 20"#,
    ] {
        assert!(text.contains(line), "no {line} in:\n{text}");
    }
}

#[test]
fn nothing_is_told_of_a_pool_that_is_gone() {
    let metrics = Metrics::default();
    assert!(metrics.render_with(vec![sample("one"), sample("two")]).contains("two"));
    let text = metrics.render_with(vec![sample("one")]);
    assert!(text.contains("one") && !text.contains("two"), "{text}");
}

#[test]
fn hits_never_go_back_but_begin_anew_with_a_new_pool() {
    let metrics = Metrics::default();
    let hits = |hits| {
        let text = metrics.render_with(vec![PoolSample { hits, ..sample("one") }]);
        let line = text.lines().find_map(|line| line.strip_prefix("greenroom_pool_hits_total{template=\"one\"} "));
        line.expect("it is told").to_owned()
    };
    assert_eq!([hits(7), hits(6), hits(8)], ["7", "7", "8"]);
    drop(metrics.render_with(Vec::new()));
    assert_eq!(hits(1), "1");
}

#[test]
fn what_lives_is_counted_and_what_is_dropped_is_not() {
    let metrics = Metrics::default();
    let first = metrics.session();
    let second = metrics.session();
    assert!(metrics.render().contains("greenroom_sessions 2"), "{}", metrics.render());
    drop((first, second));
    assert!(metrics.render().contains("greenroom_sessions 0"));
    assert!(Metrics::default().render().contains("greenroom_sessions 0"), "registries are shared");
}
