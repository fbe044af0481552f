//! Whose things a caller may name: with nothing there, so that only the answer itself could tell. What is there is told in the end-to-end tests.

use poem::{
    Endpoint as _, Response,
    http::{Method, StatusCode, header},
};
use serde_json::{Value, json};

use crate::house::{GUEST_TOKEN, ROOT_TOKEN, TOKEN, house, json_of, visitor};

/// The answer's status and body.
async fn whole(response: Response) -> (StatusCode, Value) {
    (response.status(), json_of(response).await)
}

#[tokio::test]
async fn whoever_names_somebody_else_learns_nothing_of_them() {
    let house = house();
    for (method, path) in
        [(Method::GET, "/v1/sessions"), (Method::GET, "/v1/workspaces"), (Method::DELETE, "/v1/workspaces/notes")]
    {
        let ask = async |user: &str| whole(house.ask(method.clone(), &format!("{path}?user={user}"), None).await).await;
        let (status, body) = ask("bob").await;
        assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("FORBIDDEN")), "{path}");
        let long = "x".repeat(1000);
        for user in ["nobody-of-that-name", "*", "", "no%20name", "%00", &long] {
            assert_eq!(ask(user).await, (status, body.clone()), "{path} {user}");
        }
        assert_ne!(ask("alice").await.0, StatusCode::FORBIDDEN, "{path}: herself she may name");
    }
}

#[tokio::test]
async fn an_administrator_may_name_anybody() {
    let house = house();
    let ask = async |path: &str| whole(house.ask_as(ROOT_TOKEN, Method::GET, path, None).await).await;
    for path in ["/v1/sessions", "/v1/sessions?user=bob", "/v1/sessions?user=*", "/v1/workspaces?user=nobody"] {
        assert_eq!(ask(path).await, (StatusCode::OK, json!({"items": [], "next_cursor": null})), "{path}");
    }
    for path in ["/v1/sessions?user=no%20name", "/v1/workspaces?user="] {
        assert_eq!(ask(path).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn a_ticket_that_is_none_is_answered_as_no_token_is() {
    let house = house();
    let events = "/v1/sessions/ses_none/events";
    let ask = async |path: &str| {
        let request = visitor().uri_str(path).header("x-request-id", "same");
        house.users.get_response(request.finish()).await
    };
    let nobody = whole(ask(events).await).await;
    assert_eq!(nobody.0, StatusCode::UNAUTHORIZED);
    let good_looking = format!("{events}?ticket=gr_ticket_{}", "A".repeat(43));
    for path in [&good_looking, &format!("{events}?ticket="), &format!("{events}?ticket=%ff&after=1")] {
        let refused = ask(path).await;
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert_eq!(whole(refused).await, nobody, "{path}");
    }
    // Other calls take no ticket at all.
    assert_eq!(ask(&good_looking.replace("/events", "")).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_ticket_beside_a_token_or_another_ticket_is_refused_before_either_is_looked_at() {
    let house = house();
    let path = "/v1/sessions/ses_none/events?ticket=one";
    for token in [format!("Bearer {TOKEN}"), "Bearer wrong".to_owned(), "nonsense".to_owned()] {
        let request = visitor().uri_str(path).header(header::AUTHORIZATION, token).finish();
        assert_eq!(house.users.get_response(request).await.status(), StatusCode::BAD_REQUEST);
    }
    let request = visitor().uri_str(format!("{path}&ticket=two")).finish();
    assert_eq!(house.users.get_response(request).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn there_is_no_ticket_for_what_is_not_there() {
    let house = house();
    let path = "/v1/sessions/ses_none/tickets";
    for token in [TOKEN, GUEST_TOKEN, ROOT_TOKEN] {
        let refused = house.ask_as(token, Method::POST, path, None).await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND, "to look is enough for a ticket");
    }
}
