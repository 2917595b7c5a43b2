//! Name patterns, and which services and sites a policy is about.

use std::collections::BTreeMap;

use crate::policy::Select;

/// Whether a name matches a pattern, in which `*` stands for any run of characters, also an empty one.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    // `split` gives at least one part.
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(start) => rest = &rest[start + part.len()..],
            None => return false,
        }
    }
    true
}

fn any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, name))
}

/// Whether every label that is asked for is there with one of the values.
fn has_labels(asked: &BTreeMap<String, Vec<String>>, labels: &BTreeMap<String, String>) -> bool {
    asked.iter().all(|(label, values)| labels.get(label).is_some_and(|value| values.contains(value)))
}

impl Select {
    /// Whether the policy may move the service of this name and these labels, and no other one has it.
    pub fn has_service(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        (self.services.is_empty() || any(&self.services, name))
            && has_labels(&self.service_labels, labels)
            && !any(&self.exclude_services, name)
            && !self.others.contains_key(name)
    }

    /// Whether the policy may move services to the site of this name and these labels.
    pub fn has_site(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        (self.sites.is_empty() || any(&self.sites, name))
            && has_labels(&self.site_labels, labels)
            && !any(&self.exclude_sites, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "redis"),
            ("edge-*", "edge-"),
            ("*-b", "edge-b"),
            ("e*e*b", "edge-b"),
            ("a**b", "ab"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("edge", "edge-a"),
            ("edge-*", "fog-a"),
            ("*-b", "edge-a"),
            ("ab*ba", "aba"),
            ("a*b", "abc"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn exclusion_wins() {
        let select = Select {
            services: vec!["web-*".to_owned()],
            exclude_services: vec!["*-db".to_owned()],
            exclude_sites: vec!["lab".to_owned()],
            ..Select::default()
        };
        let none = BTreeMap::new();
        assert!(select.has_service("web-1", &none));
        assert!(!select.has_service("web-db", &none));
        assert!(!select.has_service("redis", &none));
        assert!(select.has_site("edge-a", &none));
        assert!(!select.has_site("lab", &none));
    }

    #[test]
    fn every_label_must_have_one_of_its_values() {
        let labels = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            all.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
        };
        let asked = |label: &str, values: &[&str]| {
            (label.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
        };
        let select = Select {
            service_labels: BTreeMap::from([asked("tier", &["edge", "web"]), asked("team", &["shop"])]),
            site_labels: BTreeMap::from([asked("owner", &["us"])]),
            ..Select::default()
        };
        assert!(select.has_service("a", &labels(&[("tier", "web"), ("team", "shop"), ("x", "y")])));
        assert!(!select.has_service("a", &labels(&[("tier", "web")])));
        assert!(!select.has_service("a", &labels(&[("tier", "db"), ("team", "shop")])));
        assert!(select.has_site("a", &labels(&[("owner", "us")])));
        assert!(!select.has_site("a", &labels(&[])));
    }

    /// The plain meaning, by recursion over characters.
    fn by_definition(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|skip| by_definition(rest, &name[skip..])),
            Some((wanted, rest)) => name.first() == Some(wanted) && by_definition(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(pattern in "[ab*é]{0,6}", name in "[abé]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &name), by_definition(&chars(&pattern), &chars(&name)));
        }
    }
}
