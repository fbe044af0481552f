//! What the gateway says of the session's model calls: what they cost, and that they are refused.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::{Driver, journal::Then};
use crate::{
    gateway::{CallRefused, Cost, Report, Usage},
    problem::Code,
    session::{event::EventType, record, status::Tokens},
    store::Change,
};

/// How long the end of a session waits for the calls that end with it to say what they cost: a moment, since they are cut off.
const LAST_REPORTS: Duration = Duration::from_secs(1);

impl Driver {
    /// Takes the reports that are on their way: what the model counted belongs to the turn that ends.
    pub(super) fn take_reports(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.take_report(&report);
        }
    }

    /// Cuts off the calls that are under way and takes what they cost.
    pub(super) async fn take_last_reports(&mut self) {
        self.lease.unbind();
        // Closed for further ones once the last call has let go of its end; ours is the binding's.
        let (closed, _) = tokio::sync::mpsc::channel(1);
        self.binding.reports = closed;
        let deadline = Instant::now() + LAST_REPORTS;
        while let Ok(Some(report)) = timeout_at(deadline, self.reports.recv()).await {
            self.take_report(&report);
        }
    }

    pub(super) fn take_report(&mut self, report: &Report) {
        match report {
            Report::Usage(usage) => self.add_usage(usage),
            Report::Refused(why) => self.take_refusal(*why),
            Report::Answered => {
                if let Some(turn) = self.turn.as_mut() {
                    turn.refused = None;
                }
            }
        }
    }

    fn take_refusal(&mut self, why: CallRefused) {
        let Some(turn) = self.turn.as_mut() else { return };
        let refused = (code_of(why), why.to_string());
        // An agent may try as often as it likes; once a turn is enough for the audit log.
        let is_news = turn.refused.replace(refused).is_none();
        match why {
            CallRefused::Key if is_news => self.session.audit.key_refused(),
            CallRefused::Budget(exhausted) if is_news => self.session.audit.budget_exhausted(exhausted.window.as_str()),
            _ => {}
        }
    }

    fn add_usage(&mut self, usage: &Usage) {
        let tokens = Tokens { input: usage.input_tokens, output: usage.output_tokens };
        let turn = {
            let mut status = self.session.locked();
            status.tokens += tokens;
            status.running_mut().map(|turn| {
                turn.tokens += tokens;
                record::turn(&self.session.id, turn)
            })
        };
        self.metrics.tokens(tokens.input, tokens.output);
        let mut content =
            json!({"model": usage.model, "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens});
        if usage.estimated {
            content["estimated"] = true.into();
        }
        self.journal.event(EventType::UsageUpdated, self.turn.as_ref().map(|turn| &turn.id), &content);
        if let Some(turn) = turn {
            self.journal.change(turn);
        }
        let user = self.session.identity.user.clone();
        let Tokens { input, output } = tokens;
        self.journal.change(Change::Spent { user, hour: usage.hour, input, output });
        self.journal.then(Then::Written(Cost { input, output }));
        self.journal.session_changed();
    }
}

const fn code_of(why: CallRefused) -> Code {
    match why {
        CallRefused::Key | CallRefused::KeyMissing => Code::ApiKeyInvalid,
        CallRefused::Budget(_) => Code::BudgetExhausted,
    }
}
