//! JSON objects of all shapes, for property tests: made of a test's own leaves and keys.

use proptest::{collection::vec, prelude::*};
use serde_json::Value;

/// Objects with lists and objects in them, a few levels deep.
pub(super) fn objects(
    leaf: impl Strategy<Value = Value> + 'static,
    key: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = Value> {
    let below = key.clone();
    let inner = leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![vec(inner.clone(), 0..3).prop_map(Value::from), object(below.clone(), inner)]
    });
    object(key, inner)
}

fn object(key: impl Strategy<Value = String>, value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    vec((key, value), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect()))
}
