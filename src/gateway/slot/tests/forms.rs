//! Agents of other houses, and keys that a model refuses or repeats.

use super::*;
use crate::{config::ApiForm, gateway::CallRefused};

#[tokio::test]
async fn each_house_gets_the_key_in_its_own_header_whatever_the_agent_sent() {
    for (api, path, header, value) in [
        (ApiForm::Anthropic, "/v1/messages", "x-api-key", CANARY.to_owned()),
        (ApiForm::Openai, "/v1/chat/completions", "authorization", format!("Bearer {CANARY}")),
    ] {
        let model = Model::start(model::echo_headers).await;
        let house = House::of(&ModelApi::of(api), &model.url(), Deadlines::default());
        house.slot.bind(house.binding.clone());
        let mut request = json_request(&format!("{path}?key=sandbox-key"), "{}");
        for name in ["x-goog-api-key", "authorization", "x-api-key", "anthropic-version", "openai-organization"] {
            request.headers_mut().insert(name, "sandbox-value".parse().expect("a value"));
        }
        let (status, seen) = house.ask(request).await;
        assert_eq!(status, StatusCode::OK, "{seen}");
        let backwards: String = value.chars().rev().collect();
        assert!(seen.contains(&format!("{header}: {backwards}\n")), "{seen}");
        // Only the header of its own house that isn't for keys.
        assert_eq!(seen.matches("eulav-xobdnas").count(), 1, "{seen}");
        assert!(seen.starts_with(&format!("POST {path}\n")), "{seen}");
        let (status, text) = house.ask(json_request("/v1/files", "{}")).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["error"]["type"].is_string(), "{text}");
    }
}

#[tokio::test]
async fn a_stream_of_another_house_is_counted_and_names_its_model() {
    const STREAM: &str = concat!(
        "event: message_start\ndata: {\"message\":{\"model\":\"claude-x\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
        "event: message_delta\ndata: {\"usage\":{\"output_tokens\":4}}\n\n",
    );
    let model = Model::start(|_, _| async {
        let answer = Response::builder().header("content-type", "text/event-stream");
        answer.body(model::whole(STREAM)).expect("an answer")
    })
    .await;
    let mut house = House::of(&ModelApi::of(ApiForm::Anthropic), &model.url(), Deadlines::default());
    house.slot.bind(house.binding.clone());
    assert_eq!(house.ask(json_request("/v1/messages", "{}")).await.1, STREAM);
    let Ok(Report::Usage(usage)) = house.reports.try_recv() else { panic!("not reported") };
    assert_eq!((usage.model.as_str(), usage.input_tokens, usage.output_tokens), ("claude-x", 9, 4));
}

#[tokio::test]
async fn a_refused_key_is_told_to_the_session_and_a_later_success_too() {
    let model = Model::start(|_, seen| async move {
        if seen.requests.load(Ordering::SeqCst) > 1 {
            return model::counted(false);
        }
        let error = r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#;
        Response::builder().status(400).body(model::whole(error)).expect("an answer")
    })
    .await;
    let mut house = House::bound(&model.url());
    assert_eq!(house.ask(json_request(PATH, "{}")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(house.reports.try_recv(), Ok(Report::Refused(CallRefused::Key)));
    assert_eq!(house.ask(json_request(PATH, "{}")).await.0, StatusCode::OK);
    assert_eq!(house.reports.try_recv(), Ok(Report::Answered));
    assert!(matches!(house.reports.try_recv(), Ok(Report::Usage(_))));
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_does_not_tell_the_key() {
    for whole in [false, true] {
        let model = Model::start(move |request, _| async move {
            let key = request.headers()["x-goog-api-key"].to_str().expect("text").to_owned();
            let text = format!(
                "data: {{\"a\":1}}\n\ndata: {{\"error\":{{\"message\":\"'api_key:{key}' is suspended\"}}}}\n\n"
            );
            // With a length and without one; in pieces that cut the key.
            let pieces: Vec<_> = text.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
            let frames =
                pieces.into_iter().map(|piece| Ok::<_, std::convert::Infallible>(http_body::Frame::data(piece)));
            let streamed = http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
            let answer = Response::builder().header("content-type", "text/event-stream");
            answer.body(if whole { model::whole(text) } else { streamed }).expect("an answer")
        })
        .await;
        let house = House::bound(&model.url());
        let (status, text) = house.ask(json_request(PATH, "{}")).await;
        assert_eq!(status, StatusCode::OK);
        let covered = "*".repeat(CANARY.len());
        assert!(text.ends_with(&format!("'api_key:{covered}' is suspended\"}}}}\n\n")), "{text}");
    }
}
