//! Which of several policies has a service.
//!
//! Of the policies that select it and are not off, the one with the highest priority has it, alone. Two of one priority are a
//! mistake that is told, and not settled by chance.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::policy::{Mode, Policy};

/// Policies that can't be in force together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unclear {
    /// Two policies want the same service with the same right.
    #[error(
        "the policies `{}` and `{}` both select the service `{service}`, and both have the priority {priority}; give one of \
         them a higher `priority`, or exclude the service from the other", policies[0], policies[1]
    )]
    Tie {
        /// The service.
        service: String,
        /// The names of both.
        policies: [String; 2],
        /// Of both.
        priority: i32,
    },
    /// Two policies have one name.
    #[error(
        "two policies are called `{0}`, and a decision could not say which of them made it; give them different names"
    )]
    Name(String),
}

/// Gives each service, by name and labels, to the policy that has it. The policies come back with the highest priority first, of
/// equal ones in the order of their names, each knowing which of the services that it selects others have.
///
/// # Errors
/// Which two contradict each other.
pub fn divide<'s>(
    policies: &[Policy],
    services: impl Iterator<Item = (&'s str, &'s BTreeMap<String, String>)>,
) -> Result<Vec<Policy>, Unclear> {
    let mut names = BTreeSet::new();
    if let Some(twice) = policies.iter().find(|policy| !names.insert(&policy.name)) {
        return Err(Unclear::Name(twice.name.clone()));
    }
    let mut divided = policies.to_vec();
    divided.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    for (service, labels) in services {
        let selects = |at: &usize| divided[*at].select.has_service(service, labels);
        let selecting: Vec<usize> = (0..divided.len()).filter(selects).collect();
        let mut wanting = selecting.iter().copied().filter(|at| divided[*at].mode != Mode::Off);
        let Some(first) = wanting.next() else { continue };
        let (name, priority) = (divided[first].name.clone(), divided[first].priority);
        if let Some(second) = wanting.next().filter(|at| divided[*at].priority == priority) {
            let policies = [name, divided[second].name.clone()];
            return Err(Unclear::Tie { service: service.to_owned(), policies, priority });
        }
        for other in selecting.into_iter().filter(|at| *at != first) {
            divided[other].select.others.insert(service.to_owned(), name.clone());
        }
    }
    Ok(divided)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    fn policy(name: &str, more: &str) -> Policy {
        let text = format!(
            "schema_version = 1\nname = \"{name}\"\n{more}\n[objective]\nterm = [{{ metric = \"cost_rate\" }}]\n"
        );
        load::policy(name, &text).unwrap().value
    }

    fn governed(policies: &[Policy]) -> Result<Vec<String>, Unclear> {
        let none = BTreeMap::new();
        let web = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
        let services = [("db", &none), ("shop", &web), ("blog", &web)];
        let divided = divide(policies, services.into_iter())?;
        let of = |policy: &Policy| {
            let has = services.iter().filter(|(name, labels)| policy.select.has_service(name, labels));
            format!("{}: {}", policy.name, has.map(|(name, _)| *name).collect::<Vec<_>>().join(" "))
        };
        Ok(divided.iter().map(of).collect())
    }

    #[test]
    fn a_service_has_the_policy_of_highest_priority_and_no_other() {
        let all = policy("all", "");
        let web = policy("web", "priority = 5\nselect = { service_labels = { tier = [\"web\"] } }");
        let shop = policy("shop", "priority = 9\nselect = { services = [\"sho*\"] }");
        assert_eq!(
            governed(&[all.clone(), web.clone(), shop.clone()]).unwrap(),
            ["shop: shop", "web: blog", "all: db"]
        );
        // One that is off has no say, and is not asked.
        let off = policy("off", "mode = \"off\"\npriority = 50");
        assert_eq!(governed(&[all, off, web]).unwrap(), ["off: ", "web: shop blog", "all: db"]);
    }

    #[test]
    fn one_policy_stays_as_it_is() {
        for mode in ["off", "auto"] {
            let alone = policy("alone", &format!("mode = \"{mode}\""));
            let none = BTreeMap::new();
            assert_eq!(
                divide(std::slice::from_ref(&alone), [("db", &none)].into_iter()),
                Ok(vec![alone.clone()])
            );
        }
    }

    #[test]
    fn the_order_of_the_files_makes_no_difference() {
        let a = policy("a", "select = { services = [\"db\"] }");
        let b = policy("b", "select = { services = [\"shop\"] }");
        assert_eq!(governed(&[a.clone(), b.clone()]), governed(&[b, a]));
    }

    #[test]
    fn a_tie_is_told_and_not_settled() {
        let (a, b) =
            (policy("a", "priority = 3"), policy("b", "priority = 3\nselect = { services = [\"shop\"] }"));
        let tie = Unclear::Tie { service: "shop".into(), policies: ["a".into(), "b".into()], priority: 3 };
        assert_eq!(governed(&[b.clone(), a.clone()]), Err(tie));
        // Of what a third one has, nobody minds.
        let c = policy("c", "priority = 4\nselect = { services = [\"shop\"] }");
        assert_eq!(governed(&[a.clone(), b, c]).unwrap(), ["c: shop", "a: db blog", "b: "]);
        assert_eq!(governed(&[a.clone(), a]), Err(Unclear::Name("a".into())));
    }
}
