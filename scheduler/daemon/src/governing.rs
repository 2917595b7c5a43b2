//! The policies in force: their files, and which of them has which service.

use std::path::{Path, PathBuf};

use sterna_core::continuum::Continuum;
use sterna_policies::diagnose::{Invalid, Loaded, Report};
use sterna_policies::policy::Policy;
use sterna_policies::precedence::{Unclear, divide};
use sterna_policies::quantity::Millis;

use crate::reload::{FileError, Look, Watched};

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
        without: &[&str],
        continuum: &Continuum,
    ) -> Result<Policy, Unclear> {
        let mut all = self.all();
        all.retain(|other| other.name != policy.name && !without.contains(&other.name.as_str()));
        all.push(policy.clone());
        let divided = divide(&all, services(continuum))?;
        Ok(divided.into_iter().find(|one| one.name == policy.name).unwrap_or_else(|| policy.clone()))
    }

    /// Whether every file as it is now is in force.
    pub fn are_as_written(&self) -> bool {
        self.files.iter().all(Watched::is_as_written)
    }

    /// The policy that has a service; where none does, the first that is about it in any way, else the first.
    pub fn of_service(&self, continuum: &Continuum, service: &str) -> Option<Policy> {
        let mut in_force = self.in_force(continuum);
        let labels = continuum.services.get(&service.into()).map(|about| &about.labels);
        let has = |policy: &Policy| labels.is_some_and(|labels| policy.select.has_service(service, labels));
        let at = in_force.iter().position(has).unwrap_or(0);
        (at < in_force.len()).then(|| in_force.swap_remove(at))
    }

    /// Whether it is clear who has which service of a continuum.
    ///
    /// # Errors
    /// Which two policies contradict each other.
    pub fn fits(&self, continuum: &Continuum) -> Result<(), Unclear> {
        divide(&self.all(), services(continuum)).map(drop)
    }

    /// Looks at every file again; tells of those that are new or can't be used.
    pub fn look(&mut self, continuum: &Continuum) -> Vec<Look> {
        let mut looks = Vec::new();
        for at in 0..self.files.len() {
            let mut others = self.all();
            let look = self.files[at].look(|_, new| {
                others[at] = new.clone();
                divide(&others, services(continuum)).map(drop).map_err(|unclear| unclear.to_string())
            });
            if !matches!(look, Look::Same) {
                looks.push(look);
            }
        }
        looks
    }

    /// The policies as they are written.
    pub fn all(&self) -> Vec<Policy> {
        self.files.iter().map(|file| file.value().clone()).collect()
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(Watched::path)
    }

    /// The longest time between two looks of any policy.
    pub fn longest_interval(&self) -> Millis {
        self.files.iter().map(|file| file.value().trigger.interval).max().unwrap_or(Millis::ZERO)
    }
}

fn services(
    continuum: &Continuum,
) -> impl Iterator<Item = (&str, &std::collections::BTreeMap<String, String>)> {
    continuum.services.iter().map(|(name, about)| (name.as_str(), &about.labels))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_change_that_makes_it_unclear_is_refused_and_all_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (write(folder.path(), "a", ""), write(folder.path(), "b", "priority = 1"));
        let continuum = fixture::continuum();
        let mut governing = open(&[a, b.clone()]).unwrap();
        assert!(governing.look(&continuum).is_empty());
        write(folder.path(), "b", "");
        assert!(governing.are_as_written());
        let looks = governing.look(&continuum);
        assert!(!governing.are_as_written());
        assert!(matches!(looks.as_slice(), [Look::Refused(FileError::Unfit { path, .. })] if *path == b));
        assert!(governing.look(&continuum).is_empty());
        assert_eq!(governing.all()[1].priority, 1);
        write(folder.path(), "b", "priority = -1");
        assert!(matches!(governing.look(&continuum).as_slice(), [Look::Changed(_)]));
        assert!(governing.are_as_written());
        assert_eq!(names(&governing), ["a", "b"]);
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
