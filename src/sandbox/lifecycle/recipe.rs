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
        Ok(Self { name, template: Arc::new(template), endpoint, protocol })
    }
}
