//! The policies in force: their files, and which of them has which service.

use std::collections::BTreeSet;
use std::path::PathBuf;

use sterna_core::continuum::Continuum;
use sterna_policies::diagnose::{Invalid, Loaded, Report};
use sterna_policies::policy::Policy;
use sterna_policies::precedence::{Unclear, divide};

use crate::reload::{FileError, Found, Look, Watched};
use crate::telemetry::ConfigFile;

/// One file or several, which together leave no doubt about who has a service.
pub struct Governing {
    files: Vec<Watched<Policy>>,
}

impl Governing {
    /// Reads the files for the first time. Gives their warnings too.
    ///
    /// # Errors
    /// When one can't be read or is invalid, or when two of them want the same service with the same right.
    pub fn open(
        paths: &[PathBuf],
        continuum: &Continuum,
        parse: impl Fn(&str, &str) -> Result<Loaded<Policy>, Invalid> + Send + Sync + Copy + 'static,
    ) -> Result<(Self, Vec<Report>), FileError> {
        let read = paths.iter().map(|path| Watched::open(path, parse)).collect::<Result<Vec<_>, _>>()?;
        let (files, warnings) = read.into_iter().unzip();
        let governing = Self { files };
        let path = || paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        governing
            .fits(continuum)
            .map_err(|unclear| FileError::Unfit { path: path().into(), reason: unclear.to_string() })?;
        Ok((governing, warnings))
    }

    /// The policies, the highest priority first, each with what others have of the services that it selects.
    pub fn in_force(&self, continuum: &Continuum) -> Vec<Policy> {
        divide(&self.all(), services(continuum)).unwrap_or_else(|unclear| {
            // Files and inventory are taken over only where it stays clear. Should it not be, nothing is to be moved.
            tracing::error!(%unclear, "no policy is in force");
            Vec::new()
        })
    }

    /// A policy as it would be in force in place of the one of its name and those `without`.
    ///
    /// # Errors
    /// When it and another one contradict each other.
    pub fn beside(
        &self,
        policy: &Policy,
        without: &[String],
        continuum: &Continuum,
    ) -> Result<Policy, Unclear> {
        let mut all = self.all();
        all.retain(|other| other.name != policy.name && !without.contains(&other.name));
        all.push(policy.clone());
        let divided = divide(&all, services(continuum))?;
        Ok(divided.into_iter().find(|one| one.name == policy.name).unwrap_or_else(|| policy.clone()))
    }

    /// Whether every file as it is now is in force.
    pub fn are_as_written(&self) -> bool {
        self.files.iter().all(Watched::is_as_written)
    }

    /// The policy that has a service; the first where none does.
    pub fn of_service(&self, continuum: &Continuum, service: &str) -> Option<Policy> {
        let mut in_force = self.in_force(continuum);
        let labels = continuum.services.get(&service.into()).map(|about| &about.labels);
        let has = |policy: &Policy| labels.is_some_and(|labels| policy.select.has_service(service, labels));
        let at = in_force.iter().position(has).unwrap_or(0);
        (at < in_force.len()).then(|| in_force.swap_remove(at))
    }

    /// Whether it is clear who has which service of a continuum.
    fn fits(&self, continuum: &Continuum) -> Result<(), Unclear> {
        divide(&self.all(), services(continuum)).map(drop)
    }

    /// Looks at every file again, the inventory too; tells of what is new or can't be used.
    ///
    /// What changed together is judged together: two priorities that are swapped, a service that a policy no longer has and
    /// another one has now. What does not fit waits, and is judged again when anything changes.
    pub fn look(&mut self, inventory: &mut Watched<Continuum>) -> Vec<(ConfigFile, Look)> {
        let mut looks = Vec::new();
        let mut news = false;
        let mut fresh = BTreeSet::new();
        for (at, file) in self.files.iter_mut().enumerate() {
            match file.read_again() {
                Found::Same => continue,
                Found::Candidate => {
                    fresh.insert(Some(at));
                }
                Found::Bad(refused) => looks.push((ConfigFile::Policy, Look::Refused(refused))),
            }
            news = true;
        }
        match inventory.read_again() {
            Found::Same => {}
            Found::Candidate => {
                fresh.insert(None);
                news = true;
            }
            Found::Bad(refused) => looks.push((ConfigFile::Inventory, Look::Refused(refused))),
        }
        if !news {
            return looks;
        }
        // All together, or one by one as far as that goes.
        let waiting = self.files.iter().enumerate().filter(|(_, file)| file.candidate().is_some());
        let mut waiting: Vec<Option<usize>> = waiting.map(|(at, _)| Some(at)).collect();
        waiting.extend(inventory.candidate().is_some().then_some(None));
        if self.would_fit(inventory, &waiting).is_ok() {
            for one in std::mem::take(&mut waiting) {
                looks.extend(self.take_over(inventory, one));
            }
        }
        while let Some(place) = waiting.iter().position(|one| self.would_fit(inventory, &[*one]).is_ok()) {
            looks.extend(self.take_over(inventory, waiting.remove(place)));
        }
        for one in waiting.into_iter().filter(|one| fresh.contains(one)) {
            if let Err(reason) = self.would_fit(inventory, &[one]) {
                looks.push(match one {
                    Some(at) => (ConfigFile::Policy, Look::Refused(self.files[at].unfit(reason))),
                    None => (ConfigFile::Inventory, Look::Refused(inventory.unfit(reason))),
                });
            }
        }
        looks
    }

    /// Whether these candidates, with what is in force beside them, leave no doubt.
    fn would_fit(&self, inventory: &Watched<Continuum>, candidates: &[Option<usize>]) -> Result<(), String> {
        let old = inventory.value();
        let continuum = if candidates.contains(&None) { inventory.newest() } else { old };
        // State and certificates belong to the continuum's name.
        if continuum.name != old.name {
            return Err(format!(
                "the continuum is now called `{}` and not `{}`; restart to change to another continuum",
                continuum.name, old.name
            ));
        }
        let newest = |(at, file): (usize, &Watched<Policy>)| {
            if candidates.contains(&Some(at)) { file.newest().clone() } else { file.value().clone() }
        };
        let all: Vec<Policy> = self.files.iter().enumerate().map(newest).collect();
        divide(&all, services(continuum)).map(drop).map_err(|unclear| unclear.to_string())
    }

    fn take_over(
        &mut self,
        inventory: &mut Watched<Continuum>,
        candidate: Option<usize>,
    ) -> Option<(ConfigFile, Look)> {
        Some(match candidate {
            Some(at) => (ConfigFile::Policy, self.files[at].take_over()?),
            None => (ConfigFile::Inventory, inventory.take_over()?),
        })
    }

    /// The policies as they are written.
    fn all(&self) -> Vec<Policy> {
        self.files.iter().map(|file| file.value().clone()).collect()
    }
}

fn services(
    continuum: &Continuum,
) -> impl Iterator<Item = (&str, &std::collections::BTreeMap<String, String>)> {
    continuum.services.iter().map(|(name, about)| (name.as_str(), &about.labels))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sterna_policies::diagnose::Findings;

    use super::*;
    use crate::fixture;

    fn write(folder: &Path, name: &str, more: &str) -> PathBuf {
        let path = folder.join(format!("{name}.toml"));
        let text = format!(
            "schema_version = 1\nname = \"{name}\"\n{more}\n[objective]\nterm = [{{ metric = \"cost_rate\" }}]\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn open(paths: &[PathBuf]) -> Result<Governing, FileError> {
        Governing::open(paths, &fixture::continuum(), sterna_policies::load::policy).map(|(it, _)| it)
    }

    fn names(governing: &Governing) -> Vec<String> {
        governing.in_force(&fixture::continuum()).into_iter().map(|policy| policy.name).collect()
    }

    #[test]
    fn files_that_contradict_each_other_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (write(folder.path(), "a", ""), write(folder.path(), "b", ""));
        let Err(FileError::Unfit { reason, .. }) = open(&[a.clone(), b]) else { panic!("opened") };
        assert!(reason.contains("`a`") && reason.contains("`b`") && reason.contains("`shop`"), "{reason}");
        let c = write(folder.path(), "c", "priority = 1");
        assert_eq!(names(&open(&[a, c]).unwrap()), ["c", "a"]);
    }

    /// An inventory that holds the fixture's continuum, called as the file says.
    fn inventory(folder: &Path) -> Watched<Continuum> {
        let path = folder.join("inventory");
        std::fs::write(&path, "fixture").unwrap();
        let parse = |name: &str, text: &str| {
            let mut continuum = fixture::continuum();
            let (called, more) = text.split_once(' ').unwrap_or((text, ""));
            called.clone_into(&mut continuum.name);
            if !more.is_empty() {
                let about = continuum.services.values().next().unwrap().clone();
                continuum.services.insert(more.into(), about);
            }
            Findings::new(name, text).finish(continuum)
        };
        Watched::open(&path, parse).unwrap().0
    }

    fn said(looks: &[(ConfigFile, Look)]) -> Vec<String> {
        let word = |look: &Look| match look {
            Look::Changed { .. } => "changed".to_owned(),
            Look::Refused(refused) => refused.error.to_string(),
        };
        looks.iter().map(|(file, look)| format!("{}: {}", file.name(), word(look))).collect()
    }

    #[test]
    fn a_change_that_makes_it_unclear_is_refused_and_waits_until_another_one_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (write(folder.path(), "a", ""), write(folder.path(), "b", "priority = 1"));
        let mut inventory = inventory(folder.path());
        let mut governing = open(&[a, b]).unwrap();
        assert!(governing.look(&mut inventory).is_empty());
        write(folder.path(), "b", "");
        assert!(governing.are_as_written());
        let looks = said(&governing.look(&mut inventory));
        assert!(
            matches!(&looks[..], [one] if one.contains("b.toml") && one.contains("priority 0")),
            "{looks:?}"
        );
        assert!(!governing.are_as_written());
        assert!(governing.look(&mut inventory).is_empty(), "it is told once");
        assert_eq!(governing.all()[1].priority, 1);
        // With the other one out of its way it fits.
        write(folder.path(), "a", "priority = -1");
        assert_eq!(said(&governing.look(&mut inventory)), ["policy: changed", "policy: changed"]);
        assert!(governing.are_as_written());
        assert_eq!(names(&governing), ["b", "a"]);
    }

    #[test]
    fn what_changes_together_is_judged_together() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (write(folder.path(), "a", "priority = 2"), write(folder.path(), "b", "priority = 1"));
        let mut inventory = inventory(folder.path());
        let mut governing = open(&[a, b]).unwrap();
        write(folder.path(), "a", "priority = 1");
        write(folder.path(), "b", "priority = 2");
        assert_eq!(said(&governing.look(&mut inventory)), ["policy: changed", "policy: changed"]);
        assert_eq!(names(&governing), ["b", "a"]);
        // A bad one beside a good one.
        write(folder.path(), "a", "priority = \"high\"");
        write(folder.path(), "b", "priority = 5");
        let looks = said(&governing.look(&mut inventory));
        assert!(looks[0].contains("a.toml") && looks[1] == "policy: changed", "{looks:?}");
    }

    #[test]
    fn an_inventory_that_brings_a_tie_waits_for_policies_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let a = write(folder.path(), "a", "select = { services = [\"shop\", \"new\"] }");
        let b = write(folder.path(), "b", "select = { services = [\"new\"] }");
        let mut inventory = inventory(folder.path());
        let mut governing = open(&[a, b]).unwrap();
        std::fs::write(folder.path().join("inventory"), "fixture new").unwrap();
        let looks = said(&governing.look(&mut inventory));
        assert!(looks[0].starts_with("inventory: ") && looks[0].contains("`new`"), "{looks:?}");
        assert_eq!(inventory.value().services.len(), 1);
        write(folder.path(), "b", "priority = 1\nselect = { services = [\"new\"] }");
        assert_eq!(said(&governing.look(&mut inventory)), ["policy: changed", "inventory: changed"]);
        assert_eq!(inventory.value().services.len(), 2);
        std::fs::write(folder.path().join("inventory"), "other").unwrap();
        assert!(said(&governing.look(&mut inventory))[0].contains("restart to change"));
    }

    #[test]
    fn a_service_has_one_policy() {
        let folder = tempfile::tempdir().unwrap();
        let a = write(folder.path(), "a", "");
        let b = write(folder.path(), "b", "priority = 1\nselect = { services = [\"shop\"] }");
        let governing = open(&[a, b]).unwrap();
        let continuum = fixture::continuum();
        let of = |service: &str| governing.of_service(&continuum, service).unwrap().name;
        assert_eq!((of("shop"), of("no-such-service")), ("b".to_owned(), "b".to_owned()));
        let left = governing.in_force(&continuum).pop().unwrap();
        assert_eq!(left.select.others.get("shop"), Some(&"b".to_owned()));
    }
}
