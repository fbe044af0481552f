//! What each API says, and how we say it.

use super::*;

const FORMS: [ApiForm; 3] = [ApiForm::Gemini, ApiForm::Anthropic, ApiForm::Openai];

fn told(form: ApiForm, code: u16, hopeless: bool) -> (Value, http::HeaderMap) {
    let code = StatusCode::from_u16(code).expect("a status");
    let answer = refusal(form, Words { code, status: "SOME_STATUS", message: "why not", hopeless });
    let forbidden = hopeless && form == ApiForm::Gemini;
    assert_eq!(answer.status(), if forbidden { StatusCode::FORBIDDEN } else { code });
    let (parts, body) = answer.into_parts();
    (serde_json::from_slice(&body).expect("JSON"), parts.headers)
}

#[test]
fn a_refusal_has_the_form_of_the_api_it_stands_for() {
    let (gemini, _) = told(ApiForm::Gemini, 403, false);
    assert_eq!(gemini, json!({"error": {"code": 403, "message": "why not", "status": "SOME_STATUS"}}));
    let (anthropic, _) = told(ApiForm::Anthropic, 403, false);
    assert_eq!(anthropic, json!({"type": "error", "error": {"type": "permission_error", "message": "why not"}}));
    let (openai, _) = told(ApiForm::Openai, 502, false);
    let expected = json!({"error": {"message": "why not", "type": "server_error", "param": null, "code": null}});
    assert_eq!(openai, expected);
}

#[test]
fn what_has_no_hope_tells_each_client_not_to_come_again() {
    let (gemini, _) = told(ApiForm::Gemini, 429, true);
    assert_eq!((&gemini["error"]["code"], &gemini["error"]["status"]), (&json!(403), &json!("PERMISSION_DENIED")));
    assert_eq!(gemini["error"]["details"][0]["reason"], "BUDGET_EXHAUSTED");
    for form in [ApiForm::Anthropic, ApiForm::Openai] {
        assert_eq!(told(form, 429, true).1["x-should-retry"], "false");
        assert!(!told(form, 504, false).1.contains_key("x-should-retry"));
    }
    assert_eq!(told(ApiForm::Openai, 429, true).0["error"]["code"], "insufficient_quota");
}

#[test]
fn every_way_to_refuse_a_key_is_known() {
    let gemini = |code: u16, reason: &str, status: &str, message: &str| {
        let details = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]);
        (code, json!({"error": {"code": code, "status": status, "message": message, "details": details}}))
    };
    for (code, error) in [
        gemini(400, "API_KEY_INVALID", "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        gemini(403, "CONSUMER_SUSPENDED", "PERMISSION_DENIED", "Consumer has been suspended."),
        gemini(403, "API_KEY_SERVICE_BLOCKED", "PERMISSION_DENIED", "blocked"),
        gemini(403, "", "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."),
        gemini(403, "", "PERMISSION_DENIED", "Method doesn't allow unregistered callers."),
        gemini(401, "", "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    ] {
        let status = StatusCode::from_u16(code).expect("a status");
        assert!(refuses_key(ApiForm::Gemini, status, error.to_string().as_bytes()), "{error}");
        assert!(refuses_key(ApiForm::Gemini, status, json!([error]).to_string().as_bytes()), "[{error}]");
    }
    for form in FORMS {
        assert!(refuses_key(form, StatusCode::UNAUTHORIZED, b"whatever"));
    }
}

#[test]
fn other_errors_are_not_about_the_key() {
    let error = json!({"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "not this model"}}).to_string();
    assert!(!refuses_key(ApiForm::Gemini, StatusCode::FORBIDDEN, error.as_bytes()));
    for form in FORMS {
        for code in [400, 403, 404, 429, 500, 503] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert!(!refuses_key(form, status, b"{\"error\":{\"message\":\"no\"}}"), "{form:?} {code}");
            assert!(!refuses_key(form, status, b"not JSON"), "{form:?} {code}");
        }
    }
}

#[test]
fn only_counting_costs_nothing() {
    assert!(
        !costs(ApiForm::Gemini, "/v1/models/m:countTokens") && costs(ApiForm::Gemini, "/v1/models/m:generateContent")
    );
    assert!(!costs(ApiForm::Anthropic, "/v1/messages/count_tokens") && costs(ApiForm::Anthropic, "/v1/messages"));
    assert!(costs(ApiForm::Openai, "/v1/responses"));
}
