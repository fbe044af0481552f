//! However an answer is cut, its last counts are found, and nothing else is taken for them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::gateway::documents::objects;

const EVENTS: &str = concat!(
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a \\\"usageMetadata\\\":{\\\"promptTokenCount\\\":9}\"}]}}],",
    "\"usageMetadata\":{\"promptTokenCount\":7,\"candidatesTokenCount\":1}}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"args\":{\"usageMetadata\":{\"promptTokenCount\":8}}}}]}}]}\n\n",
    ": a comment\n\n",
    "data: {\"usageMetadata\" : { \"promptTokenCount\":70, \"cachedContentTokenCount\":60, \"toolUsePromptTokenCount\":5,",
    "\"candidatesTokenCount\":20,\"thoughtsTokenCount\":3,\"totalTokenCount\":98,",
    "\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":70}]},\"modelVersion\":\"m\"}\n\n",
);

/// A stream of Anthropic's: counts at its beginning, below `message`, and at its end; a tool's arguments that look like some.
const ANTHROPIC: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-x\",\"content\":[],",
    "\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":100,\"cache_read_input_tokens\":1000,\"output_tokens\":1,",
    "\"cache_creation\":{\"input_tokens\":7}}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"usage\":{\"output_tokens\":99}}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: x\ndata: {\"message\":{\"content\":[{\"usage\":{\"input_tokens\":9}}],\"input\":{\"usage\":{\"input_tokens\":9}}}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

/// Chat Completions: counts in the last piece, if they were asked for.
const CHAT: &str = concat!(
    "data: {\"id\":\"c\",\"model\":\"gpt-x\",\"choices\":[{\"delta\":{\"content\":\"usage\"}}],\"usage\":null}\n\n",
    "data: {\"id\":\"c\",\"model\":\"gpt-x\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":4,",
    "\"completion_tokens_details\":{\"reasoning_tokens\":3}}}\n\n",
    "data: [DONE]\n\n",
);

/// Responses: counts below `response`, at the end.
const RESPONSES: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-x\",\"usage\":null}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"response\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-x\",\"output\":[],",
    "\"usage\":{\"input_tokens\":11,\"input_tokens_details\":{\"cached_tokens\":5},\"output_tokens\":4}}}\n\n",
);

fn scan(events: bool, text: &[u8], cut: usize) -> UsageScanner {
    scan_as(ApiForm::Gemini, events, text, cut)
}

fn scan_as(form: ApiForm, events: bool, text: &[u8], cut: usize) -> UsageScanner {
    let mut scanner = UsageScanner::new(form, events);
    let (one, other) = text.split_at(cut.min(text.len()));
    scanner.push(one);
    scanner.push(other);
    scanner
}

#[test]
fn the_last_counts_are_found_wherever_the_answer_is_cut() {
    for cut in 0..=EVENTS.len() {
        let scanner = scan(true, EVENTS.as_bytes(), cut);
        assert_eq!(scanner.counts(), Some(Counts { input: 75, output: 23 }), "cut at {cut}");
        assert_eq!(scanner.skipped(), 0);
    }
}

#[test]
fn the_streams_of_other_houses_are_read_wherever_they_are_cut() {
    for (form, text, model, input, output) in [
        (ApiForm::Anthropic, ANTHROPIC, "claude-x", 1125, 15),
        (ApiForm::Openai, CHAT, "gpt-x", 11, 4),
        (ApiForm::Openai, RESPONSES, "gpt-x", 11, 4),
    ] {
        for cut in 0..=text.len() {
            let scanner = scan_as(form, true, text.as_bytes(), cut);
            assert_eq!(scanner.counts(), Some(Counts { input, output }), "{form:?} cut at {cut}");
            assert_eq!((scanner.model(), scanner.skipped()), (Some(model), 0), "{form:?} cut at {cut}");
        }
    }
}

#[test]
fn whole_answers_of_other_houses_are_read() {
    let anthropic = r#"{"type":"message","model":"claude-x","content":[{"type":"tool_use","input":{"usage":{"input_tokens":9}}}],"usage":{"input_tokens":3,"output_tokens":2}}"#;
    let chat =
        r#"{"choices":[{"message":{"usage":{"prompt_tokens":9}}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    let responses = r#"{"object":"response","usage":{"input_tokens":3,"output_tokens":2}}"#;
    for (form, text) in [(ApiForm::Anthropic, anthropic), (ApiForm::Openai, chat), (ApiForm::Openai, responses)] {
        for cut in 0..=text.len() {
            let counts = scan_as(form, false, text.as_bytes(), cut).counts();
            assert_eq!(counts, Some(Counts { input: 3, output: 2 }), "{form:?} cut at {cut}");
        }
    }
}

#[test]
fn a_models_name_is_kept_only_if_it_is_one() {
    let named = |name: &str| {
        let text = format!("{{\"model\":\"{name}\"}}");
        scan_as(ApiForm::Openai, false, text.as_bytes(), 4).model().map(str::to_owned)
    };
    assert_eq!(named("org/gpt-x:free").as_deref(), Some("org/gpt-x:free"));
    for name in ["", "a b", "a\\\"b", &"m".repeat(MODEL_MAX + 1)] {
        assert_eq!(named(name), None, "{name}");
    }
}

#[test]
fn bare_json_is_read_as_object_and_as_array() {
    for text in [
        "{\n  \"candidates\": [],\n\n  \"usageMetadata\": {\n    \"promptTokenCount\": 2\n  }\n}\n",
        "[{\"usageMetadata\":{\"promptTokenCount\":1}}\n,\r\n{\"usageMetadata\":{\"promptTokenCount\":2}}\n]",
    ] {
        for cut in 0..=text.len() {
            assert_eq!(scan(false, text.as_bytes(), cut).counts(), Some(Counts { input: 2, output: 0 }));
        }
    }
}

#[test]
fn what_only_looks_like_counts_is_not_taken() {
    for text in [
        "{\"x\":{\"usageMetadata\":{\"promptTokenCount\":1}}}",
        "{\"text\":\"\\\"usageMetadata\\\":{\\\"promptTokenCount\\\":1}\"}",
        "{\"x\":\"usageMetadata\",\"y\":{\"promptTokenCount\":1}}",
        "{\"usageMetadata2\":{\"promptTokenCount\":1}}",
        "{\"usageMetadat\":{\"promptTokenCount\":1}}",
        "{\"\\u0000usageMetadata\":{\"promptTokenCount\":1}}",
        "{\"usageMetadata\":[{\"promptTokenCount\":1}]}",
        "{\"usageMetadata\":null,\"x\":{\"promptTokenCount\":1}}",
        "{\"totalTokens\":31}",
        "",
    ] {
        assert_eq!(scan(false, text.as_bytes(), 3).counts(), None, "{text}");
    }
}

#[test]
fn a_document_that_breaks_off_does_not_hide_the_next() {
    let text =
        "data: {\"candidates\":[{\"text\":\"never clo\n\ndata: {\"usageMetadata\":{\"candidatesTokenCount\":4}}\n\n";
    for cut in 0..=text.len() {
        assert_eq!(scan(true, text.as_bytes(), cut).counts(), Some(Counts { input: 0, output: 4 }));
    }
}

#[test]
fn counts_too_long_or_not_understood_are_skipped_and_counted() {
    let long = format!("{{\"usageMetadata\":{{\"x\":\"{}\"}}}}", "y".repeat(2 * WINDOW));
    let scanner = scan(false, long.as_bytes(), WINDOW);
    assert_eq!((scanner.counts(), scanner.skipped()), (None, 1));
    let scanner = scan(false, b"{\"usageMetadata\":{\"promptTokenCount\":-1}}", 5);
    assert_eq!((scanner.counts(), scanner.skipped()), (None, 1));
}

fn documents() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["usageMetadata", "\\PC{0,8}", "[{}\\[\\]\":\\\\,]{0,6}"];
    let leaf = prop_oneof![
        any::<u32>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
        any::<u32>().prop_map(|tokens| json!({"promptTokenCount": tokens, "thoughtsTokenCount": 1})),
        Just(Value::Null),
    ];
    let key = prop_oneof![2 => Just("usageMetadata".to_owned()), 1 => text];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Objects in which counts of Responses are at the right place, and at wrong ones.
fn below_documents() -> impl Strategy<Value = Value> {
    let counts = any::<u32>().prop_map(|tokens| json!({"input_tokens": tokens, "output_tokens": 1}));
    let leaf = prop_oneof![counts, Just(Value::Null), Just(json!("usage")), Just(json!("response"))];
    let key = prop_oneof![Just("usage"), Just("response"), Just("model"), Just("output")].prop_map(str::to_owned);
    objects(leaf, key)
}

/// What a real JSON parser finds in an object, or in the last of an array's objects that has some.
fn found_by_parser(document: &Value) -> Option<Counts> {
    let in_object = |object: &Value| {
        let usage = object.get("usageMetadata").filter(|usage| usage.is_object())?;
        Sum::read(ApiForm::Gemini, usage.to_string().as_bytes(), None).map(Sum::counts)
    };
    match document {
        Value::Array(objects) => objects.iter().rev().find_map(in_object),
        object => in_object(object),
    }
}

proptest! {
    #[test]
    fn it_agrees_with_a_json_parser(document in documents(), pretty: bool, cut in 0_usize..200) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
        let text = text.expect("JSON");
        prop_assert_eq!(scan(false, text.as_bytes(), cut).counts(), found_by_parser(&document));
    }

    #[test]
    fn it_agrees_with_a_json_parser_on_counts_below_another_object(document in below_documents(), cut in 0_usize..200) {
        let text = serde_json::to_string(&document).expect("JSON");
        let below = |key: &str, value: &'_ Value| match key {
            "usage" => Some(value.clone()),
            "response" => value.get("usage").cloned(),
            _ => None,
        };
        let found = document.as_object().expect("an object").iter().filter_map(|(key, value)| below(key, value));
        let expected = found.filter(Value::is_object).fold(None, |former, usage| {
            Sum::read(ApiForm::Openai, usage.to_string().as_bytes(), former).or(former)
        });
        let expected = expected.map(Sum::counts);
        prop_assert_eq!(scan_as(ApiForm::Openai, false, text.as_bytes(), cut).counts(), expected);
    }

    #[test]
    fn cutting_into_any_pieces_changes_nothing(sizes in proptest::collection::vec(1_usize..40, 1..80)) {
        let mut scanner = UsageScanner::new(ApiForm::Gemini, true);
        let mut rest = EVENTS.as_bytes();
        for size in sizes.iter().cycle() {
            let (piece, more) = rest.split_at((*size).min(rest.len()));
            scanner.push(piece);
            rest = more;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(scanner.counts(), Some(Counts { input: 75, output: 23 }));
    }

    #[test]
    fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400, events: bool) {
        for form in [ApiForm::Gemini, ApiForm::Anthropic, ApiForm::Openai] {
            let whole = scan_as(form, events, &bytes, bytes.len());
            let parts = scan_as(form, events, &bytes, cut);
            prop_assert_eq!(whole.counts(), parts.counts());
        }
    }
}
