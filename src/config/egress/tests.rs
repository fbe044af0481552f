use proptest::prelude::*;

use super::*;

fn name(text: &str) -> HostName {
    HostName::parse(text).expect("a good name")
}

fn pattern(text: &str) -> HostPattern {
    text.parse().expect("a good pattern")
}

fn policy(allow: &[&str], offer: &[&str]) -> TemplateEgress {
    let patterns = |texts: &[&str]| texts.iter().map(|text| pattern(text)).collect();
    TemplateEgress { allow: patterns(allow), offer: patterns(offer) }
}

#[test]
fn a_pattern_without_a_port_means_https_and_http() {
    let plain = pattern("Registry.Example.");
    assert_eq!(plain.to_string(), "registry.example");
    for (port, matches) in [(443, true), (80, true), (8443, false), (22, false)] {
        assert_eq!(plain.matches(&name("REGISTRY.example"), port), matches, "{port}");
        assert_eq!(pattern("registry.example:8443").matches(&name("registry.example"), port), port == 8443);
    }
}

#[test]
fn a_wildcard_stands_for_one_label_or_more_and_cuts_between_labels_only() {
    let below = pattern("*.example.com:443");
    for (host, matches) in [
        ("a.example.com", true),
        ("a.b.example.com", true),
        ("A.EXAMPLE.COM.", true),
        ("example.com", false),
        ("evilexample.com", false),
        ("a.example.com.evil.test", false),
        ("a.example.org", false),
    ] {
        assert_eq!(below.matches(&name(host), 443), matches, "{host}");
    }
}

#[test]
fn no_spelling_of_an_address_is_a_name() {
    for address in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f.0x0.0x0.0x1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0X7F000001",
        "0x",
        "10.0.0.1",
        "169.254.169.254",
        "1.2.3.4.5",
        "host.1",
        "[::1]",
        "[fe80::1%25eth0]",
        "::1",
        "::ffff:127.0.0.1",
        "[::ffff:7f00:1]",
    ] {
        assert!(HostName::parse(address).is_err(), "{address}");
        assert!(address.parse::<HostPattern>().is_err(), "{address}");
        assert!(format!("{address}:443").parse::<HostPattern>().is_err(), "{address}");
        assert!(format!("*.{address}").parse::<HostPattern>().is_err(), "{address}");
    }
}

#[test]
fn what_is_no_name_is_no_pattern() {
    let long = format!("{}.example", "a".repeat(64));
    let longer = vec!["a".repeat(60); 5].join(".");
    for bad in [
        "",
        ".",
        "..",
        "*",
        "*.",
        "*example.com",
        "a.*.example",
        "**.example",
        "a..b",
        "-a.example",
        "a-.example",
        "bücher.example",
        "a b.example",
        "a/b",
        "user@a.example",
        "a.example%2e",
        "a.example\0",
        "a.example:",
        "a.example:0",
        "a.example:+1",
        "a.example:65536",
        "a.example:https",
        "https://a.example",
        "a.example:443:443",
        &long,
        &longer,
    ] {
        assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
    }
    for good in ["xn--bcher-kva.example", "a_b.example", "localhost", "1password.example", "0x.example", "3.beef"] {
        assert_eq!(pattern(good).to_string(), good);
    }
}

#[test]
fn what_is_asked_for_must_be_covered_port_by_port() {
    let policy = policy(&["a.example:443"], &["a.example:80", "*.b.example:443"]);
    for (asked, covered) in [
        ("a.example:443", true),
        ("a.example:80", true),
        ("a.example", true),
        ("a.example:8080", false),
        ("x.b.example:443", true),
        ("x.y.b.example:443", true),
        ("*.b.example:443", true),
        ("*.y.b.example:443", true),
        ("x.b.example", false),
        ("b.example:443", false),
        ("*.a.example:443", false),
        ("*.example:443", false),
    ] {
        assert_eq!(policy.covers(&pattern(asked)), covered, "{asked}");
    }
    assert!(!TemplateEgress::default().covers(&pattern("a.example")), "the default is nothing");
}

fn hosts() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-c]{1,2}", 1..5).prop_map(|labels| labels.join("."))
}

fn patterns() -> impl Strategy<Value = HostPattern> {
    let ports = prop::option::of(prop::sample::select(vec![80_u16, 443, 8443]));
    (any::<bool>(), hosts(), ports).prop_map(|(below, name, port)| {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        pattern(&format!("{}{name}{port}", if below { "*." } else { "" }))
    })
}

proptest! {
    #[test]
    fn whatever_is_typed_is_refused_or_comes_back_the_same(text in "[-a-zA-Z0-9.*:_\\[\\]%@/ü]{0,24}") {
        if let Ok(read) = text.parse::<HostPattern>() {
            prop_assert_eq!(read.to_string().parse::<HostPattern>(), Ok(read));
        }
    }

    #[test]
    fn what_is_covered_never_matches_more(
        allow in prop::collection::vec(patterns(), 0..3),
        asked in patterns(),
        host in hosts(),
        port in prop::sample::select(vec![80_u16, 443, 8443]),
    ) {
        let policy = TemplateEgress { allow, offer: Vec::new() };
        let host = name(&host);
        if policy.covers(&asked) && asked.matches(&host, port) {
            prop_assert!(policy.grants(&host, port));
        }
    }
}
