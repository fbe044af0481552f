//! Names, labels and the pages that list them.

use super::*;

fn every_instrument_used() -> Metrics {
    let metrics = Metrics::default();
    let template = TemplateName::parse("gemini").expect("a good name");
    let second = Duration::from_secs(1);
    metrics.set_sandboxes(&template, SandboxState::Ready, 3);
    metrics.sandbox_started(&template, &StartTimes { link: second, total: second, ..StartTimes::default() });
    metrics.sandbox_failed(&template, Phase::Initialize);
    metrics.set_waiting(&template, 2);
    metrics.opened(&template, OpenStart::Warm, OpenOutcome::Ok, Duration::ZERO, Duration::from_micros(700));
    metrics.turn_first_output(&template, second);
    metrics.turn_ended(&template, TurnOutcome::from_stop_reason("end_turn"), second);
    metrics.agent_skipped_lines(&template).count();
    metrics.gateway_request(GatewayOutcome::Forwarded);
    metrics.tokens(10, 20);
    metrics.http_request("/v1/sessions/{id}", "GET", 200, second);
    metrics
}

#[test]
fn names_come_out_as_they_are_documented() {
    let text = every_instrument_used().render();
    let documented: Vec<&str> = include_str!("../metrics.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split('`').next())
        .collect();
    assert_eq!(documented.len(), 18);
    for name in &documented {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing in:\n{text}");
    }
    let types = text.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(types, documented.len(), "an instrument isn't documented:\n{text}");
}

#[test]
fn the_operations_page_names_every_instrument() {
    let page = include_str!("../../../docs/operations.md");
    for line in include_str!("../metrics.rs").lines() {
        let Some(name) = line.strip_prefix("//! | `").and_then(|rest| rest.split('`').next()) else { continue };
        assert!(page.contains(&format!("`{name}`")), "docs/operations.md doesn't mention {name}");
    }
}

#[test]
fn labels_and_values_are_where_prometheus_looks_for_them() {
    let text = every_instrument_used().render();
    for line in [
        r#"greenroom_sandboxes{state="ready",template="gemini"} 3"#,
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
fn what_lives_is_counted_and_what_is_dropped_is_not() {
    let metrics = Metrics::default();
    let first = metrics.session();
    let second = metrics.session();
    assert!(metrics.render().contains("greenroom_sessions 2"), "{}", metrics.render());
    drop((first, second));
    assert!(metrics.render().contains("greenroom_sessions 0"));
    assert!(Metrics::default().render().contains("greenroom_sessions 0"), "registries are shared");
}
