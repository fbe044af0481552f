//! What a session may reach, as it is now: the template's list and the session's own. Both change while connections are open.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::verdicts::Verdicts;
use crate::config::{HostName, HostPattern, TemplateEgress};

/// Bytes that passed between a session's tools and the hosts they reached, TLS and heads included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// To the hosts.
    pub sent: u64,
    /// From them.
    pub received: u64,
}

/// What a session's tools may reach. A clone is the same allowance.
#[derive(Debug, Clone)]
pub struct Egress(Arc<Allowance>);

#[derive(Debug)]
struct Allowance {
    /// Follows the settings.
    template: watch::Receiver<Arc<TemplateEgress>>,
    /// What the session asked for.
    own: watch::Sender<Arc<[HostPattern]>>,
    sent: AtomicU64,
    received: AtomicU64,
    verdicts: Verdicts,
}

impl Egress {
    /// Of a session of a template, with what it asked for itself and what it has used so far. Of its own list only what the template offers
    /// counts, at any time.
    #[must_use]
    pub fn new(template: watch::Receiver<Arc<TemplateEgress>>, own: &[HostPattern], so_far: Traffic) -> Self {
        let (own, _nobody_yet) = watch::channel(Arc::from(own));
        let (sent, received) = (AtomicU64::new(so_far.sent), AtomicU64::new(so_far.received));
        Self(Arc::new(Allowance { template, own, sent, received, verdicts: Verdicts::default() }))
    }

    /// Nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self::used(Traffic::default())
    }

    /// Nothing any more, after so much was used.
    #[must_use]
    pub fn used(so_far: Traffic) -> Self {
        let (_never_changes, template) = watch::channel(Arc::default());
        Self::new(template, &[], so_far)
    }

    /// The first of these that the template neither allows nor offers.
    #[must_use]
    pub fn refused<'asked>(&self, asked: &'asked [HostPattern]) -> Option<&'asked HostPattern> {
        let template = Arc::clone(&self.0.template.borrow());
        asked.iter().find(|pattern| !template.covers(pattern))
    }

    /// Puts another list in place of the session's own. Counts at once: connections that it doesn't allow end.
    pub fn replace(&self, own: &[HostPattern]) {
        self.0.own.send_replace(Arc::from(own));
    }

    /// All that may be reached: the template's list, and what counts of the session's own.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostPattern> {
        let template = Arc::clone(&self.0.template.borrow());
        let own = Arc::clone(&self.0.own.borrow());
        let more = own.iter().filter(|pattern| !template.allow.contains(pattern) && template.covers(pattern));
        template.allow.iter().chain(more).cloned().collect()
    }

    /// What has passed so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic { sent: read(&self.0.sent), received: read(&self.0.received) }
    }

    pub(super) fn add(&self, sent: u64, received: u64) {
        self.0.sent.fetch_add(sent, Ordering::Relaxed);
        self.0.received.fetch_add(received, Ordering::Relaxed);
    }

    pub(super) fn verdicts(&self) -> &Verdicts {
        &self.0.verdicts
    }

    /// Whether this may be reached now.
    pub(super) fn allows(&self, host: &HostName, port: u16) -> bool {
        let template = Arc::clone(&self.0.template.borrow());
        let own = || self.0.own.borrow().iter().any(|pattern| pattern.matches(host, port));
        template.allows(host, port) || (template.grants(host, port) && own())
    }

    /// Waits until this may not be reached any more.
    pub(super) async fn until_refused(&self, host: &HostName, port: u16) {
        let (mut template, mut own) = (self.0.template.clone(), self.0.own.subscribe());
        // Seen from here on: what changed before is in the first look.
        template.mark_unchanged();
        while self.allows(host, port) {
            tokio::select! {
                () = change(&mut template) => {}
                () = change(&mut own) => {}
            }
        }
    }
}

/// Waits for the next change; forever, if nobody is left to make one.
async fn change<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<HostPattern> {
        texts.iter().map(|text| text.parse().expect("a good pattern")).collect()
    }

    fn template(allow: &[&str], offer: &[&str]) -> Arc<TemplateEgress> {
        Arc::new(TemplateEgress { allow: patterns(allow), offer: patterns(offer) })
    }

    fn name(text: &str) -> HostName {
        HostName::parse(text).expect("a good name")
    }

    fn shown(egress: &Egress) -> Vec<String> {
        egress.hosts().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_is_allowed_unless_somebody_says_so() {
        let egress = Egress::nothing();
        assert!(!egress.allows(&name("a.example"), 443) && egress.hosts().is_empty());
        egress.replace(&patterns(&["a.example"]));
        assert!(!egress.allows(&name("a.example"), 443) && egress.hosts().is_empty(), "its own word is not enough");
    }

    #[test]
    fn a_session_has_what_its_template_allows_and_what_it_asked_for_of_the_offer() {
        let (_settings, of_template) = watch::channel(template(&["a.example:443"], &["*.b.example"]));
        let asked = patterns(&["x.b.example:443", "a.example:443"]);
        let egress = Egress::new(of_template, &asked, Traffic::default());
        assert_eq!(shown(&egress), ["a.example:443", "x.b.example:443"]);
        assert!(egress.allows(&name("x.b.example"), 443) && !egress.allows(&name("y.b.example"), 443));
        assert!(egress.allows(&name("a.example"), 443) && !egress.allows(&name("a.example"), 80));
        let more = patterns(&["z.b.example", "c.example"]);
        assert_eq!(egress.refused(&more).map(ToString::to_string).as_deref(), Some("c.example"));
    }

    #[test]
    fn what_the_settings_no_longer_offer_a_session_no_longer_has() {
        let (settings, of_template) = watch::channel(template(&[], &["a.example"]));
        let egress = Egress::new(of_template, &patterns(&["a.example"]), Traffic::default());
        assert!(egress.allows(&name("a.example"), 443));
        settings.send_replace(template(&[], &[]));
        assert!(!egress.allows(&name("a.example"), 443) && egress.hosts().is_empty());
        settings.send_replace(template(&["a.example:80"], &["a.example"]));
        assert!(egress.allows(&name("a.example"), 443), "its wish was kept");
    }

    #[tokio::test]
    async fn who_waits_for_a_refusal_hears_of_it_from_either_side() {
        let (settings, of_template) = watch::channel(template(&["a.example"], &["b.example"]));
        let egress = Egress::new(of_template, &patterns(&["b.example"]), Traffic::default());
        let (a, b) = (name("a.example"), name("b.example"));
        let waiting = tokio::spawn({
            let egress = egress.clone();
            async move { tokio::join!(egress.until_refused(&a, 443), egress.until_refused(&b, 443)) }
        });
        tokio::task::yield_now().await;
        egress.replace(&[]);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        settings.send_replace(template(&[], &["b.example"]));
        waiting.await.expect("both ended");
    }
}
