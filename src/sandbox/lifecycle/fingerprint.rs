//! A digest of everything a sandbox is made from, by which another run of the server tells whether it would make the same.

use sha2::{Digest as _, Sha256};

use super::{Recipe, Starter};
use crate::{
    config::Template,
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
        // How many are kept is no part of any.
        let template = Template { min_warm: None, max_warm: None, ..Template::clone(&recipe.template) };
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
