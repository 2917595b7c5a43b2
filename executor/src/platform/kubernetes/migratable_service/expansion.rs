//! `$(NAME)` in commands, arguments and variables, as Kubernetes expands it.
//!
//! A reference to what is not defined stays as it stands; `$$` is one `$`, so `$$(NAME)` is never a reference.
//! <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>

use std::collections::BTreeMap;

/// Expands a text by these variables.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        expanded.push_str(before);
        let after = &from[1..];
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        match after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            Some((name, after)) => {
                match variables.get(name) {
                    Some(value) => expanded.push_str(value),
                    None => expanded.extend(["$(", name, ")"]),
                }
                rest = after;
            }
            None => {
                expanded.push('$');
                rest = after;
            }
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(text: &str) -> String {
        let variables = [("A", "1"), ("B", "$(A)")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        expand(text, &variables.into())
    }

    #[test]
    fn references_are_expanded_once_and_as_kubernetes_does_it() {
        for (text, wanted) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)-$(A)", "1-1"),
            ("$(B)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("ä$(A)ö", "ä1ö"),
        ] {
            assert_eq!(expanded(text), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_references_stays(text in "[^$]*") {
            prop_assert_eq!(expanded(&text), text);
        }

        #[test]
        fn any_text_can_be_expanded(text in ".*") {
            expanded(&text);
        }
    }
}
