//! However an answer is cut, its last counts are found, and nothing else is taken for them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const EVENTS: &str = concat!(
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a \\\"usageMetadata\\\":{\\\"promptTokenCount\\\":9}\"}]}}],",
    "\"usageMetadata\":{\"promptTokenCount\":7,\"candidatesTokenCount\":1}}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"args\":{\"usageMetadata\":{\"promptTokenCount\":8}}}}]}}]}\n\n",
    ": a comment\n\n",
    "data: {\"usageMetadata\" : { \"promptTokenCount\":70, \"cachedContentTokenCount\":60, \"toolUsePromptTokenCount\":5,",
    "\"candidatesTokenCount\":20,\"thoughtsTokenCount\":3,\"totalTokenCount\":98,",
    "\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":70}]},\"modelVersion\":\"m\"}\n\n",
);

fn scan(events: bool, text: &[u8], cut: usize) -> UsageScanner {
    let mut scanner = UsageScanner::new(events);
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

/// What a real JSON parser finds in an object, or in the last of an array's objects that has some.
fn found_by_parser(document: &Value) -> Option<Counts> {
    let in_object = |object: &Value| {
        let usage = object.get("usageMetadata").filter(|usage| usage.is_object())?;
        let usage = serde_json::from_value::<UsageMetadata>(usage.clone()).ok()?;
        let (prompt, thoughts) = (usage.prompt_token_count.unwrap_or(0), usage.thoughts_token_count.unwrap_or(0));
        Some(Counts { input: prompt, output: thoughts })
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
    fn cutting_into_any_pieces_changes_nothing(sizes in proptest::collection::vec(1_usize..40, 1..80)) {
        let mut scanner = UsageScanner::new(true);
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
        let whole = scan(events, &bytes, bytes.len());
        let parts = scan(events, &bytes, cut);
        prop_assert_eq!(whole.counts(), parts.counts());
    }
}
