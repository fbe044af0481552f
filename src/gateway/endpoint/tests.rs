//! Tables of what passes and what doesn't.

use super::*;

fn gemini() -> Endpoint {
    Endpoint::compile(&ModelApi::default(), None).expect("the default is good")
}

fn admit(path: &str) -> Option<Target> {
    gemini().admit(&path.parse().ok()?)
}

#[test]
fn the_calls_of_gemini_cli_pass() {
    for (path, uri, metered) in [
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", "?alt=sse", true),
        ("/v1beta1/models/gemini-2.5-flash:generateContent", "", true),
        ("/v1/models/m@001:countTokens", "", false),
    ] {
        let target = admit(path).expect(path);
        let path = path.split('?').next().expect("a path");
        assert_eq!(target.uri.to_string(), format!("https://generativelanguage.googleapis.com{path}{uri}"));
        assert_eq!(target.metered, metered);
    }
    assert_eq!(admit("/v1beta/models/gemini-2.5-pro:generateContent").expect("passes").model, "gemini-2.5-pro");
}

#[test]
fn of_the_query_only_the_form_of_the_answer_is_kept() {
    for (query, kept) in [
        ("key=canary", ""),
        ("alt=sse&key=canary", "?alt=sse"),
        ("key=canary&alt=sse", "?alt=sse"),
        ("KEY=canary&alt=json", "?alt=json"),
        ("%6Bey=canary", ""),
        ("fields=candidates", ""),
        ("alt=proto", ""),
        ("$alt=proto&alt=sse", "?alt=sse"),
        ("access_token=canary", ""),
        ("alt=sse&alt=proto", "?alt=sse"),
        ("alt=sse%00", ""),
        ("&&", ""),
    ] {
        let target = admit(&format!("/v1/models/m:generateContent?{query}")).expect(query);
        assert_eq!(target.uri.query().map(|q| format!("?{q}")).unwrap_or_default(), kept, "{query}");
    }
}

#[test]
fn the_calls_of_other_houses_pass_and_carry_the_key_in_their_header() {
    for (api, path, uri, header, metered) in [
        (
            ApiForm::Anthropic,
            "/v1/messages?beta=true",
            "https://api.anthropic.com/v1/messages?beta=true",
            "x-api-key",
            true,
        ),
        (
            ApiForm::Anthropic,
            "/v1/messages/count_tokens",
            "https://api.anthropic.com/v1/messages/count_tokens",
            "x-api-key",
            false,
        ),
        (
            ApiForm::Openai,
            "/v1/chat/completions?key=x",
            "https://api.openai.com/v1/chat/completions",
            "authorization",
            true,
        ),
        (ApiForm::Openai, "/v1/responses", "https://api.openai.com/v1/responses", "authorization", true),
    ] {
        let endpoint = Endpoint::compile(&ModelApi::of(api), None).expect("the default is good");
        let target = endpoint.admit(&path.parse().expect("a path")).expect(path);
        assert_eq!((target.uri.to_string().as_str(), target.metered), (uri, metered));
        assert_eq!(endpoint.key_header().as_str(), header);
        assert!(endpoint.admit(&"/v1/files".parse().expect("a path")).is_none());
    }
}

#[test]
fn every_other_path_is_refused() {
    let long = format!("/v1/models/{}:generateContent", "m".repeat(MODEL_MAX + 1));
    for path in [
        "/",
        "*",
        "/v1",
        "/v1beta/models",
        "/v1beta/models/m",
        "/v1beta/models/:generateContent",
        "/v1beta/models/.:generateContent",
        "/v1beta/models/..:generateContent",
        "/v1beta/models/...:generateContent",
        "/v1beta/models/m:generateContent/",
        "/v1beta/models/m:generateContent/x",
        "/v1beta/models/m:generateContentX",
        "/v1beta/models/m:batchGenerateContent",
        "/v1beta/models/m:embedContent",
        "/v1beta/models/m:generatecontent",
        "/V1BETA/models/m:generateContent",
        "/v1beta2/models/m:generateContent",
        "/v1beta/models/a/b:generateContent",
        "/v1beta/models/a%2Fb:generateContent",
        "/v1beta/models/a%2fb:generateContent",
        "/v1beta/models/%2e%2e:generateContent",
        "/v1beta/models/%2e%2e%2ffiles:generateContent",
        "/v1beta/models/%252e%252e:generateContent",
        "/v1beta/models/m%00:generateContent",
        "/v1beta/models/m%0d%0aHost:evil:generateContent",
        "/v1beta/models/m%3AgenerateContent",
        "/v1beta/%6dodels/m:generateContent",
        "/v1beta/models/../models/m:generateContent",
        "/v1beta/models/./m:generateContent",
        "/v1beta/../v1/models/m:generateContent",
        "/../v1beta/models/m:generateContent",
        "//v1beta/models/m:generateContent",
        "/v1beta//models/m:generateContent",
        "/v1beta/models//m:generateContent",
        "/v1beta/models/m;x=1:generateContent",
        "/v1beta/models/a:b:generateContent",
        "/v1beta/models/a~b:generateContent",
        "/v1beta/models/a\\b:generateContent",
        "/v1beta/models/a|b:generateContent",
        "/v1beta/models/a+b:generateContent",
        "/v1beta/models/é:generateContent",
        "/v1beta/files",
        "/upload/v1beta/files",
        "/v1beta/cachedContents",
        "http://generativelanguage.googleapis.com/v1/models/m:generateContent",
        "https://evil.example/v1/models/m:generateContent",
        "evil.example:443",
        &long,
    ] {
        assert_eq!(admit(path), None, "{path} got through");
    }
}

#[test]
fn an_override_replaces_host_and_path_prefix() {
    let endpoint = Endpoint::compile(&ModelApi::default(), Some("http://127.0.0.1:9090/stub/")).expect("good");
    let target = endpoint.admit(&"/v1/models/m:countTokens".parse().expect("a path")).expect("passes");
    assert_eq!(target.uri, "http://127.0.0.1:9090/stub/v1/models/m:countTokens");
}

#[test]
fn only_plain_http_to_another_machine_sends_keys_in_the_clear() {
    for (url, clear) in [
        ("https://model.example", false),
        ("http://model.example", true),
        ("http://10.0.0.1:80", true),
        ("http://127.0.0.1:9090", false),
        ("http://[::1]:9090", false),
        ("http://localhost", false),
        ("http://localhost.evil.example", true),
    ] {
        let endpoint = Endpoint::compile(&ModelApi::default(), Some(url)).expect(url);
        assert_eq!(endpoint.sends_keys_in_the_clear(), clear, "{url}");
    }
}

#[test]
fn faulty_settings_are_told_without_credentials() {
    for url in [
        "",
        "model.example",
        "ftp://model.example",
        "https://",
        "/path",
        "https://m.example/a//b",
        "https://m.example?x=1",
    ] {
        assert!(
            matches!(Endpoint::compile(&ModelApi::default(), Some(url)), Err(EndpointError::BaseUrl { .. })),
            "{url}"
        );
    }
    let error =
        Endpoint::compile(&ModelApi::default(), Some("https://me:canary@m.example/?key=canary")).expect_err("no");
    assert!(!error.to_string().contains("canary"), "{error}");
    for pattern in ["", "v1/x", "/v1/*/*", "/v1/../x", "/v1//x", "/v1/%2e", "/v1/x?y", "/v1/x y"] {
        let api = ModelApi { paths: vec![pattern.to_owned()], ..ModelApi::default() };
        assert!(matches!(Endpoint::compile(&api, None), Err(EndpointError::Path { .. })), "{pattern}");
    }
    let api = ModelApi { paths: Vec::new(), ..ModelApi::default() };
    assert_eq!(Endpoint::compile(&api, None).expect_err("no"), EndpointError::NoPaths);
    for name in ["", "a b", "host", "Content-Length"] {
        let api = ModelApi { key_header: name.to_owned(), ..ModelApi::default() };
        assert!(matches!(Endpoint::compile(&api, None), Err(EndpointError::KeyHeader { .. })), "{name}");
    }
}
