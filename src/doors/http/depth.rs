//! How deep a JSON text is nested, found without building anything of it.

/// The deepest nesting that is accepted.
pub(in crate::doors) const DEPTH_MAX: usize = 64;

/// Whether arrays and objects are nested more than [`DEPTH_MAX`] deep. A text that isn't JSON gets any answer: the parser refuses it later.
pub(in crate::doors) fn is_too_deep(json: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut escaped = false;
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn sixty_four_levels_are_accepted_and_one_more_is_not() {
        assert!(!is_too_deep(nested(DEPTH_MAX).as_bytes()));
        assert!(is_too_deep(nested(DEPTH_MAX + 1).as_bytes()));
        assert!(!is_too_deep(nested(1).repeat(1000).as_bytes()));
    }

    #[test]
    fn brackets_in_texts_count_for_nothing() {
        let text = serde_json::to_string(&format!("\\\"{}\"\\", "[{".repeat(100))).unwrap();
        assert!(!is_too_deep(text.as_bytes()));
    }

    fn depth_of(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth_of).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = "[\\[\\]{}\\\\\"a]{0,8}".prop_map(Value::from);
        leaf.prop_recursive(80, 200, 2, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map("[\\[{\"\\\\]{0,4}", inner, 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_parsed_value(value in any_json()) {
            prop_assert_eq!(is_too_deep(value.to_string().as_bytes()), depth_of(&value) > DEPTH_MAX);
        }
    }
}
