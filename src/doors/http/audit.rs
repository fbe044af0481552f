//! Every call leaves its line in the audit log: this begins it, whoever proves callers and finds things adds what they know, and the answer ends it.
//!
//! Goes around the rendering of refusals, so that each has its code, and inside the span, for the trace's id. What a path names is taken only if
//! it looks like an id or a name of ours: nobody writes a text of their own into the log by asking for it.

use std::sync::Arc;

use poem::{Endpoint, Request, Response, Result, http::Method};

use super::{operations::Asked, routes::Routes, trace::RequestId};
use crate::{
    ids::{PermissionId, SessionId, SlotId, TemplateName, TurnId},
    problem::Problem,
    telemetry::{
        Audit, Trail,
        audit::{self, Call},
    },
};

/// Asked by machines all the time, and nobody's business.
const UNWATCHED: [&str; 3] = ["healthz", "readyz", "metrics"];
/// The operation of a request that is none.
const NONE: &str = "none";

/// Where a door's calls are written down.
#[derive(Debug, Clone)]
pub(in crate::doors) struct Watch {
    audit: Audit,
    operators: bool,
}

impl Watch {
    /// For the door for users.
    pub(in crate::doors) const fn users(audit: Audit) -> Self {
        Self { audit, operators: false }
    }

    /// For the operators' door.
    pub(in crate::doors) const fn operators(audit: Audit) -> Self {
        Self { audit, operators: true }
    }

    fn begin(&self, request: &Request, routes: &Routes) -> Option<Call> {
        let method = request.method();
        let asked = routes.asked(method, request.uri().path());
        let operation = asked.as_ref().map_or(NONE, |asked| asked.id);
        if UNWATCHED.contains(&operation) {
            return None;
        }
        let call = self.audit.call(audit::Asked {
            operation,
            operators: self.operators,
            changes: asked.is_some() && !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
            request_id: request.data::<RequestId>().map(|id| id.as_str().to_owned()).unwrap_or_default(),
            remote: request.remote_addr().as_socket_addr().map(ToString::to_string),
        });
        if let Some(asked) = asked {
            leave(&call.trail(), &asked, self.operators);
        }
        Some(call)
    }
}

/// Runs a request and writes down what came of it.
pub(in crate::doors) async fn watch<E: Endpoint>(
    app: Arc<E>,
    mut request: Request,
    watch: Arc<Watch>,
    routes: Arc<Routes>,
) -> Result<Response> {
    let Some(call) = watch.begin(&request, &routes) else { return Ok(app.get_response(request).await) };
    request.extensions_mut().insert(call.trail());
    let response = app.get_response(request).await;
    let code = response.data::<Arc<Problem>>().map(|problem| problem.code);
    call.answered(response.status().as_u16(), code).await;
    Ok(response)
}

/// Where those who know more of a request leave it.
pub(in crate::doors) fn trail(request: &Request) -> Trail {
    request.data::<Trail>().cloned().unwrap_or_default()
}

fn leave(trail: &Trail, asked: &Asked<'_>, operators: bool) {
    for (name, value) in &asked.named {
        match *name {
            "id" if operators => drop(SlotId::well_formed(value).map(|id| trail.object(id.as_str()))),
            "template" if operators => drop(TemplateName::parse(value).map(|name| trail.template(&name))),
            "id" => drop(SessionId::well_formed(value).map(|id| trail.asked_for(&id))),
            "turn" => drop(TurnId::well_formed(value).map(|id| trail.turn(&id))),
            "permission" => drop(PermissionId::well_formed(value).map(|id| trail.permission(&id))),
            _ => {}
        }
    }
}
