//! The rights that `sterna rbac` prints: that they suffice, and that each of them is needed.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::namespace::Ground;
use crate::patience::eventually;

/// The last role that `sterna rbac` prints, and an account that has it and nothing else.
pub struct Rights {
    /// All that was printed.
    pub printed: Vec<Value>,
    /// The role's rules.
    pub rules: Vec<PolicyRule>,
    roles: Api<Role>,
    name: String,
}

impl Rights {
    /// Has `sterna rbac` print what an account of the ground's namespace needs for that, and applies it, with the namespaces among it.
    ///
    /// # Errors
    /// When it prints something else, or the server refuses it.
    pub async fn given(ground: &Ground, account: &str, what_for: &[&str]) -> anyhow::Result<Self> {
        let rbac = ["rbac", "--namespace", &ground.namespace, "--account", account];
        let printed = ground.printed(&[&rbac[..], what_for].concat()).await?;
        let [account, others @ .., role, binding] = &printed[..] else {
            bail!("an account, a role and a binding were expected: {printed:?}");
        };
        let namespaces = others.iter().filter(|one| one["kind"] == "Namespace");
        ground.apply(namespaces.chain([account, role, binding])).await?;
        let Role { metadata, rules } = Role::deserialize(role)?;
        let namespace = metadata.namespace.context("the role is in no namespace")?;
        Ok(Self {
            roles: Api::namespaced(ground.client.clone(), &namespace),
            name: metadata.name.context("the role has no name")?,
            rules: rules.context("the role allows nothing")?,
            printed,
        })
    }

    /// Has the role allow this.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn allow(&self, rules: &[PolicyRule]) -> anyhow::Result<()> {
        // A rule that allows nothing is none.
        let rules: Vec<_> = rules.iter().filter(|rule| !rule.verbs.is_empty()).collect();
        let patch = Patch::Merge(json!({ "rules": rules }));
        self.roles.patch(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Waits until nothing is refused. Then takes each verb away in turn, but those that are `seen_elsewhere`, waits until it is missed,
    /// and gives it back. `refused` does all that the rights are for, and gives what is refused of it as `VERB RESOURCE`. Gives the
    /// verbs that were taken away, in the same words.
    ///
    /// # Errors
    /// When the rights do not suffice, or one is not missed; the server may take `most` to heed a change.
    pub async fn suffice_and_each_is_needed(
        &self,
        most: Duration,
        seen_elsewhere: &[&str],
        refused: impl AsyncFn() -> anyhow::Result<Option<String>>,
    ) -> anyhow::Result<Vec<String>> {
        let comes_to = async |what: &str, expected: Option<&str>| {
            let mut last = None;
            let so = async || {
                last = refused().await?;
                Ok(last.as_deref() == expected)
            };
            eventually(most, what, so).await.with_context(|| format!("what was refused at last: {last:?}"))
        };
        comes_to("the rights suffice", None).await?;
        let mut removed = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let resource = rule.resources.iter().flatten().next().context("a rule for nothing")?;
            for verb in rule.verbs.iter().filter(|verb| !seen_elsewhere.contains(&verb.as_str())) {
                let mut fewer = self.rules.clone();
                fewer[number].verbs.retain(|one| one != verb);
                self.allow(&fewer).await?;
                let words = format!("{verb} {resource}");
                comes_to(&format!("{words} is missed"), Some(&words)).await?;
                // So that the next one is not refused for want of this one.
                self.allow(&self.rules).await?;
                comes_to(&format!("{words} is given back"), None).await?;
                removed.push(words);
            }
        }
        ensure!(!removed.is_empty(), "the role allows nothing: {:?}", self.rules);
        Ok(removed)
    }
}

/// What a server says that somebody can't do, as `VERB RESOURCE`; `None` where it says no such thing.
pub fn cannot(said: &str) -> Option<String> {
    let (verb, rest) = said.split_once(" cannot ")?.1.split_once(" resource \"")?;
    Some(format!("{verb} {}", rest.split_once('"')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_verb_and_resource() {
        let said = "pods is forbidden: User \"u\" cannot list resource \"pods\" in API group \"\"";
        assert_eq!(cannot(said).as_deref(), Some("list pods"));
        let said = "User \"u\" cannot patch resource \"migrations/status\" in API group \"sterna.io\"";
        assert_eq!(cannot(said).as_deref(), Some("patch migrations/status"));
        assert_eq!(cannot("exceeded quota: small"), None);
    }
}
