//! The OpenAPI documents that are checked in are those the code makes, and they keep promises to those who make clients from them.

use std::{fs, path::Path};

use greenroom::{doors, log, service};
use serde_json::{Map, Value};

/// The users' document.
fn document() -> Value {
    parsed(&doors::rest::document())
}

/// The operators' document.
fn admin() -> Value {
    parsed(&doors::admin::document())
}

/// What holds for both.
fn both() -> [Value; 2] {
    [document(), admin()]
}

fn parsed(document: &str) -> Value {
    serde_json::from_str(document).expect("the document is JSON")
}

fn fields(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

/// Every operation, with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = fields(&document["paths"]).iter();
    let operations = paths.flat_map(|(path, methods)| {
        fields(methods).iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    operations.collect()
}

/// Every `$ref` in a value.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref") {
                found.push(target.clone());
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn the_documents_that_are_checked_in_are_those_the_code_makes() {
    for (name, made) in [("openapi.json", doors::rest::document()), ("admin.json", doors::admin::document())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi").join(name);
        let kept = fs::read_to_string(path).expect("the document is checked in");
        let same = kept.trim_end() == made.trim_end();
        assert!(same, "openapi/{name} is not what the code makes: run `make openapi` and look at what changed");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    for document in both() {
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for target in found {
            let pointer = target.strip_prefix('#').expect("references stay in the document");
            assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
        }
    }
}

#[test]
fn names_of_schemas_are_allowed_ones() {
    for document in both() {
        for name in fields(&document["components"]["schemas"]).keys() {
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{name}");
        }
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_and_a_summary() {
    for document in both() {
        let mut names: Vec<_> =
            operations(&document).iter().map(|(_, operation)| operation["operationId"].clone()).collect();
        assert!(names.iter().all(Value::is_string));
        let all = names.len();
        names.sort_by_key(Value::to_string);
        names.dedup();
        assert_eq!(names.len(), all);
        for (place, operation) in operations(&document) {
            assert!(operation["summary"].is_string(), "{place} has no summary");
            for (status, response) in fields(&operation["responses"]) {
                assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{place} {status}");
            }
        }
    }
}

#[test]
fn every_call_under_v1_needs_a_token_of_one_scope_and_no_other_does() {
    let document = document();
    for (place, operation) in operations(&document) {
        let Some(needed) = operation["security"].as_array() else {
            assert!(!place.contains(" /v1/"), "{place}");
            continue;
        };
        assert!(place.contains(" /v1/"), "{place}");
        let mut names: Vec<_> = needed.iter().flat_map(|one| one.as_object().expect("names").keys()).collect();
        // A ticket stands in for a token where a browser can't send one, and nowhere else.
        let by_ticket = names.last().is_some_and(|name| *name == "ticket");
        assert_eq!(by_ticket, place == "get /v1/sessions/{id}/events", "{place}: {names:?}");
        names.truncate(names.len() - usize::from(by_ticket));
        assert!(
            matches!(names.as_slice(), [name] if ["read", "sessions", "admin"].contains(&name.as_str())),
            "{place}: {names:?}"
        );
        assert_eq!(document["components"]["securitySchemes"][names[0]]["scheme"], "bearer", "{place}");
    }
}

#[test]
fn a_parameter_that_is_not_in_the_path_may_be_left_out() {
    let document = document();
    for (place, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let (name, kind) = (&parameter["name"], &parameter["in"]);
            assert_eq!(parameter["required"], kind == "path", "{place} {name}");
        }
    }
}

#[test]
fn pages_are_promised_no_longer_than_they_are_given() {
    let document = document();
    let get = |path: &str| document["paths"][path]["get"]["parameters"].as_array().cloned().unwrap_or_default();
    let pages = [
        ("/v1/sessions", service::PAGE_MAX),
        ("/v1/workspaces", service::PAGE_MAX),
        ("/v1/keys", service::PAGE_MAX),
        ("/v1/sessions/{id}/events", log::READ_MAX),
        ("/v1/sessions/{id}/files/{path}", service::files::FOLDER_PAGE_MAX),
    ];
    for (path, most) in pages {
        let limit = get(path).into_iter().find(|parameter| parameter["name"] == "limit").expect("pages have a limit");
        assert_eq!(limit["schema"]["maximum"].as_f64(), Some(most as f64), "{path}");
    }
}

#[test]
fn a_call_that_waits_may_be_told_that_the_server_stops() {
    let document = document();
    for (path, method) in [("/v1/sessions/{id}/events", "get"), ("/v1/sessions/{id}/turns", "post")] {
        let stopping = &document["paths"][path][method]["responses"]["503"];
        assert!(stopping["headers"]["Retry-After"].is_object(), "{method} {path}: {stopping}");
    }
}

#[test]
fn every_failure_is_a_problem() {
    let documents = both();
    for (place, operation) in documents.iter().flat_map(operations) {
        let responses = fields(&operation["responses"]);
        if place.contains(" /v1/") {
            assert!(["400", "401", "403"].iter().all(|status| responses.contains_key(*status)), "{place}");
        }
        if place.contains('{') {
            assert!(responses.contains_key("404"), "{place}");
        }
        if operation["requestBody"].is_object() {
            // A file may be called anything.
            let anything = operation["requestBody"]["content"]["application/octet-stream"].is_object();
            assert!(responses.contains_key("413") && (anything || responses.contains_key("415")), "{place}");
        }
        assert!(responses.contains_key("500"), "{place}");
        let failures = responses.iter().filter(|(status, _)| status.starts_with(['4', '5']));
        for (status, response) in failures {
            // The one answer of failure that has a shape of its own.
            if (place.as_str(), status.as_str()) == ("get /readyz", "503") {
                continue;
            }
            let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{place} {status}");
        }
    }
}

#[test]
fn every_call_of_an_operator_may_be_refused_to_a_web_page_and_none_has_a_token() {
    let admin = admin();
    assert!(admin["components"]["securitySchemes"].as_object().is_none_or(Map::is_empty));
    for (place, operation) in operations(&admin) {
        assert!(operation["responses"]["403"].is_object(), "{place}");
        assert!(!place.contains("/v1/"), "{place}");
    }
}

#[test]
fn a_pool_looks_the_same_to_users_and_operators() {
    let of = |document: Value| document["components"]["schemas"]["Pool"].clone();
    assert_eq!(of(document()), of(admin()));
    let example = &of(document())["example"];
    assert_eq!(example["hit_rate"], 0.75, "{example}");
}

#[test]
fn every_stream_is_described_by_the_event_and_not_by_a_list() {
    let document = document();
    let mut streams = Vec::new();
    for (place, operation) in operations(&document) {
        if let Some(stream) = operation["responses"]["200"]["content"].get("text/event-stream") {
            assert_eq!(stream["schema"]["$ref"], "#/components/schemas/Event", "{place}");
            streams.push(place);
        }
    }
    streams.sort();
    assert_eq!(streams, ["get /v1/sessions/{id}/events", "post /v1/chat", "post /v1/sessions/{id}/turns"]);
}
