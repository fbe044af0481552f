//! A recipe: one template, checked and compiled, ready to make sandboxes from.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::{
    agent::{AgentProtocol, acp::Acp, lines::Lines},
    config::{Protocol, Template},
    gateway::{Endpoint, EndpointError},
    ids::TemplateName,
    telemetry::Metrics,
};

/// What a pool makes its sandboxes from.
#[derive(Clone)]
pub struct Recipe {
    /// The template's name.
    pub name: TemplateName,
    /// The template's settings.
    pub template: Arc<Template>,
    /// The model API its agent may reach.
    pub endpoint: Arc<Endpoint>,
    /// How its agent talks.
    pub protocol: Arc<dyn AgentProtocol>,
    /// What the image's name stood for when the recipe was last looked at, if the engine could tell.
    pub image_id: Option<String>,
}

impl Recipe {
    /// Compiles a template. `model_base_url` replaces the model API's address; agents' tasks are counted in `tasks`, and their odd lines in
    /// `metrics`.
    ///
    /// # Errors
    /// The model API's settings make no sense.
    pub fn compile(
        name: TemplateName,
        template: Template,
        model_base_url: Option<&str>,
        tasks: &TaskTracker,
        metrics: &Metrics,
    ) -> Result<Self, EndpointError> {
        let endpoint = Arc::new(Endpoint::compile(&template.model, model_base_url)?);
        let protocol: Arc<dyn AgentProtocol> = match template.protocol {
            Protocol::Acp => Arc::new(Acp::new(tasks.clone(), metrics.agent_skipped_lines(&name))),
            Protocol::Lines => Arc::new(Lines::new(template.quiet_time, tasks.clone())),
        };
        Ok(Self { name, template: Arc::new(template), endpoint, protocol, image_id: None })
    }

    /// Whether sandboxes of both are the same: the image, its command, its limits, its model API and all the rest that is not about how many
    /// there are. An image that was built anew under its old name is another one.
    #[must_use]
    pub fn makes_the_same(&self, other: &Self) -> bool {
        let same_image = match (&self.image_id, &other.image_id) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        same_image && self.template.same_recipe(&other.template)
    }
}
