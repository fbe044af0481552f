//! The labels that mark a container as ours: the only thing by which one is ever found again.
//!
//! Names and prefixes are never looked at: a stranger's container may be called anything.

use std::collections::HashMap;

use crate::{
    ids::{Epoch, SlotId, TemplateName},
    sandbox::spec::SandboxSpec,
};

/// Names the server the container belongs to.
pub(super) const INSTANCE: &str = "greenroom.instance";
/// Names the run of the server that made it.
pub(super) const EPOCH: &str = "greenroom.epoch";
/// Names its slot.
pub(super) const SLOT: &str = "greenroom.slot";
/// Names its template.
pub(super) const TEMPLATE: &str = "greenroom.template";

/// What a container's labels say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) slot: SlotId,
    pub(super) epoch: Epoch,
    pub(super) template: TemplateName,
}

/// The labels of a sandbox to be made.
pub(super) fn of(spec: &SandboxSpec, instance: &str) -> HashMap<String, String> {
    [(INSTANCE, instance), (EPOCH, spec.epoch.as_str()), (SLOT, spec.slot.as_str()), (TEMPLATE, spec.template.as_str())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Reads the labels of a container. None unless every one of ours is there and the instance is exactly this one.
pub(super) fn read(labels: &HashMap<String, String>, instance: &str) -> Option<Marks> {
    let text = |key| labels.get(key).map(String::as_str).filter(|value| !value.is_empty());
    (text(INSTANCE)? == instance).then_some(())?;
    Some(Marks {
        slot: SlotId::from_client(text(SLOT)?),
        epoch: Epoch::from_client(text(EPOCH)?),
        template: TemplateName::parse(text(TEMPLATE)?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::docker::sample;

    #[test]
    fn what_is_written_is_read_back() {
        let spec = sample::spec();
        let marks = read(&of(&spec, "one"), "one").expect("all labels are there");
        assert_eq!(marks, Marks { slot: spec.slot, epoch: spec.epoch, template: spec.template });
    }

    #[test]
    fn look_alikes_are_not_ours() {
        let labels = of(&sample::spec(), "one");
        assert_eq!(read(&labels, "on"), None);
        assert_eq!(read(&labels, "one-two"), None);
        for missing in [INSTANCE, EPOCH, SLOT, TEMPLATE] {
            let mut fewer = labels.clone();
            fewer.remove(missing);
            assert_eq!(read(&fewer, "one"), None, "without {missing}");
        }
        let mut odd = labels;
        odd.insert(TEMPLATE.to_owned(), "../up".to_owned());
        assert_eq!(read(&odd, "one"), None);
    }
}
