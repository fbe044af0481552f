//! Lists the caller's sessions, page by page.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;

use super::{
    LOOK_PATIENCE, Service,
    view::{Page, SessionState, SessionView},
};
use crate::{
    identity::Caller,
    ids::SessionId,
    problem::{Code, Problem},
    session::SessionHandle,
};

/// Most sessions one page has.
pub const PAGE_MAX: usize = 100;

impl Service {
    /// Sessions, newest first: the caller's own, or those of `user`, as far as they may see them. A cursor is a place between sessions: it holds also when those around it are gone.
    ///
    /// # Errors
    /// A cursor that no page gave, somebody whose sessions they may not see.
    pub async fn sessions(
        &self,
        caller: &Caller,
        user: Option<&str>,
        state: Option<SessionState>,
        labels: &[(String, String)],
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<SessionView>, Problem> {
        let reach = caller.reach_named(user)?;
        let begin = cursor.map(Place::parse).transpose()?;
        // As with one session: what is shown is written down, unless the store fails.
        let _shown_all_the_same = self.store.flush(LOOK_PATIENCE).await;
        let all = self.around.registry.all(&reach);
        let limit = limit.clamp(1, PAGE_MAX);
        let mut items = Vec::new();
        for session in all.iter().filter(|session| begin.as_ref().is_none_or(|begin| Place::of(session) < *begin)) {
            let view = SessionView::of(session);
            let wanted = state.is_none_or(|state| view.state == state)
                && labels.iter().all(|(key, value)| view.labels.get(key) == Some(value));
            if wanted {
                items.push(view);
            }
            if items.len() > limit {
                break;
            }
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|last| Place { created_at: last.created_at, id: last.id.clone() }.to_string());
        Ok(Page { items, next_cursor })
    }
}

/// Where a session stands among the user's, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    created_at: Timestamp,
    id: SessionId,
}

impl Place {
    fn of(session: &SessionHandle) -> Self {
        Self { created_at: session.identity.created_at, id: session.id.clone() }
    }

    fn parse(cursor: &str) -> Result<Self, Problem> {
        let read = || {
            let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
            let (nanoseconds, id) = text.split_once(' ')?;
            let created_at = Timestamp::from_nanosecond(nanoseconds.parse().ok()?).ok()?;
            Some(Self { created_at, id: SessionId::from_client(id) })
        };
        read().ok_or_else(|| Problem::new(Code::InvalidRequest, "cursor: must be the next_cursor of the page before"))
    }
}

/// As clients get it: they are not to take it apart.
impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{} {}", self.created_at.as_nanosecond(), self.id);
        formatter.write_str(&BASE64_URL_SAFE_NO_PAD.encode(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(created_at: &str, id: &str) -> Place {
        Place { created_at: created_at.parse().expect("a time"), id: SessionId::from_client(id) }
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_to_the_nanosecond() {
        for created_at in ["2026-11-20T09:30:00.123456789Z", "1969-12-31T23:59:59.9Z"] {
            let place = place(created_at, "ses_1");
            assert_eq!(Place::parse(&place.to_string()).expect("our own"), place);
        }
    }

    #[test]
    fn what_no_page_gave_is_no_cursor() {
        for bad in ["", "ses_1", "!", "MQ", &BASE64_URL_SAFE_NO_PAD.encode("x ses_1"), &"A".repeat(10_000)] {
            let problem = Place::parse(bad).expect_err("not ours");
            assert!(problem.code == Code::InvalidRequest && problem.detail.starts_with("cursor"), "{bad}");
        }
    }
}
