//! A digest of everything a sandbox is made from, by which another run of the server tells whether it would make the same.

use sha2::{Digest as _, Sha256};

use super::{Recipe, Starter};
use crate::{
    ids::hex,
    sandbox::{slot::Fingerprint, spec::inside},
    supervisor::frames,
};

impl Starter {
    /// What the sandboxes of this recipe and this image are made from. None without a recipe's image: then nobody can tell.
    #[must_use]
    pub fn fingerprint_of(&self, recipe: &Recipe) -> Option<Fingerprint> {
        recipe.image_id.as_ref().map(|image| self.fingerprint(recipe, image))
    }

    pub(super) fn fingerprint(&self, recipe: &Recipe, image: &str) -> Fingerprint {
        let template = recipe.template.recipe();
        let ingredients = serde_json::json!({
            "greenroom": env!("CARGO_PKG_VERSION"),
            "link": frames::VERSION,
            "name": recipe.name,
            "template": template,
            "image": image,
            "model": recipe.endpoint.base_url(),
            // Its name is a digest of its content.
            "supervisor": self.supervisor(),
            "orphan_grace": self.settings.orphan_grace,
            "ring_bytes": self.settings.ring_bytes,
            "runtime": self.runtime.manner(),
            "workspace": inside::WORKSPACE,
        });
        Fingerprint(hex(&Sha256::digest(ingredients.to_string().as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc, time::Duration};

    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::*;
    use crate::{
        config::{self, PermissionPolicy, Protocol, Template, TemplateEgress, Verdict},
        gateway::Gateway,
        ids::{Epoch, TemplateName},
        runtime::{Runtime, process::Process},
        sandbox::{
            lifecycle::{Reaper, start::StarterParts},
            slot::Slots,
            spec::Limits,
        },
        telemetry::Metrics,
    };

    struct House {
        state: tempfile::TempDir,
        gateway: Gateway,
        runtime: Arc<dyn Runtime>,
    }

    impl House {
        fn starter(&self, supervisor: &str, settings: config::Sandbox) -> Starter {
            Starter::new(StarterParts {
                runtime: Arc::clone(&self.runtime),
                gateway: self.gateway.clone(),
                slots: Slots::open(self.state.path(), self.runtime.owner()).expect("a temporary folder"),
                epoch: Epoch::random(),
                supervisor: Path::new(supervisor).to_owned(),
                settings,
                reaper: Reaper::spawn(Arc::clone(&self.runtime), CancellationToken::new()),
                metrics: Metrics::default(),
            })
        }
    }

    fn recipe(template: Template, base_url: Option<&str>, image: &str) -> Recipe {
        let name = TemplateName::parse("gemini").expect("a good name");
        let recipe = Recipe::compile(name, template, base_url, &TaskTracker::new(), &Metrics::default());
        Recipe { image_id: Some(image.to_owned()), ..recipe.expect("a good template") }
    }

    #[tokio::test]
    async fn whatever_a_sandbox_is_made_from_is_in_it_and_nothing_else() {
        let house = House {
            state: tempfile::tempdir().expect("a temporary folder"),
            gateway: Gateway::new(Metrics::default()).expect("a gateway"),
            runtime: Arc::new(Process::new()),
        };
        let template = Template::default;
        let usual = |supervisor| house.starter(supervisor, config::Sandbox::default());
        let plain = || recipe(template(), None, "one");
        let known = usual("/bin/one").fingerprint_of(&plain()).expect("the image is known");

        let sized = Template { min_warm: Some(7), max_warm: Some(9), ..template() };
        assert_eq!(usual("/bin/one").fingerprint_of(&recipe(sized, None, "one")), Some(known.clone()));
        let egress =
            TemplateEgress { allow: vec!["registry.example".parse().expect("a pattern")], ..TemplateEgress::default() };
        let permissions = PermissionPolicy { default: Verdict::Deny, ..PermissionPolicy::default() };
        let decided_in_a_session = Template { egress, permissions, ..template() };
        assert_eq!(usual("/bin/one").fingerprint_of(&recipe(decided_in_a_session, None, "one")), Some(known.clone()));
        assert_eq!(usual("/bin/one").fingerprint_of(&Recipe { image_id: None, ..plain() }), None);

        let grace = config::Sandbox { orphan_grace: Duration::from_secs(1), ..config::Sandbox::default() };
        let ring = config::Sandbox { ring_bytes: 1, ..config::Sandbox::default() };
        let limits = Limits { pids: 7, ..Limits::default() };
        let others = [
            usual("/bin/two").fingerprint_of(&plain()),
            house.starter("/bin/one", grace).fingerprint_of(&plain()),
            house.starter("/bin/one", ring).fingerprint_of(&plain()),
            usual("/bin/one").fingerprint_of(&recipe(template(), None, "two")),
            usual("/bin/one").fingerprint_of(&recipe(template(), Some("http://127.0.0.1:1"), "one")),
            usual("/bin/one").fingerprint_of(&recipe(Template { limits, ..template() }, None, "one")),
            usual("/bin/one").fingerprint_of(&recipe(
                Template { protocol: Protocol::Lines, ..template() },
                None,
                "one",
            )),
            usual("/bin/one").fingerprint_of(&recipe(Template { home: "/home".to_owned(), ..template() }, None, "one")),
        ];
        for (number, other) in others.into_iter().enumerate() {
            assert_ne!(other, Some(known.clone()), "{number}");
        }
    }
}
