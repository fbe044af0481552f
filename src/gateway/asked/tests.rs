//! What requests say, in whatever spelling, and how a lower limit is put into them.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::gateway::documents::objects;

const CHAT: &str = "/v1/chat/completions";

fn read(form: ApiForm, body: &str) -> Asked {
    Asked::read(form, body.as_bytes()).unwrap_or_else(|_| panic!("not understood: {body}"))
}

fn lowered(form: ApiForm, path: &str, body: &str, limit: u64) -> String {
    String::from_utf8(lower(form, path, &Bytes::from(body.to_owned()), limit).to_vec()).expect("text stays text")
}

#[test]
fn the_limit_is_found_in_every_spelling() {
    for body in [
        r#"{"generationConfig":{"maxOutputTokens":7}}"#,
        r#"{"generation_config":{"max_output_tokens":7}}"#,
        r#"{"generationConfig":{"maxOutputTokens":"7"}}"#,
        r#"{"generationConfig":{"maxOutputTokens":6.5}}"#,
        r#"{"generationConfig":{"max\u004futputTokens":7}}"#,
        r#"{"generationConfig":{"maxOutputTokens":7,"maxOutputTokens":2}}"#,
        r#"{"generationConfig":{"maxOutputTokens":1},"generationConfig":{"maxOutputTokens":7}}"#,
    ] {
        assert_eq!(read(ApiForm::Gemini, body).limit, Some(7), "{body}");
    }
    assert_eq!(read(ApiForm::Anthropic, r#"{"max_tokens": 7}"#).limit, Some(7));
    assert_eq!(read(ApiForm::Openai, r#"{"max_tokens":3,"max_completion_tokens":7}"#).limit, Some(7));
    assert_eq!(read(ApiForm::Openai, r#"{"max_output_tokens":7}"#).limit, Some(7));
}

#[test]
fn what_only_looks_like_a_limit_is_none() {
    for body in [
        "{}",
        r#"{"maxOutputTokens":7}"#,
        r#"{"contents":[{"generationConfig":{"maxOutputTokens":7}}]}"#,
        r#"{"generationConfig":{"x":{"maxOutputTokens":7}}}"#,
        r#"{"generationConfig":{"maxOutputTokens":null}}"#,
        r#"{"generationConfig":{"maxOutputTokens":-1}}"#,
        r#"{"generationConfig":{"maxOutputTokens":0}}"#,
        r#"{"generationConfig":{"maxOutputTokens":[7]}}"#,
        r#"{"text":"\"generationConfig\":{\"maxOutputTokens\":7}"}"#,
    ] {
        assert_eq!(read(ApiForm::Gemini, body).limit, None, "{body}");
    }
}

#[test]
fn several_answers_are_counted() {
    assert_eq!(read(ApiForm::Gemini, r#"{"generationConfig":{"candidateCount":3}}"#).answers(), 3);
    assert_eq!(read(ApiForm::Openai, r#"{"n":2,"best_of":5}"#).answers(), 5);
    assert_eq!(read(ApiForm::Openai, r#"{"n":0}"#).answers(), 1);
    assert_eq!(read(ApiForm::Anthropic, r#"{"n":4}"#).answers(), 1);
}

#[test]
fn what_the_model_reads_from_elsewhere_has_no_bound() {
    for (form, body) in [
        (ApiForm::Gemini, r#"{"contents":[{"parts":[{"fileData":{"fileUri":"x"}}]}]}"#),
        (ApiForm::Gemini, r#"{"contents":[{"parts":[{"inline_data":{"data":"x"}}]}]}"#),
        (ApiForm::Gemini, r#"{"cachedContent":"x"}"#),
        (ApiForm::Gemini, r#"{"tools":[{"googleSearch":{}}]}"#),
        (ApiForm::Anthropic, r#"{"messages":[{"content":[{"type":"image","source":{}}]}]}"#),
        (ApiForm::Anthropic, r#"{"tools":[{"type":"web_search_20250305"}]}"#),
        (ApiForm::Openai, r#"{"messages":[{"content":[{"type":"image_url","image_url":{}}]}]}"#),
        (ApiForm::Openai, r#"{"previous_response_id":"x"}"#),
        (ApiForm::Openai, r#"{"tools":[{"type":"web_search_preview"}]}"#),
    ] {
        assert!(read(form, body).boundless, "{body}");
    }
    for (form, body) in [
        (
            ApiForm::Gemini,
            r#"{"contents":[{"parts":[{"text":"fileData"}]}],"tools":[{"functionDeclarations":[{"name":"f"}]}]}"#,
        ),
        (
            ApiForm::Anthropic,
            r#"{"messages":[{"content":[{"type":"text","text":"image"}]}],"tools":[{"type":"custom"}]}"#,
        ),
        (ApiForm::Openai, r#"{"messages":[{"content":"web_search"}],"tools":[{"type":"function"}]}"#),
    ] {
        assert!(!read(form, body).boundless, "{body}");
    }
}

#[test]
fn what_is_no_request_is_not_understood() {
    for body in ["", "[]", "7", "{", "{}{}", "{\"a\":1,}", "\u{feff}{}", &"[".repeat(100_000)] {
        assert!(Asked::read(ApiForm::Gemini, body.as_bytes()).is_err(), "{body:.20}");
    }
}

#[test]
fn only_the_limit_is_written_and_every_other_byte_stays() {
    let gemini = |body| lowered(ApiForm::Gemini, "", body, 5);
    assert_eq!(
        gemini(
            " { \"contents\" : [ { \"x\" : 1.0 } ] , \"generationConfig\" : { \"maxOutputTokens\" : 900 , \"t\" : 1e0 } } "
        ),
        " { \"contents\" : [ { \"x\" : 1.0 } ] , \"generationConfig\" : { \"maxOutputTokens\" : 5 , \"t\" : 1e0 } } "
    );
    assert_eq!(
        gemini(r#"{"generationConfig":{"max_output_tokens":"900","max\u004futputTokens":null}}"#),
        r#"{"generationConfig":{"max_output_tokens":5,"max\u004futputTokens":5}}"#
    );
    assert_eq!(
        gemini(r#"{"generationConfig":{"t":1},"generation_config":{}}"#),
        r#"{"generationConfig":{"maxOutputTokens":5,"t":1},"generation_config":{"maxOutputTokens":5}}"#
    );
    assert_eq!(gemini("{ }"), r#"{"generationConfig":{"maxOutputTokens":5} }"#);
    assert_eq!(gemini(r#"{"a":"}\"{"}"#), r#"{"generationConfig":{"maxOutputTokens":5},"a":"}\"{"}"#);
    assert_eq!(gemini(r#"{"generationConfig":null}"#), r#"{"generationConfig":{"maxOutputTokens":5}}"#);
}

#[test]
fn each_api_gets_the_key_it_knows() {
    for (form, path, expected) in [
        (ApiForm::Anthropic, "/v1/messages", r#"{"max_tokens":5,"a":1}"#),
        (ApiForm::Openai, CHAT, r#"{"max_completion_tokens":5,"a":1}"#),
        (ApiForm::Openai, "/v1/responses", r#"{"max_output_tokens":5,"a":1}"#),
        (ApiForm::Openai, "/v1/completions", r#"{"max_tokens":5,"a":1}"#),
    ] {
        assert_eq!(lowered(form, path, r#"{"a":1}"#, 5), expected);
    }
    assert_eq!(lowered(ApiForm::Openai, CHAT, r#"{"max_tokens":9,"a":1}"#, 5), r#"{"max_tokens":5,"a":1}"#);
}

fn requests() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u32>().prop_map(Value::from),
        "[\"\\\\{}\\[\\],: a]{0,6}".prop_map(Value::from),
        Just(Value::Null)
    ];
    let key = prop_oneof!["generationConfig", "maxOutputTokens", "max_tokens", "[a\"\\\\{]{1,3}"];
    objects(leaf, key)
}

proptest! {
    #[test]
    fn a_lowered_request_says_the_new_limit_and_nothing_else_changes(request in requests(), pretty: bool, limit in 1_u64..1000) {
        for form in [ApiForm::Gemini, ApiForm::Anthropic, ApiForm::Openai] {
            let text = if pretty { serde_json::to_string_pretty(&request) } else { serde_json::to_string(&request) };
            let lowered = lowered(form, CHAT, &text.expect("JSON"), limit);
            prop_assert_eq!(read(form, &lowered).limit, Some(limit));
            let without = |mut value: Value| {
                let fields = value.as_object_mut().expect("an object");
                let null = fields.get("generationConfig").is_some_and(|config| !config.is_object());
                if form == ApiForm::Gemini {
                    if let Some(config) = fields.get_mut("generationConfig").and_then(Value::as_object_mut) {
                        config.remove("maxOutputTokens");
                    }
                    if null || fields.get("generationConfig") == Some(&json!({})) {
                        fields.remove("generationConfig");
                    }
                } else {
                    for key in limit_keys(form, CHAT) {
                        fields.remove(*key);
                    }
                }
                value
            };
            prop_assert_eq!(without(serde_json::from_str(&lowered).expect("still JSON")), without(request.clone()));
        }
    }
}
